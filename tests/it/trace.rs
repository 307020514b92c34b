//! `alb trace`: what would become of a packet, asked of the packet path itself.

use std::net::SocketAddr;

use alb_tests::{
    client::{Conversation, connect, who},
    daemon::{Instance, Node, binary},
    server::Server,
    topology::{Lab, Shape},
    wait,
};
use serde_json::Value;

use crate::setting::{PORT, Service, servers, vip};

/// `alb trace {words} --config {file} -o json` in the balancer's namespace.
fn trace(lab: &Lab, instance: &Instance<'_>, words: &[&str]) -> Value {
    let mut command = lab.balancer.namespace.command(binary());
    command.arg("trace").args(words).args(["-o", "json", "--config"]).arg(instance.config());
    let output = command.output().expect("running alb trace");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("a document")
}

#[test]
fn the_next_connection_is_foretold_and_nothing_changes() {
    let lab = Lab::new(Shape { targets: 3, ..Shape::default() });
    let _servers = servers(&lab);
    let daemon = Service::of(&lab).serve(&lab);
    let client = &lab.client.namespace;
    let to = vip().to_string();
    let from = lab.client.address.to_string();
    for _ in 0..6 {
        let new_flows = daemon.reason("new_flow");
        // Asked twice: the first did not use up a turn.
        let told = [(); 2].map(|()| trace(&lab, &daemon.instance, &[&from, &to]));
        assert_eq!(told[0]["target"], told[1]["target"]);
        let [told, _] = told;
        assert_eq!((&told["verdict"], &told["reason"]), (&"forward".into(), &"new_flow".into()));
        assert_eq!((&told["listener"], &told["algorithm"]), (&"tcp".into(), &"RoundRobin".into()));
        assert_eq!(told["selectableTargets"], 3);
        assert_eq!(told["sent"]["interface"], "eth1", "{told:#}");
        let target: SocketAddr =
            told["target"].as_str().and_then(|at| at.parse().ok()).expect("one");
        let place = lab.targets.iter().position(|host| host.address == target.ip());
        let name = format!("t{}", place.expect("a target") + 1);
        assert_eq!(daemon.reason("new_flow"), new_flows, "a trace was counted");
        assert_eq!(who(client, None, vip()).expect("an answer"), name);
    }
}

#[test]
fn an_open_connection_is_found_from_both_sides() {
    let lab = Lab::new(Shape { targets: 2, ..Shape::default() });
    let _servers = servers(&lab);
    let mut daemon = Service::of(&lab).serve(&lab);
    let mut talk = Conversation::open(&lab.client.namespace, vip()).expect("a connection");
    talk.exchange(b"hello").expect("an echo");
    let client = talk.local().to_string();
    let to = vip().to_string();
    let told = trace(&lab, &daemon.instance, &[&client, &to]);
    assert_eq!((&told["packet"], &told["reason"]), (&"ack".into(), &"flow_forward".into()));
    let flow = &told["flow"];
    assert_eq!((&flow["state"], &flow["client"]), (&"established".into(), &(*client).into()));
    assert_eq!((&told["sent"]["from"], &told["sent"]["to"]), (&flow["snat"], &flow["target"]));

    let (target, snat) = (flow["target"].as_str(), flow["snat"].as_str());
    let (target, snat) = (target.expect("an end"), snat.expect("an end"));
    let back = trace(&lab, &daemon.instance, &[target, snat]);
    assert_eq!(back["reason"], "flow_reverse");
    assert_eq!((&back["sent"]["from"], &back["sent"]["to"]), (&(*to).into(), &(*client).into()));
    assert_eq!((&back["sent"]["interface"], &back["listener"]), (&"eth0".into(), &"tcp".into()));
    for key in ["algorithm", "selectableTargets", "activeFlows", "target"] {
        assert!(!back[key].is_null() && back[key] == told[key], "{key} of {back:#}");
    }
    assert_eq!(told["targetActiveFlows"], 1, "{told:#}");

    // A RST is not sent, only asked about; and nobody has to serve for that.
    let reset = trace(&lab, &daemon.instance, &[&client, &to, "--packet", "rst"]);
    assert_eq!(reset["verdict"], "forward");
    daemon.kill();
    let told = trace(&lab, &daemon.instance, &[&client, &to]);
    assert_eq!(told["reason"], "flow_forward");
    talk.exchange(b"still there?").expect("an echo");
}

