//! Which target a SYN goes to.

use std::net::Ipv4Addr;

use alb_common::{
    Reason,
    abi::map,
    hash,
    selection::weighted,
    service::{ListenerEntry, ListenerState, algorithm},
};
use alb_tests::packet_path::Sizes;

use super::{
    flow::Flow,
    world::{HASHED, SNAT, TARGETS, TURNS, VIP, WEB, World, client_hash, reset},
};

#[test]
fn round_robin_takes_slots_in_turn() {
    let world = World::new();
    for turn in 0..9u16 {
        let target = TURNS[usize::from(turn) % TURNS.len()];
        let flow = Flow { target, ..Flow::from(12_000 + turn) };
        world.pass_on("SYN", flow.syn(), Reason::NewFlow);
        // Neither a repeat nor anything else takes a turn.
        world.pass_on("SYN again", flow.syn(), Reason::HandshakeForward);
        world.pass_on("SYN-ACK", flow.syn_ack(), Reason::HandshakeReverse);
        world.pass_on("ACK", flow.ack(), Reason::Promoted);
        let state: ListenerState = world.prog.get(map::LISTENER_STATES, 0);
        assert_eq!(state.turn, u64::from(turn) + 1);
    }
    assert_eq!((0..TARGETS).map(|index| world.prog.active(index)).collect::<Vec<_>>(), [5, 2, 2]);
}

#[test]
fn ip_hash_sticks_to_the_client_s_address() {
    let world = World::new();
    let mut hits = [0; TARGETS as usize];
    for host in 0..10u8 {
        let client = Ipv4Addr::new(198, 18, 3, host);
        let target = hash::slot(client_hash(client), TARGETS);
        hits[target as usize] += 1;
        for port in [12_000, 12_001] {
            let port = port + 10 * u16::from(host);
            let flow = Flow {
                client: (client, port),
                vip: (VIP, HASHED),
                snat: (SNAT, port),
                target,
                ..Flow::default()
            };
            world.open(&flow);
        }
    }
    assert!(hits.iter().all(|hit| *hit > 0), "{hits:?}");
}

#[test]
fn a_switched_table_counts_for_new_flows_only() {
    let mut world = World::new();
    let old = Flow::default();
    world.open(&old);
    // Slots 4, 5, 6 are targets 0, 1, 2; the turn goes on at 1.
    let algorithm = algorithm::ROUND_ROBIN;
    world.listen(
        WEB,
        ListenerEntry { offset: 6, len: 1, index: 0, algorithm, ..ListenerEntry::default() },
    );
    let flow = Flow { target: 2, ..Flow::from(12_001) };
    world.open(&flow);
    world.pass_on("an old flow", old.later(0x10, &[1]), Reason::FlowForward);

    world.listen(
        WEB,
        ListenerEntry { offset: 6, len: 0, index: 0, algorithm, ..ListenerEntry::default() },
    );
    let syn = Flow::from(12_002).syn().0;
    world.check("no target left", &syn, &reset(Reason::NoHealthyTarget, &syn));
    world.pass_on("an old flow again", old.later(0x10, &[1]), Reason::FlowForward);
}

#[test]
fn an_extent_beyond_the_slots_has_no_target() {
    let mut world = World::new();
    let algorithm = algorithm::ROUND_ROBIN;
    world.listen(
        WEB,
        ListenerEntry { offset: u32::MAX, len: 1, index: 0, algorithm, ..ListenerEntry::default() },
    );
    let syn = Flow::default().syn().0;
    world.check("SYN", &syn, &reset(Reason::NoHealthyTarget, &syn));
}

const LEAST: u16 = 84;
const LEAST_INDEX: u16 = 4;

/// A world with a least-connection listener over these slots of target and weight.
fn least(slots: &[(u32, u8)]) -> World {
    let size = u32::try_from(slots.len()).expect("few slots");
    let sizes =
        Sizes { flows: 512, half_open: 512, ring: 256, slots: 7 + size, ..Sizes::default() };
    let mut world = World::sized(sizes);
    for (place, (target, weight)) in (7..).zip(slots) {
        world.prog.set(map::SLOTS, place, weighted(*target, *weight));
    }
    let algorithm = algorithm::LEAST_CONN;
    world.listen(
        LEAST,
        ListenerEntry {
            offset: 7,
            len: size,
            index: LEAST_INDEX,
            algorithm,
            ..ListenerEntry::default()
        },
    );
    world
}

fn to_least(port: u16, target: u32) -> Flow {
    Flow { vip: (VIP, LEAST), target, ..Flow::from(port) }
}

#[test]
fn least_connections_follow_the_weights() {
    const WEIGHTS: [u8; 3] = [3, 2, 1];
    let world = least(&[(0, 3), (1, 2), (2, 1)]);
    let mut held = [0u64; 3];
    for turn in 0..60u16 {
        // The fewest for its weight; among equals the first from this turn's slot on.
        let order = (0..3).map(|step| usize::from(turn + step) % 3);
        let share = |index: usize| 6 * held[index] / u64::from(WEIGHTS[index]);
        let target = order.min_by_key(|index| share(*index)).expect("three targets");
        held[target] += 1;
        let flow = to_least(12_000 + turn, u32::try_from(target).expect("few targets"));
        if turn % 2 == 0 {
            world.open(&flow);
        } else {
            world.pass_on("half-open flows count", flow.syn(), Reason::NewFlow);
        }
    }
    assert_eq!(held, [30, 20, 10]);
    assert_eq!((0..TARGETS).map(|index| world.prog.active(index)).collect::<Vec<_>>(), held);
}

#[test]
fn a_flow_that_ends_makes_room() {
    let world = least(&[(0, 10), (1, 10)]);
    let flows: Vec<Flow> = (0..4).map(|n| to_least(12_000 + n, u32::from(n % 2))).collect();
    for flow in &flows {
        world.open(flow);
    }
    world.close_by_client(&flows[1]);
    world.close_by_client(&flows[3]);
    for port in 12_100..12_102 {
        world.open(&to_least(port, 1));
    }
}

#[test]
fn the_least_of_a_thousand_is_found_wherever_the_search_begins() {
    for (len, at) in [(1_000, 0), (1_000, 999), (999, 998), (13, 8), (8, 7), (1, 0)] {
        let mut slots = vec![(1, 10); len];
        slots[at] = (2, 10);
        let mut world = least(&slots);
        world.prog.set_active(1, 500);
        for (port, turn) in (12_000..).zip([0, 1, 7, 8, 500, 998, 999]) {
            let state = ListenerState { turn, idle: u64::from(super::world::IDLE) };
            world.prog.set(map::LISTENER_STATES, LEAST_INDEX.into(), state);
            world.pass_on("SYN", to_least(port, 2).syn(), Reason::NewFlow);
        }
    }
}

#[test]
fn a_counter_that_is_too_low_is_not_the_largest() {
    let mut world = least(&[(0, 1), (1, 1)]);
    world.prog.set_active(1, u64::MAX);
    world.open(&to_least(12_000, 1));
    assert_eq!(world.prog.active(1), 0);
}

#[test]
fn least_connections_without_a_target() {
    let mut world = least(&[(0, 1)]);
    let algorithm = algorithm::LEAST_CONN;
    let syn = to_least(12_000, 0).syn().0;
    for (offset, len) in [(7, 0), (u32::MAX, 1)] {
        world.listen(
            LEAST,
            ListenerEntry {
                offset,
                len,
                index: LEAST_INDEX,
                algorithm,
                ..ListenerEntry::default()
            },
        );
        world.check("SYN", &syn, &reset(Reason::NoHealthyTarget, &syn));
    }
}
