//! The harness itself: what it builds carries traffic, and nothing of it stays.

use alb_tests::{
    client::{bulk, connect, who},
    netns::must,
    topology::{Arms, Lab, Shape},
};

use crate::setting::servers;

#[test]
fn the_balancer_reaches_every_target_and_the_client() {
    for arms in [Arms::One, Arms::Two] {
        let lab = Lab::new(Shape { arms, targets: 2, gso: true });
        let servers = servers(&lab);
        for (number, server) in (1..).zip(&servers) {
            let name = who(&lab.balancer.namespace, None, server.address());
            assert_eq!(name.expect("an answer"), format!("t{number}"));
        }
        let stream = connect(&lab.balancer.namespace, None, servers[0].address()).unwrap();
        let (sent, seen) = bulk::upload(&stream, 1_000_000).unwrap();
        assert_eq!(sent, seen);
        assert_eq!(servers[0].accepted(), 2);
    }
}

#[test]
fn namespaces_go_with_their_lab() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let names = [
        lab.client.namespace.name(),
        lab.balancer.namespace.name(),
        lab.targets[0].namespace.name(),
    ]
    .map(str::to_owned);
    let listed = || must(std::process::Command::new("ip").args(["netns", "list"]));
    let before = listed();
    assert!(names.iter().all(|name| before.contains(name.as_str())));
    drop(lab);
    let after = listed();
    assert!(!names.iter().any(|name| after.contains(name.as_str())));
}
