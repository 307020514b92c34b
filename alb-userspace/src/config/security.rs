//! Security groups and security policies.

use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::{
    cipher,
    cursor::{Field, Object, Range},
    format, network,
    scope::Scope,
};
use crate::model::{
    Direction, RuleAction, RuleProtocol, SecurityGroup, SecurityPolicy, SecurityRule, TlsVersion,
};

/// The group of load balancers that name none: everything open.
pub(super) const DEFAULT_GROUP: &str = "default";
const PRIORITY: Range<u16> = Range::new(1..=32_768, 100);
const PORT: RangeInclusive<u16> = 1..=65_535;

const DIRECTIONS: &[(&str, Direction)] = &[("In", Direction::In), ("Out", Direction::Out)];
const PROTOCOLS: &[(&str, RuleProtocol)] = &[
    ("All", RuleProtocol::All),
    ("Tcp", RuleProtocol::Tcp),
    ("Udp", RuleProtocol::Udp),
    ("Icmp", RuleProtocol::Icmp),
];
const ACTIONS: &[(&str, RuleAction)] = &[("Allow", RuleAction::Allow), ("Deny", RuleAction::Deny)];
const VERSIONS: &[(&str, TlsVersion)] =
    &[("TLSv1.2", TlsVersion::V1_2), ("TLSv1.3", TlsVersion::V1_3)];
/// Versions of the product that are not offered.
const RETIRED: [&str; 2] = ["TLSv1", "TLSv1.1"];

pub(super) fn read_groups(items: &[Field<'_>], groups: &Scope, vpcs: &Scope) -> Vec<SecurityGroup> {
    let mut list: Vec<SecurityGroup> = items
        .iter()
        .filter_map(|item| item.object(|object| read_group(object, groups, vpcs)))
        .collect();
    list.push(SecurityGroup {
        id: groups.id(DEFAULT_GROUP),
        name: DEFAULT_GROUP.to_owned(),
        vpc: vpcs.id(network::DEFAULT_VPC),
        description: String::new(),
        rules: Vec::new(),
        open: true,
    });
    list
}

fn read_group(object: &Object<'_>, groups: &Scope, vpcs: &Scope) -> Option<SecurityGroup> {
    let name = format::name(object);
    let vpc = network::vpc(object, vpcs);
    let description = format::description(object);
    let rules = object.list("rules").iter().filter_map(|item| item.object(read_rule)).collect();
    let name = name?;
    Some(SecurityGroup { id: groups.id(&name), name, vpc: vpc?, description, rules, open: false })
}

fn read_rule(object: &Object<'_>) -> Option<SecurityRule> {
    let direction = object.need("direction").and_then(|field| field.choice(DIRECTIONS));
    let protocol = object.need("protocol").and_then(|field| field.choice(PROTOCOLS));
    let action = object.need("ruleAction").and_then(|field| field.choice(ACTIONS));
    let priority = object.int("priority", &PRIORITY);
    let from = object.get("fromPort");
    let to = object.get("toPort");
    let prefix: Option<IpNet> =
        object.need("addressPrefix").and_then(|field| format::prefix(&field));
    let ports = ports(protocol?, from.as_ref(), to.as_ref());
    Some(SecurityRule {
        direction: direction?,
        protocol: protocol?,
        action: action?,
        priority,
        ports: ports?,
        prefix: prefix?,
    })
}

fn ports(
    protocol: RuleProtocol,
    from: Option<&Field<'_>>,
    to: Option<&Field<'_>>,
) -> Option<(u16, u16)> {
    match protocol {
        RuleProtocol::All | RuleProtocol::Icmp => {
            for field in [from, to].into_iter().flatten() {
                field.reject("is for rules with protocol Tcp or Udp");
            }
            Some((0, u16::MAX))
        }
        RuleProtocol::Tcp | RuleProtocol::Udp => {
            let first = from.map_or(Some(*PORT.start()), |field| field.int(PORT));
            let last = match (to, from) {
                (Some(field), _) => field.int(PORT),
                // One port is given by `fromPort` alone.
                (None, Some(_)) => first,
                (None, None) => Some(*PORT.end()),
            };
            let (first, last) = (first?, last?);
            if let Some(field) = to.filter(|_| last < first) {
                field.reject(format!("must be at least fromPort, which is {first}"));
                return None;
            }
            Some((first, last))
        }
    }
}

pub(super) fn read_policy(object: &Object<'_>, policies: &Scope) -> Option<SecurityPolicy> {
    let name = format::name(object);
    let description = format::description(object);
    let protocols = several(object, "protocols", version);
    let ciphers = several(object, "ciphers", cipher::read);
    let (protocols, ciphers) = (protocols?, ciphers?);
    for (version, field) in &protocols {
        if !ciphers.iter().any(|(cipher, _)| cipher::serves(*cipher, *version)) {
            field.reject("none of the `ciphers` serves this protocol");
        }
    }
    for (cipher, field) in &ciphers {
        if !protocols.iter().any(|(version, _)| cipher::serves(*cipher, *version)) {
            field.reject("serves none of the `protocols`");
        }
    }
    let name = name?;
    Some(SecurityPolicy {
        id: policies.id(&name),
        name,
        description,
        protocols: protocols.into_iter().map(|(version, _)| version).collect(),
        ciphers: ciphers.into_iter().map(|(cipher, _)| cipher).collect(),
    })
}

fn version(field: &Field<'_>) -> Option<TlsVersion> {
    let text = field.peek().unwrap_or_default();
    if RETIRED.iter().any(|old| old.eq_ignore_ascii_case(text)) {
        field.reject("is not offered (retired by RFC 8996), allowed is TLSv1.2 or TLSv1.3");
        return None;
    }
    field.choice(VERSIONS)
}

/// A list with at least one item and no item twice; `None` after any report.
fn several<'a, T: PartialEq>(
    object: &Object<'a>,
    key: &'static str,
    read: impl Fn(&Field<'a>) -> Option<T>,
) -> Option<Vec<(T, Field<'a>)>> {
    let field = object.need(key)?;
    let items = field.items();
    if field.is_list() && items.is_empty() {
        field.complain("at least one is needed");
    }
    let count = items.len();
    let mut list: Vec<(T, Field<'a>)> = Vec::new();
    for item in items {
        let Some(value) = read(&item) else { continue };
        if list.iter().any(|(other, _)| *other == value) {
            item.reject("is named twice");
        } else {
            list.push((value, item));
        }
    }
    (count > 0 && list.len() == count).then_some(list)
}
