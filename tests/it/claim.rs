//! One pin directory, one daemon: whoever else wants it is refused and told who has it.

use std::process::Output;

use alb_tests::{
    client::tally,
    daemon::{Instance, Node, binary},
    topology::{Arms, Lab, Shape},
    wait,
};
use alb_userspace::datapath::kernel::step::STOP_AT;

use crate::setting::{Service, servers, vip};

#[test]
fn a_second_daemon_is_refused_in_another_network_namespace_too() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let service = Service::of(&lab);
    let daemon = service.serve(&lab);
    let elsewhere = &lab.targets[0].namespace;
    let rival = daemon.instance.rival(elsewhere, Node::xdp(&["eth0"]), &service.body());
    let mut child = rival.spawn();
    let status = wait::within(wait::LONG, || child.try_wait().expect("a child"));
    if status.is_none() {
        child.kill().expect("a running child");
        child.wait().expect("a killed child");
    }
    assert_eq!(status.and_then(|status| status.code()), Some(1), "{}", rival.log());
    let holder = format!("process {}", daemon.id());
    assert!(rival.log().contains(&holder), "no {holder} in:\n{}", rival.log());
    tally(&lab.client.namespace, vip(), 10).expect("the first one serves on");
}

#[test]
fn of_several_that_start_at_once_one_gets_it() {
    let lab = Lab::new(Shape { arms: Arms::One, targets: 3, gso: true });
    let body = Service::of(&lab).body();
    let node = Node::xdp(&["eth0"]);
    let first = Instance::new(&lab.targets[0].namespace, node.clone(), &body);
    let others = lab.targets[1..].iter();
    let rivals: Vec<_> =
        others.map(|target| first.rival(&target.namespace, node.clone(), &body)).collect();
    let all: Vec<_> = std::iter::once(&first).chain(&rivals).collect();
    let mut children: Vec<_> = all.iter().map(|instance| instance.spawn()).collect();
    let codes: Vec<_> = wait::until("all but one to be refused", wait::LONG, || {
        let codes = children.iter_mut().map(|child| child.try_wait().expect("a child"));
        let codes: Vec<_> = codes.map(|status| status.map(|status| status.code())).collect();
        (codes.iter().flatten().count() == codes.len() - 1).then_some(codes)
    });
    for (instance, code) in all.iter().zip(&codes) {
        let log = instance.log();
        assert!(code.is_none() || *code == Some(Some(1)) && log.contains("another alb"), "{log}");
    }
    for child in &mut children {
        drop(child.kill());
        child.wait().expect("an ended child");
    }
}

#[test]
fn detach_leaves_a_running_or_starting_daemon_alone() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let mut daemon = Service::of(&lab).serve(&lab);
    // Without its socket, all there is to go by is the directory.
    let detach = |instance: &Instance<'_>| -> Output {
        let mut command = lab.balancer.namespace.command(binary());
        command.arg("detach").arg("--bpffs").arg(instance.bpffs());
        command.output().expect("running alb")
    };
    let refused = |output: &Output, id: u32| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("process {id}")), "{said}");
    };
    refused(&detach(&daemon.instance), daemon.id());
    tally(&lab.client.namespace, vip(), 10).expect("served on");

    daemon.terminate();
    daemon.restart_to_stop((STOP_AT, "attached"));
    refused(&detach(&daemon.instance), daemon.id());
    daemon.go_on();
    tally(&lab.client.namespace, vip(), 10).expect("served after the restart");

    daemon.terminate();
    let output = detach(&daemon.instance);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!daemon.instance.bpffs().exists());
}
