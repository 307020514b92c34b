//! Target groups and their targets.

use std::{collections::BTreeSet, net::IpAddr, num::NonZeroU16};

use super::{
    balancer::Place,
    cursor::{Field, Object, Range, enumerate, nearest},
    format,
    ids::{self, Kind},
    scope::Scope,
};
use crate::model::{GroupType, Target, TargetGroup};

const PORT: Range<u16> = Range::new(0..=65_535, 0);
pub(super) const WEIGHT: Range<u8> = Range::new(0..=100, 10);
const TYPES: &[(&str, GroupType)] = &[("instance", GroupType::Instance), ("ip", GroupType::Ip)];

pub(super) fn read(object: &Object<'_>, groups: &Scope, place: &Place<'_>) -> Option<TargetGroup> {
    let name = format::name(object);
    let description = format::description(object);
    let kind = object.choice("type", TYPES, GroupType::Instance);
    let owner = format!("{}/{}", place.name, name.as_deref().unwrap_or_default());
    let mut targets: Vec<Target> = Vec::new();
    let mut seen = BTreeSet::new();
    for item in object.list("targets") {
        let Some(target) = item.object(|object| read_target(object, kind, &owner, place)) else {
            continue;
        };
        if !seen.insert((target.address, target.port, target.instance.clone())) {
            let port = target.port.map_or_else(String::new, |port| format!(" with port {port}"));
            let who = target.instance.clone().unwrap_or_else(|| target.address.to_string());
            item.complain(format!("{who}{port} is already in this target group"));
            continue;
        }
        targets.push(target);
    }
    let name = name?;
    Some(TargetGroup { id: groups.id(&name), name, description, kind, targets })
}

fn read_target(
    object: &Object<'_>,
    kind: GroupType,
    owner: &str,
    place: &Place<'_>,
) -> Option<Target> {
    let port = object.int("port", &PORT);
    let weight = object.int("weight", &WEIGHT);
    let by_address = object.get("ipAddress");
    let by_instance = object.get("instance");
    let (address, instance) = match kind {
        GroupType::Ip => {
            if let Some(field) = &by_instance {
                field.reject("targets of a group of type ip have an `ipAddress` instead");
                return None;
            }
            let field = by_address.or_else(|| object.need("ipAddress"))?;
            (format::address(&field)?, None)
        }
        GroupType::Instance => {
            if let Some(field) = &by_address {
                field.reject("targets of a group of type instance have an `instance` instead; for addresses set type: ip");
                return None;
            }
            let field = by_instance.or_else(|| object.need("instance"))?;
            let (address, id) = resolve_instance(&field, place)?;
            (address, Some(id))
        }
    };
    let called = instance.clone().unwrap_or_else(|| address.to_string());
    Some(Target {
        id: ids::derive(Kind::Target, owner, &format!("{called} {port}")),
        address,
        port: NonZeroU16::new(port),
        weight,
        instance,
    })
}

/// The instance a target names: it shares vpc and zone with the load balancer.
fn resolve_instance(field: &Field<'_>, place: &Place<'_>) -> Option<(IpAddr, String)> {
    let id = field.text()?;
    let Some(instance) = place.top.instances.get(id) else {
        let known = || place.top.instances.keys().copied();
        field.reject(match nearest(id, known()) {
            Some(near) => format!("no instance has this id, did you mean `{near}`?"),
            None => "no instance has this id".to_owned(),
        });
        return None;
    };
    if let Some(subnet) = place.subnet
        && instance.vpc != subnet.vpc
    {
        field.reject("the instance is in another vpc than the load balancer");
    }
    if !place.azs.is_empty() && !place.azs.contains(&instance.zone) {
        let azs: Vec<_> = place.azs.iter().map(String::as_str).collect();
        field.reject(format!(
            "the instance is in zone {}, the load balancer in {}",
            instance.zone,
            enumerate(&azs)
        ));
    }
    Some((instance.address, instance.id.clone()))
}
