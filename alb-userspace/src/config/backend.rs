//! Backends: which targets, chosen how, checked how.

use std::{num::NonZeroU16, time::Duration};

use super::{
    balancer::Place,
    cursor::{Field, Object, Range, enumerate},
    format, health,
    scope::Scope,
    target::WEIGHT,
};
use crate::model::{Algorithm, Backend, BackendProtocol, Forwarded, TargetSource, UnhealthyFlows};

pub(super) const PORT: std::ops::RangeInclusive<u16> = 1..=65_535;
const COOKIE_EXPIRE: Range<u32> = Range::new(0..=86_400, 0);
const DRAINING: Range<u16> = Range::new(0..=3600, 300);
pub(super) const CONNECT_TIMEOUT: Range<u16> = Range::new(1..=300, 5);
const RESPONSE_TIMEOUT: Range<u32> = Range::new(1..=86_400, 60);
const POOL_IDLE: Range<u16> = Range::new(0..=3600, 30);
pub(super) const RETRIES: Range<u8> = Range::new(0..=10, 1);
const SLOW_START: Range<u16> = Range::new(0..=3600, 0);
pub(super) const PASSIVE_MAX: Range<u8> = Range::new(0..=100, 50);

const PROTOCOLS: &[(&str, BackendProtocol)] =
    &[("Http", BackendProtocol::Http), ("Tcp", BackendProtocol::Tcp)];
const ALGORITHMS: &[(&str, Algorithm)] = &[
    ("RoundRobin", Algorithm::RoundRobin),
    ("LeastConn", Algorithm::LeastConn),
    ("IpHash", Algorithm::IpHash),
];
const UNHEALTHY_FLOWS: &[(&str, UnhealthyFlows)] =
    &[("Keep", UnhealthyFlows::Keep), ("Reset", UnhealthyFlows::Reset)];
/// Keys that say something about HTTP only.
const HTTP_KEYS: [&str; 9] = [
    "sessionStickiness",
    "httpCookieExpireSeconds",
    "httpForwardedProtocol",
    "httpForwardedPort",
    "httpForwardedHost",
    "httpForwardedVip",
    "httpForwardedClientPort",
    "responseTimeoutSeconds",
    "poolIdleSeconds",
];

/// What backends refer to.
#[derive(Debug)]
pub(super) struct Scopes<'s> {
    pub(super) backends: &'s Scope,
    pub(super) target_groups: &'s Scope,
    pub(super) availability_groups: &'s Scope,
    /// Where the load balancer stands.
    pub(super) place: &'s Place<'s>,
}

pub(super) fn read(object: &Object<'_>, scopes: &Scopes<'_>) -> Option<Backend> {
    let name = format::name(object);
    let description = format::description(object);
    let protocol = object.need("protocol").and_then(|field| protocol(&field));
    let port = object.need("port").and_then(|field| field.int(PORT));
    let algorithm = object.choice("algorithm", ALGORITHMS, Algorithm::default());
    let source = source(object, scopes);
    let check = object.get("healthCheck").map(|field| field.object(health::read));
    let closed = object.bool("closeHealthCheck", false);
    let proxy_protocol = proxy_protocol(object, protocol);
    let stickiness = stickiness(object, algorithm);
    let forwarded = Forwarded {
        protocol: object.bool("httpForwardedProtocol", false),
        port: object.bool("httpForwardedPort", false),
        host: object.bool("httpForwardedHost", false),
        vip: object.bool("httpForwardedVip", false),
        client_port: object.bool("httpForwardedClientPort", false),
    };
    let connection_draining = seconds(object.int("connectionDrainingSeconds", &DRAINING));
    let connect_timeout = seconds(object.int("connectTimeoutSeconds", &CONNECT_TIMEOUT));
    let response_timeout = seconds(object.int("responseTimeoutSeconds", &RESPONSE_TIMEOUT));
    let pool_idle = seconds(object.int("poolIdleSeconds", &POOL_IDLE));
    let retries = object.int("retries", &RETRIES);
    let slow_start = seconds(object.int("slowStartSeconds", &SLOW_START));
    let unhealthy_flows =
        object.choice("unhealthyFlows", UNHEALTHY_FLOWS, UnhealthyFlows::default());
    let panic_mode = object.bool("panicMode", false);
    let passive_max_percent = object.int("passiveMaxPercent", &PASSIVE_MAX);
    if protocol == Some(BackendProtocol::Tcp) {
        for field in HTTP_KEYS.iter().filter_map(|key| object.get(key)) {
            field.reject("is for backends with protocol Http, this one has Tcp");
        }
    }
    let check = check.unwrap_or_else(|| Some(health::default()))?;
    let (health_check, closed_health_check) =
        if closed { (None, Some(check)) } else { (Some(check), None) };
    let name = name?;
    Some(Backend {
        id: scopes.backends.id(&name),
        name,
        description,
        protocol: protocol?,
        port: NonZeroU16::new(port?)?,
        algorithm,
        source: source?,
        health_check,
        proxy_protocol,
        stickiness,
        forwarded,
        connection_draining,
        closed_health_check,
        connect_timeout,
        response_timeout,
        pool_idle,
        retries,
        slow_start,
        unhealthy_flows,
        panic_mode,
        passive_max_percent,
    })
}

