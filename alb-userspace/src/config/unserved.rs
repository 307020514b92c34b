//! What the grammar knows and this program does not serve yet. `alb check` warns of each,
//! `alb run` refuses; nothing is silently ignored. What is served is said here only.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Diagnostic,
    backend::{CONNECT_TIMEOUT, PASSIVE_MAX, RETRIES},
};
use crate::model::{Backend, DatapathMode, Engine, LoadBalancer, Model, RouteAction, TargetSource};

/// Everything in use that is not served yet, in the order of the file. Line and column are 0:
/// `Loaded::unserved` knows them.
pub fn unserved(model: &Model) -> Vec<Diagnostic> {
    let mut found = Findings::default();
    node(model, &mut found);
    for (index, template) in model.instance_templates.iter().enumerate() {
        found.add(
            format!("instanceTemplates[{index}]"),
            format!("instance template {} is", template.name),
        );
    }
    for (index, group) in model.availability_groups.iter().enumerate() {
        found.add(
            format!("availabilityGroups[{index}]"),
            format!("availability group {} is", group.name),
        );
    }
    for (index, balancer) in model.load_balancers.iter().enumerate() {
        load_balancer(model, balancer, &format!("loadBalancers[{index}]"), &mut found);
    }
    found.0
}

#[derive(Debug, Default)]
struct Findings(Vec<Diagnostic>);

impl Findings {
    fn add(&mut self, path: String, what: impl std::fmt::Display) {
        let message = format!("{what} not served yet");
        self.0.push(Diagnostic { line: 0, column: 0, path, value: None, message });
    }
}

fn node(model: &Model, found: &mut Findings) {
    let node = &model.node;
    if let Some(api) = &node.api {
        if api.tls.is_some() {
            found.add("node.api.tls".into(), "TLS on the API listener is");
        }
        if api.rate_limit_per_minute != 0 {
            found.add("node.api.rateLimitPerMinute".into(), "the rate limit of the API is");
        }
    }
}

fn load_balancer(model: &Model, balancer: &LoadBalancer, path: &str, found: &mut Findings) {
    let uses = uses(balancer, model.node.datapath);
    for (index, backend) in balancer.backends.iter().enumerate() {
        if let Some(engines) = uses.get(backend.id.as_str()) {
            used_backend(backend, engines, &format!("{path}.backends[{index}]"), found);
        }
    }
}

/// The backends that a listener leads to, by itself or by its url map, with the engines that
/// send to them. Only these are in use.
fn uses(balancer: &LoadBalancer, datapath: DatapathMode) -> BTreeMap<&str, Vec<Engine>> {
    let mut uses = BTreeMap::<_, Vec<_>>::new();
    for listener in &balancer.listeners {
        let map = listener.url_map.as_ref().and_then(|id| balancer.url_map(id));
        let rules = map.map_or(&[][..], |map| &map.rules);
        let led_to = rules.iter().flat_map(|rule| match &rule.action {
            RouteAction::Forward { backend, mirror, .. } => [Some(backend), mirror.as_ref()],
            RouteAction::Redirect(_) => [None, None],
        });
        for backend in led_to.flatten().chain([&listener.backend]) {
            uses.entry(backend.as_str()).or_default().push(balancer.engine(listener, datapath));
        }
    }
    uses
}

fn used_backend(backend: &Backend, engines: &[Engine], path: &str, found: &mut Findings) {
    let Backend { name, .. } = backend;
    let mut add = |key: &str, what: &str| {
        found.add(format!("{path}.{key}"), format!("{what} of backend {name} is"));
    };
    if matches!(backend.source, TargetSource::AvailabilityGroup { .. }) {
        add("availabilityGroup", "the availability group");
    }
    // The proxy has these; the packet path has not.
    if engines.contains(&Engine::Kernel) {
        if backend.connect_timeout != Duration::from_secs(CONNECT_TIMEOUT.default.into()) {
            add("connectTimeoutSeconds", "connectTimeoutSeconds");
        }
        if backend.retries != RETRIES.default {
            add("retries", "retries");
        }
        if backend.passive_max_percent != PASSIVE_MAX.default {
            add("passiveMaxPercent", "passiveMaxPercent");
        }
    }
}
