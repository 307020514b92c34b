//! Bulk data through the balancer arrives as it was sent, both ways.

use alb_tests::{
    client::{bulk, connect},
    daemon::Node,
    topology::{Arms, Lab, Shape},
};

use crate::setting::{Service, servers, vip};

const BYTES: u64 = 100_000_000;

#[test]
fn native_xdp() {
    for arms in [Arms::One, Arms::Two] {
        let lab = Lab::for_xdp(Shape { arms, targets: 1, gso: true });
        both_ways(&lab, "xdp");
    }
}

#[test]
fn generic_xdp_with_gso_off_at_the_senders() {
    let lab = Lab::for_xdp(Shape { targets: 1, gso: false, ..Shape::default() });
    both_ways(&lab, "xdp-generic");
}

fn both_ways(lab: &Lab, datapath: &'static str) {
    let _servers = servers(lab);
    let node = Node { datapath, ..Node::xdp(lab.interfaces()) };
    let daemon = Service::of(lab).serve_as(lab, node);
    let attached = &daemon.status()["datapath"]["interfaces"];
    let modes: Vec<_> = attached.as_array().into_iter().flatten().map(|i| &i["mode"]).collect();
    assert!(!modes.is_empty() && modes.iter().all(|&mode| mode == datapath), "{attached}");

    let client = &lab.client.namespace;
    let stream = connect(client, None, vip()).expect("a connection");
    let (sent, seen) = bulk::upload(&stream, BYTES).expect("the upload ends");
    assert_eq!(sent, seen, "upload");
    let stream = connect(client, None, vip()).expect("a connection");
    let (expected, seen) = bulk::download(&stream, BYTES).expect("the download ends");
    assert_eq!(expected, seen, "download");
}
