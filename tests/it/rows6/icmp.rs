//! ICMPv6 to our addresses: translated, answered, left to the host or dropped; and the messages that
//! the balancer sends itself.

use std::net::Ipv4Addr;

use alb_common::{
    Reason,
    abi::map,
    interface::{HopEntry, InterfaceEntry},
    net::Mac,
    service::local,
    tcp::flag,
};
use alb_ebpf::builder::{Tcp, icmp::Icmp};
use alb_tests::packet_path::Action;

use super::{
    flow::Flow,
    world::{
        BALANCER_MAC, CLIENT, CLIENT_MAC, Expect, SNAT, VIP, World, dropped, passed, target_mac,
    },
};
use crate::family::addr6;

const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 18, 9, 1);

fn forwarded(reason: Reason, icmp: &Icmp) -> Expect {
    Expect { action: Action::Transmit, frame: icmp.frame6(&[]), reason, events: vec![] }
}

/// An error from the targets' side about what the client sent, quoting so much, and what the
/// client must get.
fn from_behind(flow: &Flow, (before, after): (Tcp, Tcp), data: usize) -> (Icmp, Icmp) {
    let error = Icmp {
        to: BALANCER_MAC,
        from: target_mac(flow.target),
        tags: flow.tags.clone(),
        ..Icmp::about6(ROUTER, &after, 1_300, data)
    };
    let told = Icmp {
        to: flow.client_mac,
        from: BALANCER_MAC,
        src: flow.vip.0,
        dst: flow.client.0,
        ttl: error.ttl - 1,
        body: Tcp { ttl: after.ttl, ..before }.quote6(&[], data),
        ..error.clone()
    };
    (error, told)
}

/// An error from the clients' side about what the target sent, and what the target must get.
fn from_before(flow: &Flow, (before, after): (Tcp, Tcp), data: usize) -> (Icmp, Icmp) {
    let error = Icmp {
        to: BALANCER_MAC,
        from: flow.client_mac,
        tags: flow.tags.clone(),
        ..Icmp::about6(ROUTER, &after, 1_300, data)
    };
    let told = Icmp {
        to: target_mac(flow.target),
        from: BALANCER_MAC,
        src: flow.snat.0,
        dst: before.src.0,
        ttl: error.ttl - 1,
        body: Tcp { ttl: after.ttl, ..before }.quote6(&[], data),
        ..error.clone()
    };
    (error, told)
}

#[test]
fn errors_are_translated_both_ways() {
    for (name, flow) in [
        ("plain", Flow::default()),
        ("tagged", Flow { tags: vec![(0x88a8, 0x2064), (0x8100, 7)], ..Flow::default() }),
        ("options", Flow { options: vec![1; 40], ..Flow::default() }),
    ] {
        let world = World::new();
        world.pass_on("SYN", flow.syn(), Reason::NewFlow);
        let (error, told) = from_behind(&flow, flow.syn(), 20);
        world.step("half open", &error.frame6(&[]), &forwarded(Reason::IcmpReverse, &told));
        world.pass_on("SYN-ACK", flow.syn_ack(), Reason::HandshakeReverse);
        world.pass_on("ACK", flow.ack(), Reason::Promoted);
        let packets = || (flow.later(flag::ACK, &[7; 99]), flow.answer(flag::ACK, &[8; 99]));
        for data in [8, 16, 18, 20, 500] {
            for kind in [(1, 0), (1, 4), (2, 0), (3, 0), (4, 1)] {
                let (sent, answered) = packets();
                let (error, told) = from_behind(&flow, sent, data);
                let (error, told) = (Icmp { kind, ..error }, Icmp { kind, ..told });
                world.step(name, &error.frame6(&[]), &forwarded(Reason::IcmpReverse, &told));
                let (error, told) = from_before(&flow, answered, data);
                let (error, told) = (Icmp { kind, ..error }, Icmp { kind, ..told });
                world.step(name, &error.frame6(&[]), &forwarded(Reason::IcmpForward, &told));
            }
        }
        // They are no packets of the flow.
        assert_eq!(world.flows()[&flow.key()].packets, 2, "{name}");
    }
}

#[test]
fn errors_that_go_nowhere() {
    let mut world = World::new();
    let flow = Flow::default();
    world.open(&flow);
    let (error, _) = from_before(&flow, flow.answer(flag::ACK, &[1; 9]), 20);
    let about = |change: fn(&mut Tcp)| {
        let mut packet = flow.answer(flag::ACK, &[1; 9]).1;
        change(&mut packet);
        Icmp { dst: VIP, ..from_before(&flow, (packet.clone(), packet), 20).0 }
    };
    for (name, error, reason) in [
        ("expired", Icmp { ttl: 1, ..error.clone() }, Reason::TtlExceeded),
        ("not ours", about(|packet| packet.src.0 = SNAT), Reason::BadIcmp),
        ("no flow", about(|packet| packet.dst.1 = 9), Reason::IcmpUnknownFlow),
        ("nothing quoted", Icmp { body: vec![], ..error.clone() }, Reason::BadIcmp),
        ("an error to come", Icmp { kind: (100, 1), ..error.clone() }, Reason::IcmpUnsupported),
    ] {
        let frame = error.frame6(&[]);
        world.step(name, &frame, &dropped(reason, &frame));
    }
    let fragment = error.frame6(&[(44, vec![0; 6])]);
    world.step("fragment", &fragment, &dropped(Reason::Fragment, &fragment));
    let elsewhere = Icmp { to: [2, 0, 0, 0, 7, 7], ..error.clone() }.frame6(&[]);
    world.step("another station's", &elsewhere, &passed(Reason::OtherStation, &elsewhere));
    let proxied = Tcp { src: (VIP, 443), dst: (CLIENT.0, 4_000), ..Tcp::default() };
    let error = Icmp { to: BALANCER_MAC, ..Icmp::about6(ROUTER, &proxied, 1_300, 8) }.frame6(&[]);
    world.step("nobody's", &error, &dropped(Reason::IcmpUnknownFlow, &error));
    world.prog.local6(addr6(VIP.into()), local::VIP | local::PROXY);
    world.step("the proxy's", &error, &passed(Reason::Icmp, &error));
}

