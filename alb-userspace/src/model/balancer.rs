//! Load balancers and what nests in them.

use std::{net::IpAddr, num::NonZeroU16, time::Duration};

use super::{DatapathMode, HealthCheck, RouteAction, Rule, UrlMap};

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
    /// Id of the elastic IP that makes it public.
    pub elastic_ip: Option<String>,
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
    /// Routing tables for http and https listeners.
    pub url_maps: Vec<UrlMap>,
    /// Labels without meaning to the balancer.
    pub tags: Vec<Tag>,
}

/// A label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Unique among the tags of its load balancer.
    pub key: String,
    /// Free text.
    pub value: String,
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

    /// The url map with this id.
    pub fn url_map(&self, id: &str) -> Option<&UrlMap> {
        self.url_maps.iter().find(|map| map.id == id)
    }

    /// The targets a backend forwards to now; empty without a target group. Members of an
    /// availability group are not part of the model: they come and go at run time.
    pub fn targets_of(&self, backend: &Backend) -> &[Target] {
        match &backend.source {
            TargetSource::None | TargetSource::AvailabilityGroup { .. } => &[],
            TargetSource::Group(id) => self.target_group(id).map_or(&[], |group| &group.targets),
        }
    }

    /// Whether a listener or a rule of a url map uses a backend, if only for copies. Targets of
    /// one that nothing uses are not checked.
    pub fn is_bound(&self, backend: &Backend) -> bool {
        let by_rule = |rule: &Rule| match &rule.action {
            RouteAction::Forward { backend: to, mirror, .. } => {
                *to == backend.id || mirror.as_ref() == Some(&backend.id)
            }
            RouteAction::Redirect(_) => false,
        };
        self.listeners.iter().any(|listener| listener.backend == backend.id)
            || self.url_maps.iter().flat_map(|map| &map.rules).any(by_rule)
    }

    /// The backends that a listener's url map sends requests to, but for its default one; each
    /// once, in the order of the rules.
    pub fn routed(&self, listener: &Listener) -> Vec<&Backend> {
        let map = listener.url_map.as_ref().and_then(|id| self.url_map(id));
        let mut routed: Vec<&Backend> = Vec::new();
        for rule in map.into_iter().flat_map(|map| &map.rules) {
            let RouteAction::Forward { backend, .. } = &rule.action else { continue };
            let is_new = *backend != listener.backend && routed.iter().all(|of| of.id != *backend);
            routed.extend(self.backend(backend).filter(|_| is_new));
        }
        routed
    }

    /// Who serves a listener: the kernel what it can, the proxy the rest.
    pub fn engine(&self, listener: &Listener, datapath: DatapathMode) -> Engine {
        let proxy_protocol =
            self.backend(&listener.backend).is_some_and(|backend| backend.proxy_protocol);
        match (listener.protocol, datapath) {
            (
                ListenerProtocol::Tcp,
                DatapathMode::Auto
                | DatapathMode::Xdp
                | DatapathMode::XdpGeneric
                | DatapathMode::Tc,
            ) if !proxy_protocol => Engine::Kernel,
            (
                ListenerProtocol::Tcp
                | ListenerProtocol::Tls
                | ListenerProtocol::Http
                | ListenerProtocol::Https,
                _,
            ) => Engine::Proxy,
        }
    }
}

/// Who serves a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    /// The packet path.
    Kernel,
    /// The proxy, in userspace.
    Proxy,
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
    /// Id of the url map that routes requests (http, https).
    pub url_map: Option<String>,
    /// Both sides are closed after this long without a byte, 1–86400 s.
    pub idle_timeout: Duration,
    /// At most this many open connections; `None` = unlimited.
    pub max_connections: Option<u32>,
    /// At most this many requests a second (http, https); `None` = unlimited.
    pub max_qps: Option<u32>,
    /// Certificates and policy; `Some` exactly for tls and https.
    pub tls: Option<ListenerTls>,
    /// Limits on requests; `Some` exactly for http and https.
    pub http: Option<ListenerHttp>,
}

/// How a listener terminates TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// Ids of the default certificates, one or two.
    pub certificates: Vec<String>,
    /// Certificates for named domains.
    pub extension_certificates: Vec<ExtensionCertificate>,
    /// Id of the security policy; `None` = the built-in one.
    pub security_policy: Option<String>,
    /// `Strict-Transport-Security` with this age (https); `None` = not sent.
    pub hsts_max_age: Option<Duration>,
}

/// A certificate for one domain (SNI).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtensionCertificate {
    /// Id of the certificate.
    pub certificate: String,
    /// `api.example.com` or `*.example.com`, lower case; unique in its listener.
    pub domain: String,
}

/// What a listener takes from one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerHttp {
    /// All header fields together, bytes.
    pub header_bytes: u32,
    /// Number of header fields.
    pub headers: u32,
    /// Request line, bytes.
    pub request_line_bytes: u32,
    /// Request body, bytes; 0 = unlimited.
    pub body_bytes: u64,
    /// From the first byte of a request to the end of its header.
    pub header_timeout: Duration,
    /// Without a byte of the request's body.
    pub body_idle_timeout: Duration,
    /// Without a byte of the response being taken.
    pub write_idle_timeout: Duration,
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
    /// The members of an availability group.
    AvailabilityGroup {
        /// Id of the group.
        id: String,
        /// Weight of members without one of their own, 0–100.
        default_weight: u8,
    },
}

/// What happens to the flows, and requests, of a target that turns unhealthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum UnhealthyFlows {
    /// They live on.
    #[default]
    Keep,
    /// They are reset.
    Reset,
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
    /// How long flows and requests of a target that is removed or has weight 0 may live on,
    /// 0–3600 s.
    pub connection_draining: Duration,
    /// Settings kept while checks are closed (`closeHealthCheck`); `None` while they run.
    pub closed_health_check: Option<HealthCheck>,
    /// How long a connect to a target may take.
    pub connect_timeout: Duration,
    /// How long a target may take to answer a request (http).
    pub response_timeout: Duration,
    /// How long an idle connection to a target is kept (http).
    pub pool_idle: Duration,
    /// Further targets that are tried after the first failed.
    pub retries: u8,
    /// Time in which a target that turned healthy grows to its full share; zero = at once.
    pub slow_start: Duration,
    /// What happens to the flows of a target that turns unhealthy.
    pub unhealthy_flows: UnhealthyFlows,
    /// Serve all targets when none is healthy.
    pub panic_mode: bool,
    /// At most this part of the targets is taken out by failing traffic, percent.
    pub passive_max_percent: u8,
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
