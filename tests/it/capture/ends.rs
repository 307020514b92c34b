//! How a capture ends, whatever ends it: forwarding goes on by the program that was there before.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use alb_common::{
    abi::{ABI_VERSION, map},
    capture::{CAPTURE_TC, CAPTURE_XDP},
};
use alb_tests::{
    client::{Conversation, tally},
    daemon::{Daemon, Instance, Node, binary},
    topology::{Lab, Shape, VIP},
    wait,
    wire::{self, Syn, Wire},
};
use alb_userspace::datapath::{capture::LEASE, kernel::step};
use aya::{maps::MapInfo, programs::loaded_programs};
use nix::sys::signal::Signal;

use super::{Capturing, forwarded, running, said, whole};
use crate::setting::{PORT, Service, servers, vip};

/// Capturing programs that are loaded around this instance's.
fn capturing(instance: &Instance<'_>) -> usize {
    let counters = instance.bpffs().join(format!("v{ABI_VERSION}/maps")).join(map::COUNTERS);
    let counters = MapInfo::from_pin(counters).expect("a map").id();
    let programs = loaded_programs().filter_map(Result::ok).filter(|program| {
        program.name_as_str().is_some_and(|name| [CAPTURE_XDP, CAPTURE_TC].contains(&name))
            && program.map_ids().ok().flatten().is_some_and(|ids| ids.contains(&counters))
    });
    programs.count()
}

/// Waits until nothing of them is left: the kernel lets go of programs in its own time.
fn wait_until_gone(instance: &Instance<'_>) {
    wait::until("the programs and their directory to be gone", wait::LONG, || {
        let is_gone = capturing(instance) == 0 && !instance.bpffs().join("capture").exists();
        is_gone.then_some(())
    });
}

#[test]
fn whatever_ends_it_the_program_is_back_and_forwarding_goes_on() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let mut daemon = Service::of(&lab).serve(&lab);
    let client = &lab.client.namespace;
    let mut talk = Conversation::open(client, vip()).expect("a connection");
    let ran = running(&lab);
    daemon.kill();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut capture = Capturing::begin(&lab, &daemon.instance, true, &[]);
        talk.exchange(b"seen").expect("an echo");
        assert_eq!(capturing(&daemon.instance), 1);
        assert_ne!(running(&lab), ran);
        capture.signal(signal);
        capture.ended();
        assert_eq!(running(&lab), ran, "after {signal}");
        talk.exchange(b"not seen").expect("an echo");
        tally(client, vip(), 3).expect("every connection served");
        wait_until_gone(&daemon.instance);
    }
}

/// A capture that has been killed, with the program that it has left.
fn killed(lab: &Lab, instance: &Instance<'_>, talk: &mut Conversation) {
    let mut capture = Capturing::begin(lab, instance, true, &[]);
    talk.exchange(b"seen").expect("an echo");
    capture.signal(Signal::SIGKILL);
    capture.child.wait().expect("its end");
    talk.exchange(b"not seen").expect("an echo");
    tally(&lab.client.namespace, vip(), 3).expect("every connection served");
    assert_eq!(capturing(instance), 1);
}

#[test]
fn what_a_killed_one_leaves_is_cleared_away_by_whoever_comes() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let mut daemon = Service::of(&lab).serve(&lab);
    let client = &lab.client.namespace;
    let mut talk = Conversation::open(client, vip()).expect("a connection");
    let ran = running(&lab);

    // By the daemon that runs, which tells of one while it lives.
    let told = |daemon: &Daemon<'_>| daemon.status()["datapath"]["capture"].as_u64();
    assert_eq!(told(&daemon), None);
    let mut capture = Capturing::begin(&lab, &daemon.instance, true, &[]);
    assert_eq!(told(&daemon), Some(capture.child.id().into()));
    capture.signal(Signal::SIGINT);
    capture.ended();
    assert_eq!(told(&daemon), None);
    killed(&lab, &daemon.instance, &mut talk);
    wait_until_gone(&daemon.instance);
    assert_eq!(running(&lab), ran);
    assert!(daemon.log().contains("cleared away what a capture"), "{}", daemon.log());

    // By the next capture.
    daemon.kill();
    killed(&lab, &daemon.instance, &mut talk);
    let mut next = Capturing::begin(&lab, &daemon.instance, true, &["--reason", "new_flow"]);
    tally(client, vip(), 3).expect("every connection served");
    assert_eq!(next.stop().1, "3 packets captured\n");
    assert_eq!(running(&lab), ran);
    wait_until_gone(&daemon.instance);

    // By the daemon's start.
    killed(&lab, &daemon.instance, &mut talk);
    daemon.restart();
    wait_until_gone(&daemon.instance);
    talk.exchange(b"again").expect("an echo");

    // And by what takes everything off.
    killed(&lab, &daemon.instance, &mut talk);
    daemon.terminate();
    let output = daemon.instance.alb("detach");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!daemon.instance.bpffs().exists());
}