#[test]
fn pings_to_a_vip_are_answered() {
    let mut world = World::new();
    let kind = (128, 0);
    let ping = Icmp { to: BALANCER_MAC, from: CLIENT_MAC, kind, ..Icmp::ping(CLIENT.0, VIP) };
    for ping in [
        ping.clone(),
        Icmp { tags: vec![(0x8100, 7)], ttl: 1, ..ping.clone() },
        Icmp { body: vec![0xff; 1_000], ..ping.clone() },
        Icmp { body: vec![], padding: 18, ..ping.clone() },
    ] {
        let answer = Icmp {
            to: ping.from,
            from: ping.to,
            src: ping.dst,
            dst: ping.src,
            ttl: 64,
            kind: (129, 0),
            ..ping.clone()
        };
        world.step("ping", &ping.frame6(&[]), &forwarded(Reason::IcmpEcho, &answer));
    }
    let own = Icmp { dst: SNAT, ..ping.clone() }.frame6(&[]);
    world.step("to the node", &own, &passed(Reason::Icmp, &own));
    let forged = Icmp { src: VIP, ..ping.clone() }.frame6(&[]);
    world.step("from the VIP", &forged, &dropped(Reason::BadSource, &forged));
    let elsewhere = Icmp { to: [0xff; 6], ..ping.clone() }.frame6(&[]);
    world.step("another station's", &elsewhere, &passed(Reason::OtherStation, &elsewhere));
    world.set(|settings| settings.rst_per_window = 0);
    let frame = ping.frame6(&[]);
    world.step("too many", &frame, &dropped(Reason::IcmpLimited, &frame));
}

#[test]
fn a_packet_too_big_for_its_way_out_is_answered() {
    for (name, flow) in [
        ("plain", Flow::default()),
        ("tagged", Flow { tags: vec![(0x8100, 7)], ..Flow::default() }),
        ("options", Flow { options: vec![1; 40], ..Flow::default() }),
    ] {
        let mut world = World::new();
        world.open(&flow);
        let mac = Mac::new(BALANCER_MAC);
        let narrow = InterfaceEntry { ifindex: 1, mac, mtu: 1_300, flags: 0 };
        world.prog.set(map::INTERFACES, 0, narrow);
        let headers = 60 + flow.options.len();
        world.pass_on(name, flow.later(flag::ACK, &vec![1; 1_300 - headers]), Reason::FlowForward);
        let large = vec![1; 1_301 - headers];
        for packet in [flow.later(flag::ACK, &large).0, flow.answer(flag::ACK, &large).0] {
            let told = Icmp {
                to: packet.from,
                from: packet.to,
                tags: packet.tags.clone(),
                ttl: 64,
                ..Icmp::about6(packet.dst.0, &packet, 1_300, 8)
            };
            world.step(name, &packet.frame6(&[]), &forwarded(Reason::FragNeeded, &told));
        }
    }
}

#[test]
fn handshakes_announce_what_fits() {
    let mut world = World::new();
    let (client, target) = ((1, 1_400), (7, 1_300));
    for (slot, (ifindex, mtu)) in [(0, client), (1, target)] {
        let entry = InterfaceEntry { ifindex, mac: Mac::new(BALANCER_MAC), mtu, flags: 0 };
        world.prog.set(map::INTERFACES, slot, entry);
    }
    let hop = HopEntry { interface: 1, ..world.prog.get::<HopEntry>(map::HOPS, 0) };
    world.prog.set(map::HOPS, 0, hop);
    let sized = |mss: u16| {
        let [high, low] = mss.to_be_bytes();
        Flow { options: vec![1, 2, 4, high, low, 3, 3, 7], ..Flow::default() }
    };
    let (syn, _) = sized(1_440).syn();
    let (_, sent) = sized(1_240).syn();
    let redirected =
        Expect { action: Action::Redirect, ..super::world::sent(Reason::NewFlow, &sent) };
    world.check("SYN", &syn, &redirected);
    let (answer, _) = sized(1_440).syn_ack();
    let (_, sent) = sized(1_340).syn_ack();
    world.pass_on("SYN-ACK", (answer, sent), Reason::HandshakeReverse);
    world.pass_on("smaller", sized(1_000).syn_ack(), Reason::HandshakeReverse);
}
