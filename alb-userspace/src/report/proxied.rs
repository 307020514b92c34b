//! The proxy's part of the report: what its workers counted, by the names of the model.

use std::{collections::BTreeMap, net::SocketAddr, sync::atomic::Ordering::Relaxed};

use serde::{Deserialize, Serialize};

use super::{CertificateReport, Counters, ListenerRef, Rates, Traffic};
use crate::{
    proxy::{
        access_log::LogReport,
        plan::Plan,
        stats::{BackendTotals, ListenerTotals},
        tls::Tally,
    },
    state::{Snapshot, TargetRef},
};

/// What the proxy counted, by id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proxied {
    /// By listener.
    pub listeners: BTreeMap<String, ListenerTotals>,
    /// By backend.
    pub backends: BTreeMap<String, BackendTotals>,
    /// By backend and target: where it is, and what it was given.
    pub targets: BTreeMap<TargetRef, TargetTotals>,
    /// The model's certificates, by name.
    pub certificates: BTreeMap<String, CertificateReport>,
    /// How often a listener was found to serve another certificate than is set.
    pub unverified: u64,
    /// The access log, if there is one.
    pub access_log: Option<LogReport>,
}

/// What a target was given by the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetTotals {
    /// Where it is.
    pub address: SocketAddr,
    /// Requests (http) or connections (tcp) it has now.
    pub in_flight: u64,
    /// All it was given.
    pub given: u64,
    /// Of these, those that failed on its side.
    pub failed: u64,
}

/// The proxy at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyReport {
    /// Listeners it serves, all addresses of each together.
    pub listeners: Vec<ProxiedListener>,
    /// Backends these lead to.
    pub backends: Vec<ProxiedBackend>,
    /// The model's certificates, by name.
    pub certificates: BTreeMap<String, CertificateReport>,
    /// How often a listener was found to serve another certificate than is set.
    pub unverified: u64,
    /// The access log, if there is one.
    pub access_log: Option<LogReport>,
}

/// A listener of the proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxiedListener {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Name of its load balancer.
    pub load_balancer: String,
    /// Requests answered a second; 0 for connections (tcp, tls).
    pub requests_per_second: f64,
    /// What its workers counted.
    #[serde(flatten)]
    pub totals: ListenerTotals,
}

/// A backend of the proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxiedBackend {
    /// Its name.
    pub name: String,
    /// Name of its load balancer.
    pub load_balancer: String,
    /// What the workers counted.
    #[serde(flatten)]
    pub totals: BackendTotals,
    /// Its targets.
    pub targets: Vec<TargetTotals>,
}

impl Counters {
    /// Adds what the proxy counted: as its own part, and as traffic beside the packet path's. A
    /// proxied listener counts for all its addresses together, under the first; requests count
    /// as flows of their target.
    pub fn add_proxied(&mut self, plan: &Plan) {
        for listener in &plan.listeners {
            let mut totals = listener.shared.stats.totals();
            if let Some(tls) = &listener.tls {
                add_handshakes(&tls.counts.tally(), &mut totals);
            }
            if let Some(vip) = listener.vips.first() {
                let traffic =
                    self.listeners.entry(ListenerRef::new(&listener.id, *vip)).or_default();
                traffic.new_flows += totals.connections;
                traffic.active_flows += totals.open;
                traffic.bytes_in += totals.bytes_in;
                traffic.bytes_out += totals.bytes_out;
            }
            self.proxied.listeners.insert(listener.id.to_string(), totals);
        }
        for backend in &plan.backends {
            let mut all = backend.shared.stats.totals();
            for target in &backend.targets {
                let key = TargetRef { backend: backend.id.clone(), target: target.id.clone() };
                let totals = TargetTotals {
                    address: target.address,
                    in_flight: target.in_flight().into(),
                    given: target.shared.given.load(Relaxed),
                    failed: target.shared.failed.load(Relaxed),
                };
                let traffic: &mut Traffic = self.targets.entry(key.clone()).or_default();
                all.in_flight += totals.in_flight;
                traffic.new_flows += totals.given;
                traffic.active_flows += totals.in_flight;
                self.proxied.targets.insert(key, totals);
            }
            self.proxied.backends.insert(backend.id.to_string(), all);
        }
    }
}

fn add_handshakes(tally: &Tally, totals: &mut ListenerTotals) {
    let Tally { full, resumed, failed } = tally;
    let kinds = [("full", *full), ("resumed", *resumed)];
    totals.handshakes.extend(kinds.map(|(kind, count)| (kind.to_owned(), count)));
    let failed = failed.iter().map(|(failure, count)| (failure.word().to_owned(), *count));
    totals.handshake_failures.extend(failed);
}

impl ProxyReport {
    /// `None` if the proxy serves nothing and logs nothing.
    pub(super) fn of(snapshot: &Snapshot, counters: &Counters, rates: &Rates) -> Option<Self> {
        let Proxied { listeners, backends, targets, certificates, unverified, access_log } =
            &counters.proxied;
        let mut report = Self {
            certificates: certificates.clone(),
            unverified: *unverified,
            access_log: access_log.clone(),
            ..Self::default()
        };
        for balancer in &snapshot.model.load_balancers {
            report.listeners.extend(balancer.listeners.iter().filter_map(|listener| {
                Some(ProxiedListener {
                    id: listener.id.clone(),
                    name: listener.name.clone(),
                    load_balancer: balancer.name.clone(),
                    requests_per_second: rates.requests.get(&listener.id).copied().unwrap_or(0.0),
                    totals: listeners.get(&listener.id)?.clone(),
                })
            }));
            report.backends.extend(balancer.backends.iter().filter_map(|backend| {
                let of = targets.iter().filter(|(key, _)| *key.backend == *backend.id);
                Some(ProxiedBackend {
                    name: backend.name.clone(),
                    load_balancer: balancer.name.clone(),
                    totals: backends.get(&backend.id)?.clone(),
                    targets: of.map(|(_, totals)| *totals).collect(),
                })
            }));
        }
        (report != Self::default()).then_some(report)
    }
}

#[cfg(test)]
mod tests;
