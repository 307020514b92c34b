//! Which target a SYN goes to.

use std::net::Ipv4Addr;

use alb_common::{
    Reason,
    abi::map,
    hash,
    service::{ListenerEntry, ListenerState, algorithm},
};

use super::{
    flow::Flow,
    world::{HASHED, SNAT, TARGETS, TURNS, VIP, WEB, World, reset},
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
        let target = hash::slot(hash::client(client.into()), TARGETS);
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
    world.listen(WEB, ListenerEntry { offset: 6, len: 1, index: 0, algorithm });
    let flow = Flow { target: 2, ..Flow::from(12_001) };
    world.open(&flow);
    world.pass_on("an old flow", old.later(0x10, &[1]), Reason::FlowForward);

    world.listen(WEB, ListenerEntry { offset: 6, len: 0, index: 0, algorithm });
    let syn = Flow::from(12_002).syn().0;
    world.check("no target left", &syn, &reset(Reason::NoHealthyTarget, &syn));
    world.pass_on("an old flow again", old.later(0x10, &[1]), Reason::FlowForward);
}

#[test]
fn an_extent_beyond_the_slots_has_no_target() {
    let mut world = World::new();
    let algorithm = algorithm::ROUND_ROBIN;
    world.listen(WEB, ListenerEntry { offset: u32::MAX, len: 1, index: 0, algorithm });
    let syn = Flow::default().syn().0;
    world.check("SYN", &syn, &reset(Reason::NoHealthyTarget, &syn));
}
