//! The packet path: where it runs, how full its tables are, what became of packets.

use prometheus::proto::MetricFamily;

use super::{Sample as _, counter, gauge};
use crate::report::{DatapathReport, StatusReport};

pub(super) fn families(datapath: &DatapathReport, out: &mut Vec<MetricFamily>) {
    let DatapathReport { interfaces, capture: _, adopted, abi_version, bpffs: _, flows, snat } =
        datapath;

    let mut attached =
        gauge("datapath_attached", "Interfaces the packet path runs on; the value is always 1");
    for interface in interfaces {
        let labels = [("interface", interface.name.as_str()), ("mode", interface.mode.label())];
        attached.with_count(&labels, 1);
    }

    let mut adoption =
        gauge("datapath_adopted", "Whether this daemon took over tables it found pinned");
    adoption.with_flag(&[], *adopted);

    let mut abi = gauge("datapath_abi_version", "Version of the pinned tables' layout");
    abi.with_count(&[], u64::from(*abi_version));

    let mut used = gauge("flows", "Flows in a table");
    let mut capacity = gauge("flows_capacity", "Flows a table is made for");
    for (label, table) in [("established", &flows.established), ("half_open", &flows.half_open)] {
        used.with_count(&[("table", label)], table.used);
        capacity.with_count(&[("table", label)], table.capacity);
    }

    let mut ports = gauge(
        "snat_ports_capacity",
        "Connections that can be open to one target through all SNAT addresses together",
    );
    let addresses = u64::try_from(snat.addresses.len()).unwrap_or(u64::MAX);
    ports.with_count(&[], addresses.saturating_mul(u64::from(snat.ports())));

    out.extend([attached, adoption, abi, used, capacity, ports]);
}

/// What became of packets, and of the tables through them.
pub(super) fn outcomes(report: &StatusReport, out: &mut Vec<MetricFamily>) {
    let mut packets = counter("packets_total", "Packets, by what happened to them and why");
    for reason in &report.reasons {
        let labels = [("reason", reason.reason.as_str()), ("verdict", reason.verdict.label())];
        packets.with_count(&labels, reason.packets);
    }

    let mut events = counter("flow_events_total", "Things that happened to the flow tables");
    for event in &report.events {
        events.with_count(&[("event", event.event.as_str())], event.count);
    }

    out.extend([packets, events]);
}
