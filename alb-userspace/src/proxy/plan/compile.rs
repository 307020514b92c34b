//! Snapshot and the plan before it → plan. Pure.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use super::{Backend, Draining, Listener, Plan, Secrets, Target, draining};
use crate::{
    balance::{self, Selector},
    model::{self, Direction, Engine, LoadBalancer},
    proxy::{
        route::Routes,
        sticky::Keys,
        tls::{self, ContextError, Tickets},
    },
    security::{Gate, Rules},
    state::{Health, Snapshot},
};

/// What a plan before this one counts with, by identity.
struct Before<'a> {
    listeners: BTreeMap<&'a str, &'a Arc<Listener>>,
    backends: BTreeMap<&'a str, &'a Arc<Backend>>,
    draining: &'a [Draining],
    security: &'a BTreeMap<Arc<str>, Arc<Rules>>,
}

impl Plan {
    /// What the proxy is to serve of a snapshot. Counters of listeners, backends and targets
    /// that were in `before` are carried over; a target that moved begins with none. Targets that
    /// it had drain if they are not in the snapshot.
    pub fn compile(snapshot: &Snapshot, secrets: &Secrets, before: &Self) -> Self {
        let mut security = BTreeMap::new();
        let last = before;
        let before = Before::of(before);
        let (mut listeners, mut all, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for balancer in &snapshot.model.load_balancers {
            let rules = before.rules(Rules::of(&snapshot.model, balancer), &balancer.id);
            security.insert(Arc::from(&*balancer.id), Arc::clone(&rules.0));
            let (made, gates) = (BTreeMap::new(), BTreeMap::new());
            let mut backends =
                Backends { snapshot, secrets, balancer, rules, gates, before: &before, made };
            for listener in &balancer.listeners {
                if balancer.engine(listener, snapshot.model.node.datapath) == Engine::Kernel {
                    continue;
                }
                let tls = context(listener, snapshot, &secrets.tickets, &before);
                let tls = tls.or_else(|(error, old)| {
                    let kept = if old.is_some() { "; it goes on with what it had" } else { "" };
                    failed.push(format!(
                        "listener {} of load balancer {}: {error}{kept}",
                        listener.name, balancer.name
                    ));
                    old.map(Some).ok_or(())
                });
                listeners.extend(tls.ok().and_then(|tls| compile(listener, tls, &mut backends)));
            }
            all.extend(backends.made.into_values());
        }
        let draining = draining::draining(&all, last, Instant::now());
        let generation = snapshot.generation;
        Self { generation, listeners, backends: all, draining, failed, security }
    }
}

impl<'a> Before<'a> {
    fn of(plan: &'a Plan) -> Self {
        Self {
            listeners: plan.listeners.iter().map(|listener| (&*listener.id, listener)).collect(),
            backends: plan.backends.iter().map(|backend| (&*backend.id, backend)).collect(),
            draining: &plan.draining,
            security: &plan.security,
        }
    }

    /// A target as it was, if it is not over yet.
    fn target(
        &self,
        backend: Option<&'a Arc<Backend>>,
        backend_id: &str,
        id: &str,
        address: SocketAddr,
    ) -> Option<&'a Arc<Target>> {
        let same = |was: &&Arc<Target>| *was.id == *id && was.address == address;
        let was = backend.and_then(|backend| backend.targets.iter().find(same));
        was.or_else(|| {
            let of_backend = self.draining.iter().filter(|of| *of.backend == *backend_id);
            of_backend.map(|of| &of.target).find(same)
        })
    }

    /// The rules of a load balancer, and whether they are what they were.
    fn rules(&self, rules: Rules, balancer: &str) -> (Arc<Rules>, bool) {
        match self.security.get(balancer).filter(|before| ***before == rules) {
            Some(before) => (Arc::clone(before), true),
            None => (Arc::new(rules), false),
        }
    }
}

/// Backends of one load balancer, made when they are first asked for.
struct Backends<'a> {
    snapshot: &'a Snapshot,
    secrets: &'a Secrets,
    balancer: &'a LoadBalancer,
    /// What its security groups say, and whether they said so before.
    rules: (Arc<Rules>, bool),
    /// Towards targets, by port.
    gates: BTreeMap<u16, Gate>,
    before: &'a Before<'a>,
    made: BTreeMap<&'a str, Arc<Backend>>,
}

impl<'a> Backends<'a> {
    /// Ids in a model always resolve.
    fn get(&mut self, id: &str) -> Option<Arc<Backend>> {
        if let Some(backend) = self.made.get(id) {
            return Some(Arc::clone(backend));
        }
        let backend = self.balancer.backend(id)?;
        let made = Arc::new(self.backend(backend));
        self.made.insert(&backend.id, Arc::clone(&made));
        Some(made)
    }

    /// Whether the security groups let connections to a target out.
    fn admits(&mut self, to: SocketAddr, was: Option<&Arc<Target>>) -> bool {
        let (rules, unchanged) = &self.rules;
        match was {
            _ if rules.is_open() => true,
            Some(was) if *unchanged => was.admitted,
            _ => {
                let gate = || rules.gate(Direction::Out, to.port());
                self.gates.entry(to.port()).or_insert_with(gate).admits(to.ip())
            }
        }
    }