#[test]
fn what_is_not_forwarded_says_why() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let servers = servers(&lab);
    let service = Service { checked: true, ..Service::of(&lab) };
    let daemon = service.serve(&lab);
    let from = lab.client.address.to_string();
    let to = vip().to_string();
    let other = format!("{}:9", vip().ip());
    let told = trace(&lab, &daemon.instance, &[&from, &other]);
    assert_eq!((&told["verdict"], &told["reason"]), (&"reset".into(), &"no_listener".into()));
    assert_eq!(told["sent"]["from"], *other);
    let told = trace(&lab, &daemon.instance, &[&from, &to, "--packet", "ack"]);
    assert_eq!(told["reason"], "unknown_flow");
    let told = trace(&lab, &daemon.instance, &[&from, &format!("198.18.0.77:{PORT}")]);
    assert_eq!((&told["verdict"], &told["reason"]), (&"pass".into(), &"not_ours".into()));
    assert!(told["sent"].is_null(), "{told:#}");

    drop(servers);
    daemon.wait_targets("tcp", "unhealthy", 1);
    let told = wait::until("the tables to follow", wait::LONG, || {
        let told = trace(&lab, &daemon.instance, &[&from, &to]);
        (told["reason"] == "no_healthy_target").then_some(told)
    });
    assert_eq!(told["selectableTargets"], 0);
    connect(&lab.client.namespace, None, vip()).expect_err("as was told");
}

#[test]
fn a_taken_port_is_passed_over() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let daemon = Service::of(&lab).serve(&lab);
    let mut talk = Conversation::open(&lab.client.namespace, vip()).expect("a connection");
    talk.exchange(b"hello").expect("an echo");
    let to = vip().to_string();
    let told = trace(&lab, &daemon.instance, &[&talk.local().to_string(), &to]);
    let snat: SocketAddr =
        told["sent"]["from"].as_str().and_then(|at| at.parse().ok()).expect("one");
    // Another client whose own port is the one that this flow has towards the target.
    let other = format!("198.18.0.101:{}", snat.port());
    let told = trace(&lab, &daemon.instance, &[&other, &to]);
    assert_eq!((&told["reason"], &told["snatPortsTaken"]), (&"new_flow".into(), &1.into()));
    assert_ne!(told["sent"]["from"], snat.to_string(), "{told:#}");
}

#[test]
fn at_tc_and_on_the_balancer_s_own_host() {
    let lab = Lab::with_offloads(Shape { targets: 1, ..Shape::default() });
    let balancer = &lab.balancer.namespace;
    balancer.ip("link set lo up");
    balancer.sysctl("ipv4/conf/lo/accept_local", "1");
    let _servers = servers(&lab);
    let _here = Server::start(&lab.balancer, PORT, "here");
    let mut service = Service::of(&lab);
    service.targets.push((lab.balancer.address, 10));
    let daemon = service.serve_as(&lab, Node::on(&["eth0", "eth1", "lo"], "tc"));
    let here = SocketAddr::from((lab.balancer.address, PORT)).to_string();
    let to = vip().to_string();
    let mut seen = [0; 2];
    for (client, host, interface) in [
        (&lab.client.namespace, &lab.client, "eth0"),
        (&lab.client.namespace, &lab.client, "eth0"),
        (balancer, &lab.balancer, "lo"),
        (balancer, &lab.balancer, "lo"),
    ] {
        let from = host.address.to_string();
        let told = trace(&lab, &daemon.instance, &[&from, &to, "--interface", interface]);
        assert_eq!(told["reason"], "new_flow", "{told:#}");
        let is_here = told["target"] == *here;
        assert_eq!(told["sent"]["interface"], if is_here { "lo" } else { "eth1" }, "{told:#}");
        assert_eq!(who(client, None, vip()).expect("an answer") == "here", is_here, "{told:#}");
        seen[usize::from(is_here)] += 1;
    }
    assert_eq!(seen, [2, 2]);
}
