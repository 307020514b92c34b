//! FIN, RST, what they leave behind, and how it is collected.

use alb_common::{
    Reason,
    abi::map,
    expiry,
    flow::{FlowEntry, Totals},
    reason::Event,
    tcp::{FlowFlags as F, flag},
};
use alb_ebpf::builder::timestamp;
use alb_tests::packet_path::{Sizes, now};

use super::{
    flow::{CLIENT_ISN, Flow, TARGET_ISN},
    world::{HEADERS, LEAST, ROOM, World, sent},
};

const FIN: u8 = flag::FIN | flag::ACK;
const BOTH: u8 = F::FIN_CLIENT | F::FIN_TARGET;

/// State in both entries, the reverse one's mark taken off.
#[track_caller]
fn state(world: &World, flow: &Flow) -> u8 {
    let flows = world.flows();
    let (forward, reverse) = (flows[&flow.key()].flags, flows[&flow.reverse_key()].flags);
    assert_eq!(forward.0 | F::REVERSE, reverse.0);
    forward.0
}

#[test]
fn the_client_closes_first() {
    let world = World::new();
    let flow = Flow { options: timestamp(77, 88), ..Flow::default() };
    world.open(&flow);
    world.pass_on("FIN", flow.later(FIN, &[]), Reason::FlowForward);
    assert_eq!(state(&world, &flow), F::FIN_CLIENT);
    world.pass_on("FIN again", flow.later(FIN, &[]), Reason::FlowForward);
    world.pass_on("data back", flow.answer(flag::ACK, &[1; 500]), Reason::FlowReverse);
    assert_eq!(world.prog.active(0), 1);
    world.pass_on("target's FIN", flow.answer(FIN, &[]), Reason::FlowReverse);
    assert_eq!(state(&world, &flow), BOTH);
    assert_eq!(world.prog.active(0), 0);
    let totals = Totals {
        new_flows: 1,
        packets_in: 4,
        packets_out: 3,
        bytes_in: 4 * (HEADERS as u64 + 12),
        bytes_out: 3 * (HEADERS as u64 + 12) + 500,
    };
    assert_eq!(world.totals(0, 0), totals);

    world.pass_on("not all", flow.later(flag::ACK, &[]), Reason::FlowForward);
    assert_eq!(state(&world, &flow), BOTH);
    world.pass_on("last ACK", flow.last_ack(), Reason::FlowForward);
    assert_eq!(state(&world, &flow), BOTH | F::DONE);
    world.pass_on("FIN once more", flow.answer(FIN, &[]), Reason::FlowReverse);
    assert_eq!(state(&world, &flow), BOTH | F::DONE);
    assert_eq!(world.totals(0, 0), totals);
    assert_eq!(world.prog.active(0), 0);
    let flows = world.flows();
    let (forward, reverse) = (flows[&flow.key()], flows[&flow.reverse_key()]);
    assert_eq!(reverse.packets, TARGET_ISN.wrapping_add(2));
    assert_eq!(reverse.bytes, u64::from(CLIENT_ISN + 1) << 32);
    assert_eq!((forward.packets, forward.bytes), (0, 0));
}

#[test]
fn the_target_closes_first() {
    for (options, last_timestamp) in [(vec![], 0), (timestamp(0x8000_0001, 9), 0x8000_0001)] {
        let world = World::new();
        let flow = Flow { options, ..Flow::default() };
        world.open(&flow);
        world.pass_on("FIN", flow.answer(FIN, &[]), Reason::FlowReverse);
        assert_eq!(state(&world, &flow), F::FIN_TARGET | F::TARGET_FIRST);
        world.pass_on("client's FIN", flow.later(FIN, &[1; 5]), Reason::FlowForward);
        assert_eq!(state(&world, &flow), BOTH | F::TARGET_FIRST);
        world.pass_on("last ACK", flow.answer(flag::ACK, &[]), Reason::FlowReverse);
        let reverse = world.flows()[&flow.reverse_key()];
        // What a target in TIME-WAIT has seen last: the next sequence number, the timestamp.
        assert_eq!(reverse.bytes, u64::from(CLIENT_ISN + 1 + 6) << 32 | last_timestamp);
        assert_eq!((world.totals(0, 0).packets_in, world.totals(0, 0).packets_out), (3, 2));
        assert_eq!(world.prog.active(0), 0);
    }
}

#[test]
fn a_rst_closes() {
    let flow = Flow::default();
    let from_client = flow.later(flag::RST, &[]);
    let from_target = flow.answer(flag::RST | flag::ACK, &[]);
    for (name, packet, reason, rst) in [
        ("from the client", from_client, Reason::FlowForward, F::RST_CLIENT),
        ("from the target", from_target, Reason::FlowReverse, F::RST_TARGET),
    ] {
        let world = World::new();
        world.open(&flow);
        world.pass_on(name, packet.clone(), reason);
        world.pass_on("again", packet, reason);
        assert_eq!(state(&world, &flow), rst, "{name}");
        assert_eq!(world.prog.active(0), 0, "{name}");
        let totals = world.totals(0, 0);
        assert_eq!(totals.packets_in + totals.packets_out, 4, "{name}");
    }
}

