//! ICMP to our addresses: translated, answered, left to the host or dropped; and the messages that
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
use alb_ebpf::builder::{
    Tcp,
    icmp::{Icmp, quote},
};
use alb_tests::packet_path::Action;

use super::{
    flow::Flow,
    world::{
        BALANCER_MAC, CLIENT, CLIENT_MAC, Expect, SNAT, VIP, World, dropped, passed, target_mac,
    },
};

const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 18, 9, 1);

fn forwarded(reason: Reason, icmp: &Icmp) -> Expect {
    Expect { action: Action::Transmit, frame: icmp.frame(), reason, events: vec![] }
}

/// An error from the targets' side about what the client sent, quoting so much, and what the
/// client must get.
fn from_behind(flow: &Flow, (before, after): (Tcp, Tcp), data: usize) -> (Icmp, Icmp) {
    let error = Icmp {
        to: BALANCER_MAC,
        from: target_mac(flow.target),
        tags: flow.tags.clone(),
        ..Icmp::about(ROUTER, &after, 1_300, data)
    };
    let told = Icmp {
        to: flow.client_mac,
        from: BALANCER_MAC,
        src: flow.vip.0,
        dst: flow.client.0,
        ttl: error.ttl - 1,
        body: quote(&Tcp { ttl: after.ttl, ..before }, data),
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
        ..Icmp::about(ROUTER, &after, 1_300, data)
    };
    let told = Icmp {
        to: target_mac(flow.target),
        from: BALANCER_MAC,
        src: flow.snat.0,
        dst: before.src.0,
        ttl: error.ttl - 1,
        body: quote(&Tcp { ttl: after.ttl, ..before }, data),
        ..error.clone()
    };
    (error, told)
}

#[test]
fn errors_are_translated_both_ways() {
    let q = vec![(0x88a8, 0x2064), (0x8100, 7)];
    for (name, flow) in [
        ("plain", Flow::default()),
        ("tagged", Flow { tags: q, ..Flow::default() }),
        ("options", Flow { ip_options: vec![1; 40], options: vec![1; 40], ..Flow::default() }),
    ] {
        let world = World::new();
        world.open(&flow);
        let packets = || (flow.later(flag::ACK, &[7; 99]), flow.answer(flag::ACK, &[8; 99]));
        for data in [8, 16, 18, 20, 500] {
            for kind in [(3, 4), (3, 1), (11, 0), (12, 0)] {
                let (sent, answered) = packets();
                let (error, told) = from_behind(&flow, sent, data);
                let (error, told) = (Icmp { kind, ..error }, Icmp { kind, ..told });
                world.step(name, &error.frame(), &forwarded(Reason::IcmpReverse, &told));
                let (error, told) = from_before(&flow, answered, data);
                let (error, told) = (Icmp { kind, ..error }, Icmp { kind, ..told });
                world.step(name, &error.frame(), &forwarded(Reason::IcmpForward, &told));
            }
        }
        // They are no packets of the flow.
        assert_eq!(world.flows()[&flow.key()].packets, 2, "{name}");
    }
}

#[test]
fn errors_about_half_open_flows_are_translated() {
    let world = World::new();
    let flow = Flow::default();
    world.pass_on("SYN", flow.syn(), Reason::NewFlow);
    let (error, told) = from_behind(&flow, flow.syn(), 20);
    world.step("no host", &error.frame(), &forwarded(Reason::IcmpReverse, &told));
    world.pass_on("SYN-ACK", flow.syn_ack(), Reason::HandshakeReverse);
    let (error, told) = from_before(&flow, flow.syn_ack(), 20);
    world.step("no client", &error.frame(), &forwarded(Reason::IcmpForward, &told));
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
    let small = InterfaceEntry { ifindex: 1, mac: Mac::new(BALANCER_MAC), mtu: 90, flags: 0 };
    for (name, error, reason) in [
        ("expired", Icmp { ttl: 1, ..error.clone() }, Reason::TtlExceeded),
        ("not ours", about(|packet| packet.src.0 = SNAT), Reason::BadIcmp),
        ("no flow", about(|packet| packet.dst.1 = 9), Reason::IcmpUnknownFlow),
        ("no port", about(|packet| packet.src.1 = 9), Reason::IcmpUnknownFlow),
        ("nothing quoted", Icmp { body: vec![], ..error.clone() }, Reason::BadIcmp),
        ("redirect", Icmp { kind: (5, 1), ..error.clone() }, Reason::IcmpUnsupported),
        ("fragment", Icmp { fragment: 0x2000, ..error.clone() }, Reason::Fragment),
    ] {
        world.step(name, &error.frame(), &dropped(reason, &error.frame()));
    }
    let elsewhere = Icmp { to: [2, 0, 0, 0, 7, 7], ..error.clone() }.frame();
    world.step("another station's", &elsewhere, &passed(Reason::OtherStation, &elsewhere));
    world.prog.set(map::INTERFACES, 0, small);
    let long = from_before(&flow, flow.answer(flag::ACK, &[1; 99]), 99).0.frame();
    world.step("too long", &long, &dropped(Reason::MtuExceeded, &long));
    world.prog.set(map::INTERFACES, 0, InterfaceEntry::default());
    world.step("no interface", &error.frame(), &passed(Reason::OtherStation, &error.frame()));
}

