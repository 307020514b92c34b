//! A small model with known counters, looked up in its report.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use alb_common::reason::{Event, Reason};

use super::{About, build};
use crate::{
    model::{Listener, ListenerProtocol},
    proxy::stats::HistogramTotals,
    report::{
        ConfigReport, Counters, Draining, ListenerRef, Rates, StatusReport, TargetState, Traffic,
        VerdictReport,
    },
    state::{
        Health, Snapshot, TargetRef, TargetState as Known, TargetStates, Unhealthy,
        UnhealthyReason, fixture,
    },
};

const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 0, 10));
const V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10));

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn listener(id: &str, port: u16, backend: &str) -> Listener {
    Listener {
        id: id.into(),
        name: id.into(),
        description: String::new(),
        protocol: ListenerProtocol::Tcp,
        port: NonZeroU16::new(port).expect("port"),
        enabled: true,
        backend: backend.into(),
        url_map: None,
        idle_timeout: Duration::from_mins(1),
        max_connections: None,
        max_qps: None,
        tls: None,
        http: None,
    }
}

/// Backends `a` (checked) and `b` (unchecked) over targets `t1` and `t2`; listeners on two VIPs.
fn snapshot() -> Snapshot {
    let targets = [
        fixture::target("t1", SocketAddr::from(([198, 18, 1, 1], 8080))),
        fixture::target("t2", SocketAddr::from(([198, 18, 1, 2], 8080))),
    ];
    let mut model = fixture::model(&[("a", Some(fixture::tcp_check())), ("b", None)], &targets);
    let balancer = &mut model.load_balancers[0];
    balancer.vips = vec![V4, V6];
    balancer.listeners = vec![listener("l1", 80, "a"), listener("l2", 81, "b")];

    let mut states = TargetStates::default();
    let mut known = |backend, target, health, reason| {
        let state = Known { health, reason, since: at(900), revision: 1 };
        states.insert(TargetRef::new(backend, target), state);
    };
    let why = Unhealthy::new(UnhealthyReason::ConnectFailed, "connection refused");
    known("a", "t1", Health::Healthy, None);
    known("a", "t2", Health::Unhealthy, Some(why));
    known("b", "t1", Health::Unchecked, None);
    known("b", "t2", Health::Unchecked, None);
    let (model, targets) = (Arc::new(model), Arc::new(states));
    Snapshot { generation: 3, model, targets, published: tokio::time::Instant::now() }
}

fn traffic(new_flows: u64) -> Traffic {
    Traffic { new_flows, ..Traffic::default() }
}

fn report() -> StatusReport {
    let counters = Counters {
        reasons: [(Reason::NewFlow, 7)].into(),
        events: [(Event::HalfOpenEvicted, 2)].into(),
        listeners: [
            (ListenerRef::new("l1", V4), traffic(11)),
            (ListenerRef::new("l1", V6), traffic(12)),
        ]
        .into(),
        targets: [
            (TargetRef::new("a", "t1"), traffic(20)),
            (TargetRef::new("b", "t1"), traffic(3)),
        ]
        .into(),
        draining: vec![Draining {
            target: TargetRef::new("a", "t0"),
            at: SocketAddr::from(([198, 18, 1, 9], 8081)),
            traffic: traffic(99),
        }],
        ..Counters::default()
    };
    let rates = Rates {
        reasons: [(Reason::NewFlow, 1.5)].into(),
        listeners: [
            (ListenerRef::new("l1", V4), 2.0),
            (ListenerRef::new("l1", V6), 0.5),
            // Gone from the file: its last connections count no more.
            (ListenerRef::new("l0", V4), 8.0),
        ]
        .into(),
        targets: [(TargetRef::new("a", "t1"), 2.5)].into(),
        ..Rates::default()
    };
    let about = About {
        started: at(1_000),
        not_ready_because: None,
        conflicts: vec![],
        applying: HistogramTotals::default(),
        config: ConfigReport::default(),
        datapath: None,
    };
    build(&snapshot(), &counters, &rates, &about, at(1_060))
}