#[test]
fn a_stopped_one_records_nothing_after_a_while() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let daemon = Service::of(&lab).serve(&lab);
    let client = &lab.client.namespace;
    let mut capture = Capturing::begin(&lab, &daemon.instance, true, &["--reason", "new_flow"]);
    capture.signal(Signal::SIGSTOP);
    // The one condition here that only time brings about.
    let until = Instant::now() + LEASE + Duration::from_millis(500);
    let mut served = 0;
    while Instant::now() < until {
        tally(client, vip(), 1).expect("a connection");
        served += 1;
    }
    tally(client, vip(), 5).expect("every connection served");
    capture.signal(Signal::SIGCONT);
    let (_, told) = capture.stop();
    let count: usize = told.split(' ').next().and_then(|word| word.parse().ok()).expect("a number");
    assert!((1..=served).contains(&count), "{told} of {served} and 5 more");
}

#[test]
fn one_whose_programs_took_long_to_load_misses_nothing() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let daemon = Service::of(&lab).serve(&lab);
    let steps = [step::CAPTURE_LOADED, step::CAPTURE_BEGUN].join(",");
    let only = ["--reason", "new_flow"];
    let mut capture = Capturing::start(&lab, &daemon.instance, true, &only, &steps);
    capture.wait_stopped();
    // As a verifier that takes longer than the lease.
    let until = Instant::now() + LEASE;
    while Instant::now() < until {
        tally(&lab.client.namespace, vip(), 1).expect("a connection");
    }
    capture.signal(Signal::SIGCONT);
    capture.wait_stopped();
    tally(&lab.client.namespace, vip(), 1).expect("a connection");
    capture.signal(Signal::SIGCONT);
    capture.wait_begun();
    let (_, told) = capture.stop();
    assert_eq!(told, "1 packet captured\n");
}

#[test]
fn it_follows_a_start_of_the_daemon_and_ends_with_the_packet_path() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let mut daemon = Service::of(&lab).serve(&lab);
    let client = &lab.client.namespace;
    let args = ["--reason", "new_flow"];
    let mut capture = Capturing::begin(&lab, &daemon.instance, true, &args);
    let sees = |capture: &Capturing| {
        // Another program runs by now; it is found a moment later.
        wait::until("a connection to be seen", wait::LONG, || {
            let before = whole(&std::fs::read(capture.path()).expect("a file")).len();
            tally(client, vip(), 1).expect("a connection");
            let seen = || {
                let now = whole(&std::fs::read(capture.path()).expect("a file")).len();
                (now > before).then_some(())
            };
            wait::within(Duration::from_millis(100), seen)
        });
    };
    daemon.kill();
    daemon.restart();
    sees(&capture);
    daemon.take_over();
    sees(&capture);
    // Other maps: the flows are carried over.
    let node = Node::xdp(lab.interfaces());
    let node = Node { more: vec!["flows: 131072".to_owned()], ..node };
    let mut talk = Conversation::open(client, vip()).expect("a connection");
    daemon.kill();
    daemon.instance.change_node(node, &Service::of(&lab).body());
    daemon.restart();
    talk.exchange(b"carried").expect("an echo");
    sees(&capture);
    assert_eq!(capturing(&daemon.instance), 1);
    daemon.terminate();
    let output = daemon.instance.alb("detach");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (_, told) = capture.ended();
    assert!(told.starts_with("the packet path has been taken off\n"), "{told}");
    for (came, left) in forwarded(&capture.packets(), "new_flow") {
        assert_eq!((said(came).to, said(left).to.port()), (vip(), PORT));
    }
}

#[test]
fn no_packet_is_lost_when_one_begins_or_ends() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let daemon = Service::of(&lab).serve(&lab);
    let client = Wire::open(&lab.client.namespace, "eth0");
    let to = wire::mac(&lab.balancer.namespace, "eth0");
    let counted = |daemon: &Daemon<'_>| daemon.reason("no_listener") + daemon.reason("rst_limited");
    let before = counted(&daemon);
    let mut sent = 0;
    // Each of them is counted, if it meets the program at all.
    let mut some_more = || {
        for sequence in 0..64 {
            let syn = Syn {
                link: (to, client.mac),
                from: (lab.client.address, 40_000),
                to: (VIP, 9),
                sequence,
            };
            client.send(&syn.frame(&[]));
        }
        sent += 64;
        wait::until("all to be counted", wait::LONG, || {
            (counted(&daemon) == before + sent).then_some(())
        });
    };
    for _ in 0..5 {
        let mut command = lab.balancer.namespace.command(binary());
        command.args(["capture", "--count", "100", "--config"]).arg(daemon.instance.config());
        let piped = command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut capture = piped.spawn().expect("starting alb capture");
        while capture.try_wait().expect("a child").is_none() {
            some_more();
        }
    }
    wait_until_gone(&daemon.instance);
}
