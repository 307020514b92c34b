//! Packets of established flows, both ways.

use alb_common::{Reason, abi::map, clock, tcp::flag};
use alb_ebpf::builder::{Tcp, timestamp};
use alb_tests::packet_path::{Sizes, now};

use super::{
    FAMILY,
    flow::Flow,
    world::{HEADERS, SNAT, VIP, World, dropped, reset, sent},
};
use crate::family::Family;

const PSH: u8 = flag::ACK | flag::PSH;

#[test]
fn data_both_ways() {
    let q = |kinds: &[u16]| kinds.iter().map(|kind| (*kind, 0x2064)).collect::<Vec<_>>();
    for (name, flow) in [
        ("plain", Flow::default()),
        ("tagged", Flow { tags: q(&[0x8100]), ..Flow::default() }),
        ("tagged twice", Flow { tags: q(&[0x88a8, 0x8100]), ..Flow::default() }),
        ("IP options", Flow { ip_options: vec![7, 4, 4, 0], ..Flow::default() }),
        ("most IP options", Flow { ip_options: vec![1; 40], ..Flow::default() }),
        ("TCP options", Flow { options: timestamp(5, 6), ..Flow::default() }),
        (
            "all of them",
            Flow {
                tags: q(&[0x8100, 0x8100]),
                ip_options: vec![1; 40],
                options: vec![1; 40],
                ..Flow::default()
            },
        ),
    ] {
        let world = World::new();
        world.open(&flow);
        for data in [vec![], vec![1], vec![0xff; 100], vec![7; 1_001]] {
            world.pass_on(name, flow.later(PSH, &data), Reason::FlowForward);
            world.pass_on(name, flow.answer(PSH, &data), Reason::FlowReverse);
        }
        let flows = world.flows();
        let (forward, reverse) = (flows[&flow.key()], flows[&flow.reverse_key()]);
        let of_ip = if FAMILY == Family::Ipv4 { flow.ip_options.len() } else { 0 };
        let header = HEADERS + of_ip + flow.options.len();
        assert_eq!((forward.packets, reverse.packets), (2 + 4, 1 + 4), "{name}");
        assert_eq!(forward.bytes, 6 * header as u64 + 1_102, "{name}");
        assert_eq!(reverse.bytes, 5 * header as u64 + 1_102, "{name}");
    }
}

#[test]
fn the_clock_is_read_anew_in_another_jiffy() {
    let mut world = World::new();
    let flow = Flow::default();
    world.open(&flow);
    let old = clock::keep(0x1234_5678, 5);
    world.prog.set(map::CLOCK, 0, old);
    let before = now();
    world.pass_on("data", flow.later(PSH, &[1]), Reason::FlowForward);
    let last = world.flows()[&flow.key()].last;
    assert!((before - 1..=now()).contains(&last), "{before}, {last}");
    assert_ne!(world.prog.get::<u64>(map::CLOCK, 0), old);
}

#[test]
fn a_wrong_checksum_goes_on_wrong() {
    let world = World::new();
    let flow = Flow::default();
    world.open(&flow);
    let (before, after) = flow.later(PSH, &[1, 2, 3, 4]);
    let spoil = |tcp: &Tcp| {
        let mut frame = tcp.frame();
        let last = frame.len() - 1;
        frame[last] ^= 0x10;
        frame
    };
    let mut expected = sent(Reason::FlowForward, &after);
    expected.frame = spoil(&after);
    world.step("a flipped bit", &spoil(&before), &expected);
}

#[test]
fn padding_goes_on() {
    let world = World::new();
    let flow = Flow::default();
    world.open(&flow);
    let pad = |tcp: Tcp| Tcp { padding: 6, ..tcp };
    let (before, after) = flow.later(flag::ACK, &[]);
    world.pass_on("forward", (pad(before), pad(after)), Reason::FlowForward);
    let (before, after) = flow.answer(flag::ACK, &[]);
    world.pass_on("reverse", (pad(before), pad(after)), Reason::FlowReverse);
}

#[test]
fn ends_of_the_way() {
    let mut world = World::new();
    let flow = Flow::default();
    world.open(&flow);
    for ttl in [0, 1] {
        for packet in [flow.later(PSH, &[1]).0, flow.answer(PSH, &[1]).0] {
            let packet = Tcp { ttl, ..packet };
            let expected = dropped(Reason::TtlExceeded, &packet.frame());
            world.check("expired", &packet, &expected);
        }
    }

    let fits = vec![1; 1_500 - HEADERS];
    world.pass_on("as large as the MTU", flow.later(PSH, &fits), Reason::FlowForward);

    let hop = alb_common::interface::HopEntry::default();
    world.prog.set(alb_common::abi::map::HOPS, 0, hop);
    let packet = flow.later(PSH, &[1]).0;
    let expected = dropped(Reason::NoNextHop, &packet.frame());
    world.check("no next hop", &packet, &expected);
    world.pass_on("replies have one", flow.answer(PSH, &[1]), Reason::FlowReverse);
}

#[test]
fn multi_buffer_frames() {
    let mut world = World::new();
    let flow = Flow::default();
    world.open(&flow);
    let interface = alb_common::interface::InterfaceEntry {
        ifindex: 1,
        mac: alb_common::net::Mac::new(super::world::BALANCER_MAC),
        mtu: 9_000,
        flags: 0,
    };
    world.prog.set(alb_common::abi::map::INTERFACES, 0, interface);
    for len in [3_000, 5_000, 9_000 - HEADERS] {
        let data: Vec<u8> = (0..251).cycle().take(len).collect();
        world.pass_on("jumbo forward", flow.later(PSH, &data), Reason::FlowForward);
        world.pass_on("jumbo reverse", flow.answer(PSH, &data), Reason::FlowReverse);
    }
    let unknown = Flow::from(12_001).later(PSH, &[3; 8_000]).0;
    world.check("answered", &unknown, &reset(Reason::UnknownFlow, &unknown));
    let whole = flow.later(PSH, &[3; 8_000]).0;
    let mut cut = match FAMILY {
        Family::Ipv4 => whole.frame(),
        Family::Ipv6 => whole.frame6(&[]),
    };
    cut.pop();
    world.step("longer than its buffers", &cut, &dropped(Reason::BadIpHeader, &cut));
}

#[test]
fn a_repeated_syn_is_the_target_s_business() {
    let world = World::new();
    let flow = Flow::default();
    world.open(&flow);
    world.pass_on("SYN", flow.syn(), Reason::FlowForward);
    world.pass_on("challenge", flow.answer(flag::ACK, &[]), Reason::FlowReverse);
    assert_eq!(world.flows().len(), 2);
}

#[test]
fn neighbouring_tuples_are_unknown() {
    let world = World::sized(Sizes::default());
    let flow = Flow::default();
    world.open(&flow);
    let near = Flow { client: (flow.client.0, flow.client.1 + 1), ..flow.clone() };
    let packet = near.later(PSH, &[]).0;
    world.check("other client port", &packet, &reset(Reason::UnknownFlow, &packet));
    let near = Flow { snat: (SNAT, flow.snat.1 + 1), ..flow };
    let packet = near.answer(PSH, &[]).0;
    let expected = super::world::passed(Reason::HostTraffic, &packet.frame());
    world.check("other SNAT port", &packet, &expected);
    let packet = Tcp { dst: (VIP, 9), ..packet };
    world.check("a target to the VIP", &packet, &reset(Reason::NoListener, &packet));
}
