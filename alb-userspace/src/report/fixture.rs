//! One report that exercises every column, for the tests of all who show reports.

use std::{collections::BTreeMap, net::IpAddr};

use super::{
    AttachMode, CertificateReport, ConfigReport, DatapathReport, EventReport, FlowsReport,
    InterfaceReport, ListenerReport, ProxiedBackend, ProxiedListener, ProxyReport, ReasonReport,
    RoutedBackend, SnatReport, StatusReport, TableReport, TargetReport, TargetState, TargetTotals,
    Traffic, VerdictReport,
};
use crate::proxy::{
    access_log::LogReport,
    stats::{BOUNDS, BackendTotals, HistogramTotals, ListenerTotals},
};

/// Start of the daemon in [`report`].
const STARTED: u64 = 1_700_000_000;

/// A node with two listeners: a busy one with targets in every state, and an idle one on IPv6.
pub(crate) fn report() -> StatusReport {
    StatusReport {
        node: "lb-1".into(),
        version: "0.1.0".into(),
        generation: 7,
        pid: 4711,
        started_at: STARTED,
        uptime_seconds: 11_523,
        ready: true,
        not_ready_because: None,
        conflicts: vec![],
        applying: applying(),
        config: ConfigReport {
            file: Some("/etc/alb/alb.yaml".into()),
            applied: 3,
            refused: 1,
            applied_at: Some(STARTED + 60),
            last_error: None,
        },
        datapath: Some(datapath()),
        proxy: None,
        listeners: vec![busy(), idle()],
        reasons: vec![
            reason("flow_forward", VerdictReport::Forward, 1_234_567, 812.4),
            reason("not_ours", VerdictReport::Pass, 4_321, 1.0),
            reason("no_healthy_target", VerdictReport::Reset, 17, 0.5),
            reason("truncated", VerdictReport::Drop, 2, 0.0),
        ],
        events: vec![EventReport { event: "half_open_evicted".into(), count: 5 }],
        new_flows_per_second: 41.25,
    }
}

/// Four changes, all within 2 ms.
fn applying() -> HistogramTotals {
    let mut buckets = vec![0; BOUNDS.len() + 1];
    (buckets[4], buckets[5]) = (3, 1);
    HistogramTotals { buckets, sum: 4_000_000 }
}

/// A proxy with one http listener that has seen a little of everything.
pub(crate) fn proxy() -> ProxyReport {
    let counts = |word: &str, count| BTreeMap::from([(word.to_owned(), count)]);
    let mut buckets = vec![0; BOUNDS.len() + 1];
    (buckets[0], buckets[3], buckets[BOUNDS.len()]) = (1, 2, 1);
    ProxyReport {
        listeners: vec![ProxiedListener {
            id: "listener-0000000000".into(),
            name: "web".into(),
            load_balancer: "shop".into(),
            requests_per_second: 812.5,
            totals: ListenerTotals {
                requests: counts("2xx", 7),
                refusals: counts("no_target", 2),
                request_time: HistogramTotals { buckets, sum: 100_500_000_000 },
                ..ListenerTotals::default()
            },
        }],
        backends: vec![ProxiedBackend {
            name: "web".into(),
            load_balancer: "shop".into(),
            totals: BackendTotals {
                errors: counts("connect_failed", 3),
                ..BackendTotals::default()
            },
            targets: vec![TargetTotals {
                address: ([198, 18, 1, 11], 8080).into(),
                in_flight: 5,
                given: 9,
                failed: 3,
            }],
        }],
        certificates: [("shop".to_owned(), certificate())].into(),
        unverified: 0,
        access_log: Some(LogReport { written: 9, lost: 1, failing: false }),
    }
}

fn certificate() -> CertificateReport {
    CertificateReport {
        serial: "0A1B".into(),
        ends: 1_800_000_000,
        reloaded: 2,
        refused: 1,
        fault: Some("shop.key: the key does not belong to the certificate".into()),
    }
}