#[test]
fn each_listener_comes_on_each_address_with_its_own_counters() {
    let found: Vec<_> = report()
        .listeners
        .iter()
        .map(|of| (of.id.clone(), of.vip, of.traffic.new_flows, of.new_flows_per_second))
        .collect();
    let expected = [
        ("l1".to_owned(), V4, 11, 2.0),
        ("l1".to_owned(), V6, 12, 0.5),
        ("l2".to_owned(), V4, 0, 0.0),
        ("l2".to_owned(), V6, 0, 0.0),
    ];
    assert_eq!(found, expected);
}

#[test]
fn targets_carry_the_verdict_of_their_backend_and_drain_last() {
    let report = report();
    let targets = |listener: usize| {
        report.listeners[listener]
            .targets
            .iter()
            .map(|of| (&*of.id, of.state, of.weight, of.traffic.new_flows, of.since))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        targets(0),
        [
            ("t1", TargetState::Healthy, 10, 20, Some(900)),
            ("t2", TargetState::Unhealthy, 10, 0, Some(900)),
            ("t0", TargetState::Draining, 0, 99, None),
        ]
    );
    assert_eq!(
        targets(2),
        [
            ("t1", TargetState::Unchecked, 10, 3, Some(900)),
            ("t2", TargetState::Unchecked, 10, 0, Some(900)),
        ]
    );
    let reason = report.listeners[0].targets[1].reason.as_deref();
    assert_eq!(reason, Some("CONNECT_FAILED: connection refused"));
}

#[test]
fn all_reasons_and_events_are_there() {
    let report = report();
    assert_eq!(report.reasons.len(), Reason::COUNT);
    let new = report.reasons.iter().find(|of| of.reason == "new_flow").expect("new_flow");
    assert_eq!((new.packets, new.per_second, new.verdict), (7, 1.5, VerdictReport::Forward));
    assert_eq!(report.events.len(), Event::ALL.len());
    let evicted = report.events.iter().find(|of| of.event == "half_open_evicted").expect("event");
    assert_eq!(evicted.count, 2);
}

#[test]
fn the_whole_adds_up() {
    let StatusReport { generation, ready, uptime_seconds, started_at, .. } = report();
    assert_eq!((generation, ready, uptime_seconds, started_at), (3, true, 60, 1_000));
    assert!((report().new_flows_per_second - 2.5).abs() < 1e-9, "of listeners in the file");
}

#[test]
fn json_has_the_documented_keys_and_reads_back() {
    let report = report();
    let json = serde_json::to_value(&report).expect("serialize");
    for pointer in [
        "/uptimeSeconds",
        "/newFlowsPerSecond",
        "/listeners/0/loadBalancer",
        "/listeners/0/newFlows",
        "/listeners/0/activeFlows",
        "/listeners/0/bytesIn",
        "/listeners/0/targets/0/packetsOut",
        "/reasons/0/perSecond",
    ] {
        assert!(json.pointer(pointer).is_some(), "{pointer} in {json:#}");
    }
    assert_eq!(json.pointer("/listeners/0/targets/1/state"), Some(&"unhealthy".into()));
    let back: StatusReport = serde_json::from_value(json).expect("deserialize");
    assert_eq!(back, report);
}

#[test]
fn a_refused_file_is_remembered_until_one_is_applied() {
    let mut config = ConfigReport::default();
    config.note_applied(at(10));
    config.note_refused("alb.yaml:1:1: no".into());
    let refused = ConfigReport {
        file: None,
        applied: 1,
        refused: 1,
        applied_at: Some(10),
        last_error: Some("alb.yaml:1:1: no".into()),
    };
    assert_eq!(config, refused);
    config.note_applied(at(20));
    let applied = ConfigReport { applied: 2, applied_at: Some(20), last_error: None, ..refused };
    assert_eq!(config, applied);
}
