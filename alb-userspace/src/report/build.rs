//! From snapshot and counters to the report: pure.

use std::time::SystemTime;

use alb_common::reason::{Event, Reason};

use super::{
    ConfigReport, ConflictReport, Counters, DatapathReport, EventReport, ListenerRef,
    ListenerReport, ProxyReport, Rates, ReasonReport, RoutedBackend, StatusReport, TargetReport,
    TargetState, unix_seconds,
};
use crate::{
    model::{Algorithm, Backend, Listener, ListenerProtocol, LoadBalancer},
    proxy::stats::HistogramTotals,
    state::{Snapshot, TargetRef},
};

/// What neither the snapshot nor the counters know of a daemon.
#[derive(Clone, Debug)]
pub struct About {
    /// Start of the daemon.
    pub started: SystemTime,
    /// Why traffic is not served as the file says; `None` = it is.
    pub not_ready_because: Option<String>,
    /// VIPs that another host has.
    pub conflicts: Vec<ConflictReport>,
    /// How long it took until changes were in force.
    pub applying: HistogramTotals,
    /// How reading the file went.
    pub config: ConfigReport,
    /// The packet path, if there is one.
    pub datapath: Option<DatapathReport>,
}

/// The report at `now`.
pub fn build(
    snapshot: &Snapshot,
    counters: &Counters,
    rates: &Rates,
    about: &About,
    now: SystemTime,
) -> StatusReport {
    let About { started, not_ready_because, conflicts, applying, config, datapath } = about;
    let listeners: Vec<_> = snapshot
        .model
        .load_balancers
        .iter()
        .flat_map(|balancer| listeners(balancer, snapshot, counters, rates))
        .collect();
    StatusReport {
        node: snapshot.model.node.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generation: snapshot.generation,
        pid: std::process::id(),
        started_at: unix_seconds(*started),
        uptime_seconds: now.duration_since(*started).map_or(0, |uptime| uptime.as_secs()),
        ready: not_ready_because.is_none(),
        not_ready_because: not_ready_because.clone(),
        conflicts: conflicts.clone(),
        applying: applying.clone(),
        config: config.clone(),
        datapath: datapath.clone(),
        proxy: ProxyReport::of(snapshot, counters, rates),
        new_flows_per_second: listeners.iter().map(|of| of.new_flows_per_second).sum(),
        listeners,
        reasons: Reason::ALL.iter().map(|reason| outcome(*reason, counters, rates)).collect(),
        events: Event::ALL.iter().map(|event| occurrence(*event, counters)).collect(),
    }
}

fn outcome(reason: Reason, counters: &Counters, rates: &Rates) -> ReasonReport {
    ReasonReport {
        reason: reason.label().to_owned(),
        verdict: reason.verdict().into(),
        packets: counters.reason(reason),
        per_second: rates.reasons.get(&reason).copied().unwrap_or_default(),
    }
}

fn occurrence(event: Event, counters: &Counters) -> EventReport {
    let count = counters.events.get(&event).copied().unwrap_or_default();
    EventReport { event: event.label().to_owned(), count }
}

/// Every listener of a load balancer, on every of its addresses.
fn listeners(
    balancer: &LoadBalancer,
    snapshot: &Snapshot,
    counters: &Counters,
    rates: &Rates,
) -> Vec<ListenerReport> {
    let mut reports = Vec::new();
    for listener in &balancer.listeners {
        // Ids in a model always resolve.
        let Some(backend) = balancer.backend(&listener.backend) else { continue };
        let of = |backend| targets(balancer, backend, snapshot, counters, rates);
        let routed = balancer.routed(listener).into_iter().map(|backend| RoutedBackend {
            backend: backend.name.clone(),
            algorithm: algorithm_label(backend.algorithm).to_owned(),
            targets: of(backend),
        });
        let (targets, routed) = (of(backend), routed.collect::<Vec<_>>());
        for vip in &balancer.vips {
            let key = ListenerRef::new(&listener.id, *vip);
            let Listener { id, name, port, protocol, enabled, .. } = listener;
            reports.push(ListenerReport {
                id: id.clone(),
                name: name.clone(),
                load_balancer: balancer.name.clone(),
                vip: *vip,
                port: port.get(),
                protocol: protocol_label(*protocol).to_owned(),
                enabled: *enabled,
                backend: backend.name.clone(),
                algorithm: algorithm_label(backend.algorithm).to_owned(),
                traffic: counters.listener(&key),
                new_flows_per_second: rates.listeners.get(&key).copied().unwrap_or_default(),
                targets: targets.clone(),
                routed: routed.clone(),
            });
        }
    }
    reports
}

/// A backend's targets, then those of its former ones that still have flows.
fn targets(
    balancer: &LoadBalancer,
    backend: &Backend,
    snapshot: &Snapshot,
    counters: &Counters,
    rates: &Rates,
) -> Vec<TargetReport> {
    let present = balancer.targets_of(backend).iter().map(|target| {
        let key = TargetRef::new(&backend.id, &target.id);
        let state = snapshot.targets.get(&backend.id, &target.id);
        TargetReport {
            id: target.id.clone(),
            address: target.address,
            port: target.port_for(backend).get(),
            weight: target.weight,
            state: state.map_or(TargetState::Initial, |state| state.health.into()),
            reason: state
                .and_then(|state| state.reason.as_ref())
                .map(ToString::to_string)
                .or_else(|| counters.refused.contains(&key).then(|| super::REFUSED.to_owned())),
            since: state.map(|state| unix_seconds(state.since)),
            traffic: counters.target(&key),
            new_flows_per_second: rates.targets.get(&key).copied().unwrap_or_default(),
        }
    });
    let former = counters.draining.iter().filter(|of| *of.target.backend == *backend.id);
    let draining = former.map(|former| TargetReport {
        id: former.target.target.to_string(),
        address: former.at.ip(),
        port: former.at.port(),
        weight: 0,
        state: TargetState::Draining,
        reason: None,
        since: None,
        traffic: former.traffic,
        new_flows_per_second: 0.0,
    });
    present.chain(draining).collect()
}

fn protocol_label(protocol: ListenerProtocol) -> &'static str {
    match protocol {
        ListenerProtocol::Tcp => "tcp",
        ListenerProtocol::Tls => "tls",
        ListenerProtocol::Http => "http",
        ListenerProtocol::Https => "https",
    }
}

/// The word the file and the API use.
fn algorithm_label(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::RoundRobin => "RoundRobin",
        Algorithm::LeastConn => "LeastConn",
        Algorithm::IpHash => "IpHash",
    }
}

#[cfg(test)]
mod tests;
