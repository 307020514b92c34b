//! Listeners of the proxy behind the packet path: connections, changes, the end.

mod draining;
mod hash;

use std::net::SocketAddr;

use alb_tests::{
    client::{Conversation, seen, tally, who},
    daemon::{Instance, Node},
    server::Server,
    topology::{Lab, Shape, VIP},
    wait,
};

use crate::setting::{PORT, Service, servers, vip};

/// The service with a PROXY protocol line, which the kernel cannot send.
fn body(service: &Service) -> String {
    service.body().replace("targetGroup: all,", "targetGroup: all, proxyProtocol: true,")
}

/// Beside it a listener that the kernel serves.
fn with_kernel_listener(service: &Service) -> String {
    let second = format!(
        "backends: [{{ name: plain, protocol: Tcp, port: {PORT}, targetGroup: all, \
         closeHealthCheck: true }}, "
    );
    body(service).replace("backends: [", &second).replace(
        "listeners: [",
        "listeners: [{ name: k, protocol: Tcp, port: 9090, backend: plain }, ",
    )
}

fn kernel_vip() -> SocketAddr {
    (VIP, 9090).into()
}

#[test]
fn weights_are_exact_over_workers_and_targets_see_the_client() {
    let lab = Lab::new(Shape::default());
    let _servers = servers(&lab);
    let mut service = Service::of(&lab);
    service.targets[0].1 = 20;
    let mut node = Node::xdp(lab.interfaces());
    node.more.push("workers: 2".to_owned());
    let daemon =
        Instance::new(&lab.balancer.namespace, node, &with_kernel_listener(&service)).start();
    let client = &lab.client.namespace;

    let answers = tally(client, vip(), 40).expect("every connection served");
    assert_eq!(answers.values().copied().collect::<Vec<_>>(), [20, 10, 10], "{answers:?}");
    let (peer, own) = seen(client, vip()).expect("an answer");
    assert_eq!(peer, own.to_string());
    assert!(daemon.reason("proxied") > 40);

    // The kernel's listener on the same address is not touched by it.
    let before = daemon.reason("proxied");
    tally(client, kernel_vip(), 12).expect("every connection served");
    // At most the end of the one connection before: each of these would be four packets.
    let since = daemon.reason("proxied") - before;
    assert!(since < 12, "{since}");
    assert!(daemon.reason("new_flow") >= 12);
}

#[test]
fn changes_touch_no_open_connection() {
    let lab = Lab::new(Shape::default());
    let _servers = servers(&lab);
    let service = Service::of(&lab);
    let balancer = &lab.balancer.namespace;
    let daemon = Instance::new(balancer, Node::xdp(lab.interfaces()), &body(&service)).start();
    let client = &lab.client.namespace;
    let mut talk = Conversation::open(client, vip()).expect("a connection");

    let more = body(&service).replace(
        "listeners: [",
        "listeners: [{ name: more, protocol: Tcp, port: 9091, backend: all }, ",
    );
    assert!(daemon.reload(&more), "{}", daemon.log());
    who(client, None, (VIP, 9091).into()).expect("the new listener serves");
    talk.exchange(b"after another was added").expect("it is still open");

    let off = more.replace(
        &format!("name: tcp, protocol: Tcp, port: {PORT}"),
        &format!("name: tcp, status: Off, protocol: Tcp, port: {PORT}"),
    );
    assert!(daemon.reload(&off), "{}", daemon.log());
    let error = who(client, None, vip()).expect_err("the listener is off");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    talk.exchange(b"after it was switched off").expect("it is still open");
    who(client, None, (VIP, 9091).into()).expect("the other one serves");

    assert!(daemon.reload(&more), "{}", daemon.log());
    who(client, None, vip()).expect("it is on again");
    talk.exchange(b"to the end").expect("it is still open");
}

#[test]
fn the_end_waits_for_open_connections_and_takes_no_new_ones() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let service = Service::of(&lab);
    let balancer = &lab.balancer.namespace;
    let mut daemon = Instance::new(balancer, Node::xdp(lab.interfaces()), &body(&service)).start();
    let client = &lab.client.namespace;
    let mut talk = Conversation::open(client, vip()).expect("a connection");
    daemon.ask_to_end();
    wait::until("no new connections", wait::LONG, || who(client, None, vip()).err());
    talk.exchange(b"still there?").expect("it is still open");
    drop(talk);
    assert!(daemon.ended().success(), "{}", daemon.log());
}

#[test]
fn a_second_signal_cuts_what_is_open() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let servers = servers(&lab);
    let service = Service::of(&lab);
    let balancer = &lab.balancer.namespace;
    let mut daemon = Instance::new(balancer, Node::xdp(lab.interfaces()), &body(&service)).start();
    let client = &lab.client.namespace;
    let mut talk = Conversation::open(client, vip()).expect("a connection");
    daemon.ask_to_end();
    wait::until("no new connections", wait::LONG, || who(client, None, vip()).err());
    talk.exchange(b"still there?").expect("it is still open");
    daemon.ask_to_end();
    assert!(daemon.ended().success(), "{}", daemon.log());
    talk.wait().expect_err("it is cut");
    wait::until("the target to be told", wait::LONG, || (servers[0].open() == 0).then_some(()));
    assert!(daemon.log().contains("connections are cut"), "{}", daemon.log());
}

#[test]
fn a_port_that_somebody_has_is_refused_by_name() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let stranger = Server::start(&lab.balancer, PORT, "stranger");
    let service = Service::of(&lab);
    let balancer = &lab.balancer.namespace;
    let instance = Instance::new(balancer, Node::xdp(lab.interfaces()), &body(&service));
    let mut child = instance.spawn();
    let status =
        wait::until("the refusal", wait::LONG, || child.try_wait().expect("a child can be asked"));
    assert!(!status.success());
    let log = instance.log();
    for words in ["listener tcp of load balancer lab", &vip().to_string(), "ss -ltnp"] {
        assert!(log.contains(words), "{log}");
    }
    assert!(!instance.bpffs().exists(), "a refused start leaves nothing");
    drop(stranger);
}
