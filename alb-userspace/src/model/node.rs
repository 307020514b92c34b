//! This node.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

/// What is local to one host.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Name of the node; the host's name by default.
    pub name: String,
    /// Region id the API answers to.
    pub region: String,
    /// Zones this node is in; never empty.
    pub zones: Vec<String>,
    /// Interfaces the fast path attaches to; never empty unless `datapath` is `Proxy`.
    pub interfaces: Vec<String>,
    /// Which host the packet path runs in.
    pub datapath: DatapathMode,
    /// Directory on a bpffs for pinned maps and links; one per instance.
    pub bpffs: PathBuf,
    /// Directory for state; created at start, mode 0700.
    pub state_dir: PathBuf,
    /// Control socket, absolute.
    pub socket: PathBuf,
    /// Source addresses and ports towards targets.
    pub snat: Snat,
    /// Flows the established table holds, 1024–16777216.
    pub flows: u32,
    /// Proxy workers; 0 = one per core.
    pub workers: usize,
    /// Where requests and flows are logged; `None` = nowhere.
    pub access_log: Option<AccessLog>,
    /// How much the API may create.
    pub quotas: Quotas,
    /// What persistence cookies are signed with; `None` = a key of this node's own, kept in
    /// `state_dir`.
    pub cookie_key: Option<CookieKey>,
    /// The TCP control and metrics listener.
    pub api: Option<Api>,
}

/// A secret that nodes which share clients have in common; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct CookieKey(pub String);

impl std::fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CookieKey(..)")
    }
}

/// The access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// File to append to, absolute.
    pub file: PathBuf,
    /// How a line looks.
    pub format: LogFormat,
    /// Size at which the file is rotated, bytes.
    pub max_bytes: u64,
    /// Rotated files that are kept.
    pub keep: u32,
    /// Log TCP flows of the fast path too.
    pub tcp_flows: bool,
}

/// How a line of the access log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// The combined log format of Apache and nginx.
    Common,
    /// The product's fields, separated by spaces.
    Text,
}

/// Upper bounds for what the API creates; a file may say more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Load balancers.
    pub load_balancers: u32,
    /// Listeners of a load balancer.
    pub listeners: u32,
    /// Backends of a load balancer.
    pub backends: u32,
    /// Target groups of a load balancer.
    pub target_groups: u32,
    /// Targets of a target group.
    pub targets: u32,
    /// Url maps of a load balancer.
    pub url_maps: u32,
    /// Rules of a url map.
    pub rules: u32,
    /// Extension certificates of a listener.
    pub extension_certificates: u32,
    /// Security groups of a load balancer.
    pub security_groups: u32,
    /// Security policies.
    pub security_policies: u32,
    /// Customized configurations.
    pub customized_configurations: u32,
}

/// Where the packet path runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DatapathMode {
    /// Native XDP, else generic XDP.
    #[default]
    Auto,
    /// Native XDP only.
    Xdp,
    /// Generic XDP only.
    XdpGeneric,
    /// TC.
    Tc,
    /// No fast path.
    Proxy,
}

/// Source NAT towards targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snat {
    /// Addresses to use; empty = the node's own address towards each target.
    pub addresses: Vec<IpAddr>,
    /// Ports to use on each.
    pub port_range: PortRange,
}

/// An inclusive range of TCP ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// First port, at least 1024.
    pub first: u16,
    /// Last port, not below `first`.
    pub last: u16,
}

/// The API listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Api {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Serve TLS with this certificate; `None` = plain HTTP.
    pub tls: Option<ApiTls>,
    /// Requests a minute and access key; 0 = unlimited.
    pub rate_limit_per_minute: u32,
    /// Without keys, control paths are closed.
    pub access_keys: Vec<AccessKey>,
}

/// Certificate of the API listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiTls {
    /// PEM file with the certificate chain, absolute.
    pub cert_file: PathBuf,
    /// PEM file with the private key, absolute.
    pub key_file: PathBuf,
}

/// A key that signs API requests.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// Public part.
    pub id: String,
    /// Secret part; never printed.
    pub secret: String,
    /// May change things, not only read them.
    pub write: bool,
}

impl std::fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, secret: _, write } = self;
        f.debug_struct("AccessKey").field("id", id).field("write", write).finish_non_exhaustive()
    }
}
