//! The loop against real loopback sockets in paused time: seconds of checks cost none.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::watch,
    time::Instant,
};

use crate::{
    health::{passive, run, settled},
    model::{CodeRange, HealthCheck, HttpCheck, Model},
    state::{
        Health, Snapshot, Store, TargetStates, UnhealthyReason,
        fixture::{model, target, tcp_check},
    },
};

struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    fn stop(self) -> SocketAddr {
        drop(self.listener);
        self.address
    }
}

fn served(address: SocketAddr, check: Option<HealthCheck>) -> Model {
    model(&[("b", check)], &[target("t", address)])
}

fn start(model: Model) -> (Store, watch::Sender<bool>) {
    let store = Store::new(model, &TargetStates::default());
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(run(store.clone(), passive().1, stopped));
    (store, stop)
}

async fn until(store: &Store, health: Health) -> Arc<Snapshot> {
    let mut snapshots = store.subscribe();
    let is = |snapshot: &Arc<Snapshot>| {
        snapshot.targets.get("b", "t").is_some_and(|state| state.health == health)
    };
    let waiting = snapshots.wait_for(is);
    tokio::time::timeout(Duration::from_mins(1), waiting).await.unwrap().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn the_first_probe_comes_at_once_and_settles_the_start() {
    let server = Server::start().await;
    let before = Instant::now();
    let (store, _stop) = start(served(server.address, Some(tcp_check())));
    assert!(settled(&store, Duration::from_secs(1)).await);
    assert!(before.elapsed() < Duration::from_millis(50), "{:?}", before.elapsed());
    assert!(store.snapshot().targets.serves("b", "t"));
}

#[tokio::test(start_paused = true)]
async fn a_target_goes_after_three_failures_and_returns_after_three_successes() {
    let server = Server::start().await;
    let (store, _stop) = start(served(server.address, Some(tcp_check())));
    until(&store, Health::Healthy).await;

    let (address, before) = (server.stop(), Instant::now());
    let snapshot = until(&store, Health::Unhealthy).await;
    let reason = snapshot.targets.get("b", "t").unwrap().reason.clone().unwrap();
    assert_eq!(reason.reason, UnhealthyReason::ConnectFailed);
    let took = before.elapsed().as_secs_f64();
    assert!((10.0..=15.1).contains(&took), "three probes 5 s apart, not {took} s");

    let _again = TcpListener::bind(address).await.unwrap();
    let before = Instant::now();
    until(&store, Health::Healthy).await;
    let took = before.elapsed().as_secs_f64();
    assert!((10.0..=15.1).contains(&took), "three probes 5 s apart, not {took} s");
}

/// From the answer that decides to the snapshot that says so no clock is waited for.
#[tokio::test(start_paused = true)]
async fn a_verdict_is_published_at_the_moment_of_the_answer_that_decides() {
    let Server { listener, address } = Server::start().await;
    let (status, mut told) = watch::channel(200);
    let (answered, last) = watch::channel((0, Instant::now()));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![];
            while !request.ends_with(b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
            }
            let status = *told.borrow_and_update();
            let answer = format!("HTTP/1.1 {status} Whatever\r\n\r\n");
            // Before the other side can know.
            answered.send_modify(|(of, at)| (*of, *at) = (status, Instant::now()));
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let codes = vec![CodeRange { low: 200, high: 299 }];
    let http = HttpCheck { http11: false, domain: None, path: "/".into(), codes };
    let (store, _stop) =
        start(served(address, Some(HealthCheck { http: Some(http), ..tcp_check() })));
    for (code, health) in [(200, Health::Healthy), (404, Health::Unhealthy), (204, Health::Healthy)]
    {
        status.send_replace(code);
        until(&store, health).await;
        let (of, at) = *last.borrow();
        assert_eq!(of, code);
        assert!(at.elapsed() < Duration::from_millis(50), "{health}: {:?}", at.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_cannot_leave_the_host_says_nothing_at_first() {
    // The kernel refuses to connect to a broadcast address: the network is unreachable.
    let before = Instant::now();
    let (store, _stop) = start(served("255.255.255.255:9".parse().unwrap(), Some(tcp_check())));
    assert!(!settled(&store, Duration::from_secs(4)).await);
    until(&store, Health::Unhealthy).await;
    let took = before.elapsed().as_secs_f64();
    assert!((5.0..6.5).contains(&took), "judged after {took} s");
}

#[tokio::test(start_paused = true)]
async fn a_changed_model_is_followed() {
    let (first, second) = (Server::start().await, Server::start().await);
    let (store, _stop) = start(served(first.address, Some(tcp_check())));
    until(&store, Health::Healthy).await;

    let dead = second.stop();
    let applied = store.apply(served(dead, Some(tcp_check())));
    assert_eq!(applied.targets.get("b", "t").unwrap().health, Health::Initial);
    until(&store, Health::Unhealthy).await;

    store.apply(served(dead, None));
    assert!(store.snapshot().targets.serves("b", "t"));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_joins_a_running_check_learns_its_verdict_at_once() {
    let server = Server::start().await;
    let (store, _stop) = start(served(server.address, Some(tcp_check())));
    until(&store, Health::Healthy).await;
    let before = Instant::now();
    let both = [("a", Some(tcp_check())), ("b", Some(tcp_check()))];
    store.apply(model(&both, &[target("t", server.address)]));
    assert!(settled(&store, Duration::from_secs(1)).await);
    assert!(before.elapsed() < Duration::from_millis(10));
    assert!(store.snapshot().targets.serves("a", "t"));
}

#[tokio::test(start_paused = true)]
async fn settled_gives_up_in_time() {
    let address = "127.0.0.1:9".parse().unwrap();
    let store = Store::new(served(address, Some(tcp_check())), &TargetStates::default());
    assert!(!settled(&store, Duration::from_secs(1)).await);
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_the_loop() {
    let store = Store::new(served("127.0.0.1:9".parse().unwrap(), None), &TargetStates::default());
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(run(store, passive().1, stopped));
    stop.send(true).unwrap();
    tokio::time::timeout(Duration::from_secs(1), running).await.unwrap().unwrap();
}

#[tokio::test]
async fn probes_of_many_targets_keep_within_the_open_files() {
    // One server behind many loopback addresses: every check is another address.
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let targets: Vec<_> = (1..=200_u8)
        .map(|last| target(&format!("t{last}"), ([127, 0, 9, last], port).into()))
        .collect();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let (store, _stop) = start(model(&[("b", Some(tcp_check()))], &targets));
    assert!(settled(&store, Duration::from_mins(1)).await);
    let snapshot = store.snapshot();
    let serving = snapshot.targets.iter().filter(|(_, state)| state.health.serves()).count();
    assert_eq!(serving, 200);
}
