//! Packets that are made to break something: each is dropped or passed by its rule, counted, and
//! leaves the flows as they were.

use alb_common::{
    Reason,
    tcp::{flag, plausible},
};
use alb_ebpf::builder::{Tcp, timestamp};

use super::{
    flow::Flow,
    world::{World, dropped, passed},
};

const PSH: u8 = flag::ACK | flag::PSH;

#[test]
fn flags_that_no_stack_sends() {
    let world = World::new();
    let flow = Flow::default();
    world.open(&flow);
    let before = world.flows();
    let odd: Vec<u8> = (0..=u8::MAX).filter(|flags| !plausible(*flags)).collect();
    for christmas_tree in [0x00, 0x01, 0x03, 0x06, 0x29, 0x3f, 0xff] {
        assert!(odd.contains(&christmas_tree), "{christmas_tree:#x}");
    }
    for flags in odd {
        for packet in [
            flow.later(flags, &[1]).0,
            flow.answer(flags, &[1]).0,
            Flow::from(12_001).later(flags, &[]).0,
        ] {
            let expected = dropped(Reason::BadTcpFlags, &packet.frame());
            world.check(&format!("{flags:#x}"), &packet, &expected);
        }
    }
    assert_eq!(world.flows(), before);
    assert!(world.half_open().is_empty());
}

#[test]
fn fragments_that_overlap() {
    let world = World::new();
    let flow = Flow::default();
    world.open(&flow);
    let before = world.flows();
    let (whole, _) = flow.later(PSH, &[7; 64]);
    for (name, fragment, data) in [
        ("first", 0x2000, vec![7; 64]),
        ("a tiny first", 0x2000, vec![]),
        ("over the flags", 0x2001, vec![2; 16]),
        ("over the data", 0x2003, vec![9; 64]),
        ("over the end", 0x0009, vec![9; 64]),
        ("the last possible", 0x1fff, vec![9; 64]),
        ("may not be fragmented", 0x6000, vec![9; 64]),
    ] {
        let packet = Tcp { fragment, data, ..whole.clone() };
        world.check(name, &packet, &dropped(Reason::Fragment, &packet.frame()));
    }
    assert_eq!(world.flows(), before);
}

#[test]
fn stacks_of_vlan_tags() {
    let world = World::new();
    // What is deeper is left to them.
    let world = World { prog: world.prog.with_ipv6(), ..world };
    let tagged = |kinds: &[u16]| Flow {
        tags: kinds.iter().map(|kind| (*kind, 0x0fff)).collect(),
        ..Flow::default()
    };
    for kinds in [
        [0x8100, 0x8100, 0x8100].as_slice(),
        &[0x88a8, 0x88a8],
        &[0x8100, 0x88a8],
        &[0x9100, 0x8100],
        &[0x88a8, 0x8100, 0x8100, 0x8100, 0x8100],
    ] {
        let frame = tagged(kinds).syn().0.frame();
        world.step(&format!("{kinds:x?}"), &frame, &passed(Reason::NotIp, &frame));
        for cut in 14..14 + 4 * kinds.len() {
            let (action, out) = world.prog.run(&frame[..cut]);
            assert_eq!(
                (action == alb_tests::packet_path::Action::Redirect, out.len()),
                (false, cut)
            );
        }
    }
    let priority = Flow { tags: vec![(0x8100, 0xe000)], ..Flow::default() };
    world.pass_on("priority alone", priority.syn(), Reason::NewFlow);
}

#[test]
fn runts() {
    let world = World::new();
    let frame = Flow::default().syn().0.frame();
    for len in 15..frame.len() {
        let reason = if len < 34 { Reason::Truncated } else { Reason::BadIpHeader };
        world.step(&format!("{len} bytes"), &frame[..len], &dropped(reason, &frame[..len]));
    }
    for (name, said, reason) in [
        ("says nothing", 0u16, Reason::BadIpHeader),
        ("says less than its header", 19, Reason::BadIpHeader),
        ("says no TCP header", 20, Reason::BadTcpHeader),
        ("says half a TCP header", 30, Reason::BadTcpHeader),
        ("says one byte too many", 41, Reason::BadIpHeader),
        ("says all that can be", u16::MAX, Reason::BadIpHeader),
    ] {
        let mut frame = frame.clone();
        frame[16..18].copy_from_slice(&said.to_be_bytes());
        world.step(name, &frame, &dropped(reason, &frame));
    }
    assert!(world.half_open().is_empty());
}

#[test]
fn absurd_options() {
    let world = World::new();
    let mut port = 12_000;
    for (name, options) in [
        ("of length 0", vec![8, 0, 2, 0]),
        ("of length 1", vec![2, 1, 2, 1]),
        ("longer than the header", vec![8, 255, 0, 0]),
        ("kinds of no meaning", vec![253, 4, 254, 4, 255, 4, 1, 0]),
        ("nothing but NOPs", vec![1; 40]),
        ("the end, and then more", [vec![0; 4], timestamp(1, 2)].concat()),
        ("two sizes", vec![2, 4, 0, 0, 2, 4, 0xff, 0xff]),
        ("a size of 0", vec![2, 4, 0, 0]),
        ("a size that is cut", vec![1, 1, 1, 2]),
        ("a timestamp that is cut", vec![1, 1, 8, 10]),
        ("ten timestamps", timestamp(1, 2).repeat(3)),
    ] {
        port += 1;
        let flow = Flow { options, ..Flow::to_one(port) };
        world.pass_on(name, flow.syn(), Reason::NewFlow);
        world.pass_on(name, flow.syn_ack(), Reason::HandshakeReverse);
        world.pass_on(name, flow.ack(), Reason::Promoted);
        world.pass_on(name, flow.later(flag::FIN | flag::ACK, &[]), Reason::FlowForward);
    }
    for ip_options in [vec![0; 40], vec![7, 0, 0, 0], vec![131, 255, 1, 1], vec![1, 1, 1, 68]] {
        port += 1;
        let flow = Flow { ip_options, ..Flow::to_one(port) };
        world.pass_on("of IPv4", flow.syn(), Reason::NewFlow);
    }
}

#[test]
fn windows_and_urgent_pointers_are_not_ours() {
    let world = World::new();
    let flow = Flow::default();
    world.open(&flow);
    for window in [0, 1, u16::MAX] {
        let with =
            |(before, after): (Tcp, Tcp)| (Tcp { window, ..before }, Tcp { window, ..after });
        world.pass_on("probe", with(flow.later(flag::ACK, &[0])), Reason::FlowForward);
        world.pass_on("closed", with(flow.answer(flag::ACK, &[])), Reason::FlowReverse);
        world.pass_on("urgent", with(flow.later(PSH | flag::URG, &[1])), Reason::FlowForward);
    }
}