#[test]
fn what_is_the_host_s_own() {
    let mut world = World::new();
    let to = |icmp: Icmp| Icmp { to: BALANCER_MAC, from: CLIENT_MAC, ..icmp };
    let own = Tcp { src: (SNAT, 45_000), dst: (CLIENT.0, 22), ..Tcp::default() };
    let error = to(Icmp::about(ROUTER, &own, 1_300, 8));
    let ping = to(Icmp::ping(CLIENT.0, SNAT));
    let fragment = Icmp { fragment: 0x2000, ..ping.clone() };
    let redirect = Icmp { kind: (5, 1), ..error.clone() };
    for icmp in [&error, &ping, &fragment, &redirect] {
        world.step("to the node", &icmp.frame(), &passed(Reason::Icmp, &icmp.frame()));
    }
    let proxied = Tcp { src: (VIP, 443), dst: (CLIENT.0, 4_000), ..Tcp::default() };
    let error = to(Icmp::about(ROUTER, &proxied, 1_300, 8)).frame();
    world.step("nobody's", &error, &dropped(Reason::IcmpUnknownFlow, &error));
    world.prog.local(VIP, local::VIP | local::PROXY);
    world.step("the proxy's", &error, &passed(Reason::Icmp, &error));
}

#[test]
fn pings_to_a_vip_are_answered() {
    let mut world = World::new();
    let ping = Icmp { to: BALANCER_MAC, from: CLIENT_MAC, ..Icmp::ping(CLIENT.0, VIP) };
    let answer = |ping: &Icmp| Icmp {
        to: ping.from,
        from: ping.to,
        src: ping.dst,
        dst: ping.src,
        ttl: 64,
        kind: (0, 0),
        ..ping.clone()
    };
    for ping in [
        ping.clone(),
        Icmp { tags: vec![(0x8100, 7)], ttl: 1, ..ping.clone() },
        Icmp { ip_options: vec![1; 40], body: vec![0xff; 1_000], ..ping.clone() },
        Icmp { body: vec![], padding: 18, ..ping.clone() },
    ] {
        let expected = forwarded(Reason::IcmpEcho, &answer(&ping));
        world.step("ping", &ping.frame(), &expected);
    }
    let from = |src: [u8; 4]| Icmp { src: src.into(), ..ping.clone() };
    for (name, icmp, reason) in [
        ("from a group", from([224, 0, 0, 1]), Reason::BadSource),
        ("from broadcast", from([255; 4]), Reason::BadSource),
        ("from the VIP", from(VIP.octets()), Reason::BadSource),
        ("fragment", Icmp { fragment: 0x2000, ..ping.clone() }, Reason::Fragment),
        ("timestamp request", Icmp { kind: (13, 0), ..ping.clone() }, Reason::IcmpUnsupported),
        ("echo reply", Icmp { kind: (0, 0), ..ping.clone() }, Reason::IcmpUnsupported),
    ] {
        world.step(name, &icmp.frame(), &dropped(reason, &icmp.frame()));
    }
    let elsewhere = Icmp { to: [0xff; 6], ..ping.clone() }.frame();
    world.step("another station's", &elsewhere, &passed(Reason::OtherStation, &elsewhere));
    world.set(|settings| settings.rst_per_window = 0);
    world.step("too many", &ping.frame(), &dropped(Reason::IcmpLimited, &ping.frame()));
}

#[test]
fn a_packet_too_big_for_its_way_out_is_answered() {
    let narrow = |world: &mut World, mtu| {
        let entry = InterfaceEntry { ifindex: 1, mac: Mac::new(BALANCER_MAC), mtu, flags: 0 };
        world.prog.set(map::INTERFACES, 0, entry);
    };
    for (name, flow) in [
        ("plain", Flow::default()),
        ("tagged", Flow { tags: vec![(0x8100, 7)], ..Flow::default() }),
        ("options", Flow { ip_options: vec![1; 40], options: vec![1; 40], ..Flow::default() }),
    ] {
        let mut world = World::new();
        world.open(&flow);
        narrow(&mut world, 1_300);
        let headers = 40 + flow.ip_options.len() + flow.options.len();
        world.pass_on(name, flow.later(flag::ACK, &vec![1; 1_300 - headers]), Reason::FlowForward);
        let large = vec![1; 1_301 - headers];
        for packet in [flow.later(flag::ACK, &large).0, flow.answer(flag::ACK, &large).0] {
            let told = Icmp {
                to: packet.from,
                from: packet.to,
                tags: packet.tags.clone(),
                id: 0,
                ttl: 64,
                ..Icmp::about(packet.dst.0, &packet, 1_300, 8)
            };
            world.step(name, &packet.frame(), &forwarded(Reason::FragNeeded, &told));
        }
        world.set(|settings| settings.rst_per_window = 0);
        let packet = flow.later(flag::ACK, &large).0.frame();
        world.step("too many", &packet, &dropped(Reason::IcmpLimited, &packet));
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
    let hop = world.prog.get::<HopEntry>(map::HOPS, 0);
    let hop = HopEntry { interface: 1, ..hop };
    world.prog.set(map::HOPS, 0, hop);
    let sized = |mss: u16| {
        let [high, low] = mss.to_be_bytes();
        Flow { options: vec![1, 2, 4, high, low, 3, 3, 7], ..Flow::default() }
    };
    // The way back is by the client's interface, from the target's.
    let (syn, _) = sized(1_460).syn();
    let (_, sent) = sized(1_260).syn();
    let redirected =
        Expect { action: Action::Redirect, ..super::world::sent(Reason::NewFlow, &sent) };
    world.check("SYN", &syn, &redirected);
    let again = Expect { reason: Reason::HandshakeForward, ..redirected };
    world.check("the same again", &syn, &again);
    // This one comes in by the client's interface too, where the test runs.
    let (answer, _) = sized(1_460).syn_ack();
    let (_, sent) = sized(1_360).syn_ack();
    world.pass_on("SYN-ACK", (answer, sent), Reason::HandshakeReverse);
    world.pass_on("smaller", sized(1_000).syn_ack(), Reason::HandshakeReverse);
}
