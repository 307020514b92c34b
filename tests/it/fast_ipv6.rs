//! IPv6 in the packet path, from the file to the last byte: what most other tests do over IPv4.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    net::SocketAddr,
};

use alb_tests::{
    client::{Conversation, tally, who},
    daemon::{Daemon, Node, binary},
    netns::{Namespace, must},
    server::Server,
    topology::{Arms, CLIENT, Lab, Shape, VIP, six},
    wait,
};

use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    busy::Busy,
    setting::{PORT, Service, bulk_both_ways_to, servers, servers6, vip, vip6},
};

const BYTES: u64 = 20_000_000;

/// A lab with addresses of both families.
fn lab(shape: Shape) -> Lab {
    let lab = Lab::new(shape);
    lab.add_ipv6();
    lab
}

fn counts(lab: &Lab, connections: usize) -> BTreeMap<String, usize> {
    tally(&lab.client.namespace, vip6(), connections).expect("every connection served")
}

fn expect(expected: &[(&str, usize)]) -> BTreeMap<String, usize> {
    expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

/// Lines of `ip address` that speak of the VIP.
fn put_on(balancer: &Namespace) -> Vec<String> {
    let all = balancer.ip("-6 address show");
    let is_vip = |line: &&str| line.contains(&format!("{}/128", six(VIP)));
    all.lines().filter(is_vip).map(str::to_owned).collect()
}

#[test]
fn round_robin_follows_the_weights() {
    for arms in [Arms::One, Arms::Two] {
        let lab = lab(Shape { arms, ..Shape::default() });
        let _servers = servers6(&lab);
        let mut service = Service::of6(&lab);
        for (target, weight) in service.targets.iter_mut().zip([50, 30, 20]) {
            target.1 = weight;
        }
        let daemon = service.serve(&lab);
        let answers = counts(&lab, 300);
        assert_eq!(answers, expect(&[("t1", 150), ("t2", 90), ("t3", 60)]));
        let [address] = &put_on(&lab.balancer.namespace)[..] else { panic!("{}", daemon.log()) };
        assert!(address.contains("nodad") && address.contains("deprecated"), "{address}");
        // No packet of them went another way than the packet path's.
        assert!(daemon.reason("new_flow") >= 300, "{}", daemon.status());
    }
}

#[test]
fn a_client_stays_with_its_target() {
    let lab = lab(Shape::default());
    let _servers = servers6(&lab);
    let mut service = Service::of6(&lab);
    service.algorithm = "IpHash";
    let _daemon = service.serve(&lab);
    let answers = counts(&lab, 30);
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[test]
fn least_connections_are_held_by_weight() {
    let lab = lab(Shape::default());
    let _servers = servers6(&lab);
    let mut service = Service::of6(&lab);
    service.algorithm = "LeastConn";
    for (target, weight) in service.targets.iter_mut().zip([30, 20, 10]) {
        target.1 = weight;
    }
    let daemon = service.serve(&lab);
    let open = || Conversation::open(&lab.client.namespace, vip6()).expect("a connection");
    let held: Vec<Conversation> = (0..60).map(|_| open()).collect();
    let counted =
        ["t1", "t2", "t3"].map(|name| held.iter().filter(|talk| talk.server == name).count());
    let near = counted.iter().zip([30, 20, 10]).all(|(has, due)| has.abs_diff(due) <= 1);
    assert!(near, "{counted:?}");
    assert_eq!(daemon.active("tcp"), counted.map(|count| count as u64));
}

#[test]
fn bulk_data_arrives_as_it_was_sent() {
    for arms in [Arms::One, Arms::Two] {
        let lab = lab(Shape { arms, targets: 1, gso: true });
        let _servers = servers6(&lab);
        let _daemon = Service::of6(&lab).serve(&lab);
        bulk_both_ways_to(&lab.client.namespace, vip6(), BYTES);
    }
}

#[test]
fn a_dead_target_gets_nothing_and_a_living_one_again() {
    let lab = lab(Shape::default());
    let mut servers = servers6(&lab);
    let mut service = Service::of6(&lab);
    service.checked = true;
    let daemon = service.serve(&lab);
    drop(servers.pop());
    daemon.wait_targets("tcp", "unhealthy", 1);
    wait::until("new connections to go elsewhere", wait::LONG, || {
        (counts(&lab, 20) == expect(&[("t1", 10), ("t2", 10)])).then_some(())
    });
    let again = Server::on(&lab.targets[2], six(lab.targets[2].address).into(), PORT, "t3");
    daemon.wait_targets("tcp", "healthy", 3);
    wait::until("the target to be used again", wait::LONG, || {
        (counts(&lab, 9) == expect(&[("t1", 3), ("t2", 3), ("t3", 3)])).then_some(())
    });
    drop(again);
}

#[test]
fn kill_and_restart_during_50_transfers() {
    let lab = lab(Shape::default());
    let _servers = servers6(&lab);
    let mut daemon = Service::of6(&lab).serve(&lab);
    Busy::begin_to(&lab, vip6()).during_a_kill(&lab, &mut daemon);
}

#[test]
fn more_flows_than_before_during_50_transfers() {
    let lab = lab(Shape::default());
    let _servers = servers6(&lab);
    let service = Service::of6(&lab);
    let mut daemon = service.serve(&lab);
    Busy::begin_to(&lab, vip6()).during(|| {
        daemon.terminate();
        let mut node = Node::xdp(lab.interfaces());
        node.more = vec!["flows: 131072".to_owned()];
        daemon.instance.change_node(node, &service.body());
        daemon.restart();
        counts(&lab, 30);
    });
    assert_eq!(daemon.status()["datapath"]["adopted"], true);
}

#[test]
fn a_removed_target_drains() {
    let lab = lab(Shape::default());
    let _servers = servers6(&lab);
    let mut service = Service { draining: 6, ..Service::of6(&lab) };
    let daemon = service.serve(&lab);
    let open = |_| Conversation::open(&lab.client.namespace, vip6()).expect("a connection");
    let held = (0..6).map(open);
    let (drained, mut kept): (Vec<_>, Vec<_>) = held.partition(|talk| talk.server == "t1");
    service.targets.remove(0);
    assert!(daemon.reload(&service.body()), "{}", daemon.log());
    assert_eq!(counts(&lab, 20), expect(&[("t2", 10), ("t3", 10)]));
    assert_eq!((drained.len(), kept.len()), (2, 4));
    // Though they say nothing.
    for mut talk in drained {
        let error = talk.wait().expect_err("its target is gone");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
    }
    for talk in &mut kept {
        talk.exchange(b"still here").expect("an echo");
    }
}

#[test]
fn a_vip_of_the_other_family_comes_and_goes() {
    let lab = lab(Shape::default());
    let (_four, _six) = (servers(&lab), servers6(&lab));
    let service = Service::of(&lab);
    let daemon = service.serve(&lab);
    let client = &lab.client.namespace;
    let three = expect(&[("t1", 3), ("t2", 3), ("t3", 3)]);
    assert_eq!(tally(client, vip(), 9).expect("served"), three);
    assert_eq!(put_on(&lab.balancer.namespace), [""; 0]);

    assert!(daemon.reload(&Service::of6(&lab).body()), "{}", daemon.log());
    wait::until("the IPv6 VIP to be served", wait::LONG, || {
        let is_there = !put_on(&lab.balancer.namespace).is_empty();
        (is_there && tally(client, vip6(), 9).is_ok_and(|all| all == three)).then_some(())
    });

    assert!(daemon.reload(&service.body()), "{}", daemon.log());
    wait::until("the VIP to be taken off", wait::LONG, || {
        put_on(&lab.balancer.namespace).is_empty().then_some(())
    });
    assert_eq!(tally(client, vip(), 9).expect("served"), three);
}

/// Sends an echo request of this number to the VIP; the number that is answered.
fn ping(client: &Namespace, number: u8) -> io::Result<u8> {
    client.enter(|| {
        // Its checksum is the kernel's to reckon (RFC 3542 §3.1).
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.set_read_timeout(Some(wait::LONG))?;
        let to = SocketAddr::from((six(VIP), 0));
        socket.send_to(&[128, 0, 0, 0, 7, 7, 0, number, 1, 2, 3, 4], &to.into())?;
        loop {
            let mut answer = [0; 64];
            // Neighbour discovery is heard here too.
            if (&socket).read(&mut answer)? == 12 && answer[..2] == [129, 0] {
                return Ok(answer[7]);
            }
        }
    })
}

#[test]
fn a_ping_is_answered_and_other_ports_are_closed() {
    let lab = lab(Shape::default());
    let _servers = servers6(&lab);
    let daemon = Service::of6(&lab).serve(&lab);
    let client = &lab.client.namespace;
    for number in 1..=3 {
        assert_eq!(ping(client, number).expect("an answer"), number);
    }
    assert!(daemon.reason("icmp_echo") >= 3, "{}", daemon.status());
    let error = who(client, None, (six(VIP), PORT + 1).into()).expect_err("nobody listens");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

/// What the program says of the daemon's packet path.
fn said(lab: &Lab, daemon: &Daemon<'_>, words: &str) -> Value {
    let mut command = lab.balancer.namespace.command(binary());
    command.args(words.split(' ')).args(["-o", "json", "--config"]).arg(daemon.instance.config());
    serde_json::from_str(&must(&mut command)).expect("JSON")
}

#[test]
fn a_vip_that_a_restart_finds_gone_is_no_longer_ours() {
    let lab = lab(Shape::default());
    let (_four, _six) = (servers(&lab), servers6(&lab));
    let mut daemon = Service::of6(&lab).serve(&lab);
    let words = format!("trace [{}]:1 {}", six(CLIENT), vip6());
    assert_eq!(said(&lab, &daemon, &words)["reason"], "new_flow");
    daemon.terminate();
    daemon.instance.write(&Service::of(&lab).body());
    daemon.restart();
    assert_eq!(said(&lab, &daemon, &words)["reason"], "not_ours");
}

#[test]
fn flows_and_traces_tell_of_ipv6() {
    let lab = lab(Shape::default());
    let _servers = servers6(&lab);
    let daemon = Service::of6(&lab).serve(&lab);
    let mut talk = Conversation::open(&lab.client.namespace, vip6()).expect("a connection");
    talk.exchange(b"hello").expect("an echo");
    let run = |words: &str| said(&lab, &daemon, words);
    let local = talk.local().to_string();
    let flows = run(&format!("flows --client {}", six(CLIENT)));
    let flow = &flows["flows"][0];
    assert_eq!(
        (flow["client"].as_str(), flow["state"].as_str()),
        (Some(&*local), Some("established"))
    );
    assert_eq!(flow["vip"], vip6().to_string());
    let trace = run(&format!("trace {local} {}", vip6()));
    assert_eq!((&trace["reason"], &trace["target"]), (&"flow_forward".into(), &flow["target"]));
    let trace = run(&format!("trace [{}]:1 {}", six(CLIENT), vip6()));
    assert_eq!(trace["reason"], "new_flow");
    talk.exchange(b"still the same").expect("an echo");
}
