//! What the workers serve: a snapshot made ready for use. Immutable and shared; the counters
//! that many workers must agree on are carried from plan to plan by identity.

mod compile;
mod draining;
mod shared;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

pub use draining::Draining;
pub use shared::{BackendShared, InFlight, ListenerShared, SharedId, TargetShared};

use crate::{
    balance::Selector,
    model::{
        Algorithm, BackendProtocol, Forwarded, ListenerHttp, ListenerProtocol, UnhealthyFlows,
    },
    proxy::{
        message::Field,
        route::Routes,
        stats::{UpstreamError, WorkerId},
        sticky, tls,
    },
    security::{Gate, Rules},
    state::{Health, TargetRef},
};

/// Everything the proxy serves.
#[derive(Debug, Default)]
pub struct Plan {
    /// Of the snapshot it was made from; 0 = of none.
    pub generation: u64,
    /// By load balancer, in the order of the model; those that are off too.
    pub listeners: Vec<Arc<Listener>>,
    /// Every backend that one of them leads to, once.
    pub backends: Vec<Arc<Backend>>,
    /// Targets whose connections and requests are to end, also of what was served before.
    pub draining: Vec<Draining>,
    /// Listeners that are left out or go on with what they had before, and why, for people.
    pub failed: Vec<String>,
    /// What the security groups of each load balancer (id) say, so that an unchanged one is not
    /// compiled again.
    security: BTreeMap<Arc<str>, Arc<Rules>>,
}

/// What plans are compiled with beside the snapshot: what the node keeps to itself.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// Session tickets, of all listeners.
    pub tickets: Arc<tls::Tickets>,
    /// What persistence cookies are signed with.
    pub cookies: sticky::Secret,
}

#[cfg(test)]
impl Secrets {
    /// Tickets that end with the process, and always the same cookies.
    pub(crate) fn of_a_test() -> Self {
        let tickets = tls::Tickets::random(SystemTime::now()).unwrap();
        Self { tickets: Arc::new(tickets), cookies: sticky::Secret::from_text("of a test") }
    }
}

/// A port on the addresses of a load balancer.
#[derive(Debug)]
pub struct Listener {
    /// Id, stable over plans.
    pub id: Arc<str>,
    /// Id of its load balancer.
    pub balancer: Arc<str>,
    /// Name, for logs and metrics.
    pub name: Arc<str>,
    /// Name of its load balancer.
    pub balancer_name: Arc<str>,
    /// Addresses it listens on.
    pub vips: Vec<IpAddr>,
    /// TCP port.
    pub port: u16,
    /// What it speaks with clients.
    pub protocol: ListenerProtocol,
    /// Off: it has no sockets.
    pub enabled: bool,
    /// A connection without a byte for this long is closed.
    pub idle_timeout: Duration,
    /// Connections open at once, over all workers; `None` = unlimited.
    pub max_connections: Option<u32>,
    /// Requests a second, over all workers; `None` = unlimited.
    pub max_qps: Option<u32>,
    /// Limits on requests; `Some` exactly for http and https.
    pub http: Option<ListenerHttp>,
    /// How handshakes are done; `Some` exactly for tls and https.
    pub tls: Option<Arc<tls::Context>>,
    /// Value of `Strict-Transport-Security`; `None` = not sent.
    pub hsts: Option<Box<[u8]>>,
    /// Where connections (tcp, tls) and requests without a matching rule go.
    pub backend: Arc<Backend>,
    /// Where requests go.
    pub routes: Routes<Arc<Backend>>,
    /// Which clients the security groups let in; `None` = all.
    pub gate: Option<Arc<Gate>>,
    /// What all workers count together.
    pub shared: Arc<ListenerShared>,
}

impl Listener {
    /// Every address with the port.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.vips.iter().map(|vip| SocketAddr::new(*vip, self.port))
    }

    /// Whether the security groups let a client in.
    pub fn lets_in(&self, client: IpAddr) -> bool {
        self.gate.as_ref().is_none_or(|gate| gate.admits(client))
    }

    /// Takes a request within `max_qps`; false = it is one too many.
    pub fn admits_request(&self) -> bool {
        self.max_qps.is_none_or(|limit| self.shared.requests.take(limit))
    }
}

