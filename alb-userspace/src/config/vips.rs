//! Which load balancer serves which address: conflicts, and addresses for those that name none.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{balancer::Top, cursor::Field, network};
use crate::model::{DatapathMode, Engine, InstanceTemplate, LoadBalancer, Model, Subnet, Target};

/// How many IPv6 addresses are looked at for a free one; prefixes are larger than patience.
const IPV6_TRIES: u128 = 65_536;

/// Gives every load balancer its addresses; `model` holds everything at the top, and so does
/// `top`, by id.
pub(super) fn assign(drafts: &mut [(Field<'_>, LoadBalancer)], model: &Model, top: &Top<'_>) {
    elastic_ips_are_used_once(drafts);
    vips_are_served_once(drafts);
    let mut taken = taken(drafts, model);
    let mut given: BTreeMap<&str, IpAddr> = BTreeMap::new();
    let mut full: BTreeSet<&str> = BTreeSet::new();
    for (field, balancer) in drafts.iter_mut() {
        let named =
            ["privateIpAddress", "ipv6Address"].iter().any(|key| field.glance(key).is_some());
        let subnet = top.subnets.get(balancer.subnet.as_str()).copied();
        if let (false, Some(subnet)) = (named, subnet) {
            // Everything below the last address that was given is taken.
            let from = given.get(subnet.id.as_str()).copied();
            let address = (!full.contains(subnet.id.as_str()))
                .then(|| lowest_free(subnet, &taken, &model.instance_templates, from))
                .flatten();
            if let Some(address) = address {
                taken.insert(address);
                given.insert(&subnet.id, address);
                balancer.vips.insert(0, address);
            } else {
                full.insert(subnet.id.as_str());
                field.complain(format!("subnet {} has no free address for a VIP", subnet.name));
            }
        }
    }
    let instances: BTreeMap<IpAddr, &str> =
        model.instances.iter().map(|instance| (instance.address, &*instance.id)).collect();
    for (field, balancer) in &*drafts {
        check_targets(field, balancer, model);
        check_vips(field, balancer, model, &instances);
        check_families(field, balancer, model);
    }
}

fn vips_are_served_once(drafts: &[(Field<'_>, LoadBalancer)]) {
    let mut owners: BTreeMap<IpAddr, &LoadBalancer> = BTreeMap::new();
    for (field, balancer) in drafts {
        for vip in &balancer.vips {
            let Some(owner) = owners.insert(*vip, balancer) else { continue };
            let at = blame(field, *vip);
            if owner.id == balancer.id {
                at.reject_part(&vip.to_string(), "is named twice in this load balancer");
            } else if owner.elastic_ip.is_none() || owner.elastic_ip != balancer.elastic_ip {
                let message = format!("is already a VIP of load balancer {}", owner.name);
                at.reject_part(&vip.to_string(), message);
            }
        }
    }
}

/// The key that gave an address, else the load balancer.
fn blame<'a>(field: &Field<'a>, vip: IpAddr) -> Field<'a> {
    ["privateIpAddress", "ipv6Address"]
        .iter()
        .filter_map(|key| field.glance(key))
        .find(|key| key.peek().and_then(|text| text.parse().ok()) == Some(vip))
        .or_else(|| field.glance("elasticIp"))
        .unwrap_or_else(|| field.clone())
}

fn elastic_ips_are_used_once(drafts: &[(Field<'_>, LoadBalancer)]) {
    let mut users: BTreeMap<&str, &str> = BTreeMap::new();
    for (field, balancer) in drafts {
        let Some(id) = &balancer.elastic_ip else { continue };
        if let Some(user) = users.get(id.as_str()) {
            field
                .glance("elasticIp")
                .unwrap_or_else(|| field.clone())
                .reject(format!("the elastic IP is already used by load balancer {user}"));
        } else {
            users.insert(id, &balancer.name);
        }
    }
}

/// Every address the file uses for something.
fn taken(drafts: &[(Field<'_>, LoadBalancer)], model: &Model) -> BTreeSet<IpAddr> {
    let balancers = drafts.iter().flat_map(|(_, balancer)| {
        let targets = balancer.target_groups.iter().flat_map(|group| &group.targets);
        balancer.vips.iter().copied().chain(targets.map(|target| target.address))
    });
    balancers
        .chain(model.instances.iter().map(|instance| instance.address))
        .chain(model.elastic_ips.iter().map(|elastic| elastic.address))
        .chain(model.node.snat.addresses.iter().copied())
        .chain(model.node.api.iter().map(|api| api.listen.ip()))
        .collect()
}

/// The lowest address of a subnet that nothing uses, not below `from`.
fn lowest_free(
    subnet: &Subnet,
    taken: &BTreeSet<IpAddr>,
    templates: &[InstanceTemplate],
    from: Option<IpAddr>,
) -> Option<IpAddr> {
    let free = |address: &IpAddr| {
        !taken.contains(address)
            && !network::is_edge(subnet, *address)
            && !templates.iter().any(|template| lies_in(*address, template))
    };
    if let Some(prefix) = subnet.prefix {
        let (first, last) = subnet.vip_range.unwrap_or((prefix.network(), prefix.broadcast()));
        let first = match from {
            Some(IpAddr::V4(from)) => first.max(from),
            Some(IpAddr::V6(_)) | None => first,
        };
        return (first.to_bits()..=last.to_bits())
            .map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)))
            .find(free);
    }
    let prefix = subnet.prefix6?;
    let first = match from {
        Some(IpAddr::V6(from)) => from.to_bits(),
        Some(IpAddr::V4(_)) | None => prefix.network().to_bits(),
    };
    let last = prefix.broadcast().to_bits().min(first.saturating_add(IPV6_TRIES));
    (first..=last).map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))).find(free)
}

