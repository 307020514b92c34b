//! The daemon dies or reads its file again while connections are busy: nobody notices.

use std::net::Ipv4Addr;

use alb_tests::{
    client::tally,
    daemon::{Instance, Node},
    program,
    topology::{Lab, Shape},
    wait,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    busy::Busy,
    setting::{Service, servers, vip},
};

#[test]
fn kill_and_restart_during_50_transfers() {
    let lab = Lab::new(Shape::default());
    let _servers = servers(&lab);
    let mut daemon = Service::of(&lab).serve(&lab);
    Busy::begin(&lab).during_a_kill(&lab, &mut daemon);
}

#[test]
fn sigterm_leaves_forwarding_in_place() {
    let lab = Lab::new(Shape::default());
    let _servers = servers(&lab);
    let mut daemon = Service::of(&lab).serve(&lab);
    let mut busy = Busy::begin(&lab);
    busy.during(|| {
        let status = daemon.terminate();
        assert!(status.success(), "{status}: {}", daemon.log());
        tally(&lab.client.namespace, vip(), 30).expect("served without a daemon");
        daemon.restart();
    });
}

/// Starts a daemon that waits for a target that is not there, and ends it by
/// a signal; its log.
fn ended_while_starting(instance: &Instance<'_>, signal: Signal) -> String {
    let before = instance.log().matches("INFO packet path").count();
    let mut child = instance.spawn();
    wait::until("the start to wait", wait::LONG, || {
        let waits = instance.log().matches("INFO packet path").count();
        (waits > before).then_some(())
    });
    let pid = Pid::from_raw(child.id().try_into().expect("process ids are small"));
    kill(pid, signal).expect("it runs");
    let status = wait::within(wait::LONG, || child.try_wait().expect("a child"));
    if status.is_none() {
        child.kill().expect("it runs");
        child.wait().expect("a killed child");
    }
    let log = instance.log();
    let status = status.unwrap_or_else(|| panic!("{signal} did not end the start:\n{log}"));
    assert_eq!(status.code(), Some(0), "{log}");
    log
}

#[test]
fn a_signal_while_starting_leaves_nothing() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let mut service = Service::of(&lab);
    service.checked = true;
    service.targets[0].0 = Ipv4Addr::new(198, 18, 1, 200);
    let balancer = &lab.balancer.namespace;
    let instance = Instance::new(balancer, Node::xdp(lab.interfaces()), &service.body());
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let log = ended_while_starting(&instance, signal);
        assert!(log.contains(&format!("{signal} while starting")), "{log}");
        assert!(log.contains("nothing was attached"), "{log}");
        assert_eq!(program::on(balancer, "eth0"), None, "{log}");
        assert!(!instance.bpffs().exists(), "pins are left\n{log}");
        assert!(!instance.socket().exists(), "the control socket is left\n{log}");
    }
}

#[test]
fn a_signal_while_starting_leaves_what_was_there() {
    let lab = Lab::new(Shape { targets: 2, ..Shape::default() });
    let _servers = servers(&lab);
    let mut service = Service::of(&lab);
    let mut daemon = service.serve(&lab);
    daemon.kill();
    service.checked = true;
    service.targets[1].0 = Ipv4Addr::new(198, 18, 1, 200);
    daemon.instance.write(&service.body());
    let log = ended_while_starting(&daemon.instance, Signal::SIGTERM);
    assert!(log.contains("what an earlier run left in the kernel stays"), "{log}");
    let answers = tally(&lab.client.namespace, vip(), 30).expect("served without a daemon");
    assert_eq!(answers.values().copied().collect::<Vec<_>>(), [15, 15], "{answers:?}");
}

#[test]
fn reload_during_50_transfers() {
    let lab = Lab::new(Shape::default());
    let _servers = servers(&lab);
    let service = Service::of(&lab);
    let daemon = service.serve(&lab);
    let mut busy = Busy::begin(&lab);
    busy.during(|| {
        for weight in [90, 10] {
            let mut changed = service.clone();
            changed.targets[0].1 = weight;
            assert!(daemon.reload(&changed.body()), "{}", daemon.log());
        }
    });
}
