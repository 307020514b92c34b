//! SIGHUP: what is new is served, what is removed drains, what is wrong changes nothing.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use alb_tests::{
    client::{Conversation, tally, who},
    daemon::{Instance, Node},
    topology::{Lab, Shape, VIP},
    wait,
};

use crate::setting::{PORT, Service, servers, vip};

/// Listeners, each with a backend of its own over the same hundred targets of these two weights.
fn many(lab: &Lab, listeners: u16, weights: [u8; 2]) -> String {
    let address = lab.targets[0].address;
    let each = |make: &dyn Fn(u16) -> String, count| (0..count).map(make).collect::<String>();
    let target = |n: u16| {
        let weight = weights[usize::from(n % 2)];
        format!("{{ ipAddress: {address}, port: {}, weight: {weight} }}, ", PORT + n)
    };
    let backend = |n: u16| {
        format!(
            "{{ name: b{n}, protocol: Tcp, port: {PORT}, targetGroup: g, closeHealthCheck: true }}, "
        )
    };
    let listener =
        |n: u16| format!("{{ name: l{n}, protocol: Tcp, port: {}, backend: b{n} }}, ", PORT + n);
    format!(
        "subnets: [{{ name: front, addressPrefix: 198.18.0.0/24 }}]\nloadBalancers:\n\
         - name: lab\n  subnet: front\n  privateIpAddress: {VIP}\n  \
         targetGroups: [{{ name: g, type: ip, targets: [{}] }}]\n  backends: [{}]\n  \
         listeners: [{}]\n",
        each(&target, 100),
        each(&backend, listeners),
        each(&listener, listeners)
    )
}

#[test]
fn a_file_that_does_not_fit_changes_nothing() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let balancer = &lab.balancer.namespace;
    let body = many(&lab, 60, [100, 99]);
    let daemon = Instance::new(balancer, Node::xdp(lab.interfaces()), &body).start();
    let generation = daemon.status()["generation"].clone();
    let refused = |body: &str, words: &[&str]| {
        assert!(!daemon.reload(body), "{}", daemon.log());
        let status = daemon.status();
        assert_eq!(status["generation"], generation);
        assert_eq!(status["ready"], true);
        let error = status["config"]["lastError"].as_str().expect("a reason").to_owned();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        assert_eq!(daemon.targets_in_state("l59", "unchecked"), 100);
    };
    // 60 tables of 9,950 slots are installed, and 60 of 9,850 cannot be beside them.
    refused(&many(&lab, 60, [99, 98]), &["loadBalancers", "9850 slots", "of 1048576 are in use"]);
    // Never, whatever was there before.
    refused(&many(&lab, 106, [100, 99]), &["1054700 slots", "holds 1048576"]);
    let check = daemon.instance.alb("check");
    assert!(!check.status.success());
    // Of the same weights throughout, a table is a hundred slots.
    assert!(daemon.reload(&many(&lab, 106, [10, 10])), "{}", daemon.log());
}

#[test]
fn flows_of_a_removed_target_live_on_and_no_new_ones_come() {
    let lab = Lab::new(Shape::default());
    let _servers = servers(&lab);
    let mut service = Service::of(&lab);
    let daemon = service.serve(&lab);
    let client = &lab.client.namespace;
    let open = |_| Conversation::open(client, vip()).expect("a connection");
    let mut conversations: Vec<_> = (0..6).map(open).collect();
    assert_eq!(conversations.iter().filter(|talk| talk.server == "t3").count(), 2);

    service.targets.pop();
    assert!(daemon.reload(&service.body()), "{}", daemon.log());
    let answers = tally(client, vip(), 100).expect("every connection served");
    assert_eq!(answers.keys().collect::<Vec<_>>(), ["t1", "t2"], "{answers:?}");
    for talk in &mut conversations {
        talk.exchange(b"still there?").unwrap_or_else(|error| panic!("{}: {error}", talk.server));
    }
    daemon.wait_targets("tcp", "draining", 1);
}

#[test]
fn an_added_target_is_served_by_its_first_connection() {
    let lab = Lab::new(Shape::default());
    let _servers = servers(&lab);
    let mut service = Service::of(&lab);
    let added = service.targets.pop().expect("three targets");
    let daemon = service.serve(&lab);
    service.targets.push(added);
    assert!(daemon.reload(&service.body()), "{}", daemon.log());
    let answers = tally(&lab.client.namespace, vip(), 30).expect("every connection served");
    assert_eq!(answers.values().copied().collect::<Vec<_>>(), [10, 10, 10], "{answers:?}");
}

#[test]
fn a_change_of_all_targets_refuses_nobody() {
    for checked in [false, true] {
        let lab = Lab::new(Shape::default());
        let _servers = servers(&lab);
        let all = Service { checked, ..Service::of(&lab) };
        let only = |number: usize| Service { targets: vec![all.targets[number]], ..all.clone() };
        let daemon = only(0).serve(&lab);
        let client = &lab.client.namespace;
        let done = AtomicBool::new(false);
        let (served, refused) = thread::scope(|scope| {
            let newcomers = scope.spawn(|| {
                let (mut served, mut refused) = (BTreeSet::new(), Vec::new());
                while !done.load(Relaxed) {
                    match who(client, None, vip()) {
                        Ok(name) => _ = served.insert(name),
                        Err(error) => refused.push(error.to_string()),
                    }
                }
                (served, refused)
            });
            let ends = wait::Ends(&done);
            for number in [1, 2, 0] {
                // Nobody has spoken to it of late.
                lab.balancer.namespace.forget_neighbours();
                assert!(daemon.reload(&only(number).body()), "{}", daemon.log());
                let name = format!("t{}", number + 1);
                wait::until(&format!("{name} to serve"), wait::LONG, || {
                    who(client, None, vip()).is_ok_and(|server| server == name).then_some(())
                });
            }
            drop(ends);
            newcomers.join().expect("they do not panic")
        });
        assert_eq!(refused, [""; 0], "checked: {checked}\n{}", daemon.log());
        assert_eq!(served.len(), 3, "{served:?}");
    }
}

#[test]
fn a_wrong_file_changes_nothing() {
    let lab = Lab::new(Shape::default());
    let _servers = servers(&lab);
    let service = Service::of(&lab);
    let daemon = service.serve(&lab);
    let generation = daemon.status()["generation"].clone();
    let wrong = service.body().replace("backend: all", "backend: al");
    assert!(!daemon.reload(&wrong));
    let status = daemon.status();
    assert_eq!(status["generation"], generation);
    let error = status["config"]["lastError"].as_str().expect("the reason is shown").to_owned();
    assert!(error.contains("al") && error.contains("backend"), "{error}");
    tally(&lab.client.namespace, vip(), 30).expect("every connection served");
}

#[test]
fn a_listener_that_goes_refuses_and_one_that_moves_serves() {
    let lab = Lab::new(Shape::default());
    let _servers = servers(&lab);
    let service = Service::of(&lab);
    let daemon = service.serve(&lab);
    let moved = service.body().replace(
        &format!("name: tcp, protocol: Tcp, port: {PORT}"),
        "name: other, protocol: Tcp, port: 9090",
    );
    assert!(daemon.reload(&moved), "{}", daemon.log());
    let client = &lab.client.namespace;
    let error = who(client, None, vip()).expect_err("the listener is gone");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let other = (vip().ip(), 9090).into();
    wait::until("the new listener", wait::LONG, || who(client, None, other).ok());
}
