//! SIGHUP: what is new is served, what is removed drains, what is wrong changes nothing.

use std::time::Duration;

use alb_tests::{
    client::{Conversation, tally, who},
    topology::{Lab, Shape},
    wait,
};

use crate::setting::{PORT, Service, servers, vip};

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
    wait::until("the new listener", Duration::from_secs(1), || who(client, None, other).ok());
}
