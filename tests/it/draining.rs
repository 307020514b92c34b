//! Targets that drain, and targets that fail: what becomes of their open connections.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use alb_tests::{
    client::Conversation,
    daemon::Daemon,
    topology::{Lab, Shape},
};

use crate::setting::{Service, servers, vip};

/// Sweeps are up to eight seconds apart, and the flows' end falls between two; the rest is for a
/// busy machine.
const TOLD_WITHIN: Duration = Duration::from_secs(40);

/// So many conversations with both targets, those of the second one last.
pub(crate) fn conversations(count: usize, lab: &Lab) -> (Vec<Conversation>, Vec<Conversation>) {
    let open = |_| Conversation::open(&lab.client.namespace, vip()).expect("a connection");
    (0..count).map(open).partition(|talk| talk.server == "t1")
}

/// Every one of them is reset, though it sends nothing.
pub(crate) fn all_reset(conversations: Vec<Conversation>) {
    for mut talk in conversations {
        let error = talk.wait().expect_err("nothing is sent to it");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
}

pub(crate) fn all_live(conversations: &mut [Conversation]) {
    for talk in conversations {
        talk.exchange(b"still there?").expect("it is");
    }
}

fn resets(daemon: &Daemon<'_>) -> u64 {
    daemon.reason("flow_cut")
}

#[test]
fn connections_of_a_removed_target_live_until_it_has_drained() {
    let lab = Lab::new(Shape { targets: 2, ..Shape::default() });
    let servers = servers(&lab);
    let mut service = Service { draining: 6, ..Service::of(&lab) };
    let daemon = service.serve(&lab);
    let (mut kept, mut drained) = conversations(6, &lab);
    assert_eq!((kept.len(), drained.len()), (3, 3));
    service.targets.pop();
    let removed = Instant::now();
    assert!(daemon.reload(&service.body()), "{}", daemon.log());
    all_live(&mut drained);
    assert_eq!(resets(&daemon), 0);
    all_reset(drained);
    let took = removed.elapsed();
    let within = Duration::from_secs(6)..Duration::from_secs(6) + TOLD_WITHIN;
    assert!(within.contains(&took), "{took:?}");
    // The target is told too, and then there is nothing left of it.
    alb_tests::wait::until("the target to be told", TOLD_WITHIN, || {
        (servers[1].open() == 0).then_some(())
    });
    alb_tests::wait::until("each end counted", TOLD_WITHIN, || {
        (resets(&daemon) >= 6).then_some(())
    });
    daemon.wait_targets("tcp", "draining", 0);
    all_live(&mut kept);
}

#[test]
fn a_target_that_loses_its_weight_drains_and_one_that_gets_it_back_does_not() {
    let lab = Lab::new(Shape { targets: 2, ..Shape::default() });
    let _servers = servers(&lab);
    let mut service = Service { draining: 8, ..Service::of(&lab) };
    let daemon = service.serve(&lab);
    let (mut kept, mut drained) = conversations(6, &lab);
    for weight in [0, 10, 0] {
        service.targets[1].1 = weight;
        assert!(daemon.reload(&service.body()), "{}", daemon.log());
        all_live(&mut drained);
    }
    // Whoever speaks is told at once; the others without a word of theirs.
    let mut speaking = drained.pop().expect("a conversation");
    let spoke = Instant::now();
    while speaking.exchange(b"hello").is_ok() {
        assert!(spoke.elapsed() < TOLD_WITHIN, "never reset");
    }
    all_reset(drained);
    all_live(&mut kept);
}

#[test]
fn a_dead_target_s_connections_are_kept_or_reset_as_the_file_says() {
    for (policy, reset) in [("Keep", false), ("Reset", true)] {
        let lab = Lab::new(Shape { targets: 2, ..Shape::default() });
        let _servers = servers(&lab);
        let service = Service { checked: true, ..Service::of(&lab) };
        let with = format!("targetGroup: all, unhealthyFlows: {policy}");
        let body = service.body().replace("targetGroup: all", &with);
        let node = alb_tests::daemon::Node::xdp(lab.interfaces());
        let daemon = alb_tests::daemon::Instance::new(&lab.balancer.namespace, node, &body).start();
        daemon.wait_targets("tcp", "healthy", 2);
        let (mut kept, mut lost) = conversations(6, &lab);
        // It neither answers nor says that it is gone.
        let dead = lab.switch();
        dead.ip("link set target2 down");
        daemon.wait_targets("tcp", "unhealthy", 1);
        if reset {
            let failed = Instant::now();
            all_reset(lost);
            assert!(failed.elapsed() < TOLD_WITHIN, "{:?}", failed.elapsed());
        } else {
            dead.ip("link set target2 up");
            daemon.wait_targets("tcp", "healthy", 2);
            all_live(&mut lost);
        }
        all_live(&mut kept);
    }
}
