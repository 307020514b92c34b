//! The daemon dies or reads its file again while connections are busy: nobody notices.

use std::{
    io,
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use alb_tests::{
    client::{Conversation, tally},
    daemon::{Instance, Node},
    topology::{Lab, Shape},
    wait,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::setting::{Service, servers, vip};

const CONVERSATIONS: usize = 50;
/// One retransmission timeout is 200 ms and a round trip at least; the rest is for a busy machine.
const STALL: Duration = Duration::from_millis(450);

#[test]
fn kill_and_restart_during_50_transfers() {
    let lab = Lab::new(Shape::default());
    let _servers = servers(&lab);
    let mut daemon = Service::of(&lab).serve(&lab);
    let busy = Busy::begin(&lab);
    busy.during(|| {
        daemon.kill();
        // Nobody is there, and new connections are still served.
        let answers = tally(&lab.client.namespace, vip(), 30).expect("served without a daemon");
        assert_eq!(answers.values().copied().collect::<Vec<_>>(), [10, 10, 10], "{answers:?}");
        daemon.restart();
    });
    assert_eq!(daemon.status()["datapath"]["adopted"], true);
    tally(&lab.client.namespace, vip(), 30).expect("served after the restart");
}

#[test]
fn sigterm_leaves_forwarding_in_place() {
    let lab = Lab::new(Shape::default());
    let _servers = servers(&lab);
    let mut daemon = Service::of(&lab).serve(&lab);
    let busy = Busy::begin(&lab);
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
    wait::until("the start to wait", Duration::from_secs(20), || {
        let waits = instance.log().matches("INFO packet path").count();
        (waits > before).then_some(())
    });
    let pid = Pid::from_raw(child.id().try_into().expect("process ids are small"));
    kill(pid, signal).expect("it runs");
    let status = wait::within(Duration::from_secs(2), || child.try_wait().expect("a child"));
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
        assert!(!balancer.ip("link show eth0").contains("xdp"), "{log}");
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
    let busy = Busy::begin(&lab);
    busy.during(|| {
        for weight in [90, 10] {
            let mut changed = service.clone();
            changed.targets[0].1 = weight;
            assert!(daemon.reload(&changed.body()), "{}", daemon.log());
        }
    });
}

/// Conversations that all exchange a little all the time.
struct Busy {
    conversations: Vec<Conversation>,
}

impl Busy {
    fn begin(lab: &Lab) -> Self {
        let open = |_| Conversation::open(&lab.client.namespace, vip()).expect("a connection");
        Self { conversations: (0..CONVERSATIONS).map(open).collect() }
    }

    /// All conversations go on while `work` is done; panics if one is reset or stalls.
    fn during(mut self, work: impl FnOnce()) {
        let done = AtomicBool::new(false);
        let worst = thread::scope(|scope| {
            let talkers = self.conversations.iter_mut().map(|conversation| {
                let done = &done;
                scope.spawn(move || talk(conversation, done))
            });
            let talkers: Vec<_> = talkers.collect();
            // Set on the way out of a panic too, or the scope would wait for ever.
            let _finish = Finish(&done);
            work();
            done.store(true, Ordering::Relaxed);
            let outcomes = talkers.into_iter().map(|talker| talker.join().expect("no panic"));
            outcomes.map(|outcome| outcome.expect("no connection breaks")).max()
        });
        let worst = worst.unwrap_or_default();
        assert!(worst <= STALL, "a conversation stalled for {worst:?}");
    }
}

struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Exchanges until told to stop; the longest exchange.
fn talk(conversation: &mut Conversation, done: &AtomicBool) -> io::Result<Duration> {
    let mut worst = Duration::ZERO;
    let bytes = [7; 4096];
    while !done.load(Ordering::Relaxed) {
        let begun = Instant::now();
        conversation.exchange(&bytes)?;
        worst = worst.max(begun.elapsed());
        // The pace: 50 conversations at full speed would only measure the scheduler.
        thread::sleep(Duration::from_millis(20));
    }
    Ok(worst)
}
