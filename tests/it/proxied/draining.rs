//! Connections that the proxy serves, of targets that drain and of targets that fail.

use std::time::{Duration, Instant};

use super::*;
use crate::draining::{all_live, all_reset, conversations};

/// `connectionDrainingSeconds` of the first test.
const DRAINING: u32 = 5;

#[test]
fn connections_of_a_removed_target_live_until_it_has_drained() {
    let lab = Lab::new(Shape { targets: 2, ..Shape::default() });
    let servers = servers(&lab);
    let mut service = Service { draining: DRAINING, ..Service::of(&lab) };
    let balancer = &lab.balancer.namespace;
    let daemon = Instance::new(balancer, Node::xdp(lab.interfaces()), &body(&service)).start();
    let (mut kept, mut drained) = conversations(4, &lab);
    assert_eq!((kept.len(), drained.len()), (2, 2));
    service.targets.pop();
    let removed = Instant::now();
    assert!(daemon.reload(&body(&service)), "{}", daemon.log());
    // A machine that takes longer than that to get here finds it ended, rightly.
    let draining = Duration::from_secs(DRAINING.into());
    let lives = drained[0].exchange(b"still there?");
    if let Err(error) = lives {
        assert!(removed.elapsed() >= draining, "{error}");
        drained.remove(0);
    }
    all_reset(drained);
    assert!(removed.elapsed() >= draining, "{:?}", removed.elapsed());
    wait::until("the target to be told", wait::LONG, || (servers[1].open() == 0).then_some(()));
    all_live(&mut kept);
}

#[test]
fn a_failed_target_s_connections_are_kept_or_reset_as_the_file_says() {
    for (policy, reset) in [("Keep", false), ("Reset", true)] {
        let lab = Lab::new(Shape { targets: 2, ..Shape::default() });
        let _servers = servers(&lab);
        let service = Service { checked: true, ..Service::of(&lab) };
        let with = format!("targetGroup: all, unhealthyFlows: {policy}");
        let body = body(&service).replace("targetGroup: all", &with);
        let node = Node::xdp(lab.interfaces());
        let daemon = Instance::new(&lab.balancer.namespace, node, &body).start();
        daemon.wait_targets("tcp", "healthy", 2);
        let (mut kept, mut lost) = conversations(4, &lab);
        // It neither answers nor says that it is gone.
        let dead = lab.switch();
        dead.ip("link set target2 down");
        daemon.wait_targets("tcp", "unhealthy", 1);
        if reset {
            all_reset(lost);
        } else {
            dead.ip("link set target2 up");
            daemon.wait_targets("tcp", "healthy", 2);
            all_live(&mut lost);
        }
        all_live(&mut kept);
    }
}
