//! Instance templates and availability groups.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    cursor::{Field, Object, Range},
    format, network,
    scope::Scope,
};
use crate::model::{
    AutoscalingSpec, AvailabilityGroup, Driver, InstanceTemplate, PlacementType, RemovalPolicy,
};

const SIZE: RangeInclusive<u16> = 0..=300;
const COOL_DOWN: Range<u32> = Range::new(0..=86_400, 300);
const DRIVERS: &[(&str, ())] = &[("Command", ())];
const PLACEMENTS: &[(&str, PlacementType)] = &[
    ("fd", PlacementType::FaultDomain),
    ("switch", PlacementType::Switch),
    ("host", PlacementType::Host),
];
const REMOVALS: &[(&str, RemovalPolicy)] = &[
    ("OldestResource", RemovalPolicy::OldestResource),
    ("NewestResource", RemovalPolicy::NewestResource),
];

pub(super) fn read_template(
    object: &Object<'_>,
    templates: &Scope,
    vpcs: &Scope,
) -> Option<InstanceTemplate> {
    let name = format::name(object);
    let vpc = network::vpc(object, vpcs);
    let addresses = object.need("addresses").and_then(|field| format::prefix4(&field));
    let driver = object.need("driver").and_then(|field| field.choice(DRIVERS));
    let start = object.need("start").and_then(|field| command(&field));
    let stop = object.need("stop").and_then(|field| command(&field));
    let probe = object.get("probe").map_or_else(|| Some(Vec::new()), |field| command(&field));
    driver?;
    let name = name?;
    Some(InstanceTemplate {
        id: templates.id(&name),
        name,
        vpc: vpc?,
        addresses: addresses?,
        driver: Driver::Command { start: start?, stop: stop?, probe: probe? },
    })
}

/// A program and its arguments.
fn command(field: &Field<'_>) -> Option<Vec<String>> {
    let words: Vec<_> = field.items().iter().map(|item| item.text().map(str::to_owned)).collect();
    if field.is_list() && words.is_empty() {
        field.complain("needs a program");
        return None;
    }
    if !field.is_list() {
        return None;
    }
    words.into_iter().collect()
}

pub(super) fn read_group(
    object: &Object<'_>,
    groups: &Scope,
    templates: &Scope,
) -> Option<AvailabilityGroup> {
    let name = format::name(object);
    let description = format::description(object);
    let template = object.need("instanceTemplate").and_then(|field| templates.resolve(&field));
    let azs = object.need("azs").map(|field| {
        let azs = format::zones(&field);
        if field.is_list() && field.items().is_empty() {
            field.complain("at least one zone is needed");
        }
        azs
    });
    let placement = object.choice("placementType", PLACEMENTS, PlacementType::default());
    let autoscaling = object.need("autoscalingSpec").and_then(|field| field.object(autoscaling));
    let name = name?;
    Some(AvailabilityGroup {
        id: groups.id(&name),
        name,
        description,
        instance_template: template?,
        azs: azs?,
        placement,
        autoscaling: autoscaling?,
    })
}

fn autoscaling(object: &Object<'_>) -> Option<AutoscalingSpec> {
    let min = object.need("minSize");
    let max = object.need("maxSize");
    let desired = object.get("desiredCapacity");
    let health_check = object.bool("healthCheck", true);
    let cool_down = object.int("coolDownSeconds", &COOL_DOWN);
    let removal_policy = object.choice("removalPolicy", REMOVALS, RemovalPolicy::default());
    let min_size = min.and_then(|field| field.int(SIZE));
    let max_size = max.as_ref().and_then(|field| field.int(SIZE));
    let desired_capacity = desired.as_ref().map_or(min_size, |field| field.int(SIZE));
    let (min_size, max_size, desired_capacity) = (min_size?, max_size?, desired_capacity?);
    if let Some(max) = max.filter(|_| max_size < min_size) {
        max.reject(format!("must be at least minSize, which is {min_size}"));
        return None;
    }
    if let Some(desired) = desired.filter(|_| !(min_size..=max_size).contains(&desired_capacity)) {
        desired.reject(format!("must be between minSize and maxSize: {min_size}–{max_size}"));
        return None;
    }
    Some(AutoscalingSpec {
        min_size,
        max_size,
        desired_capacity,
        health_check,
        cool_down: Duration::from_secs(cool_down.into()),
        removal_policy,
    })
}
