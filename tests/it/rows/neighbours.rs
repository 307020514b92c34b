//! The link layer: interfaces, the target's and the client's next hop.

use alb_common::{
    Reason,
    abi::map,
    interface::{HopEntry, InterfaceEntry, interface_flag},
    net::Mac,
    reason::Event,
    tcp::flag,
};
use alb_ebpf::builder::Tcp;
use alb_tests::{netns::Namespace, packet_path::Action, wire};

use super::{
    FAMILY,
    flow::Flow,
    world::{BALANCER_MAC, CLIENT, Expect, HEADERS, World, dropped, reset, sent, target_mac},
};
use crate::family::{Family, addr6};

const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];
/// Interface index of slot 1 where no such device is needed.
const OTHER: u32 = 7;

fn redirected(reason: Reason, tcp: &Tcp) -> Expect {
    Expect { action: Action::Redirect, ..sent(reason, tcp) }
}

#[test]
fn another_interface_is_redirected_to() {
    let mut world = World::new();
    let other = InterfaceEntry { ifindex: OTHER, mac: Mac::new(OTHER_MAC), mtu: 1_000, flags: 0 };
    world.prog.set(map::INTERFACES, 1, other);
    let hop = HopEntry { mac: Mac::new(target_mac(0)), interface: 1, flags: 0 };
    world.prog.set(map::HOPS, 0, hop);
    let flow = Flow::default();
    let by_other = |(before, after): (Tcp, Tcp), reason| {
        let after = Tcp { from: OTHER_MAC, ..after };
        (before, redirected(reason, &after))
    };
    let (packet, expected) = by_other(flow.syn(), Reason::NewFlow);
    world.check("SYN", &packet, &expected);
    world.pass_on("SYN-ACK", flow.syn_ack(), Reason::HandshakeReverse);
    let (packet, expected) = by_other(flow.ack(), Reason::Promoted);
    world.check("ACK", &packet, &expected);
    let (packet, expected) =
        by_other(flow.later(flag::ACK, &[1; 1_000 - HEADERS]), Reason::FlowForward);
    world.check("its MTU", &packet, &expected);
    world.pass_on(
        "back by its own MTU",
        flow.answer(flag::ACK, &[1; 1_001 - HEADERS]),
        Reason::FlowReverse,
    );

    world.prog.set(map::INTERFACES, 1, InterfaceEntry::default());
    let packet = flow.later(flag::ACK, &[]).0;
    world.check("gone", &packet, &dropped(Reason::NoNextHop, &packet.frame()));
}

#[test]
fn a_veth_is_redirected_to_even_from_itself() {
    let mut world = World::new();
    let veth = InterfaceEntry {
        ifindex: 1,
        mac: Mac::new(BALANCER_MAC),
        mtu: 1_500,
        flags: interface_flag::REDIRECT,
    };
    world.prog.set(map::INTERFACES, 0, veth);
    let (packet, after) = Flow::default().syn();
    world.check("SYN", &packet, &redirected(Reason::NewFlow, &after));
    let unknown = Flow::from(12_001).later(flag::ACK, &[]).0;
    let answered = reset(Reason::UnknownFlow, &unknown);
    world.check("RST", &unknown, &Expect { action: Action::Redirect, ..answered });
}

#[test]
fn a_target_s_new_address_is_used_at_once() {
    let mut world = World::new();
    let flow = Flow::default();
    world.open(&flow);
    world.prog.set(map::HOPS, 0, HopEntry { mac: Mac::new(OTHER_MAC), interface: 0, flags: 0 });
    let (before, after) = flow.later(flag::ACK, &[]);
    let after = Tcp { to: OTHER_MAC, ..after };
    world.pass_on("data", (before, after), Reason::FlowForward);
}

#[test]
fn a_target_without_next_hop_gets_no_flow() {
    let mut world = World::new();
    world.prog.set(map::HOPS, 0, HopEntry::default());
    let syn = Flow::default().syn().0;
    world.check("SYN", &syn, &dropped(Reason::NoNextHop, &syn.frame()));
    assert!(world.half_open().is_empty());
    assert_eq!(world.prog.active(0), 0);
}

