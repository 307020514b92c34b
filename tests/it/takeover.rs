//! `alb run --takeover`: a new daemon in place of the old one, under load.

use std::{
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use alb_tests::{
    client::{bulk, connect, http_get_here, who},
    daemon::{Daemon, Instance, Node},
    server::Nginx,
    topology::{Lab, Shape, VIP},
    wait,
};

use crate::setting::{PORT, Service, servers, vip};

/// Where the web servers are.
const WEB: u16 = 8081;
/// One transfer through the kernel.
const BULK: u64 = 4_000_000;
const LONG: Duration = Duration::from_secs(10);

fn web_vip() -> SocketAddr {
    (VIP, 80).into()
}

/// The service as tcp in the kernel, and on port 80 an http listener of the proxy.
fn body(service: &Service) -> String {
    let targets = service
        .targets
        .iter()
        .map(|(address, _)| format!("{{ ipAddress: {address}, port: {WEB} }}"));
    let targets = targets.collect::<Vec<_>>().join(", ");
    service
        .body()
        .replace(
            "targetGroups: [",
            &format!("targetGroups: [{{ name: web, type: ip, targets: [{targets}] }}, "),
        )
        .replace(
            "backends: [",
            &format!(
                "backends: [{{ name: web, protocol: Http, port: {WEB}, targetGroup: web, \
                 closeHealthCheck: true }}, "
            ),
        )
        .replace(
            "listeners: [",
            "listeners: [{ name: web, protocol: Http, port: 80, backend: web }, ",
        )
}

fn node(lab: &Lab) -> Node {
    let mut node = Node::xdp(lab.interfaces());
    node.more.push("workers: 2".to_owned());
    node
}

fn pid(daemon: &Daemon<'_>) -> u64 {
    daemon.status()["pid"].as_u64().expect("a process id")
}

#[test]
fn no_request_is_lost_in_two_takeovers_under_load() {
    let lab = Lab::new(Shape { targets: 2, ..Shape::default() });
    let _servers = servers(&lab);
    let _web: Vec<_> = lab
        .targets
        .iter()
        .map(|host| Nginx::start(&host.namespace, WEB, "web").expect("nginx starts"))
        .collect();
    let service = Service::of(&lab);
    let mut daemon = Instance::new(&lab.balancer.namespace, node(&lab), &body(&service)).start();
    let client = &lab.client.namespace;
    let (stop, served, transfers) =
        (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                client.enter(|| {
                    while !stop.load(Ordering::Relaxed) {
                        http_get_here(web_vip(), "/").expect("every request is served");
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                });
            });
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let stream = connect(client, None, vip()).expect("every connection is served");
                let (sent, seen) = bulk::upload(&stream, BULK).expect("a whole transfer");
                assert_eq!(sent, seen);
                transfers.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..2 {
            let before = (served.load(Ordering::Relaxed), pid(&daemon));
            daemon.take_over();
            assert_ne!(pid(&daemon), before.1);
            wait::until("requests after the takeover", Duration::from_secs(10), || {
                (served.load(Ordering::Relaxed) > before.0 + 200).then_some(())
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(transfers.load(Ordering::Relaxed) > 0);
    assert_eq!(daemon.status()["ready"], true);
    assert!(daemon.terminate().success(), "{}", daemon.log());
}

#[test]
fn a_takeover_that_fails_leaves_the_old_one_serving() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let service = Service::of(&lab);
    let daemon = Instance::new(&lab.balancer.namespace, node(&lab), &service.body()).start();
    let client = &lab.client.namespace;
    let old = pid(&daemon);

    // A file with a wrong value, and one with a listener that lacks something.
    let broken = service.body().replace("RoundRobin", "Sideways");
    let lacking = service.body().replace(
        &format!("listeners: [{{ name: tcp, protocol: Tcp, port: {PORT}"),
        &format!(
            "listeners: [{{ name: api, protocol: Tls, port: 9443, backend: all }}, {{ name: tcp, protocol: Tcp, port: {PORT}"
        ),
    );
    for (body, words) in [(broken, "Sideways"), (lacking, "certificate")] {
        daemon.instance.write(&body);
        let output = daemon.instance.take_over_command().output().expect("running alb");
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(words), "{said}");
        assert_eq!(pid(&daemon), old);
        who(client, None, vip()).expect("it goes on");
    }
}

#[test]
fn a_successor_that_dies_with_the_packet_path_gives_it_back() {
    let lab = Lab::new(Shape { targets: 2, ..Shape::default() });
    let mut servers = servers(&lab);
    let service = Service { checked: true, ..Service::of(&lab) };
    let mut daemon = Instance::new(&lab.balancer.namespace, node(&lab), &service.body()).start();
    let client = &lab.client.namespace;
    let old = pid(&daemon);

    let output = daemon
        .instance
        .take_over_command()
        .env("ALB_KILL_AT", "attached")
        .output()
        .expect("running alb");
    assert_eq!(output.status.signal(), Some(9), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(pid(&daemon), old);
    wait::until("the old one has noticed", LONG, || {
        daemon.log().contains("came to nothing").then_some(())
    });
    who(client, None, vip()).expect("it goes on");

    // What changes from now on reaches the kernel.
    drop(servers.remove(0));
    daemon.wait_targets("tcp", "unhealthy", 1);
    for _ in 0..20 {
        assert_eq!(who(client, None, vip()).expect("the one that is left serves"), "t2");
    }
    daemon.take_over();
    assert_ne!(pid(&daemon), old);
    who(client, None, vip()).expect("the next one serves");
}

#[test]
fn without_a_daemon_there_is_nothing_to_take_over() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let service = Service::of(&lab);
    let instance = Instance::new(&lab.balancer.namespace, node(&lab), &service.body());
    let output = instance.take_over_command().output().expect("running alb");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no daemon runs") && said.contains("node.stateDir"), "{said}");
    assert!(!instance.bpffs().exists());
}