    fn backend(&mut self, backend: &'a model::Backend) -> Backend {
        let before = self.before.backends.get(&*backend.id).copied();
        let targets = self.balancer.targets_of(backend);
        let targets: Vec<_> = targets
            .iter()
            .map(|target| {
                let state = self.snapshot.targets.get(&backend.id, &target.id);
                let address = SocketAddr::from((target.address, target.port_for(backend).get()));
                let was = self.before.target(before, &backend.id, &target.id, address);
                Arc::new(Target {
                    id: target.id.as_str().into(),
                    address,
                    weight: target.weight,
                    zero_since: (target.weight == 0)
                        .then(|| was.and_then(|was| was.zero_since).unwrap_or_else(Instant::now)),
                    health: state.map_or(Health::Initial, |state| state.health),
                    since: state.map_or(std::time::SystemTime::UNIX_EPOCH, |state| state.since),
                    admitted: self.admits(address, was),
                    shared: was.map(|was| Arc::clone(&was.shared)).unwrap_or_default(),
                })
            })
            .collect();
        let settings = balance::Settings {
            algorithm: backend.algorithm,
            panic: backend.panic_mode,
            slow_start: backend.slow_start,
        };
        let candidates: Vec<_> = targets.iter().map(|target| candidate(target)).collect();
        let sticky = backend.stickiness.map(|expire| {
            let addresses = targets.iter().map(|target| target.address);
            Keys::new(&self.secrets.cookies, &backend.id, expire, addresses)
        });
        let selector = Selector::new(settings, &candidates, before.map(|before| &before.selector));
        Backend {
            id: backend.id.as_str().into(),
            name: backend.name.as_str().into(),
            protocol: backend.protocol,
            algorithm: backend.algorithm,
            connect_timeout: backend.connect_timeout,
            response_timeout: backend.response_timeout,
            pool_idle: backend.pool_idle,
            retries: backend.retries,
            sticky,
            forwarded: backend.forwarded,
            proxy_protocol: backend.proxy_protocol,
            slow_start: backend.slow_start,
            connection_draining: backend.connection_draining,
            unhealthy_flows: backend.unhealthy_flows,
            panic_mode: backend.panic_mode,
            passive_max_percent: backend.passive_max_percent,
            targets,
            selector,
            shared: before.map(|before| Arc::clone(&before.shared)).unwrap_or_default(),
        }
    }
}

/// A target as it is chosen. One whose health never changed has its full share.
fn candidate(target: &Target) -> balance::Candidate {
    let ago = SystemTime::now().duration_since(target.since).unwrap_or_default();
    balance::Candidate {
        at: target.address,
        weight: if target.admitted { target.weight.into() } else { 0 },
        service: target.health.into(),
        since: Instant::now().checked_sub(ago),
    }
}

/// What handshakes are done with; `None` = there are none.
type Tls = Option<Arc<tls::Context>>;

/// What a listener does its handshakes with; unchanged if its certificates are. An error comes
/// with what it did them with until now, if that is of use.
fn context(
    listener: &model::Listener,
    snapshot: &Snapshot,
    tickets: &Arc<Tickets>,
    before: &Before<'_>,
) -> Result<Tls, (ContextError, Tls)> {
    let Some(settings) = &listener.tls else { return Ok(None) };
    let before = before.listeners.get(&*listener.id);
    let before = before.filter(|before| before.protocol == listener.protocol);
    let before = before.and_then(|before| before.tls.as_ref());
    tls::Context::compile(listener.protocol, settings, &snapshot.model, tickets, before)
        .map(Some)
        .map_err(|error| (error, before.cloned()))
}

/// Whom the security groups let in; unchanged if they are.
fn gate(
    listener: &model::Listener,
    (rules, unchanged): &(Arc<Rules>, bool),
    before: Option<&Arc<Listener>>,
) -> Option<Arc<Gate>> {
    let port = listener.port.get();
    if let Some(before) = before.filter(|before| *unchanged && before.port == port) {
        return before.gate.clone();
    }
    let gate = rules.gate(Direction::In, port);
    (!gate.is_open()).then(|| Arc::new(gate))
}

fn compile(
    listener: &model::Listener,
    tls: Tls,
    backends: &mut Backends<'_>,
) -> Option<Arc<Listener>> {
    let balancer = backends.balancer;
    let before = backends.before.listeners.get(&*listener.id).copied();
    let backend = backends.get(&listener.backend)?;
    let map = listener.url_map.as_ref().and_then(|id| balancer.url_map(id));
    let routes = Routes::compile(map, Arc::clone(&backend), |id| backends.get(id))?;
    let gate = gate(listener, &backends.rules, before);
    let hsts = listener.tls.as_ref().and_then(|tls| tls.hsts_max_age);
    Some(Arc::new(Listener {
        id: listener.id.as_str().into(),
        balancer: balancer.id.as_str().into(),
        name: listener.name.as_str().into(),
        balancer_name: balancer.name.as_str().into(),
        vips: balancer.vips.clone(),
        port: listener.port.get(),
        protocol: listener.protocol,
        enabled: listener.enabled,
        idle_timeout: listener.idle_timeout,
        max_connections: listener.max_connections,
        max_qps: listener.max_qps,
        http: listener.http,
        tls,
        hsts: hsts.map(|age| format!("max-age={}", age.as_secs()).into_bytes().into()),
        backend,
        routes,
        gate,
        shared: before.map(|before| Arc::clone(&before.shared)).unwrap_or_default(),
    }))
}
