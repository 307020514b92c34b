//! The file: YAML text → `Model`, the only door. A text is wholly valid or gives all of its
//! errors, each with line, column, path, value and what is allowed.

mod backend;
mod balancer;
mod capacity;
mod certificate;
mod cipher;
mod cursor;
mod diagnostic;
mod files;
mod format;
mod group;
mod header;
mod health;
mod ids;
mod listener;
mod network;
mod node;
mod scope;
mod security;
mod target;
mod tree;
mod unserved;
mod url_map;
mod vips;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

pub(crate) use self::node::{BPFFS, SNAT_PORTS};
use self::{
    cursor::{Context, Field, Object},
    ids::Kind,
    scope::Scope,
    tree::Pos,
};
pub use self::{
    diagnostic::{ConfigErrors, Diagnostic},
    unserved::unserved,
};
use crate::model::{LoadBalancer, Model, Node};

/// What a text is called that has no file.
const NAMELESS: &str = "alb.yaml";

/// A file that is wholly valid.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub model: Model,
    /// What deserves a second look.
    pub warnings: Vec<Diagnostic>,
    places: BTreeMap<String, Pos>,
}

impl Loaded {
    /// What the file uses and this program does not serve yet, with line and column.
    pub fn unserved(&self) -> Vec<Diagnostic> {
        let mut found = unserved(&self.model);
        for diagnostic in &mut found {
            let Pos { line, column } = self.locate(&diagnostic.path);
            (diagnostic.line, diagnostic.column) = (line, column);
        }
        found.sort();
        found
    }

    /// The place of a path, or of the nearest thing around it that the file spells out.
    fn locate(&self, path: &str) -> Pos {
        let mut path = path;
        loop {
            if let Some(pos) = self.places.get(path) {
                return *pos;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return Pos::START,
            }
        }
    }
}

/// Reads and parses a file; relative paths in it start at its directory.
pub fn load(path: &Path) -> Result<Loaded, ConfigErrors> {
    let name = path.display().to_string();
    let (text, base) = text_and_base(path, &name)?;
    parse_named(&text, &base, name)
}

/// Reads what a file says of the node only; the rest of it may be wrong.
pub fn load_node(path: &Path) -> Result<Node, ConfigErrors> {
    let name = path.display().to_string();
    let (text, base) = text_and_base(path, &name)?;
    let root = tree::parse(&text).map_err(|error| ConfigErrors::new(name.clone(), vec![error]))?;
    let cx = Context::new(&base);
    let node = Field::root(&cx, &root).glance("node").and_then(|node| node.object(node::read));
    let (mut errors, ..) = cx.into_parts();
    node.filter(|_| errors.is_empty()).ok_or_else(|| {
        if errors.is_empty() {
            errors.push(whole("node: is missing".to_owned()));
        }
        ConfigErrors::new(name, errors)
    })
}

fn text_and_base(path: &Path, name: &str) -> Result<(String, PathBuf), ConfigErrors> {
    let text = read(path).map_err(|error| {
        ConfigErrors::new(name.to_owned(), vec![whole(format!("cannot be read: {error}"))])
    })?;
    if text.trim().is_empty() {
        let message =
            "is empty; examples/quickstart.yaml and examples/full.yaml show what a file says";
        return Err(ConfigErrors::new(name.to_owned(), vec![whole(message.to_owned())]));
    }
    // An empty parent means the current directory; made absolute, paths survive a chdir.
    let parent = path.parent().unwrap_or_else(|| Path::new(""));
    let base = std::path::absolute(Path::new(".").join(parent)).unwrap_or_else(|_| parent.into());
    Ok((text, clean(&base)))
}

/// A finding about the file as a whole.
fn whole(message: String) -> Diagnostic {
    Diagnostic { line: 0, column: 0, path: String::new(), value: None, message }
}

