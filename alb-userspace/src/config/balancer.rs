//! Load balancers: what nests in them, and where they stand.

use std::{collections::BTreeMap, net::IpAddr};

use super::{
    backend,
    cursor::{Field, Object},
    format,
    ids::Kind,
    listener, network,
    scope::Scope,
    security, target, url_map,
};
use crate::model::{
    AvailabilityGroup, Certificate, ElasticIp, Instance, InstanceTemplate, LoadBalancer, Model,
    SecurityGroup, SecurityPolicy, Subnet, Tag,
};

const AZS: usize = 2;
const TAG_CHARS: usize = 256;

/// What load balancers refer to.
#[derive(Debug)]
pub(super) struct Scopes<'s> {
    pub(super) load_balancers: &'s Scope,
    pub(super) subnets: &'s Scope,
    pub(super) elastic_ips: &'s Scope,
    pub(super) security_groups: &'s Scope,
    pub(super) security_policies: &'s Scope,
    pub(super) certificates: &'s Scope,
    pub(super) availability_groups: &'s Scope,
}

/// Where a load balancer stands, for its targets.
#[derive(Debug)]
pub(super) struct Place<'m> {
    pub(super) name: &'m str,
    pub(super) subnet: Option<&'m Subnet>,
    pub(super) azs: &'m [String],
    pub(super) top: &'m Top<'m>,
}

/// Everything at the top of the file that could be read, by id.
#[derive(Debug)]
pub(super) struct Top<'m> {
    pub(super) subnets: BTreeMap<&'m str, &'m Subnet>,
    pub(super) elastic_ips: BTreeMap<&'m str, &'m ElasticIp>,
    pub(super) instances: BTreeMap<&'m str, &'m Instance>,
    pub(super) security_groups: BTreeMap<&'m str, &'m SecurityGroup>,
    pub(super) availability_groups: BTreeMap<&'m str, &'m AvailabilityGroup>,
    pub(super) instance_templates: BTreeMap<&'m str, &'m InstanceTemplate>,
    pub(super) certificates: BTreeMap<&'m str, &'m Certificate>,
    pub(super) security_policies: BTreeMap<&'m str, &'m SecurityPolicy>,
}

impl<'m> Top<'m> {
    pub(super) fn of(model: &'m Model) -> Self {
        let Model { subnets, elastic_ips, instances, security_groups, .. } = model;
        let Model { availability_groups, instance_templates, .. } = model;
        Self {
            subnets: subnets.iter().map(|subnet| (&*subnet.id, subnet)).collect(),
            elastic_ips: elastic_ips.iter().map(|elastic| (&*elastic.id, elastic)).collect(),
            instances: instances.iter().map(|instance| (&*instance.id, instance)).collect(),
            security_groups: security_groups.iter().map(|group| (&*group.id, group)).collect(),
            availability_groups: availability_groups.iter().map(|ag| (&*ag.id, ag)).collect(),
            instance_templates: instance_templates.iter().map(|t| (&*t.id, t)).collect(),
            certificates: model.certificates.iter().map(|c| (&*c.id, c)).collect(),
            security_policies: model.security_policies.iter().map(|p| (&*p.id, p)).collect(),
        }
    }
}

/// Reads one load balancer.
pub(super) fn read(
    object: &Object<'_>,
    scopes: &Scopes<'_>,
    top: &Top<'_>,
) -> Option<LoadBalancer> {
    let name = format::name(object);
    let description = format::description(object);
    kind(object);
    let subnet = object.need("subnet").and_then(|field| scopes.subnets.resolve(&field));
    let at = subnet.as_deref().and_then(|id| top.subnets.get(id)).copied();
    let azs = azs(object, at);
    let elastic_ip = object.get("elasticIp").and_then(|field| scopes.elastic_ips.resolve(&field));
    let elastic = elastic_ip.as_deref().and_then(|id| top.elastic_ips.get(id)).copied();
    let vips = vips(object, at, elastic);
    let security_groups = security_groups(object, scopes, at, top);
    let delete_protection = object.bool("deleteProtection", false);
    let tags = tags(object);

    let owner = name.clone().unwrap_or_default();
    let place = Place { name: &owner, subnet: at, azs: &azs, top };
    let group_items = object.list("targetGroups");
    let backend_items = object.list("backends");
    let map_items = object.list("urlMaps");
    let listener_items = object.list("listeners");
    let target_groups = Scope::declare(Kind::TargetGroup, &owner, &group_items);
    let backends = Scope::declare(Kind::Backend, &owner, &backend_items);
    let url_maps = Scope::declare(Kind::UrlMap, &owner, &map_items);
    let listeners = Scope::declare(Kind::Listener, &owner, &listener_items);

    let groups_read = each(&group_items, |object| target::read(object, &target_groups, &place));
    let backend_scopes = backend::Scopes {
        backends: &backends,
        target_groups: &target_groups,
        availability_groups: scopes.availability_groups,
        place: &place,
    };
    let backends_read = each(&backend_items, |object| backend::read(object, &backend_scopes));
    let map_scopes = url_map::Scopes { url_maps: &url_maps, backends: &backends, owner: &owner };
    let maps_read = each(&map_items, |object| url_map::read(object, &map_scopes, &backends_read));
    let listener_scopes = listener::Scopes {
        listeners: &listeners,
        backends: &backends,
        url_maps: &url_maps,
        certificates: scopes.certificates,
        security_policies: scopes.security_policies,
        known: &top.certificates,
        policies: &top.security_policies,
    };
    let listeners_read =
        each(&listener_items, |object| listener::read(object, &listener_scopes, &backends_read));
    unique_ports(&listener_items);

    let name = name?;
    Some(LoadBalancer {
        id: scopes.load_balancers.id(&name),
        name,
        description,
        subnet: subnet?,
        azs,
        elastic_ip,
        vips,
        security_groups,
        delete_protection,
        listeners: listeners_read,
        backends: backends_read,
        target_groups: groups_read,
        url_maps: maps_read,
        tags,
    })
}