#[test]
fn a_forged_rst_is_withdrawn_by_its_alleged_sender() {
    let world = World::new();
    let flow = Flow::default();
    world.open(&flow);
    world.pass_on("RST", flow.later(flag::RST, &[]), Reason::FlowForward);
    world.pass_on("under way", flow.answer(flag::ACK, &[1; 9]), Reason::FlowReverse);
    assert_eq!((state(&world, &flow), world.prog.active(0)), (F::RST_CLIENT, 0));
    world.pass_on("data", flow.later(flag::ACK, &[1; 100]), Reason::FlowForward);
    assert_eq!((state(&world, &flow), world.prog.active(0)), (0, 1));
    world.pass_on("data", flow.later(flag::ACK, &[1; 100]), Reason::FlowForward);
    let forward = world.flows()[&flow.key()];
    assert_eq!((forward.packets, forward.bytes), (1, HEADERS as u64 + 100));

    world.pass_on("RST", flow.later(flag::RST, &[]), Reason::FlowForward);
    world.pass_on("a SYN is the target's to judge", flow.syn(), Reason::FlowForward);
    assert_eq!((state(&world, &flow), world.prog.active(0)), (0, 1));
}

#[test]
fn a_lost_state_is_found_in_the_other_entry() {
    let mut world = World::new();
    let flow = Flow::default();
    world.open(&flow);
    world.pass_on("FIN", flow.later(FIN, &[]), Reason::FlowForward);
    // As if another CPU had written the target's FIN at the same time.
    world.edit(flow.key(), |entry| entry.flags = F(0));
    world.pass_on("FIN", flow.answer(FIN, &[]), Reason::FlowReverse);
    assert_eq!(state(&world, &flow), BOTH);
}

#[test]
fn a_rst_after_both_fins_counts_nothing_twice() {
    let world = World::new();
    let flow = Flow::default();
    world.open(&flow);
    world.close_by_client(&flow);
    let totals = world.totals(0, 0);
    world.pass_on("RST", flow.later(flag::RST, &[]), Reason::FlowForward);
    assert_eq!(world.totals(0, 0), totals);
    assert_eq!(world.prog.active(0), 0);
}

#[test]
fn a_syn_on_a_closing_tuple_starts_anew() {
    type Close = fn(&World, &Flow);
    let flow = Flow::default();
    let rst: Close = |world, flow| {
        world.pass_on("RST", flow.answer(flag::RST, &[]), Reason::FlowReverse);
    };
    for (name, close) in [
        ("closed by the client", (|world, flow| world.close_by_client(flow)) as Close),
        ("closed by the target", |world, flow| world.close_by_target(flow)),
        ("reset", rst),
    ] {
        let world = World::new();
        world.open(&flow);
        close(&world, &flow);
        let totals = world.totals(0, 0);
        // A target in TIME-WAIT keeps its port.
        let held = usize::from(world.flows()[&flow.reverse_key()].flags.leaves_time_wait());
        // The next turn is another target's.
        let flow = Flow { target: 1, ..flow.clone() };
        world.open(&flow);
        assert_eq!(world.flows().len(), 2 + held, "{name}");
        assert_eq!((world.prog.active(0), world.prog.active(1)), (0, 1), "{name}");
        assert_eq!(world.prog.totals(alb_common::abi::map::TARGET_TOTALS, 0), totals, "{name}");
    }

    let world = World::new();
    world.open(&flow);
    world.pass_on("FIN", flow.later(FIN, &[]), Reason::FlowForward);
    world.pass_on("SYN while half closed", flow.syn(), Reason::FlowForward);
}

#[test]
fn closed_flows_are_collected_in_their_time() {
    const RING: u16 = 4;
    let mut world = World::sized(Sizes { ring: RING.into(), ..Sizes::default() });
    let flows: Vec<Flow> = (0..=RING).map(|n| Flow::to_one(12_000 + n)).collect();
    for flow in &flows[..usize::from(RING)] {
        world.open(flow);
        world.close_by_client(flow);
    }
    let (oldest, last) = (&flows[0], &flows[usize::from(RING)]);
    world.open(last);
    world.pass_on("FIN", last.later(FIN, &[]), Reason::FlowForward);
    for key in [oldest.key(), oldest.reverse_key()] {
        world.edit(key, |entry| entry.last = now().wrapping_sub(expiry::TIME_WAIT + 2));
    }
    let (before, after) = last.answer(FIN, &[]);
    let expected = sent(Reason::FlowReverse, &after).with(Event::ClosedReclaimed);
    world.check("the ring is full", &before, &expected);
    let left = world.flows();
    assert_eq!(left.len(), 2 * usize::from(RING));
    assert!(!left.contains_key(&oldest.key()) && !left.contains_key(&oldest.reverse_key()));

    let next = Flow::to_one(13_000);
    world.open(&next);
    world.close_by_client(&next);
    assert!(world.flows().contains_key(&flows[1].key()), "its time has not come");
}