/// Parses a text; relative paths in it start at `base`.
pub fn parse(text: &str, base: &Path) -> Result<Loaded, ConfigErrors> {
    parse_named(text, base, NAMELESS.to_owned())
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    // One byte more than is allowed tells `parse` that there is more.
    File::open(path)?.take(tree::MAX_TEXT as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > tree::MAX_TEXT {
        return Err(io::Error::other(format!("larger than {} MiB", tree::MAX_TEXT >> 20)));
    }
    let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    text.ok_or_else(|| io::Error::other("not a text file (UTF-8)"))
}

/// `/etc/./alb` → `/etc/alb`.
fn clean(path: &Path) -> PathBuf {
    path.components().collect()
}

fn parse_named(text: &str, base: &Path, name: String) -> Result<Loaded, ConfigErrors> {
    let root = match tree::parse(text) {
        Ok(root) => root,
        Err(error) => return Err(ConfigErrors::new(name, vec![error])),
    };
    let cx = Context::new(base);
    let model = Field::root(&cx, &root).object(document);
    let (mut errors, mut warnings, places) = cx.into_parts();
    warnings.sort();
    match model {
        Some(model) if errors.is_empty() => Ok(Loaded { model, warnings, places }),
        _ => {
            if errors.is_empty() {
                let message = "cannot be used".to_owned();
                let Pos { line, column } = Pos::START;
                errors.push(Diagnostic { line, column, path: String::new(), value: None, message });
            }
            Err(ConfigErrors::new(name, errors))
        }
    }
}

/// The whole document: names first, then what they stand for, then what crosses borders.
fn document(object: &Object<'_>) -> Option<Model> {
    let node = object.need("node").and_then(|field| field.object(node::read));
    let vpc_items = object.list("vpcs");
    let subnet_items = object.list("subnets");
    let elastic_items = object.list("elasticIps");
    let instance_items = object.list("instances");
    let template_items = object.list("instanceTemplates");
    let ag_items = object.list("availabilityGroups");
    let sg_items = object.list("securityGroups");
    let policy_items = object.list("securityPolicies");
    let certificate_items = object.list("certificates");
    let balancer_items = object.list("loadBalancers");

    let mut vpcs = Scope::declare(Kind::Vpc, "", &vpc_items);
    let subnets = Scope::declare(Kind::Subnet, "", &subnet_items);
    let elastic_ips = Scope::declare(Kind::ElasticIp, "", &elastic_items);
    let templates = Scope::declare(Kind::InstanceTemplate, "", &template_items);
    let availability_groups = Scope::declare(Kind::AvailabilityGroup, "", &ag_items);
    let security_groups =
        Scope::declare_beside(Kind::SecurityGroup, security::DEFAULT_GROUP, &sg_items);
    let security_policies = Scope::declare(Kind::SecurityPolicy, "", &policy_items);
    let certificates = Scope::declare(Kind::Certificate, "", &certificate_items);
    let load_balancers = Scope::declare(Kind::LoadBalancer, "", &balancer_items);

    let vpcs_read = network::read_vpcs(&vpc_items, &mut vpcs);
    // A broken node is an error already; its zone only keeps the rest readable.
    let zone = node.as_ref().and_then(|node| node.zones.first()).cloned().unwrap_or_default();
    let mut model = Model {
        subnets: network::read_subnets(&subnet_items, &subnets, &vpcs, &zone),
        elastic_ips: network::read_elastic_ips(&elastic_items, &elastic_ips),
        instances: network::read_instances(&instance_items, &vpcs, &zone),
        instance_templates: each(&template_items, |o| group::read_template(o, &templates, &vpcs)),
        availability_groups: each(&ag_items, |o| {
            group::read_group(o, &availability_groups, &templates)
        }),
        security_groups: security::read_groups(&sg_items, &security_groups, &vpcs),
        security_policies: each(&policy_items, |o| security::read_policy(o, &security_policies)),
        certificates: each(&certificate_items, |o| certificate::read(o, &certificates)),
        load_balancers: Vec::new(),
        vpcs: vpcs_read,
        node: node.clone().unwrap_or_else(node::broken),
    };
    let scopes = balancer::Scopes {
        load_balancers: &load_balancers,
        subnets: &subnets,
        elastic_ips: &elastic_ips,
        security_groups: &security_groups,
        security_policies: &security_policies,
        certificates: &certificates,
        availability_groups: &availability_groups,
    };
    let top = balancer::Top::of(&model);
    let mut drafts: Vec<(Field<'_>, LoadBalancer)> = balancer_items
        .iter()
        .filter_map(|item| {
            let balancer = item.object(|object| balancer::read(object, &scopes, &top))?;
            Some((item.clone(), balancer))
        })
        .collect();
    vips::assign(&mut drafts, &model, &top);
    model.load_balancers = drafts.into_iter().map(|(_, balancer)| balancer.into()).collect();
    capacity::check(object.whole(), &model);
    node.map(|_| model)
}

fn each<'a, T>(items: &[Field<'a>], read: impl Fn(&Object<'a>) -> Option<T>) -> Vec<T> {
    items.iter().filter_map(|item| item.object(&read)).collect()
}

#[cfg(test)]
mod tests;
