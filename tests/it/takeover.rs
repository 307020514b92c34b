//! `alb run --takeover`: a new daemon in place of the old one, under load.

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    os::unix::net::UnixStream,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use alb_tests::{
    client::{bulk, connect, http_get_here, who},
    daemon::{Daemon, Instance, Node},
    server::Nginx,
    topology::{Lab, Shape, VIP},
    wait,
};

use serde_json::{Value, json};

use crate::setting::{PORT, Service, servers, vip};

/// Where the web servers are.
const WEB: u16 = 8081;
/// One transfer through the kernel.
const BULK: u64 = 4_000_000;
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
        let _ends = wait::Ends(&stop);
        for _ in 0..2 {
            let before = (served.load(Ordering::Relaxed), pid(&daemon));
            daemon.take_over();
            assert_ne!(pid(&daemon), before.1);
            wait::until("requests after the takeover", wait::LONG, || {
                (served.load(Ordering::Relaxed) > before.0 + 200).then_some(())
            });
        }
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

    let mut successor = daemon.successor_that_stops("attached");
    // Its neighbours have to be found again by whoever goes on.
    lab.balancer.namespace.forget_neighbours();
    successor.kill().expect("a stopped process can be killed");
    successor.wait().expect("a killed process ends");
    assert_eq!(pid(&daemon), old);
    wait::until("the old one goes on", wait::LONG, || {
        who(client, None, vip()).expect("all the while");
        let log = daemon.log();
        let log = &log[log.find("came to nothing")?..];
        log.contains(" attached ").then_some(())
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
fn a_daemon_that_dies_while_it_is_taken_over_from_has_a_successor() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let service = Service::of(&lab);
    let mut daemon = Instance::new(&lab.balancer.namespace, node(&lab), &service.body()).start();
    daemon.die_in_takeover("attached");
    who(&lab.client.namespace, None, vip()).expect("the new one serves");
    assert!(daemon.reload(&service.body().replace("weight: 10", "weight: 11")));
    daemon.take_over();
    who(&lab.client.namespace, None, vip()).expect("and can be taken over from");
}

/// Half of a takeover, spoken by hand.
struct Caller(UnixStream);

impl Caller {
    fn new(daemon: &Daemon<'_>) -> Self {
        let path = daemon.instance.socket().with_file_name("takeover.sock");
        Self(UnixStream::connect(path).expect("a daemon to take over from"))
    }

    fn say(&mut self, message: &Value) {
        let text = message.to_string();
        let length = u32::try_from(text.len()).expect("a short message");
        self.0.write_all(&length.to_le_bytes()).expect("a listener");
        self.0.write_all(text.as_bytes()).expect("a listener");
    }

    fn hear(&mut self) -> Value {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).expect("an answer");
        let mut text = vec![0; u32::from_le_bytes(length) as usize];
        self.0.read_exact(&mut text).expect("a whole answer");
        serde_json::from_slice(&text).expect("an answer in JSON")
    }
}

#[test]
fn a_successor_that_is_told_to_serve_and_does_not_leaves_the_old_one_serving() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let service = Service::of(&lab);
    let daemon = Instance::new(&lab.balancer.namespace, node(&lab), &service.body()).start();

    // Who only connects stops nothing.
    let silent = Caller::new(&daemon);
    assert!(daemon.reload(&service.body().replace("weight: 10", "weight: 11")));
    drop(silent);

    let instance = &daemon.instance;
    let mut caller = Caller::new(&daemon);
    caller.say(&json!({ "Hello": { "version": 2, "pid": 1, "terms": {
        "bpffs": instance.bpffs(),
        "state_dir": instance.socket().parent(),
        "socket": instance.socket(),
        "has_packet_path": true,
        "workers": 2,
        "api": "127.0.0.1:9180",
    } } }));
    let welcome = caller.hear();
    assert!(welcome["Welcome"]["addresses"].is_array(), "{welcome}");
    // The API's socket came with a byte.
    caller.0.read_exact(&mut [0]).expect("a byte");
    caller.say(&json!("Release"));
    assert_eq!(caller.hear(), "Released");
    caller.say(&json!("Ready"));
    assert_eq!(caller.hear(), "Over");
    drop(caller);

    wait::until("the old one goes on", wait::LONG, || {
        daemon.log().contains("came to nothing").then_some(())
    });
    wait::until("it has the packet path", wait::LONG, || {
        (daemon.status()["ready"] == true).then_some(())
    });
    assert!(daemon.reload(&service.body()));
    who(&lab.client.namespace, None, vip()).expect("it goes on");
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
