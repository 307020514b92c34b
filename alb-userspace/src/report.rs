//! What a running daemon tells about itself: the one document behind `alb status`, `GET /v1/status`
//! and `/metrics`. Plain data; how it is gathered and shown is not its business.
//!
//! Counts run from the creation of the pinned tables, so they survive the daemon; rates are per
//! second over the last sampling interval.

mod build;
mod certificate;
mod counters;
#[cfg(test)]
pub(crate) mod fixture;
mod proxied;
mod rates;

pub use build::{About, build};
pub use certificate::{CertificateReport, Reloads};
pub use counters::{Counters, Draining, ListenerRef, REFUSED};
pub use proxied::{Proxied, ProxiedBackend, ProxiedListener, ProxyReport, TargetTotals};
pub use rates::{Rates, Sample, Sampler};

use std::{
    net::IpAddr,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use alb_common::reason::Verdict;
use serde::{Deserialize, Serialize};

use crate::{proxy::stats::HistogramTotals, state::Health};

/// A daemon at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusReport {
    /// Name of the node.
    pub node: String,
    /// Version of the daemon.
    pub version: String,
    /// Of the snapshot that is served; grows with every change.
    pub generation: u64,
    /// Process id of the daemon: `kill -HUP` makes it read its file again.
    pub pid: u32,
    /// Start of the daemon, seconds since the Unix epoch.
    pub started_at: u64,
    /// Seconds since then.
    pub uptime_seconds: u64,
    /// The tables in the kernel hold the snapshot and no other host has a VIP: traffic is served
    /// as the file says.
    pub ready: bool,
    /// Why not, while `ready` is false.
    pub not_ready_because: Option<String>,
    /// VIPs that are not put on because another host has them.
    pub conflicts: Vec<ConflictReport>,
    /// From the moment a change of the file or of a target's health is known to the moment the
    /// packet path and every worker of the proxy choose by it; the start is not counted.
    #[serde(default)]
    pub applying: HistogramTotals,
    /// How reading the file went.
    pub config: ConfigReport,
    /// The packet path; absent when there is none (`datapath: proxy`).
    pub datapath: Option<DatapathReport>,
    /// The proxy; absent while it has nothing to tell.
    #[serde(default)]
    pub proxy: Option<ProxyReport>,
    /// One for each listener and address it is served on, in file order.
    pub listeners: Vec<ListenerReport>,
    /// Packets by what happened to them, in the packet path's order; also those never seen.
    pub reasons: Vec<ReasonReport>,
    /// Things that happened to the flow tables, with their number.
    pub events: Vec<EventReport>,
    /// New connections a second, all listeners together.
    pub new_flows_per_second: f64,
}

/// A VIP that another host has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConflictReport {
    /// The VIP.
    pub vip: IpAddr,
    /// Link-layer address of that host, as `02:00:00:00:00:01`.
    pub mac: String,
}

/// How reading the configuration went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigReport {
    /// The file, if the daemon was started with one.
    pub file: Option<PathBuf>,
    /// Times it was applied, the start included.
    pub applied: u64,
    /// Times it was refused.
    pub refused: u64,
    /// Seconds since the Unix epoch when it was last applied.
    pub applied_at: Option<u64>,
    /// The errors of the last attempt; absent if that was applied.
    pub last_error: Option<String>,
}

impl ConfigReport {
    /// Notes that the file was applied.
    pub fn note_applied(&mut self, at: SystemTime) {
        self.applied += 1;
        self.applied_at = Some(unix_seconds(at));
        self.last_error = None;
    }

    /// Notes that the file was refused, with all its errors.
    pub fn note_refused(&mut self, errors: String) {
        self.refused += 1;
        self.last_error = Some(errors);
    }
}

/// Whole seconds since the epoch; a clock before it counts as the epoch.
fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The packet path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatapathReport {
    /// Where it is attached.
    pub interfaces: Vec<InterfaceReport>,
    /// Process of the `alb capture` that runs on it, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<u32>,
    /// The tables were found pinned and taken over, not made.
    pub adopted: bool,
    /// Version of the table layout.
    pub abi_version: u32,
    /// Where maps and links are pinned.
    pub bpffs: PathBuf,
    /// The flow tables.
    pub flows: FlowsReport,
    /// Source addresses and ports towards targets.
    pub snat: SnatReport,
}

/// One interface the packet path is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceReport {
    /// Its name.
    pub name: String,
    /// Its index in the daemon's network namespace.
    pub ifindex: u32,
    /// How the program runs there.
    pub mode: AttachMode,
    /// Why it does not run in a better way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// How the packet path runs on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachMode {
    /// In the driver.
    Xdp,
    /// In the kernel's receive path, after the driver.
    XdpGeneric,
    /// At TC ingress, by a link.
    Tc,
    /// At TC ingress, by a filter: the kernel has no links there (before Linux 6.6).
    TcFilter,
}

impl AttachMode {
    /// Every one, the best first.
    pub const ALL: [Self; 4] = [Self::Xdp, Self::Tc, Self::TcFilter, Self::XdpGeneric];

    /// The word for it in the file, in metrics and to people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
            Self::Tc => "tc",
            Self::TcFilter => "tc-filter",
        }
    }
}

