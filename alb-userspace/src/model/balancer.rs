//! Load balancers and what nests in them.

use std::{net::IpAddr, num::NonZeroU16, time::Duration};

use super::HealthCheck;

/// One load balancer: the unit that owns addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadBalancer {
    /// Derived id, `alb-` and ten characters of `[0-9a-z]`.
    pub id: String,
    /// Name, unique on the node.
    pub name: String,
    /// Free text, at most 256 characters.
    pub description: String,
    /// Id of the subnet it lives in.
    pub subnet: String,
    /// Zones it may use targets of; at most two.
    pub azs: Vec<String>,
    /// Addresses it is served on: the private IPv4, the IPv6, the elastic IP; at least one.
    pub vips: Vec<IpAddr>,
    /// Ids of the security groups that filter it; never empty (the built-in `default` at least).
    pub security_groups: Vec<String>,
    /// `DeleteLoadBalancer` is refused while set.
    pub delete_protection: bool,
    /// Listeners; ports are unique.
    pub listeners: Vec<Listener>,
    /// Backend services.
    pub backends: Vec<Backend>,
    /// Target groups.
    pub target_groups: Vec<TargetGroup>,
}

impl LoadBalancer {
    /// The backend with this id. Ids in a model always resolve.
    pub fn backend(&self, id: &str) -> Option<&Backend> {
        self.backends.iter().find(|backend| backend.id == id)
    }

    /// The target group with this id.
    pub fn target_group(&self, id: &str) -> Option<&TargetGroup> {
        self.target_groups.iter().find(|group| group.id == id)
    }

    /// The targets a backend forwards to now; empty without a group.
    pub fn targets_of(&self, backend: &Backend) -> &[Target] {
        match &backend.source {
            TargetSource::None => &[],
            TargetSource::Group(id) => self.target_group(id).map_or(&[], |group| &group.targets),
        }
    }
}

/// What a listener speaks with clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenerProtocol {
    /// TCP, forwarded in the kernel.
    Tcp,
    /// TLS terminated, TCP forwarded.
    Tls,
    /// HTTP/1.0 and 1.1.
    Http,
    /// HTTP over TLS.
    Https,
}

/// A port on the load balancer's addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Derived id, `listener-…`.
    pub id: String,
    /// Name, unique in its load balancer.
    pub name: String,
    /// Free text, at most 256 characters.
    pub description: String,
    /// Immutable after creation.
    pub protocol: ListenerProtocol,
    /// Unique in its load balancer whatever the protocol; immutable.
    pub port: NonZeroU16,
    /// `status: On`; an `Off` listener keeps its port and serves nothing.
    pub enabled: bool,
    /// Id of the default backend.
    pub backend: String,
    /// Both sides are closed after this long without a byte, 1–86400 s.
    pub idle_timeout: Duration,
    /// At most this many open connections; `None` = unlimited.
    pub max_connections: Option<u32>,
}

/// What a backend speaks with its targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackendProtocol {
    /// HTTP/1.1; pairs with http and https listeners.
    Http,
    /// TCP; pairs with tcp and tls listeners.
    Tcp,
}

/// How a backend chooses among its healthy targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Smooth weighted round robin.
    #[default]
    RoundRobin,
    /// Fewest active connections per weight.
    LeastConn,
    /// Weighted consistent hash of the client address.
    IpHash,
}

/// Where a backend's targets come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetSource {
    /// None yet: every connection is refused.
    None,
    /// The id of a target group of the same load balancer.
    Group(String),
}

/// The `httpForwarded*` switches. `X-Forwarded-For` has none: it is always on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "five independent switches of the API")]
pub struct Forwarded {
    /// `X-Forwarded-Proto`.
    pub protocol: bool,
    /// `X-Forwarded-Port`.
    pub port: bool,
    /// `X-Forwarded-Host`.
    pub host: bool,
    /// `X-Forwarded-LBIP`.
    pub vip: bool,
    /// `X-Forwarded-Client-Port`.
    pub client_port: bool,
}

/// A backend service: which targets, chosen how, checked how.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// Derived id, `backend-…`.
    pub id: String,
    /// Name, unique in its load balancer.
    pub name: String,
    /// Free text, at most 256 characters.
    pub description: String,
    /// Immutable after creation.
    pub protocol: BackendProtocol,
    /// Port of every target that has none of its own; immutable.
    pub port: NonZeroU16,
    /// How a target is chosen.
    pub algorithm: Algorithm,
    /// Where the targets come from.
    pub source: TargetSource,
    /// `None` = checks are closed: every target counts as healthy.
    pub health_check: Option<HealthCheck>,
    /// Send PROXY protocol v1 to the targets (tcp backends).
    pub proxy_protocol: bool,
    /// Cookie persistence (http backends with round robin): expiry, zero = browser session.
    pub stickiness: Option<Duration>,
    /// Extra request headers for http backends.
    pub forwarded: Forwarded,
    /// How long flows of a removed target may live on, 0–3600 s.
    pub connection_draining: Duration,
}

/// What a target group holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupType {
    /// Targets name instances.
    Instance,
    /// Targets name addresses.
    Ip,
}

/// A virtual server group.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetGroup {
    /// Derived id, `tg-…`.
    pub id: String,
    /// Name, unique in its load balancer.
    pub name: String,
    /// Free text, at most 256 characters.
    pub description: String,
    /// What its targets are.
    pub kind: GroupType,
    /// In file order; address and port are unique together.
    pub targets: Vec<Target>,
}

/// One server.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Derived id, `target-…`.
    pub id: String,
    /// Where it is; for instances resolved from the instance.
    pub address: IpAddr,
    /// Its own port; `None` = the backend's.
    pub port: Option<NonZeroU16>,
    /// Share of new connections, 0–100; 0 = none.
    pub weight: u8,
    /// Id of the instance, for targets of type `instance`.
    pub instance: Option<String>,
}

impl Target {
    /// The port connections of this backend go to.
    pub fn port_for(&self, backend: &Backend) -> NonZeroU16 {
        self.port.unwrap_or(backend.port)
    }
}
