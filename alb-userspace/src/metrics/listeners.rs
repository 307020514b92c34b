//! Listeners and the targets behind them.

use std::{collections::BTreeSet, iter};

use prometheus::proto::MetricFamily;

use super::{Labels, Sample as _, counter, gauge};
use crate::report::{ListenerReport, StatusReport, TargetReport, Traffic};

pub(super) fn families(report: &StatusReport, out: &mut Vec<MetricFamily>) {
    let proxied = report.proxy.iter().flat_map(|proxy| &proxy.listeners);
    let proxied: BTreeSet<&str> = proxied.map(|listener| &*listener.id).collect();
    let listeners = &report.listeners;
    let mut traffic = TrafficFamilies::new("listener", "a listener");
    for listener in listeners {
        let (vip, port) = (listener.vip.to_string(), listener.port.to_string());
        let labels = [
            ("load_balancer", listener.load_balancer.as_str()),
            ("listener", listener.name.as_str()),
            ("vip", vip.as_str()),
            ("port", port.as_str()),
        ];
        traffic.add_flows(&labels, &listener.traffic);
        traffic.add_bytes(&labels, &listener.traffic);
        if !proxied.contains(&*listener.id) {
            traffic.add_packets(&labels, &listener.traffic);
        }
    }
    out.extend(traffic.into_families());
    // What the packet path knows of a backend goes before.
    let (last, first): (Vec<_>, Vec<_>) =
        listeners.iter().partition(|listener| proxied.contains(&*listener.id));
    targets(&first, &last, out);
}

fn targets(
    forwarded: &[&ListenerReport],
    proxied: &[&ListenerReport],
    out: &mut Vec<MetricFamily>,
) {
    let mut healthy = gauge("target_healthy", "Whether a target takes new connections");
    let mut state = gauge("target_state", "State of a target; the value is always 1");
    let mut weight = gauge("target_weight", "Share of new connections of a target, 0 to 100");
    let mut traffic = TrafficFamilies::new("target", "a target");
    // A backend that several listeners use is one series, not one for each.
    let mut seen = BTreeSet::new();
    let forwarded = forwarded.iter().map(|listener| (listener, true));
    for (listener, is_forwarded) in
        forwarded.chain(proxied.iter().map(|listener| (listener, false)))
    {
        let routed = listener.routed.iter().map(|routed| (&routed.backend, &routed.targets));
        let backends = iter::once((&listener.backend, &listener.targets)).chain(routed);
        let all =
            backends.flat_map(|(backend, targets)| targets.iter().map(move |of| (backend, of)));
        for (backend, target) in all {
            let TargetReport { id: _, address, port, weight: share, state: is, .. } = target;
            if !seen.insert((&listener.load_balancer, backend, address, port)) {
                continue;
            }
            let (address, port) = (address.to_string(), port.to_string());
            let labels = [
                ("load_balancer", listener.load_balancer.as_str()),
                ("backend", backend.as_str()),
                ("address", address.as_str()),
                ("port", port.as_str()),
            ];
            let [balancer, backend, at, on] = labels;
            healthy.with_flag(&labels, is.takes_new_flows());
            state.with_count(&[balancer, backend, at, on, ("state", is.label())], 1);
            weight.with_count(&labels, u64::from(*share));
            traffic.add_flows(&labels, &target.traffic);
            // The proxy counts neither by target: no series is better than one that stays at 0.
            if is_forwarded {
                traffic.add_packets(&labels, &target.traffic);
                traffic.add_bytes(&labels, &target.traffic);
            }
        }
    }
    out.extend([healthy, state, weight]);
    out.extend(traffic.into_families());
}

/// The families that count traffic, of listeners or of targets.
struct TrafficFamilies {
    new_flows: MetricFamily,
    active_flows: MetricFamily,
    packets: MetricFamily,
    bytes: MetricFamily,
}

impl TrafficFamilies {
    fn new(prefix: &str, whose: &str) -> Self {
        Self {
            new_flows: counter(
                &format!("{prefix}_new_flows_total"),
                &format!("Connections opened through {whose}"),
            ),
            active_flows: gauge(
                &format!("{prefix}_active_flows"),
                &format!("Connections open through {whose}"),
            ),
            packets: counter(
                &format!("{prefix}_packets_total"),
                &format!("Packets through {whose}: in is from clients, out is to clients"),
            ),
            bytes: counter(
                &format!("{prefix}_bytes_total"),
                &format!(
                    "Bytes through {whose}, of IP packets or as the proxy counts: in is from \
                     clients, out to clients"
                ),
            ),
        }
    }

    fn add_flows(&mut self, labels: Labels<'_>, traffic: &Traffic) {
        self.new_flows.with_count(labels, traffic.new_flows);
        self.active_flows.with_count(labels, traffic.active_flows);
    }

    fn add_packets(&mut self, labels: Labels<'_>, traffic: &Traffic) {
        let counts = (traffic.packets_in, traffic.packets_out);
        add_directions(&mut self.packets, labels, counts);
    }

    fn add_bytes(&mut self, labels: Labels<'_>, traffic: &Traffic) {
        add_directions(&mut self.bytes, labels, (traffic.bytes_in, traffic.bytes_out));
    }

    fn into_families(self) -> [MetricFamily; 4] {
        let Self { new_flows, active_flows, packets, bytes } = self;
        [new_flows, active_flows, packets, bytes]
    }
}

/// `count`: in, out.
fn add_directions(family: &mut MetricFamily, labels: Labels<'_>, count: (u64, u64)) {
    for (direction, count) in [("in", count.0), ("out", count.1)] {
        family.with_count(&[labels, &[("direction", direction)]].concat(), count);
    }
}
