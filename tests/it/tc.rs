//! The packet path at TC ingress, by a link and by a filter: the same as at XDP, without a setting at
//! the endpoints, and right for super-packets whose checksums are not in the bytes.

use std::fs;

use alb_tests::{
    client::{Conversation, bulk, connect, tally},
    daemon::{Daemon, Node},
    netns::must,
    program,
    server::Server,
    topology::{Arms, Lab, Shape},
    wait,
};

use crate::{
    busy::Busy,
    setting::{PORT, Service, bulk_both_ways, servers, vip},
};

const BYTES: u64 = 100_000_000;

/// Links at TC are there since Linux 6.6.
pub(crate) fn ways() -> &'static [&'static str] {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let mut numbers = release.split('.').map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) < (6, 6) => &["tc-filter"],
        _ => &["tc", "tc-filter"],
    }
}

fn serve<'lab>(lab: &'lab Lab, way: &'static str) -> Daemon<'lab> {
    let daemon = Service::of(lab).serve_as(lab, Node::on(lab.interfaces(), way));
    let modes = modes(&daemon);
    assert!(!modes.is_empty() && modes.iter().all(|mode| mode == way), "{modes:?}");
    daemon
}

fn modes(daemon: &Daemon<'_>) -> Vec<String> {
    let attached = &daemon.status()["datapath"]["interfaces"];
    let modes = attached.as_array().into_iter().flatten().filter_map(|one| one["mode"].as_str());
    modes.map(str::to_owned).collect()
}

#[test]
fn super_packets_both_ways() {
    for (way, arms) in ways().iter().copied().zip([Arms::One, Arms::Two]) {
        let lab = Lab::with_offloads(Shape { arms, targets: 1, gso: true });
        let _servers = servers(&lab);
        let daemon = serve(&lab, way);
        let client = &lab.client.namespace;
        bulk_both_ways(client, BYTES);
        // Were they cut up before us, there would be some 69,000 packets each way.
        for reason in ["flow_forward", "flow_reverse"] {
            let packets = daemon.reason(reason);
            assert!(packets < 2 * BYTES / 1_448, "{way}: {packets} {reason}");
        }
    }
}

#[test]
fn a_kill_and_a_restart_are_not_noticed() {
    for way in ways().iter().copied() {
        let lab = Lab::with_offloads(Shape::default());
        let _servers = servers(&lab);
        let mut daemon = serve(&lab, way);
        let before = ids(&lab);
        Busy::begin(&lab).during_a_kill(&lab, &mut daemon);
        assert!(modes(&daemon).iter().all(|mode| mode == way));
        let after = ids(&lab);
        assert!(before.iter().zip(&after).all(|(before, after)| before != after), "{after:?}");
    }
}

#[test]
fn weights() {
    let lab = Lab::with_offloads(Shape::default());
    let _servers = servers(&lab);
    let mut service = Service::of(&lab);
    for (target, weight) in service.targets.iter_mut().zip([30, 20, 10]) {
        target.1 = weight;
    }
    let _daemon = service.serve_as(&lab, Node::on(lab.interfaces(), "tc"));
    let answers = tally(&lab.client.namespace, vip(), 60).expect("answers");
    assert_eq!(answers.values().copied().collect::<Vec<_>>(), [30, 20, 10], "{answers:?}");
}

#[test]
fn resets_reach_whom_they_are_for() {
    for way in ways().iter().copied() {
        let lab = Lab::with_offloads(Shape { targets: 1, ..Shape::default() });
        let servers = servers(&lab);
        let daemon = serve(&lab, way);
        let client = &lab.client.namespace;
        let mut talk = Conversation::open(client, vip()).expect("a connection");
        talk.exchange(b"here").expect("an echo");
        let nobody = (alb_tests::topology::VIP, 9).into();
        let error = connect(client, None, nobody).expect_err("nobody listens");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        assert!(daemon.reason("no_listener") > 0);
        talk.reset().expect("a connection");
        drop(servers);
    }
}