fn lies_in(address: IpAddr, template: &InstanceTemplate) -> bool {
    match address {
        IpAddr::V4(address) => template.addresses.contains(&address),
        IpAddr::V6(_) => false,
    }
}

/// A VIP is an address of its own.
fn check_vips(
    field: &Field<'_>,
    balancer: &LoadBalancer,
    model: &Model,
    instances: &BTreeMap<IpAddr, &str>,
) {
    for vip in &balancer.vips {
        let reject = |message: &str| blame(field, *vip).reject_part(&vip.to_string(), message);
        // Packets to an address that is both could be a client's or a target's.
        if model.node.snat.addresses.contains(vip) {
            reject("is one of node.snat.addresses; a VIP needs an address of its own");
        }
        if let Some(instance) = instances.get(vip) {
            reject(&format!("is the address of instance {instance}"));
        }
        for template in &model.instance_templates {
            if lies_in(*vip, template) {
                reject(&format!("lies in the addresses of instance template {}", template.name));
            }
        }
        if vip.is_loopback() && model.node.datapath != DatapathMode::Proxy {
            reject(LOOPBACK);
        }
    }
}

/// The packet path writes addresses anew, not whole headers: what comes in IPv4 leaves in IPv4.
fn check_families(field: &Field<'_>, balancer: &LoadBalancer, model: &Model) {
    for listener in &balancer.listeners {
        if balancer.engine(listener, model.node.datapath) == Engine::Proxy {
            continue;
        }
        let Some(backend) = balancer.backend(&listener.backend) else { continue };
        let mixed = balancer.vips.iter().find_map(|vip| {
            let other = |target: &&Target| target.address.is_ipv4() != vip.is_ipv4();
            Some((vip, balancer.targets_of(backend).iter().find(other)?))
        });
        let Some((vip, target)) = mixed else { continue };
        let items = field.glance("listeners").map(|list| list.items()).unwrap_or_default();
        let name = |item: &&Field<'_>| {
            item.glance("name").and_then(|name| name.peek()) == Some(&*listener.name)
        };
        let at = items.iter().find(name).and_then(|item| item.glance("backend"));
        let (there, here) = if vip.is_ipv4() { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
        at.unwrap_or_else(|| field.clone()).complain(format!(
            "the {there} VIP {vip} of this Tcp listener and the {here} target {} of backend {} are \
             of two address families, which the packet path does not translate; use targets of the \
             VIP's family, or have the proxy serve it (`proxyProtocol: true` on the backend, or \
             `node.datapath: proxy`)",
            target.address, backend.name
        ));
    }
}

const LOOPBACK: &str = "is a loopback address, which only datapath proxy can serve";

/// A load balancer that is its own target would send traffic in a circle, and the fast path
/// sends nothing to this host.
fn check_targets(field: &Field<'_>, balancer: &LoadBalancer, model: &Model) {
    let Some(groups) = field.glance("targetGroups").filter(Field::is_list) else { return };
    for group in groups.items() {
        let Some(targets) = group.glance("targets").filter(Field::is_list) else { continue };
        for target in targets.items() {
            let Some(address) = target.glance("ipAddress") else { continue };
            let parsed: Option<IpAddr> = address.peek().and_then(|text| text.parse().ok());
            let Some(parsed) = parsed else { continue };
            if balancer.vips.contains(&parsed) {
                address.reject("is a VIP of this load balancer, which cannot be its own target");
            } else if parsed.is_loopback() && model.node.datapath != DatapathMode::Proxy {
                address.reject(LOOPBACK);
            }
        }
    }
}
