//! Half-open flows are bounded, and the oldest give way.

use alb_common::{Reason, abi::map, flow::FlowEntry, reason::Event, tcp::flag};
use alb_tests::packet_path::Sizes;

use super::{
    flow::{CLIENT_ISN, Flow},
    world::{LEAST, ROOM, World, dropped, passed, sent},
};

const RING: u16 = 4;

#[test]
fn the_oldest_half_open_flow_gives_way() {
    let world = World::sized(Sizes { ring: RING.into(), ..Sizes::default() });
    let established = Flow::to_one(11_000);
    world.open(&established);
    let flows: Vec<_> = (0..=RING).map(|n| Flow::to_one(12_000 + n)).collect();
    for flow in &flows[..usize::from(RING)] {
        // The first of these overwrites the established flow's place, and evicts nothing.
        world.pass_on("SYN", flow.syn(), Reason::NewFlow);
    }
    world.pass_on("SYN again takes no place", flows[1].syn(), Reason::HandshakeForward);
    assert_eq!(world.prog.active(0), 1 + u64::from(RING));

    let (before, after) = flows[usize::from(RING)].syn();
    let expected = sent(Reason::NewFlow, &after).with(Event::HalfOpenEvicted);
    world.check("one too many", &before, &expected);
    assert_eq!(world.prog.active(0), 1 + u64::from(RING));
    let left = world.half_open();
    assert_eq!(left.len(), 2 * usize::from(RING));
    assert!(!left.contains_key(&flows[0].key()) && !left.contains_key(&flows[0].reverse_key()));
    assert_eq!(world.flows().len(), 2);

    let late = flows[0].syn_ack().0;
    world.check("the SYN-ACK of none", &late, &passed(Reason::HostTraffic, &late.frame()));
    world.pass_on("others go on", flows[1].syn_ack(), Reason::HandshakeReverse);
    world.pass_on("and are promoted", flows[1].ack(), Reason::Promoted);
}

#[test]
fn a_place_left_behind_evicts_no_younger_flow_of_the_same_client() {
    let world = World::sized(Sizes { ring: RING.into(), ..Sizes::default() });
    let client = Flow::to_one(12_000);
    let first = Flow::to_one(13_000);
    world.pass_on("SYN", client.syn(), Reason::NewFlow);
    let refused = client.reverse(flag::RST | flag::ACK, 0, CLIENT_ISN + 1, &[]);
    world.pass_on("refused", refused, Reason::HandshakeReverse);
    world.pass_on("another", first.syn(), Reason::NewFlow);
    world.pass_on("again", client.syn(), Reason::NewFlow);
    world.pass_on("another", Flow::to_one(13_001).syn(), Reason::NewFlow);
    // The place of the refused one.
    world.pass_on("a fifth", Flow::to_one(13_002).syn(), Reason::NewFlow);
    assert!(world.half_open().contains_key(&client.key()));

    let (before, after) = Flow::to_one(13_003).syn();
    let expected = sent(Reason::NewFlow, &after).with(Event::HalfOpenEvicted);
    world.check("the oldest goes", &before, &expected);
    assert!(!world.half_open().contains_key(&first.key()));
}

#[test]
fn a_full_half_open_table_refuses() {
    // With room for one entry too: then the client's finds none, and the target's is taken back.
    for left in [0, 1] {
        let mut world = World::sized(Sizes { half_open: LEAST, ..Sizes::default() });
        if left > 0 {
            let key = Flow::to_one(14_000).key();
            world.put([map::HALF_OPEN, map::HALF_OPEN6], key, FlowEntry::default());
        }
        let flows: Vec<_> = (12_000..).take(ROOM / 2 - left).map(Flow::to_one).collect();
        for flow in &flows {
            world.pass_on("SYN", flow.syn(), Reason::NewFlow);
        }
        let next = Flow::to_one(13_000);
        let syn = next.syn().0;
        world.check("no room", &syn, &dropped(Reason::HalfOpenFull, &syn.frame()));
        assert_eq!(world.half_open().len(), ROOM - left);
        let made = flows.len() as u64;
        assert_eq!((world.prog.active(0), world.totals(0, 3).new_flows), (made, made));
        world.pass_on("SYN-ACK", flows[0].syn_ack(), Reason::HandshakeReverse);
        world.pass_on("ACK", flows[0].ack(), Reason::Promoted);
        world.pass_on("room again", next.syn(), Reason::NewFlow);
    }
}
