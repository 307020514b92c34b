//! Source ports towards targets: when they run out, new connections are refused and open ones live.

use std::{fs, io::ErrorKind};

use alb_tests::{
    client::Conversation,
    daemon::Node,
    topology::{Lab, Shape},
    wait,
};

use crate::setting::{Service, servers, vip};

#[test]
fn exhaustion_is_a_reset_and_a_counter() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let mut node = Node::xdp(lab.interfaces());
    node.more.push("snat: { portRange: 20000-20015 }".to_owned());
    let daemon = Service::of(&lab).serve_as(&lab, node);
    let client = &lab.client.namespace;
    let open = |_| Conversation::open(client, vip()).expect("a free port");
    let mut open: Vec<_> = (0..16).map(open).collect();

    let error = Conversation::open(client, vip()).expect_err("16 ports are in use");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(daemon.reason("snat_exhausted") >= 1);
    for talk in &mut open {
        talk.exchange(b"still mine").expect("an open connection keeps its port");
    }
}

#[test]
fn another_range_and_address_after_a_restart_leave_open_flows_alone() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let balancer = &lab.balancer.namespace;
    balancer.ip("address add 198.18.1.2/24 dev eth1");
    let service = Service::of(&lab);
    let node = |snat: &str| {
        let mut node = Node::xdp(lab.interfaces());
        node.more.push(format!("snat: {{ {snat} }}"));
        node
    };
    let reserved = || {
        let path = "/proc/sys/net/ipv4/ip_local_reserved_ports";
        balancer.enter(|| fs::read_to_string(path).expect("a setting")).trim().to_owned()
    };
    let mut daemon = service.serve_as(&lab, node("portRange: 10000-10999"));
    let open = || Conversation::open(&lab.client.namespace, vip()).expect("a connection");
    let mut old: Vec<_> = (0..5).map(|_| open()).collect();
    assert_eq!(reserved(), "10000-10999");

    daemon.terminate();
    let changed = node("portRange: 20000-20999, addresses: [198.18.1.2]");
    daemon.instance.change_node(changed, &service.body());
    daemon.restart();
    let mut new: Vec<_> = (0..5).map(|_| open()).collect();
    for talk in old.iter_mut().chain(&mut new) {
        talk.exchange(b"still there?").expect("an open connection lives");
    }
    let peers = lab.targets[0].namespace.enter(|| {
        fs::read_to_string("/proc/thread-self/net/tcp").expect("the target's connections")
    });
    // Peers as the target has them: address in memory order, port (`proc_net_tcp(5)`).
    let from = |address: &str, ports: std::ops::RangeInclusive<u16>| {
        let peers =
            peers.lines().filter_map(|line| line.split_whitespace().nth(2)?.split_once(':'));
        let port = |text: &str| u16::from_str_radix(text, 16).unwrap_or_default();
        peers.filter(|(from, at)| *from == address && ports.contains(&port(at))).count()
    };
    assert_eq!(from("010112C6", 10_000..=10_999), 5, "{peers}");
    assert_eq!(from("020112C6", 20_000..=20_999), 5, "{peers}");
    assert_eq!(reserved(), "10000-10999,20000-20999", "flows use both");

    drop(old);
    wait::until("the old ports to be given back", wait::LONG * 2, || {
        (reserved() == "20000-20999").then_some(())
    });
    for talk in &mut new {
        talk.exchange(b"still there?").expect("an open connection lives");
    }
}