#[test]
fn from_one_way_to_another_and_off() {
    let lab = Lab::for_xdp(Shape::default());
    let _servers = servers(&lab);
    let service = Service::of(&lab);
    let mut daemon = service.serve_as(&lab, Node::on(lab.interfaces(), "xdp"));
    let mut busy = Busy::begin(&lab);
    for way in ["tc", "xdp", "tc-filter", "auto", "xdp", "tc"] {
        busy.during(|| {
            daemon.terminate();
            daemon.instance.change_node(Node::on(lab.interfaces(), way), &service.body());
            daemon.restart();
        });
        let wanted = if way == "auto" { "tc-filter" } else { way };
        assert_eq!(modes(&daemon), [wanted, wanted], "{way}");
        let balancer = &lab.balancer.namespace;
        for device in lab.interfaces() {
            let there = (
                program::attached(balancer, device).is_some(),
                program::at_tc(balancer, device).is_some(),
            );
            assert_eq!(there, (wanted == "xdp", wanted != "xdp"), "{way}");
        }
    }
    for way in ways().iter().copied() {
        daemon.terminate();
        daemon.instance.change_node(Node::on(lab.interfaces(), way), &service.body());
        daemon.restart();
        daemon.terminate();
        let output = daemon.instance.alb("detach");
        assert!(output.status.success(), "{output:?}");
        // The kernel ends a link some time after its last pin has gone.
        wait::until(&format!("{way} to be off"), wait::LONG, || {
            ids(&lab).iter().all(Option::is_none).then_some(())
        });
        let qdiscs = lab.balancer.namespace.tc("qdisc show");
        assert!(!qdiscs.contains("clsact"), "{qdiscs}");
        daemon.restart();
    }
}

#[test]
fn an_interface_without_native_xdp() {
    let lab = Lab::with_offloads(Shape::default());
    let balancer = &lab.balancer.namespace;
    balancer.ip("link add br1 type bridge");
    balancer.ip("link set br1 up");
    balancer.ip("address del 198.18.1.1/24 dev eth1");
    balancer.ip("link set eth1 master br1");
    balancer.ip("address add 198.18.1.1/24 dev br1");
    let _servers = servers(&lab);
    let daemon = Service::of(&lab).serve_as(&lab, Node::on(&["eth0", "br1"], "auto"));
    assert_eq!(modes(&daemon), ["tc", "tc"]);
    let why = daemon.status()["datapath"]["interfaces"][0]["why"].to_string();
    assert!(why.contains("br1 does not take native XDP"), "{why}");
    let answers = tally(&lab.client.namespace, vip(), 30).expect("answers");
    assert_eq!(answers.values().copied().collect::<Vec<_>>(), [10, 10, 10], "{answers:?}");
    let stream = connect(&lab.client.namespace, None, vip()).expect("a connection");
    let (sent, seen) = bulk::upload(&stream, BYTES / 10).expect("the upload ends");
    assert_eq!(sent, seen);
}

#[test]
fn clients_and_targets_on_the_balancer_s_own_host() {
    for way in ways().iter().copied() {
        let lab = Lab::with_offloads(Shape { targets: 1, ..Shape::default() });
        let balancer = &lab.balancer.namespace;
        balancer.ip("link set lo up");
        balancer.sysctl("ipv4/conf/lo/accept_local", "1");
        let _servers = servers(&lab);
        let _here = Server::start(&lab.balancer, PORT, "here");
        let mut service = Service::of(&lab);
        service.targets.push((lab.balancer.address, 10));
        let _daemon = service.serve_as(&lab, Node::on(&["lo", "eth0", "eth1"], way));
        for client in [&lab.client.namespace, balancer] {
            let answers = tally(client, vip(), 20).expect("answers");
            assert_eq!(answers.values().copied().collect::<Vec<_>>(), [10, 10], "{answers:?}");
            // One connection to each.
            for _ in 0..2 {
                let stream = connect(client, None, vip()).expect("a connection");
                let (sent, seen) = bulk::upload(&stream, BYTES / 10).expect("the upload ends");
                assert_eq!(sent, seen);
            }
        }
    }
}

#[test]
fn a_filter_of_somebody_else_stays() {
    let lab = Lab::with_offloads(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let balancer = &lab.balancer.namespace;
    balancer.tc("qdisc add dev eth0 clsact");
    // A classic program that matches nothing.
    let add = ["filter", "add", "dev", "eth0", "ingress", "prio", "7", "protocol", "arp"];
    must(balancer.command("tc").args(add).args(["bpf", "bytecode", "1,6 0 0 0"]));
    let mut daemon = serve(&lab, "tc-filter");
    tally(&lab.client.namespace, vip(), 10).expect("answers");
    daemon.terminate();
    let output = daemon.instance.alb("detach");
    assert!(output.status.success(), "{output:?}");
    let left = balancer.tc("filter show dev eth0 ingress");
    assert!(left.contains("pref 7") && !left.contains("alb_tc"), "{left}");
}

/// Ids of the programs at TC, by interface.
fn ids(lab: &Lab) -> Vec<Option<u32>> {
    let devices = lab.interfaces().iter();
    devices.map(|device| program::at_tc(&lab.balancer.namespace, device)).collect()
}
