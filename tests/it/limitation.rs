//! `limitation.activeConnections`, `status` and `connectionIdleTimeSeconds` of listeners that the
//! kernel serves.

use std::{io::ErrorKind, time::Duration};

use alb_tests::{
    client::{Conversation, who},
    topology::{Lab, Shape},
    wait,
};

use crate::setting::{Service, servers, vip};

/// The least that the product allows.
const MOST: usize = 100;

#[test]
fn a_listener_has_no_more_connections_than_its_limit() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let service = Service::of(&lab);
    let limited = |most: usize| {
        let with = format!("limitation: {{ activeConnections: {most} }}, connectionIdle");
        service.body().replace("connectionIdle", &with)
    };
    let node = alb_tests::daemon::Node::xdp(lab.interfaces());
    let body = limited(MOST);
    let mut daemon = alb_tests::daemon::Instance::new(&lab.balancer.namespace, node, &body).start();
    daemon.wait_targets("tcp", "unchecked", 1);
    let client = &lab.client.namespace;
    let open = || Conversation::open(client, vip());
    let mut held: Vec<_> = (0..MOST).map(|_| open().expect("below the limit")).collect();
    let refused = || {
        let error = who(client, None, vip()).expect_err("over the limit");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    };
    refused();
    assert!(daemon.reason("listener_full") > 0);
    // A restart counts on.
    daemon.kill();
    daemon.restart();
    refused();
    held.truncate(MOST - 1);
    held.push(wait::until("room", Duration::from_secs(5), || open().ok()));
    refused();
    assert!(daemon.reload(&limited(MOST + 1)), "{}", daemon.log());
    held.push(open().expect("below the new limit"));
    refused();
    held[0].exchange(b"still there?").expect("nothing that is open ends");
}

#[test]
fn a_listener_that_is_off_takes_no_connection() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let service = Service::of(&lab);
    let daemon = service.serve(&lab);
    let client = &lab.client.namespace;
    let mut open = Conversation::open(client, vip()).expect("it is on");
    let off = service.body().replace("connectionIdle", "status: Off, connectionIdle");
    assert!(daemon.reload(&off), "{}", daemon.log());
    let error = who(client, None, vip()).expect_err("it is off");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    open.exchange(b"still there?").expect("its targets drain");
    assert!(daemon.reload(&service.body()), "{}", daemon.log());
    who(client, None, vip()).expect("it is on again");
    open.exchange(b"still there?").expect("and nothing was ended");
}

#[test]
fn a_silent_connection_is_forgotten_after_the_listener_s_time() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let daemon = Service { idle: 2, ..Service::of(&lab) }.serve(&lab);
    let client = &lab.client.namespace;
    let mut talking = Conversation::open(client, vip()).expect("a connection");
    let mut silent = Conversation::open(client, vip()).expect("a connection");
    let before = daemon.reason("unknown_flow");
    wait::until("the silent one to be forgotten", Duration::from_secs(15), || {
        talking.exchange(b"still there?").expect("it is not silent");
        (daemon.active("tcp") == [1]).then_some(())
    });
    silent.exchange(b"hello?").expect_err("it was forgotten");
    assert!(daemon.reason("unknown_flow") > before);
    talking.exchange(b"still there?").expect("it is not silent");
}
