//! What only IPv6 has: extension headers, neighbour discovery, prefixes of 128 bits.

use alb_common::{
    Reason,
    abi::map,
    filter::{FilterEntry, FilterKey, ID_BITS},
    net::Be128,
    service::local,
    tcp::flag,
};
use alb_ebpf::builder::{
    Tcp,
    icmp::Icmp,
    ipv6::{Extension, mapped},
};
use alb_tests::packet_path::Action;

use super::{
    flow::Flow,
    world::{
        BALANCER_MAC, CLIENT, CLIENT_MAC, Expect, ONE, PORT_FIRST, SNAT, VIP, WEB, World, dropped,
        passed,
    },
};
use crate::family::addr6;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const OPTIONS: u8 = 60;

/// An extension header of so many bytes; a routing header that is done.
fn extension(kind: u8, len: usize) -> Extension {
    (kind, vec![0; len - 2])
}

fn sent(reason: Reason, frame: Vec<u8>) -> Expect {
    Expect { action: Action::Transmit, frame, reason, events: vec![] }
}

#[test]
fn extension_headers_stay() {
    for extensions in [
        vec![extension(HOP_BY_HOP, 8)],
        vec![extension(HOP_BY_HOP, 8), extension(OPTIONS, 24), extension(ROUTING, 8)],
        vec![extension(OPTIONS, 128)],
    ] {
        let world = World::new();
        let flow = Flow::default();
        let step = |name: &str, (before, after): (Tcp, Tcp), reason| {
            let expected = sent(reason, after.frame6(&extensions));
            world.step(name, &before.frame6(&extensions), &expected);
        };
        step("SYN", flow.syn(), Reason::NewFlow);
        step("SYN-ACK", flow.syn_ack(), Reason::HandshakeReverse);
        step("ACK", flow.ack(), Reason::Promoted);
        step("data", flow.later(flag::ACK, &[7; 50]), Reason::FlowForward);
        step("answer", flow.answer(flag::ACK, &[8; 500]), Reason::FlowReverse);
        step("FIN", flow.later(flag::ACK | flag::FIN, &[]), Reason::FlowForward);
    }
}

#[test]
fn extension_headers_that_are_refused() {
    let world = World::new();
    let flow = Flow::default();
    world.open(&flow);
    let own = Tcp { dst: (SNAT, PORT_FIRST - 1), ..flow.answer(flag::ACK, &[]).0 };
    for (name, extensions, reason) in [
        ("a fragment", vec![extension(FRAGMENT, 8)], Reason::Fragment),
        (
            "a fragment behind options",
            vec![extension(HOP_BY_HOP, 8), extension(FRAGMENT, 8)],
            Reason::Fragment,
        ),
        ("a route to follow", vec![(ROUTING, vec![4, 1, 0, 0, 0, 0])], Reason::ExtensionHeaders),
        ("too many", vec![extension(OPTIONS, 8); 5], Reason::ExtensionHeaders),
        ("too long", vec![extension(OPTIONS, 136)], Reason::ExtensionHeaders),
        ("no extension", vec![extension(51, 8)], Reason::UnsupportedProtocol),
    ] {
        let frame = flow.later(flag::ACK, &[1; 200]).0.frame6(&extensions);
        world.step(name, &frame, &dropped(reason, &frame));
        // The host puts its own together.
        let frame = own.frame6(&extensions);
        world.step(name, &frame, &passed(Reason::HostTraffic, &frame));
    }
}

#[test]
fn neighbour_discovery_is_the_host_s() {
    let world = World::new();
    for kind in 130..=137 {
        let icmp = Icmp { to: BALANCER_MAC, kind: (kind, 0), ..Icmp::ping(CLIENT.0, VIP) };
        let frame = icmp.frame6(&[]);
        world.step("to the VIP", &frame, &passed(Reason::Icmp, &frame));
    }
    for kind in [(128, 1), (129, 0), (138, 0), (143, 0), (255, 0)] {
        let frame = Icmp { to: BALANCER_MAC, kind, ..Icmp::ping(CLIENT.0, VIP) }.frame6(&[]);
        world.step("another message", &frame, &dropped(Reason::IcmpUnsupported, &frame));
    }
    let elsewhere = Icmp { kind: (135, 0), ..Icmp::ping(CLIENT.0, CLIENT.0) }.frame6(&[]);
    world.step("to another", &elsewhere, &passed(Reason::NotOurs, &elsewhere));
}

#[test]
fn prefixes_of_all_lengths() {
    const FILTER: u32 = local::MAX_FILTER;
    let mut world = World::new();
    let kind = local::filtered(local::VIP, FILTER);
    world.prog.local6(addr6(VIP.into()), kind);
    for (slot, port) in [(20, u32::from(ONE)), (21, u32::from(ONE) + 1), (24, 0)] {
        world.prog.set(map::SLOTS, slot, port);
    }
    let client = mapped(CLIENT.0);
    let other = Flow::from(12_001);
    let other = Flow { client: ([198, 18, 0, 101].into(), 12_001), vip: (VIP, WEB), ..other };
    let mut allow = |length: u32, offset, len| {
        let bits = ID_BITS + length;
        let key = FilterKey { bits, id: FILTER, addr: Be128::from(client) };
        world.prog.allow6(key, FilterEntry { offset, len });
    };
    // All may to one port, nobody in a prefix, one client in it to all.
    allow(0, 20, 2);
    allow(32, 0, 0);
    allow(128, 24, 1);
    let syn = other.syn().0.frame();
    world.step("in the prefix", &syn, &dropped(Reason::SecurityGroup, &syn));
    world.open(&Flow::default());
}

#[test]
fn what_is_neither_family() {
    let world = World::new();
    let mut frame = Flow::default().syn().0.frame6(&[]);
    frame[12..14].copy_from_slice(&[8, 6]);
    world.step("ARP", &frame, &passed(Reason::NotIp, &frame));
    let foreign = Tcp { to: BALANCER_MAC, from: CLIENT_MAC, dst: CLIENT, ..Tcp::default() };
    let foreign = foreign.frame6(&[]);
    world.step("another's", &foreign, &passed(Reason::NotOurs, &foreign));
}
