//! The harness itself: what it builds carries traffic, and nothing of it stays.

use alb_tests::{
    client::{Conversation, bulk, connect, http_get, who},
    netns::must,
    program,
    server::Nginx,
    topology::{Arms, Lab, Shape},
    wait,
    wire::{self, Syn, Wire},
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

#[test]
fn a_foreign_program_passes_what_comes() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let servers = servers(&lab);
    let balancer = &lab.balancer.namespace;
    assert_eq!(program::attached(balancer, "eth1"), None);
    program::attach_pass(balancer, "eth1");
    assert!(program::attached(balancer, "eth1").is_some());
    let mut talk = Conversation::open(balancer, servers[0].address()).expect("a connection");
    talk.exchange(b"through the program").expect("an echo");
}

#[test]
fn a_web_server_answers_with_its_name_until_it_is_stopped() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let target = &lab.targets[0];
    let nginx = Nginx::start(&target.namespace, 8080, "web-1").expect("nginx");
    let address = (target.address, 8080).into();
    let balancer = &lab.balancer.namespace;
    assert_eq!(http_get(balancer, address, "/").expect("an answer"), "web-1\n");
    drop(nginx);
    let error = http_get(balancer, address, "/").expect_err("nobody listens");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn raw_frames_arrive_as_they_were_sent() {
    let lab = Lab::new(Shape { arms: Arms::One, targets: 1, ..Shape::default() });
    let from = Wire::open(&lab.client.namespace, "eth0");
    let to = Wire::open(&lab.targets[0].namespace, "eth0");
    let syn = Syn {
        link: (to.mac, from.mac),
        from: (lab.client.address, 40_000),
        to: (lab.targets[0].address, 1),
        sequence: 77,
    };
    let frame = syn.frame(&[]);
    from.send(&frame);
    let is_it = |frame: &[u8]| wire::tcp_of(frame) == Some((77, 2));
    let frames = to.receive_until(wait::LONG, is_it);
    assert_eq!(frames.last(), Some(&frame));
}
