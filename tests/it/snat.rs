//! Source ports towards targets: when they run out, new connections are refused and open ones live.

use std::io::ErrorKind;

use alb_tests::{
    client::Conversation,
    daemon::Node,
    topology::{Lab, Shape},
};

use crate::setting::{Service, servers, vip};

#[test]
fn exhaustion_is_a_reset_and_a_counter() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let mut node = Node::xdp(lab.interfaces());
    node.more.push("snat: { portRange: 20000-20015 }".to_owned());
    let daemon = Service::of(&lab).serve_as(&lab, node);
    let client = &lab.client.namespace;
    let open = |_| Conversation::open(client, vip()).expect("a free port");
    let mut open: Vec<_> = (0..16).map(open).collect();

    let error = Conversation::open(client, vip()).expect_err("16 ports are in use");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(daemon.reason("snat_exhausted") >= 1);
    for talk in &mut open {
        talk.exchange(b"still mine").expect("an open connection keeps its port");
    }
}
