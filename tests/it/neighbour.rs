//! Link-layer addresses: known before the first packet, followed when they change.

use alb_tests::{
    client::{Conversation, connect, tally, who},
    daemon::{Instance, Node},
    topology::{Arms, Lab, Shape},
    wait,
};

use crate::setting::{Service, servers, vip};

#[test]
fn the_first_connection_after_start_loses_no_packet() {
    for arms in [Arms::One, Arms::Two] {
        let lab = Lab::new(Shape { arms, ..Shape::default() });
        let _servers = servers(&lab);
        let node = Node::xdp(lab.interfaces());
        let service = Service::of(&lab);
        let _daemon = Instance::new(&lab.balancer.namespace, node, &service.body()).start();
        for _ in &lab.targets {
            let stream = connect(&lab.client.namespace, None, vip()).expect("a connection");
            let lost = alb_tests::client::bulk::retransmits(&stream).expect("TCP_INFO");
            assert_eq!(lost, 0, "{arms:?}");
        }
    }
}

#[test]
fn a_target_whose_hardware_address_changes_is_found_again() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let _daemon = Service::of(&lab).serve(&lab);
    let client = &lab.client.namespace;
    let mut talk = Conversation::open(client, vip()).expect("a connection");
    talk.exchange(b"before").expect("an echo");

    lab.change_mac(0, "02:00:00:00:12:34");
    wait::until("new connections to the moved target", wait::LONG, || {
        who(client, None, vip()).ok()
    });
    talk.exchange(b"after").expect("the open connection heals too");
    tally(client, vip(), 50).expect("every connection served");
}
