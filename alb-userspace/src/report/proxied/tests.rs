//! From blocks of workers to the report.

use std::time::{Duration, Instant, SystemTime};

use super::*;
use crate::{
    model::{BackendProtocol, Listener, ListenerProtocol, Model},
    proxy::{
        plan::Secrets,
        stats::{HistogramTotals, StatusClass, UpstreamError, WorkerId},
    },
    report::{About, ConfigReport, Sample, build},
    state::{Store, TargetStates, fixture},
};

/// An http listener on two targets.
fn model() -> Model {
    let targets = [
        fixture::target("a", ([198, 18, 1, 1], 80).into()),
        fixture::target("b", ([198, 18, 1, 2], 80).into()),
    ];
    let mut model = fixture::model(&[("web", None)], &targets);
    model.load_balancers[0].backends[0].protocol = BackendProtocol::Http;
    model.load_balancers[0].listeners = vec![Listener {
        id: "http".into(),
        name: "http".into(),
        description: String::new(),
        protocol: ListenerProtocol::Http,
        port: std::num::NonZeroU16::new(80).unwrap(),
        enabled: true,
        backend: "web".into(),
        url_map: None,
        idle_timeout: Duration::from_mins(1),
        max_connections: None,
        max_qps: None,
        tls: None,
        http: None,
    }];
    model
}

#[test]
fn what_two_workers_count_is_in_the_report_once() {
    let model = model();
    let store = Store::new(model, &TargetStates::default());
    let snapshot = store.snapshot();
    let plan = Plan::compile(&snapshot, &Secrets::of_a_test(), &Plan::default());
    let listener = &plan.listeners[0];
    let backend = &listener.backend;
    let sample = |at| {
        let mut counters = Counters::default();
        counters.add_proxied(&plan);
        Sample { at, counters }
    };
    let now = Instant::now();
    let before = sample(now);
    for worker in [WorkerId(0), WorkerId(1)] {
        let stats = listener.shared.stats.at(worker);
        stats.connections.add(1);
        stats.open.rise();
        for _ in 0..10 {
            stats.requests.count(StatusClass::of(200));
            stats.request_time.observe(Duration::from_millis(3));
        }
        stats.refusals.count("no_target");
        stats.bytes_in.add(100);
        let stats = backend.shared.stats.at(worker);
        stats.errors.count(UpstreamError::ConnectFailed);
        stats.pool_idle.rise();
    }
    // Opened by one worker, closed by another.
    listener.shared.stats.at(WorkerId(1)).open.fall();
    backend.shared.stats.at(WorkerId(3)).pool_idle.fall();
    let picked = backend.pick([198, 18, 0, 1].into(), None, &[]).expect("a target");
    let _request = backend.targets[picked].enter();

    let after = sample(now + Duration::from_secs(2));
    let rates = Rates::between(&before, &after);
    let about = About {
        started: SystemTime::UNIX_EPOCH,
        not_ready_because: None,
        conflicts: vec![],
        applying: HistogramTotals::default(),
        config: ConfigReport::default(),
        datapath: None,
    };
    let report = build(&snapshot, &after.counters, &rates, &about, SystemTime::now());
    let proxy = report.proxy.expect("the proxy's part");
    let [of] = &proxy.listeners[..] else { panic!("{:?}", proxy.listeners) };
    assert_eq!((of.totals.connections, of.totals.open), (2, 1));
    assert_eq!((of.totals.requests["2xx"], of.totals.requests["5xx"]), (20, 0));
    assert_eq!((of.totals.refusals["no_target"], of.totals.request_time.count()), (2, 20));
    assert!((of.requests_per_second - 10.0).abs() < 1e-9);
    let [of] = &proxy.backends[..] else { panic!("{:?}", proxy.backends) };
    assert_eq!((of.totals.errors["connect_failed"], of.totals.pool_idle), (2, 1));
    assert_eq!(of.targets.iter().map(|target| target.in_flight).sum::<u64>(), 1);
    let of = report.listeners.iter().find(|of| *of.id == *listener.id).expect("the listener");
    assert_eq!((of.traffic.new_flows, of.traffic.active_flows, of.traffic.bytes_in), (2, 1, 200));
    assert_eq!(of.targets[picked].traffic.active_flows, 1);
    assert!(of.targets[picked].new_flows_per_second > 0.0);
}