/// A backend service with its targets.
#[derive(Debug)]
pub struct Backend {
    /// Id, stable over plans.
    pub id: Arc<str>,
    /// Name, for logs and metrics.
    pub name: Arc<str>,
    /// What it speaks with its targets.
    pub protocol: BackendProtocol,
    /// How a target is chosen.
    pub algorithm: Algorithm,
    /// How long a connect to a target may take.
    pub connect_timeout: Duration,
    /// How long a target may take to answer a request (http).
    pub response_timeout: Duration,
    /// How long an idle connection to a target is kept (http).
    pub pool_idle: Duration,
    /// Further targets that are tried after the first failed.
    pub retries: u8,
    /// Cookie persistence; `None` = off.
    pub sticky: Option<sticky::Keys>,
    /// Which `X-Forwarded-*` fields targets get.
    pub forwarded: Forwarded,
    /// Targets get a PROXY protocol v1 line first (tcp).
    pub proxy_protocol: bool,
    /// Time in which a target that turned healthy grows to its full share.
    pub slow_start: Duration,
    /// How long sticky clients and flows of a target that goes may stay with it.
    pub connection_draining: Duration,
    /// What happens to the connections of a target that turns unhealthy.
    pub unhealthy_flows: UnhealthyFlows,
    /// Use all targets when none is healthy.
    pub panic_mode: bool,
    /// At most this part of the targets is taken out by failing traffic, percent.
    pub passive_max_percent: u8,
    /// Who is next; names targets by their place in `targets`.
    pub selector: Selector,
    /// In the order of the model, whatever their weight and health.
    pub targets: Vec<Arc<Target>>,
    /// What all workers count together.
    pub shared: Arc<BackendShared>,
}

impl Backend {
    /// The target that a client is bound to by the cookie in its request's fields, if it may
    /// stay with it.
    pub fn bound(&self, fields: &[Field<'_>], now: SystemTime) -> Option<usize> {
        let at = self.sticky.as_ref()?.find(fields, now)?;
        let target = self.targets.get(at).filter(|target| target.admitted)?;
        let in_service = self.selector.serves(at) || target.health.serves();
        let zero_for = target.zero_since.map(|since| since.elapsed());
        sticky::holds(in_service, zero_for, self.connection_draining).then_some(at)
    }

    /// Who takes the next request or connection of this client: a position in `targets` that is
    /// not in `exclude` (what was tried before), `bound` before all others. `None` = nobody is in
    /// service.
    pub fn pick(&self, client: IpAddr, bound: Option<usize>, exclude: &[usize]) -> Option<usize> {
        if let Some(at) = bound.filter(|at| !exclude.contains(at)) {
            return Some(at);
        }
        let load = |at: usize| self.targets.get(at).map_or(0, |target| target.in_flight());
        self.selector.pick(client, load, exclude)
    }
}

impl Backend {
    /// Counts a failure of one of its targets.
    pub fn fails(&self, target: &Target, worker: WorkerId, error: UpstreamError) {
        self.shared.fails(target, worker, error);
    }

    /// One of its targets as health checks name it.
    pub fn named(&self, target: &Target) -> TargetRef {
        TargetRef { backend: Arc::clone(&self.id), target: Arc::clone(&target.id) }
    }
}

/// One server, as one backend uses it.
#[derive(Debug)]
pub struct Target {
    /// Id, stable over plans.
    pub id: Arc<str>,
    /// Where it is.
    pub address: SocketAddr,
    /// Share, 0–100; 0 = nothing new.
    pub weight: u8,
    /// The first plan since when `weight` has been 0; `None` = it is not 0.
    pub zero_since: Option<Instant>,
    /// What its check found.
    pub health: Health,
    /// When `health` became what it is.
    pub since: SystemTime,
    /// The security groups let the balancer connect to it. Health checks do not ask.
    pub admitted: bool,
    /// What all workers count together.
    pub shared: Arc<TargetShared>,
}

impl Target {
    /// May be given new work, as far as checks know.
    pub fn serves(&self) -> bool {
        self.weight > 0 && self.health.serves() && self.admitted
    }

    /// Requests (http) or connections (tcp) it has now, over all workers.
    pub fn in_flight(&self) -> u32 {
        self.shared.in_flight.load(Ordering::Relaxed)
    }

    /// Counts one request or connection for as long as the guard lives.
    pub fn enter(&self) -> InFlight {
        InFlight::new(Arc::clone(&self.shared))
    }
}

#[cfg(test)]
mod tests;
