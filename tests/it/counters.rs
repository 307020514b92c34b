//! Counters of open connections are right again soon, whatever made them wrong.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use alb_common::abi::map;
use alb_tests::{
    client::{Conversation, who},
    daemon::Instance,
    packet_path::active,
    topology::{Lab, Shape},
    wait,
};
use aya::maps::MapData;

use crate::setting::{Service, servers, vip};

/// How long a counter may be wrong.
const HEALED: Duration = Duration::from_secs(40);
/// Connections at a time that the busy client has.
const BUSY: u64 = 1;

/// Adds to the active counter of every target that has one.
fn falsify(instance: &Instance<'_>, add: i64) {
    let data = MapData::from_pin(instance.maps().join(map::TARGET_ACTIVE)).expect("a map");
    let active = active(&data);
    let used: Vec<u32> = (0..8).filter(|index| active.get(*index) > 0).collect();
    assert!(!used.is_empty(), "connections are open");
    for index in used {
        active.add(index, add);
    }
}

#[test]
fn counters_of_a_busy_target_are_set_right() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let mut service = Service::of(&lab);
    service.idle = 6;
    let mut daemon = service.serve(&lab);
    let client = &lab.client.namespace;
    let open = |count: usize| -> Vec<Conversation> {
        let one = |_| Conversation::open(client, vip()).expect("a connection");
        (0..count).map(one).collect()
    };
    let mut held = open(20);
    let (resetting, silent) = (open(10), open(10));
    assert_eq!(daemon.active("tcp"), [40]);

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                who(client, None, vip()).expect("every connection served");
                for talk in &mut held {
                    talk.exchange(b"still here").expect("it lives on");
                }
            }
        });
        let _ends = wait::Ends(&done);
        daemon.kill();
        for talk in resetting {
            talk.reset().expect("a socket");
        }
        // As if it had died between a removal and its count.
        falsify(&daemon.instance, 7);
        daemon.restart();
        let right = |daemon: &alb_tests::daemon::Daemon<'_>| {
            let begun = Instant::now();
            wait::until("the silent ones to expire and the count to be right", HEALED, || {
                let active = daemon.active("tcp")[0];
                (20..=20 + BUSY).contains(&active).then_some(())
            });
            eprintln!("right after {:?}", begun.elapsed());
        };
        right(&daemon);
        for wrong in [5, -5] {
            falsify(&daemon.instance, wrong);
            right(&daemon);
        }
        drop(silent);
    });
    wait::until("the busy client's last end", wait::LONG, || {
        (daemon.active("tcp") == [20]).then_some(())
    });
}