fn seconds(seconds: impl Into<u64>) -> Duration {
    Duration::from_secs(seconds.into())
}

fn protocol(field: &Field<'_>) -> Option<BackendProtocol> {
    if field.peek().is_some_and(|text| text.eq_ignore_ascii_case("udp")) {
        field.reject("UDP is not offered, allowed is Http or Tcp");
        return None;
    }
    field.choice(PROTOCOLS)
}

fn source(object: &Object<'_>, scopes: &Scopes<'_>) -> Option<TargetSource> {
    let group = object.get("targetGroup");
    let members = object.get("availabilityGroup");
    let weight = object.get("defaultWeight");
    if let (Some(field), None) = (&weight, &members) {
        field.reject("is for backends with an `availabilityGroup`");
    }
    let default_weight =
        weight.and_then(|field| field.int(WEIGHT.allowed)).unwrap_or(WEIGHT.default);
    match (group, members) {
        (None, None) => Some(TargetSource::None),
        (Some(group), None) => scopes.target_groups.resolve(&group).map(TargetSource::Group),
        (None, Some(members)) => {
            let id = scopes.availability_groups.resolve(&members)?;
            members_are_near(&members, &id, scopes.place);
            Some(TargetSource::AvailabilityGroup { id, default_weight })
        }
        (Some(_), Some(members)) => {
            members.reject("give either `targetGroup` or `availabilityGroup`");
            None
        }
    }
}

/// Members share vpc and zones with the load balancer, as instances do.
fn members_are_near(field: &Field<'_>, id: &str, place: &Place<'_>) {
    let Some(group) = place.top.availability_groups.get(id) else { return };
    let template = place.top.instance_templates.get(group.instance_template.as_str());
    if let (Some(template), Some(subnet)) = (template, place.subnet)
        && template.vpc != subnet.vpc
    {
        field.reject("the instances of the group are in another vpc than the load balancer");
    }
    let far = group.azs.iter().find(|zone| !place.azs.contains(zone));
    if let Some(far) = far.filter(|_| !place.azs.is_empty()) {
        let azs: Vec<_> = place.azs.iter().map(String::as_str).collect();
        field.reject(format!(
            "the group has instances in zone {far}, the load balancer is in {}",
            enumerate(&azs)
        ));
    }
}

fn proxy_protocol(object: &Object<'_>, protocol: Option<BackendProtocol>) -> bool {
    let Some(field) = object.get("proxyProtocol") else { return false };
    let on = field.bool().unwrap_or(false);
    if on && protocol == Some(BackendProtocol::Http) {
        field.reject("is for backends with protocol Tcp, this one has Http");
    }
    on
}

fn stickiness(object: &Object<'_>, algorithm: Algorithm) -> Option<Duration> {
    let switch = object.get("sessionStickiness");
    let expire = object.get("httpCookieExpireSeconds");
    let on = switch.as_ref().and_then(Field::bool).unwrap_or(false);
    if let Some(field) = switch.filter(|_| on && algorithm != Algorithm::RoundRobin) {
        field.reject("needs algorithm: RoundRobin");
    }
    if let Some(field) = expire.as_ref().filter(|_| !on) {
        field.reject("needs sessionStickiness: true");
    }
    let age = expire.and_then(|field| field.int(COOKIE_EXPIRE.allowed));
    on.then(|| seconds(age.unwrap_or(COOKIE_EXPIRE.default)))
}