fn each<'a, T>(items: &[Field<'a>], read: impl Fn(&Object<'a>) -> Option<T>) -> Vec<T> {
    items.iter().filter_map(|item| item.object(&read)).collect()
}

fn kind(object: &Object<'_>) {
    let Some(field) = object.get("type") else { return };
    let Some(text) = field.text() else { return };
    if text.eq_ignore_ascii_case("nlb") || text.eq_ignore_ascii_case("dnlb") {
        field.reject("network load balancers are not offered, allowed is alb");
    } else if !text.eq_ignore_ascii_case("alb") {
        field.reject("allowed is alb");
    }
}

fn azs(object: &Object<'_>, subnet: Option<&Subnet>) -> Vec<String> {
    let Some(field) = object.get("azs") else {
        return subnet.map(|subnet| subnet.zone.clone()).into_iter().collect();
    };
    let zones = format::zones(&field);
    if field.is_list() && !(1..=AZS).contains(&field.items().len()) {
        field.complain(format!("a load balancer is in 1–{AZS} zones"));
    }
    zones
}

/// The addresses the file names; the subnet gives one later if there is neither kind.
fn vips(object: &Object<'_>, subnet: Option<&Subnet>, elastic: Option<&ElasticIp>) -> Vec<IpAddr> {
    let private = object.get("privateIpAddress");
    let six = object.get("ipv6Address");
    let mut vips = Vec::new();
    if let Some(field) = private
        && let Some(address) = format::ipv4(&field)
    {
        if let Some(subnet) = subnet {
            in_subnet(&field, subnet, address.into(), subnet.prefix.map(Into::into));
        }
        vips.push(address.into());
    }
    if let Some(field) = six
        && let Some(address) = format::ipv6(&field)
    {
        if let Some(subnet) = subnet {
            in_subnet(&field, subnet, address.into(), subnet.prefix6.map(Into::into));
        }
        vips.push(address.into());
    }
    vips.extend(elastic.map(|elastic| elastic.address));
    vips
}

fn in_subnet(field: &Field<'_>, subnet: &Subnet, address: IpAddr, prefix: Option<ipnet::IpNet>) {
    let Subnet { name, .. } = subnet;
    match prefix {
        None if address.is_ipv4() => field.reject(format!("subnet {name} has no addressPrefix")),
        None => field.reject(format!("subnet {name} has no ipv6AddressPrefix")),
        Some(prefix) if !prefix.contains(&address) => {
            field.reject(format!("must lie in {prefix}, the prefix of subnet {name}"));
        }
        Some(prefix) if network::is_edge(subnet, address) => {
            field.reject(format!("is the network or broadcast address of {prefix}"));
        }
        Some(_) => {}
    }
}

fn security_groups(
    object: &Object<'_>,
    scopes: &Scopes<'_>,
    subnet: Option<&Subnet>,
    top: &Top<'_>,
) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for item in object.list("securityGroups") {
        let Some(id) = scopes.security_groups.resolve(&item) else { continue };
        if ids.contains(&id) {
            item.reject("is named twice");
            continue;
        }
        let group = top.security_groups.get(id.as_str()).filter(|group| !group.open);
        if let (Some(group), Some(subnet)) = (group, subnet)
            && group.vpc != subnet.vpc
        {
            item.reject("the security group is in another vpc than the load balancer");
        }
        ids.push(id);
    }
    if ids.is_empty() {
        ids.push(scopes.security_groups.id(security::DEFAULT_GROUP));
    }
    ids
}

fn tags(object: &Object<'_>) -> Vec<Tag> {
    let mut tags: Vec<Tag> = Vec::new();
    for item in object.list("tags") {
        let Some(tag) = item.object(|object| {
            let key = object.need("key").and_then(|field| tag_text(&field));
            let value =
                object.get("value").map_or_else(|| Some(String::new()), |field| tag_text(&field));
            Some(Tag { key: key?, value: value? })
        }) else {
            continue;
        };
        if tags.iter().any(|other| other.key == tag.key) {
            item.complain(format!("the key {} is named twice", tag.key));
        }
        tags.push(tag);
    }
    tags
}

fn tag_text(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    if text.chars().count() > TAG_CHARS {
        field.reject(format!("allowed are {TAG_CHARS} characters"));
        return None;
    }
    Some(text.to_owned())
}

/// A port is used once in a load balancer, whatever the protocol.
fn unique_ports(listeners: &[Field<'_>]) {
    let mut first: BTreeMap<u16, u32> = BTreeMap::new();
    for listener in listeners {
        let Some(field) = listener.glance("port") else { continue };
        let Some(port) = field.peek().and_then(|text| text.parse().ok()) else { continue };
        match first.get(&port) {
            Some(line) => field.reject(format!(
                "the port is already used on line {line}; a port has one listener in a load balancer"
            )),
            None => {
                first.insert(port, field.pos().line);
            }
        }
    }
}