fn datapath() -> DatapathReport {
    DatapathReport {
        interfaces: vec![
            InterfaceReport { name: "eth0".into(), ifindex: 2, mode: AttachMode::Xdp, why: None },
            InterfaceReport {
                name: "eth1".into(),
                ifindex: 3,
                mode: AttachMode::XdpGeneric,
                why: None,
            },
        ],
        capture: Some(4_712),
        adopted: true,
        abi_version: 1,
        bpffs: "/sys/fs/bpf/alb".into(),
        flows: FlowsReport {
            established: TableReport { used: 1_520, capacity: 1_048_576 },
            half_open: TableReport { used: 3, capacity: 131_072 },
        },
        snat: SnatReport {
            addresses: vec![IpAddr::from([198, 18, 0, 2])],
            first_port: 10_000,
            last_port: 29_999,
        },
    }
}

fn busy() -> ListenerReport {
    ListenerReport {
        id: "listener-0123456789".into(),
        name: "db".into(),
        load_balancer: "shop".into(),
        vip: IpAddr::from([198, 18, 0, 10]),
        port: 5432,
        protocol: "tcp".into(),
        enabled: true,
        backend: "pg".into(),
        algorithm: "RoundRobin".into(),
        traffic: Traffic {
            new_flows: 98_231,
            active_flows: 1_520,
            packets_in: 900_000,
            packets_out: 1_100_000,
            bytes_in: 81_000_000,
            bytes_out: 7_340_032_000,
        },
        new_flows_per_second: 41.25,
        targets: vec![
            target(21, 20, TargetState::Healthy, None, 1_010),
            target(22, 10, TargetState::Unhealthy, Some("CONNECT_TIMEOUT: no answer in 2 s"), 0),
            target(23, 10, TargetState::Initial, None, 0),
            target(24, 0, TargetState::Unchecked, None, 500),
            target(25, 0, TargetState::Draining, None, 10),
        ],
        routed: vec![],
    }
}

fn idle() -> ListenerReport {
    ListenerReport {
        id: "listener-9876543210".into(),
        name: "db6".into(),
        load_balancer: "shop".into(),
        vip: "2001:db8::10".parse().expect("address"),
        port: 5433,
        protocol: "tcp".into(),
        enabled: false,
        backend: "none".into(),
        algorithm: "IpHash".into(),
        traffic: Traffic::default(),
        new_flows_per_second: 0.0,
        targets: vec![],
        routed: vec![],
    }
}

/// A backend of a url map, with a target that failed.
pub(crate) fn routed() -> RoutedBackend {
    RoutedBackend {
        backend: "static".into(),
        algorithm: "LeastConn".into(),
        targets: vec![
            target(31, 10, TargetState::Healthy, None, 3),
            target(32, 10, TargetState::Unhealthy, Some("CONNECT_FAILED: refused"), 0),
        ],
    }
}

fn target(
    last: u8,
    weight: u8,
    state: TargetState,
    reason: Option<&str>,
    active_flows: u64,
) -> TargetReport {
    TargetReport {
        id: format!("target-{last}"),
        address: IpAddr::from([198, 18, 1, last]),
        port: 5432,
        weight,
        state,
        reason: reason.map(str::to_owned),
        since: Some(STARTED + 11_000),
        traffic: Traffic {
            new_flows: active_flows * 3,
            active_flows,
            packets_in: active_flows * 10,
            packets_out: active_flows * 12,
            bytes_in: active_flows * 1_000,
            bytes_out: active_flows * 64_000,
        },
        new_flows_per_second: if state.takes_new_flows() { f64::from(weight) * 1.375 } else { 0.0 },
    }
}

fn reason(reason: &str, verdict: VerdictReport, packets: u64, per_second: f64) -> ReasonReport {
    ReasonReport { reason: reason.into(), verdict, packets, per_second }
}
