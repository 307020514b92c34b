//! Which target a connection goes to: weights, client hash, health.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use alb_tests::{
    client::{Conversation, tally, who},
    topology::{Arms, Lab, Shape},
    wait,
};

use crate::setting::{Service, servers, vip};

#[test]
fn round_robin_follows_the_weights() {
    for arms in [Arms::One, Arms::Two] {
        let lab = Lab::new(Shape { arms, ..Shape::default() });
        let _servers = servers(&lab);
        let mut service = Service::of(&lab);
        for (target, weight) in service.targets.iter_mut().zip([50, 30, 20]) {
            target.1 = weight;
        }
        let _daemon = service.serve(&lab);
        let answers = tally(&lab.client.namespace, vip(), 3_000).expect("every connection served");
        for (name, expected) in [("t1", 1_500), ("t2", 900), ("t3", 600)] {
            let count = answers.get(name).copied().unwrap_or(0);
            let off = count.abs_diff(expected);
            assert!(off * 100 <= 3 * expected, "{name} got {count}, not {expected}: {answers:?}");
        }
    }
}

#[test]
fn weight_zero_gets_no_connection() {
    let lab = Lab::new(Shape::default());
    let _servers = servers(&lab);
    let mut service = Service::of(&lab);
    service.targets[2].1 = 0;
    let _daemon = service.serve(&lab);
    let answers = tally(&lab.client.namespace, vip(), 200).expect("every connection served");
    assert_eq!(answers, BTreeMap::from([("t1".into(), 100), ("t2".into(), 100)]));
}

#[test]
fn least_connections_are_held_by_weight() {
    let lab = Lab::new(Shape::default());
    let _servers = servers(&lab);
    let mut service = Service::of(&lab);
    service.algorithm = "LeastConn";
    for (target, weight) in service.targets.iter_mut().zip([30, 20, 10]) {
        target.1 = weight;
    }
    let daemon = service.serve(&lab);
    let open = || Conversation::open(&lab.client.namespace, vip()).expect("a connection");
    let mut held: Vec<Conversation> = (0..600).map(|_| open()).collect();
    let count = |held: &[Conversation]| {
        ["t1", "t2", "t3"].map(|name| held.iter().filter(|talk| talk.server == name).count())
    };
    let expect = |held: &[Conversation]| {
        let counted = count(held);
        let near = counted.iter().zip([300, 200, 100]).all(|(has, due)| has.abs_diff(due) <= 1);
        assert!(near, "{counted:?}");
    };
    expect(&held);
    assert_eq!(daemon.active("tcp"), count(&held).map(|count| count as u64));

    // Whoever has lost connections gets the next ones.
    let (gone, kept): (Vec<_>, Vec<_>) =
        held.into_iter().enumerate().partition(|(n, talk)| talk.server == "t1" && n % 2 == 0);
    let lost = gone.len() as u64;
    drop(gone);
    held = kept.into_iter().map(|(_, talk)| talk).collect();
    wait::until("the ends to be counted", wait::LONG, || {
        (daemon.active("tcp").iter().sum::<u64>() == 600 - lost).then_some(())
    });
    held.extend((0..lost).map(|_| open()));
    expect(&held);
}

#[test]
fn ip_hash_sticks_and_moves_only_what_it_must() {
    let lab = Lab::new(Shape { targets: 10, ..Shape::default() });
    let mut servers = servers(&lab);
    let clients = lab.add_client_addresses(200);
    let mut service = Service::of(&lab);
    service.algorithm = "IpHash";
    service.checked = true;
    let daemon = service.serve(&lab);

    let ask = || -> BTreeMap<Ipv4Addr, String> {
        let client = &lab.client.namespace;
        let ask_one =
            |&from: &Ipv4Addr| (from, who(client, Some(from.into()), vip()).expect("an answer"));
        clients.iter().map(ask_one).collect()
    };
    let before = ask();
    assert_eq!(before, ask(), "the same client is always sent to the same target");
    let used: BTreeSet<&String> = before.values().collect();
    assert_eq!(used.len(), 10, "200 clients use every one of 10 targets");

    drop(servers.remove(4));
    daemon.wait_targets("tcp", "unhealthy", 1);
    let after = ask();
    let moved = |&&from: &&Ipv4Addr| before[&from] != after[&from];
    let unrelated = clients.iter().filter(|from| before[from] != "t5");
    let (all, lost) = (unrelated.clone().count(), unrelated.filter(moved).count());
    assert!(after.values().all(|name| name != "t5"));
    // 2 % of unrelated clients when 1 of 100 goes; with 10 targets each is 10 times as large.
    assert!(lost * 100 <= 5 * all, "{lost} of {all} clients of other targets moved");
}

#[test]
fn a_dead_target_gets_nothing_and_a_living_one_again() {
    let lab = Lab::new(Shape::default());
    let mut servers = servers(&lab);
    let mut service = Service::of(&lab);
    service.checked = true;
    let daemon = service.serve(&lab);

    drop(servers.remove(1));
    let stopped = Instant::now();
    daemon.wait_targets("tcp", "unhealthy", 1);
    // Interval 5 s and its jitter; of three failures the last would come after 10 s.
    assert!(stopped.elapsed() < Duration::from_secs(10), "{:?}", stopped.elapsed());
    let answers = tally(&lab.client.namespace, vip(), 100).expect("every connection served");
    assert_eq!(answers, BTreeMap::from([("t1".into(), 50), ("t3".into(), 50)]));

    let revived = crate::setting::server_again(&lab, 1);
    daemon.wait_targets("tcp", "healthy", 3);
    let answers = tally(&lab.client.namespace, vip(), 99).expect("every connection served");
    assert_eq!(answers.values().copied().collect::<Vec<_>>(), [33, 33, 33], "{answers:?}");
    drop(revived);
}

#[test]
fn without_a_healthy_target_connections_are_refused_at_once() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let servers = servers(&lab);
    let mut service = Service::of(&lab);
    service.checked = true;
    let daemon = service.serve(&lab);
    drop(servers);
    daemon.wait_targets("tcp", "unhealthy", 1);
    let error = who(&lab.client.namespace, None, vip()).expect_err("nobody is there");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(daemon.reason("no_healthy_target") >= 1);
}