#[test]
fn a_moved_client_is_followed() {
    let world = World::new();
    let flow = Flow::default();
    world.open(&flow);
    let moved = Flow { client_mac: OTHER_MAC, ..flow.clone() };
    let (before, after) = moved.later(flag::ACK, &[1]);
    let expected = sent(Reason::FlowForward, &after).with(Event::ClientMoved);
    world.check("from elsewhere", &before, &expected);
    world.pass_on("once", moved.later(flag::ACK, &[1]), Reason::FlowForward);
    world.pass_on("replies follow", moved.answer(flag::ACK, &[1]), Reason::FlowReverse);
    // What the target's frames come from is no news of the client.
    let (before, after) = moved.answer(flag::ACK, &[1]);
    let before = Tcp { from: [2, 0, 0, 0, 8, 8], ..before };
    world.pass_on("a target elsewhere", (before, after), Reason::FlowReverse);
}

#[test]
fn without_a_route_the_learnt_way_stands() {
    let mut world = World::new();
    let flow = Flow::default();
    world.open(&flow);
    world.set(|settings| settings.route_generation = 2);
    world.pass_on("reply", flow.answer(flag::ACK, &[1]), Reason::FlowReverse);
    assert_eq!(world.flows()[&flow.reverse_key()].route_generation, 2);
    world.pass_on("and another", flow.answer(flag::ACK, &[1]), Reason::FlowReverse);
}

#[test]
fn a_changed_route_is_looked_up_once() {
    const NEXT: [u8; 6] = [2, 0, 0, 0, 7, 7];
    let namespace = Namespace::new("rows");
    namespace.ip("link add up0 type veth peer name down0");
    namespace.ip("link set down0 up");
    namespace.ip("link set up0 up");
    match FAMILY {
        Family::Ipv4 => {
            namespace.ip("addr add 198.18.2.1/24 dev up0");
            namespace.ip("neigh add 198.18.2.2 lladdr 02:00:00:00:07:07 dev up0 nud permanent");
            namespace.ip(&format!("route add {}/32 via 198.18.2.2", CLIENT.0));
            namespace.sysctl("ipv4/ip_forward", "1");
        }
        Family::Ipv6 => {
            let router = "2001:db8:2::2";
            namespace.ip("addr add 2001:db8:2::1/64 dev up0 nodad");
            namespace
                .ip(&format!("neigh add {router} lladdr 02:00:00:00:07:07 dev up0 nud permanent"));
            let client = addr6(CLIENT.0.into()).addr();
            namespace.ip(&format!("-6 route add {client}/128 via {router}"));
            namespace.sysctl("ipv6/conf/all/forwarding", "1");
        }
    }
    let station = wire::mac(&namespace, "up0");
    let index = namespace.ip("-o link show up0");
    let index = index.split(':').next().and_then(|index| index.parse().ok()).expect("an index");
    namespace.enter(|| {
        let mut world = World::new();
        let up = InterfaceEntry { ifindex: index, mac: Mac::new(station), mtu: 1_500, flags: 0 };
        world.prog.set(map::INTERFACES, 1, up);
        world.prog.insert(map::INTERFACE_SLOTS, index, 1u32);
        let flow = Flow::default();
        world.open(&flow);
        world.set(|settings| settings.route_generation = 2);
        for name in ["looked up", "remembered"] {
            let (before, after) = flow.answer(flag::ACK, &[1]);
            let after = Tcp { to: NEXT, from: station, ..after };
            world.check(name, &before, &redirected(Reason::FlowReverse, &after));
        }
        let entry = world.flows()[&flow.reverse_key()];
        assert_eq!((entry.interface, entry.mac.bytes()), (1, NEXT));

        // Frames from the client, by that device now, say the same or better.
        let moved = Flow { client_mac: OTHER_MAC, ..flow };
        let (before, after) = moved.later(flag::ACK, &[1]);
        let expected = sent(Reason::FlowForward, &after);
        let expected = Expect { action: Action::Redirect, ..expected }.with(Event::ClientMoved);
        world.step_on("by the device", &before.frame(), Some(index), &expected);
        assert_eq!(after.from, BALANCER_MAC);
        let (before, after) = moved.answer(flag::ACK, &[1]);
        let after = Tcp { from: station, ..after };
        world.check("replies follow", &before, &redirected(Reason::FlowReverse, &after));
        world.step_on(
            "out by the same device",
            &before.frame(),
            Some(index),
            &sent(Reason::FlowReverse, &after),
        );
    });
}
