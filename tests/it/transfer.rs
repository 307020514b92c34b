//! Bulk data through the balancer arrives as it was sent, both ways.

use alb_tests::{
    daemon::Node,
    topology::{Arms, Lab, Shape},
};

use crate::setting::{Service, bulk_both_ways, servers};

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
    bulk_both_ways(client, BYTES);
}
