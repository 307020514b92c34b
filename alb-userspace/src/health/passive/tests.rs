//! Reports of traffic against the loop that decides, with real loopback sockets in paused time.

use std::{net::SocketAddr, time::Duration};

use tokio::{net::TcpListener, sync::watch, time::Instant};

use super::*;
use crate::{
    health::{run, settled},
    model::{HealthCheck, Model},
    state::{
        Snapshot, Store, TargetStates,
        fixture::{model, target, tcp_check},
    },
};

struct Setting {
    store: Store,
    passive: Passive,
    servers: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    _stop: watch::Sender<bool>,
}

/// As many healthy targets `0`, `1`, … of these backends.
async fn setting(targets: usize, backends: &[(&str, Option<HealthCheck>, u8)]) -> Setting {
    let mut servers = Vec::new();
    for _ in 0..targets {
        servers.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let addresses: Vec<_> = servers.iter().map(|server| server.local_addr().unwrap()).collect();
    let all: Vec<_> =
        (0..).zip(&addresses).map(|(at, to): (u8, _)| target(&at.to_string(), *to)).collect();
    let checks: Vec<_> = backends.iter().map(|(id, check, _)| (*id, check.clone())).collect();
    let mut model: Model = model(&checks, &all);
    for (backend, (.., percent)) in model.load_balancers[0].backends.iter_mut().zip(backends) {
        backend.passive_max_percent = *percent;
    }
    let store = Store::new(model, &TargetStates::default());
    let (passive, suspects) = passive();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(run(store.clone(), suspects, stopped));
    assert!(settled(&store, Duration::from_secs(5)).await);
    Setting { store, passive, servers, addresses, _stop: stop }
}

impl Setting {
    fn refused(&self, backend: &str, target: usize) {
        let error = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        let to = TargetRef::new(backend, &target.to_string());
        self.passive.connect_failed(to, self.addresses[target].ip(), &error);
    }

    fn health(&self, backend: &str) -> Vec<Health> {
        let snapshot = self.store.snapshot();
        snapshot.targets.of_backend(backend).map(|(_, state)| state.health).collect()
    }

    fn short_of_files(&self, backend: &str, target: usize) {
        let error = io::Error::from_raw_os_error(libc::EMFILE);
        let to = TargetRef::new(backend, &target.to_string());
        self.passive.connect_failed(to, self.addresses[target].ip(), &error);
    }

    async fn until(&self, what: impl Fn(&Snapshot) -> bool) {
        let mut snapshots = self.store.subscribe();
        let waiting = snapshots.wait_for(|snapshot| what(snapshot));
        drop(
            tokio::time::timeout(Duration::from_mins(1), waiting).await.expect("in time").unwrap(),
        );
    }

    async fn until_health(&self, backend: &str, health: &[Health]) {
        self.until(|snapshot| {
            let of = snapshot.targets.of_backend(backend);
            of.map(|(_, state)| state.health).eq(health.iter().copied())
        })
        .await;
    }

    /// Until reports made before this have been decided about.
    async fn decided(&self) {
        while self.passive.reports.capacity() < QUEUE {
            tokio::task::yield_now().await;
        }
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
}

use Health::{Healthy, Unhealthy as Out};

#[tokio::test(start_paused = true)]
async fn what_this_host_lacks_takes_no_target_out() {
    let setting = setting(2, &[("b", Some(tcp_check()), 100)]).await;
    setting.short_of_files("b", 1);
    setting.decided().await;
    assert_eq!(setting.health("b"), [Healthy, Healthy]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_connect_takes_a_target_out_at_once_and_its_check_brings_it_back() {
    let setting = setting(2, &[("b", Some(tcp_check()), 50)]).await;
    let begun = Instant::now();
    setting.refused("b", 1);
    setting.until_health("b", &[Healthy, Out]).await;
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
    let snapshot = setting.store.snapshot();
    let reason = snapshot.targets.get("b", "1").unwrap().reason.clone().unwrap();
    assert_eq!(reason.reason, UnhealthyReason::ConnectFailed);
    assert!(reason.detail.starts_with("traffic: connect: "), "{reason}");
    // Three passes are needed; the first of them comes at once, not after an interval.
    setting.until_health("b", &[Healthy, Healthy]).await;
    let took = begun.elapsed().as_secs_f64();
    assert!((4.0..=10.1).contains(&took), "after {took} s");
}

#[tokio::test(start_paused = true)]
async fn no_more_than_allowed_go() {
    for (targets, percent, out) in
        [(2, 50, 1), (3, 50, 1), (4, 50, 2), (4, 100, 4), (4, 0, 0), (1, 50, 0)]
    {
        let setting = setting(targets, &[("b", Some(tcp_check()), percent)]).await;
        for target in 0..targets {
            setting.refused("b", target);
        }
        setting.decided().await;
        let gone = setting.health("b").into_iter().filter(|health| *health == Out).count();
        assert_eq!(gone, out, "{percent} % of {targets}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_probe_confirms_counts_no_more() {
    let mut setting = setting(2, &[("b", Some(tcp_check()), 50)]).await;
    drop(setting.servers.remove(1));
    setting.refused("b", 1);
    // The probe's own words.
    setting
        .until(|snapshot| {
            let state = snapshot.targets.get("b", "1").unwrap();
            state.health == Out
        })
        .await;
    let begun = Instant::now();
    while setting.health("b") != [Out, Out] {
        setting.refused("b", 0);
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(begun.elapsed() < Duration::from_secs(1), "the probe was not brought forward");
    }
}

#[tokio::test(start_paused = true)]
async fn backends_that_share_a_check_lose_the_target_together_or_not_at_all() {
    let both = |percent| [("a", Some(tcp_check()), 50), ("b", Some(tcp_check()), percent)];
    let shared = setting(2, &both(50)).await;
    shared.refused("a", 0);
    shared.until_health("b", &[Out, Healthy]).await;
    assert_eq!(shared.health("a"), [Out, Healthy]);

    let protected = setting(2, &both(0)).await;
    protected.refused("a", 0);
    protected.decided().await;
    assert_eq!(protected.health("a"), [Healthy, Healthy]);
}

#[tokio::test(start_paused = true)]
async fn what_says_nothing_of_a_target_changes_nothing() {
    let unchecked = setting(2, &[("b", None, 100)]).await;
    unchecked.refused("b", 0);
    unchecked.decided().await;
    assert_eq!(unchecked.health("b"), [Health::Unchecked; 2]);

    let moved = setting(2, &[("b", Some(tcp_check()), 100)]).await;
    let elsewhere = [127, 0, 9, 9].into();
    moved.passive.connect_timed_out(TargetRef::new("b", "0"), elsewhere);
    moved.passive.connect_timed_out(TargetRef::new("b", "gone"), moved.addresses[0].ip());
    moved.decided().await;
    assert_eq!(moved.health("b"), [Healthy; 2]);
}

#[test]
fn a_report_never_waits() {
    let (passive, suspects) = passive();
    let address = [198, 18, 1, 1].into();
    for _ in 0..QUEUE + 5 {
        passive.connect_timed_out(TargetRef::new("b", "t"), address);
    }
    assert_eq!(passive.dropped(), 5);
    drop(suspects);
    passive.connect_timed_out(TargetRef::new("b", "t"), address);
    assert_eq!(passive.dropped(), 6);
}
