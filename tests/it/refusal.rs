//! What the daemon refuses, and what it leaves behind.

use std::{fs, net::Ipv4Addr, process::Output};

use alb_tests::{
    client::tally,
    daemon::{Instance, Node},
    program,
    topology::{Lab, Shape, VIP},
    wait,
};

use crate::setting::{Service, servers, vip};

#[test]
fn detach_removes_every_trace() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let before = touched(&lab);
    let mut daemon = Service::of(&lab).serve(&lab);
    tally(&lab.client.namespace, vip(), 10).expect("every connection served");
    let balancer = &lab.balancer.namespace;
    assert!(program::on(balancer, "eth0").is_some(), "attached while it runs");
    assert!(balancer.ip("address show dev eth0").contains(&VIP.to_string()));
    daemon.terminate();
    let (ports, neighbours) = touched(&lab);
    assert!(!ports.trim().is_empty() && neighbours > 0, "kept while the path forwards: {ports}");

    let output = daemon.instance.alb("detach");
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(touched(&lab), before, "{}", text(&output));
    assert!(!daemon.instance.bpffs().exists(), "pins are left");
    for device in ["eth0", "eth1"] {
        assert_eq!(program::on(balancer, device), None, "a program is left on {device}");
    }
    let addresses = balancer.ip("address show");
    assert!(!addresses.contains(&VIP.to_string()), "a VIP is left: {addresses}");
}

#[test]
fn a_vip_that_goes_is_taken_off() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let service = Service::of(&lab);
    let daemon = service.serve(&lab);
    let other = Ipv4Addr::new(198, 18, 0, 20);
    assert!(daemon.reload(&service.body().replace(&VIP.to_string(), &other.to_string())));
    wait::until("the addresses to follow", wait::LONG, || {
        let shown = lab.balancer.namespace.ip("address show dev eth0");
        (shown.contains(&format!("{other}/")) && !shown.contains(&format!("{VIP}/"))).then_some(())
    });
}

#[test]
fn a_missing_interface_is_named() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    refused(&lab, Node::xdp(&["eth0", "eth7"]), &["eth7"]);
}

#[test]
fn another_program_on_the_interface_is_left_alone() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let balancer = &lab.balancer.namespace;
    program::attach_pass(balancer, "eth0");
    let before = program::attached(balancer, "eth0");
    assert!(before.is_some());
    refused(&lab, Node::on(lab.interfaces(), "xdp"), &["eth0", "another"]);
    assert_eq!(program::attached(balancer, "eth0"), before);
}

#[test]
fn a_mode_that_is_not_to_be_had_leaves_nothing() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let balancer = &lab.balancer.namespace;
    // It has no native XDP, which is found out when all else is in place.
    balancer.ip("link add plain0 type bridge");
    balancer.ip("link set plain0 up");
    let before = touched(&lab);
    refused(&lab, Node::on(&["eth1", "plain0"], "xdp"), &["node.datapath", "plain0"]);
    wait::until("the neighbours to be released", wait::LONG, || {
        (touched(&lab) == before).then_some(())
    });
    assert!(!balancer.ip("link show eth1").contains("xdp"));
}

#[test]
fn another_program_is_found_before_anything_changes() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let balancer = &lab.balancer.namespace;
    let mut daemon = Service::of(&lab).serve_as(&lab, Node::on(&["eth1"], "xdp"));
    daemon.terminate();
    program::attach_pass(balancer, "eth0");
    let programs = || ["eth1", "eth0"].map(|device| program::attached(balancer, device));
    let before = programs();
    let mut node = Node::on(&["eth1", "eth0"], "xdp");
    node.more = vec!["flows: 16384".to_owned()];
    daemon.instance.change_node(node, &Service::of(&lab).body());
    let mut child = daemon.instance.spawn();
    let status = wait::within(wait::LONG, || child.try_wait().expect("a child"));
    if status.is_none() {
        child.kill().expect("a running child");
        child.wait().expect("a killed child");
    }
    let log = daemon.log();
    assert_eq!(status.and_then(|status| status.code()), Some(1), "{log}");
    assert!(log.contains("eth0: another XDP program"), "{log}");
    assert_eq!(programs(), before);
}

/// What a start changes on the host beside its pins: reserved ports and managed neighbours.
fn touched(lab: &Lab) -> (String, usize) {
    let balancer = &lab.balancer.namespace;
    let reserved = "/proc/sys/net/ipv4/ip_local_reserved_ports";
    let reserved = balancer.enter(|| fs::read_to_string(reserved).expect("a setting"));
    (reserved, balancer.ip("neighbour show").matches("managed").count())
}

#[test]
fn what_cannot_be_served_yet_is_named() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let with = "targetGroup: all, retries: 2";
    let body = Service::of(&lab).body().replace("targetGroup: all", with);
    let instance = Instance::new(&lab.balancer.namespace, Node::xdp(lab.interfaces()), &body);
    ends_with(&instance, &["retries", "not served yet"]);
}

/// `alb run` ends with 1, says all of `words`, and leaves nothing.
fn refused(lab: &Lab, node: Node, words: &[&str]) {
    let instance = Instance::new(&lab.balancer.namespace, node, &Service::of(lab).body());
    ends_with(&instance, words);
}

fn ends_with(instance: &Instance<'_>, words: &[&str]) {
    let mut child = instance.spawn();
    let status = wait::within(wait::LONG, || child.try_wait().expect("a child"));
    if status.is_none() {
        child.kill().expect("a running child");
        child.wait().expect("a killed child");
    }
    let log = instance.log();
    let status = status.unwrap_or_else(|| panic!("alb run was not refused:\n{log}"));
    assert_eq!(status.code(), Some(1), "{log}");
    for word in words {
        assert!(log.to_lowercase().contains(&word.to_lowercase()), "no {word} in:\n{log}");
    }
    let pins: Vec<_> = fs::read_dir(instance.bpffs()).into_iter().flatten().collect();
    assert!(pins.is_empty(), "a refused start leaves pins: {pins:?}\n{log}");
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