/// Closes flows until the ring of so many places, of which one is used, comes round to that: its flow
/// is collected.
#[track_caller]
fn collects_the_first(world: &World, ring: u16) {
    for port in 13_001..13_000 + ring {
        let other = Flow::to_one(port);
        world.open(&other);
        world.close_by_client(&other);
    }
    let last = Flow::to_one(13_000);
    world.open(&last);
    world.pass_on("FIN", last.later(FIN, &[]), Reason::FlowForward);
    let (before, after) = last.answer(FIN, &[]);
    let expected = sent(Reason::FlowReverse, &after).with(Event::ClosedReclaimed);
    world.check("the ring is full", &before, &expected);
}

#[test]
fn ports_that_are_held_are_collected_in_their_time() {
    const RING: u16 = 4;
    let mut world = World::sized(Sizes { ring: RING.into(), ..Sizes::default() });
    let flow = Flow::default();
    world.open(&flow);
    world.close_by_target(&flow);
    let next = Flow { target: 1, ..flow.clone() };
    world.open(&next);
    let age = |entry: &mut FlowEntry| entry.last = now().wrapping_sub(expiry::TIME_WAIT + 2);
    world.edit(flow.reverse_key(), age);
    assert!(world.flows()[&flow.reverse_key()].flags.is_held());
    collects_the_first(&world, RING);
    assert!(!world.flows().contains_key(&flow.reverse_key()));
    world.pass_on("the client's next lives", next.later(flag::ACK, &[1]), Reason::FlowForward);
    world.pass_on("both ways", next.answer(flag::ACK, &[1]), Reason::FlowReverse);
}

#[test]
fn a_full_table_collects_closed_flows() {
    let mut world = World::sized(Sizes { flows: LEAST, ..Sizes::default() });
    let open: Vec<_> = (12_001..).take(ROOM / 2).map(Flow::to_one).collect();
    let (first, third) = (&open[0], Flow::to_one(13_000));
    for flow in &open {
        world.open(flow);
    }
    world.pass_on("SYN", third.syn(), Reason::NewFlow);
    world.pass_on("SYN-ACK", third.syn_ack(), Reason::HandshakeReverse);
    let full =
        |(before, after)| (before, sent(Reason::FlowTableFull, &after).with(Event::TableFull));
    for (name, packet) in [("ACK", third.ack()), ("data", third.later(flag::ACK, &[1]))] {
        let (packet, expected) = full(packet);
        world.check(name, &packet, &expected);
        world.pass_on("answer", third.answer(flag::ACK, &[2]), Reason::HandshakeReverse);
    }
    assert_eq!((world.flows().len(), world.half_open().len()), (ROOM, 2));
    let (before, after) = third.ack();
    let [mut before, mut after] = [before, after];
    // Far into the transfer, long after the handshake.
    for tcp in [&mut before, &mut after] {
        tcp.ack = tcp.ack.wrapping_add(200_000);
    }
    let (packet, expected) = full((before, after));
    world.check("200 kB later", &packet, &expected);

    world.close_by_client(first);
    let (packet, expected) = full(third.ack());
    world.check("closed just now", &packet, &expected);

    for key in [first.key(), first.reverse_key()] {
        world.edit(key, |entry| entry.last = now().wrapping_sub(expiry::TIME_WAIT + 2));
    }
    let (packet, after) = third.ack();
    let expected =
        sent(Reason::Promoted, &after).with(Event::TableFull).with(Event::ClosedReclaimed);
    world.check("closed a while ago", &packet, &expected);
    assert!(world.half_open().is_empty());
    assert!(!world.flows().contains_key(&first.key()));
    assert!(world.flows().contains_key(&third.reverse_key()));
    assert_eq!(world.prog.active(0), open.len() as u64);
}

#[test]
fn what_a_killed_daemon_left_of_a_flow_takes_nothing_of_its_client_s_next() {
    const RING: u16 = 4;
    let mut world = World::sized(Sizes { ring: RING.into(), ..Sizes::default() });
    let flow = Flow::default();
    world.open(&flow);
    world.close_by_client(&flow);
    let left = world.flows()[&flow.reverse_key()];
    world.pass_on("last ACK", flow.last_ack(), Reason::FlowForward);
    let next = Flow { target: 1, ..flow.clone() };
    world.open(&next);
    // As if the daemon had died after it removed the forward entry.
    let last = now().wrapping_sub(expiry::TIME_WAIT + 2);
    world.put([map::FLOWS, map::FLOWS6], flow.reverse_key(), FlowEntry { last, ..left });
    collects_the_first(&world, RING);
    assert!(!world.flows().contains_key(&flow.reverse_key()));
    world.pass_on("the client's next lives", next.later(flag::ACK, &[1]), Reason::FlowForward);
    assert_eq!(world.prog.active(1), 1);
}
