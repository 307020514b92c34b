//! Vpcs, subnets, elastic IPs and instances.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use super::{
    cursor::{Field, Object},
    format,
    scope::Scope,
};
use crate::model::{ElasticIp, Instance, Subnet, Vpc};

/// The vpc of everything that names none.
pub(super) const DEFAULT_VPC: &str = "default";
const BANDWIDTH: std::ops::RangeInclusive<u32> = 1..=1_000_000;

/// `vpc`, or the default one.
pub(super) fn vpc(object: &Object<'_>, vpcs: &Scope) -> Option<String> {
    object.get("vpc").map_or_else(|| Some(vpcs.id(DEFAULT_VPC)), |field| vpcs.resolve(&field))
}

/// `zone`, or the node's first one.
fn zone(object: &Object<'_>, zone: &str) -> Option<String> {
    object.get("zone").map_or_else(|| Some(zone.to_owned()), |field| format::name_of(&field))
}

pub(super) fn read_vpcs(items: &[Field<'_>], vpcs: &mut Scope) -> Vec<Vpc> {
    let mut list: Vec<Vpc> = items
        .iter()
        .filter_map(|item| {
            item.object(|object| {
                let name = format::name(object)?;
                Some(Vpc { id: vpcs.id(&name), name })
            })
        })
        .collect();
    if vpcs.build_in(DEFAULT_VPC) {
        list.push(Vpc { id: vpcs.id(DEFAULT_VPC), name: DEFAULT_VPC.to_owned() });
    }
    list
}

pub(super) fn read_subnets(
    items: &[Field<'_>],
    subnets: &Scope,
    vpcs: &Scope,
    zone: &str,
) -> Vec<Subnet> {
    let mut list: Vec<Subnet> = Vec::new();
    let mut taken = Ranges::default();
    for item in items {
        let Some(subnet) = item.object(|object| read_subnet(object, subnets, vpcs, zone)) else {
            continue;
        };
        let four = subnet.prefix.map(|net| (net.network().into(), net.broadcast().into()));
        let six = subnet.prefix6.map(|net| (net.network().into(), net.broadcast().into()));
        for (first, last) in [four, six].into_iter().flatten() {
            if let Some(other) = taken.claim(&subnet, first, last) {
                item.complain(format!("overlaps with subnet {other} of the same vpc"));
            }
        }
        list.push(subnet);
    }
    list
}

/// Ranges of addresses in vpcs that do not overlap, by vpc and first address.
#[derive(Debug, Default)]
struct Ranges(BTreeMap<(String, IpAddr), (IpAddr, String)>);

impl Ranges {
    /// Claims a range for a subnet; the name of the subnet that has a part of it already.
    fn claim(&mut self, subnet: &Subnet, first: IpAddr, last: IpAddr) -> Option<String> {
        let start = (subnet.vpc.clone(), IpAddr::from([0, 0, 0, 0]));
        // The nearest range that starts at or before the end is the only one that can overlap.
        let below = self.0.range(start..=(subnet.vpc.clone(), last)).next_back();
        if let Some((_, (end, name))) = below
            && *end >= first
        {
            return Some(name.clone());
        }
        self.0.insert((subnet.vpc.clone(), first), (last, subnet.name.clone()));
        None
    }
}

fn read_subnet(object: &Object<'_>, subnets: &Scope, vpcs: &Scope, node: &str) -> Option<Subnet> {
    let name = format::name(object);
    let vpc = vpc(object, vpcs);
    let zone = zone(object, node);
    let field4 = object.get("addressPrefix");
    let field6 = object.get("ipv6AddressPrefix");
    let range = object.get("vipRange");
    if field4.is_none() && field6.is_none() {
        object.whole().complain("`addressPrefix` or `ipv6AddressPrefix` is missing");
    }
    let prefix = field4.as_ref().and_then(format::prefix4);
    let prefix6 = field6.as_ref().and_then(format::prefix6);
    if let (Some(field), None) = (&range, &field4) {
        field.reject("needs an `addressPrefix`");
    }
    let vip_range = range.as_ref().and_then(vip_range);
    if let (Some(field), Some(prefix), Some((first, last))) = (&range, prefix, vip_range)
        && !(prefix.contains(&first) && prefix.contains(&last))
    {
        field.reject(format!("must lie in the subnet's {prefix}"));
    }
    let name = name?;
    Some(Subnet { id: subnets.id(&name), name, vpc: vpc?, zone: zone?, prefix, prefix6, vip_range })
}

fn vip_range(field: &Field<'_>) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let parsed: Option<(Ipv4Addr, Ipv4Addr)> = field
        .text()?
        .split_once('-')
        .and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
    let parsed = parsed.filter(|(first, last)| first <= last);
    if parsed.is_none() {
        field.reject("must be a range of addresses like 198.18.0.10-198.18.0.50");
    }
    parsed
}

pub(super) fn read_elastic_ips(items: &[Field<'_>], scope: &Scope) -> Vec<ElasticIp> {
    let mut list: Vec<ElasticIp> = Vec::new();
    let mut addresses = BTreeMap::new();
    for item in items {
        let Some(fip) = item.object(|object| {
            let name = format::name(object);
            let address = object.need("elasticIpAddress").and_then(|f| format::address(&f));
            let bandwidth = object.get("bandwidthMbps").and_then(|field| field.int(BANDWIDTH));
            let name = name?;
            Some(ElasticIp { id: scope.id(&name), name, address: address?, bandwidth })
        }) else {
            continue;
        };
        if let Some(other) = addresses.insert(fip.address, fip.name.clone()) {
            item.complain(format!("{} is already elastic IP {other}", fip.address));
        }
        list.push(fip);
    }
    list
}

pub(super) fn read_instances(items: &[Field<'_>], vpcs: &Scope, node: &str) -> Vec<Instance> {
    let mut list: Vec<Instance> = Vec::new();
    let mut ids = BTreeSet::new();
    let mut places = BTreeMap::new();
    for item in items {
        let Some(instance) = item.object(|object| {
            let id = object.need("instanceId").and_then(|field| instance_id(&field));
            let vpc = vpc(object, vpcs);
            let zone = zone(object, node);
            let address = object.need("privateIpAddress").and_then(|f| format::address(&f));
            Some(Instance { id: id?, vpc: vpc?, zone: zone?, address: address? })
        }) else {
            continue;
        };
        if !ids.insert(instance.id.clone()) {
            item.complain(format!("the instanceId {} is already used", instance.id));
        }
        let place = (instance.vpc.clone(), instance.address);
        if let Some(other) = places.insert(place, instance.id.clone()) {
            item.complain(format!("{} is already instance {other}", instance.address));
        }
        list.push(instance);
    }
    list
}

fn instance_id(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    let fine = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.');
    if (1..=64).contains(&text.len()) && text.chars().all(fine) {
        return Some(text.to_owned());
    }
    field.reject("allowed are 1–64 letters, digits, `-`, `_` and `.`");
    None
}

/// Addresses that a VIP cannot have in a subnet.
pub(super) fn is_edge(subnet: &Subnet, address: IpAddr) -> bool {
    match (address, subnet.prefix, subnet.prefix6) {
        // A /31 and a /32 have no network and no broadcast address.
        (IpAddr::V4(v4), Some(prefix), _) if prefix.prefix_len() < 31 => {
            v4 == prefix.network() || v4 == prefix.broadcast()
        }
        // The subnet-router anycast address.
        (IpAddr::V6(v6), _, Some(prefix)) if prefix.prefix_len() < 127 => v6 == prefix.network(),
        (IpAddr::V4(_) | IpAddr::V6(_), _, _) => false,
    }
}