/// How full the flow tables are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowsReport {
    /// Flows whose handshake is complete.
    pub established: TableReport,
    /// Flows whose handshake is not.
    pub half_open: TableReport,
}

/// How full one table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableReport {
    /// Flows it holds.
    pub used: u64,
    /// Flows it is made for; that of IPv4 holds more.
    pub capacity: u64,
}

/// Source addresses and ports towards targets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnatReport {
    /// Addresses in use.
    pub addresses: Vec<IpAddr>,
    /// First port on each.
    pub first_port: u16,
    /// Last port on each, inclusive.
    pub last_port: u16,
}

impl SnatReport {
    /// Connections that can be open to one address and port of a target at the same time through
    /// one SNAT address.
    pub fn ports(&self) -> u32 {
        u32::from(self.last_port.saturating_sub(self.first_port)) + 1
    }
}

/// Connections, packets and bytes through a listener or a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Connections opened.
    pub new_flows: u64,
    /// Connections open now.
    pub active_flows: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets to clients.
    pub packets_out: u64,
    /// Bytes from clients, IP header included.
    pub bytes_in: u64,
    /// Bytes to clients, IP header included.
    pub bytes_out: u64,
}

/// One listener on one of its load balancer's addresses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerReport {
    /// Id of the listener.
    pub id: String,
    /// Name of the listener.
    pub name: String,
    /// Name of its load balancer.
    pub load_balancer: String,
    /// Address clients connect to.
    pub vip: IpAddr,
    /// Port clients connect to.
    pub port: u16,
    /// `tcp`, `tls`, `http` or `https`.
    pub protocol: String,
    /// Whether it is switched on.
    pub enabled: bool,
    /// Name of its default backend.
    pub backend: String,
    /// `RoundRobin`, `LeastConn` or `IpHash`.
    pub algorithm: String,
    /// What went through it.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// Connections opened a second.
    pub new_flows_per_second: f64,
    /// The backend's targets in file order, then those that drain.
    pub targets: Vec<TargetReport>,
    /// Other backends that its url map sends requests to, in the order of the rules.
    #[serde(default)]
    pub routed: Vec<RoutedBackend>,
}

/// A backend that rules of a url map name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoutedBackend {
    /// Name of the backend.
    pub backend: String,
    /// `RoundRobin`, `LeastConn` or `IpHash`.
    pub algorithm: String,
    /// As [`ListenerReport::targets`].
    pub targets: Vec<TargetReport>,
}

/// One target of a backend. A backend that several listeners use shows the same numbers under each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetReport {
    /// Id of the target.
    pub id: String,
    /// Where it is.
    pub address: IpAddr,
    /// Port connections go to.
    pub port: u16,
    /// Share of new connections, 0–100.
    pub weight: u8,
    /// Whether it gets new connections.
    pub state: TargetState,
    /// Why it is in that state, if there is more to say.
    pub reason: Option<String>,
    /// Since when, seconds since the Unix epoch; absent if it never changed.
    pub since: Option<u64>,
    /// What went through it.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// Connections opened a second.
    pub new_flows_per_second: f64,
}

/// Whether a target gets new connections, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetState {
    /// Not probed often enough to tell: no new connections yet.
    Initial,
    /// Passes its checks.
    Healthy,
    /// Fails its checks: no new connections.
    Unhealthy,
    /// Checks are closed: counts as healthy.
    Unchecked,
    /// Gone from the file; its connections may finish.
    Draining,
}

impl From<Health> for TargetState {
    fn from(health: Health) -> Self {
        match health {
            Health::Initial => Self::Initial,
            Health::Healthy => Self::Healthy,
            Health::Unhealthy => Self::Unhealthy,
            Health::Unchecked => Self::Unchecked,
        }
    }
}

impl TargetState {
    /// Lower-case word, as in JSON, metrics and tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Unchecked => "unchecked",
            Self::Draining => "draining",
        }
    }

    /// New connections may go to it.
    pub const fn takes_new_flows(self) -> bool {
        matches!(self, Self::Healthy | Self::Unchecked)
    }
}

/// Packets that had one outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReasonReport {
    /// The reason's label.
    pub reason: String,
    /// What happens to such packets.
    pub verdict: VerdictReport,
    /// How many there were.
    pub packets: u64,
    /// How many there are now.
    pub per_second: f64,
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerdictReport {
    /// Rewritten and sent on.
    Forward,
    /// Left to the host's own network stack.
    Pass,
    /// Answered with a TCP RST.
    Reset,
    /// Answered with an ICMP message.
    Reply,
    /// Discarded.
    Drop,
}

impl From<Verdict> for VerdictReport {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Forward => Self::Forward,
            Verdict::Pass => Self::Pass,
            Verdict::Reset => Self::Reset,
            Verdict::Reply => Self::Reply,
            Verdict::Drop => Self::Drop,
        }
    }
}

impl VerdictReport {
    /// Lower-case word, as in JSON, metrics and tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Pass => "pass",
            Self::Reset => "reset",
            Self::Reply => "reply",
            Self::Drop => "drop",
        }
    }
}

/// Something that happens to the flow tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventReport {
    /// The event's label.
    pub event: String,
    /// How often it happened.
    pub count: u64,
}
