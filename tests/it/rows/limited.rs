//! Listeners with a limit, and targets that start slowly.

use alb_common::{
    Reason,
    abi::map,
    interface::{HopEntry, hop_flag},
    service::{ListenerEntry, algorithm},
    target::TargetTimes,
    tcp::flag,
};
use alb_tests::packet_path::now;

use super::{
    flow::Flow,
    world::{ONE, VIP, WEB, World, reset},
};

/// Index of [`ONE`], and of a listener that has part of its limit.
const INDEX: u16 = 3;
const SIBLING: u16 = 9;

fn limit(world: &mut World, max: u32) {
    let algorithm = algorithm::ROUND_ROBIN;
    let entry = ListenerEntry {
        len: 1,
        index: INDEX,
        algorithm,
        max,
        sibling: SIBLING,
        ..ListenerEntry::default()
    };
    world.listen(ONE, entry);
}

fn open_flows(world: &World, index: u16) -> u64 {
    world.prog.get(map::LISTENER_ACTIVE, index.into())
}

#[test]
fn a_full_listener_resets_syns_until_a_flow_ends() {
    let mut world = World::new();
    limit(&mut world, 3);
    let flows: Vec<_> = (0..4).map(|n| Flow::to_one(12_000 + n)).collect();
    world.open(&flows[0]);
    // Half-open ones count, and those on the other address.
    world.pass_on("SYN", flows[1].syn(), Reason::NewFlow);
    world.prog.set(map::LISTENER_ACTIVE, SIBLING.into(), 1u64);
    assert_eq!(open_flows(&world, INDEX), 2);
    let syn = flows[2].syn().0;
    world.check("full", &syn, &reset(Reason::ListenerFull, &syn));
    assert!(!world.half_open().contains_key(&flows[2].key()));
    world.pass_on("SYN again", flows[1].syn(), Reason::HandshakeForward);
    world.pass_on("data", flows[0].later(flag::ACK, &[1]), Reason::FlowForward);
    let other = Flow::from(13_000);
    world.pass_on("another listener", other.syn(), Reason::NewFlow);

    world.close_by_client(&flows[0]);
    assert_eq!(open_flows(&world, INDEX), 1);
    world.pass_on("room again", flows[2].syn(), Reason::NewFlow);
    // A RST ends one too, and its withdrawal begins it again.
    world.pass_on("SYN-ACK", flows[2].syn_ack(), Reason::HandshakeReverse);
    world.pass_on("ACK", flows[2].ack(), Reason::Promoted);
    world.pass_on("RST", flows[2].later(flag::RST, &[]), Reason::FlowForward);
    assert_eq!(open_flows(&world, INDEX), 1);
    world.pass_on("data", flows[2].later(flag::ACK, &[1]), Reason::FlowForward);
    assert_eq!(open_flows(&world, INDEX), 2);
    // A counter that is too low is not many.
    world.prog.set(map::LISTENER_ACTIVE, INDEX.into(), u64::MAX);
    world.pass_on("below none", flows[3].syn(), Reason::NewFlow);
    assert_eq!(open_flows(&world, INDEX), 0);
}

#[test]
fn a_starting_target_takes_a_growing_part_of_its_turns() {
    const RAMP: u32 = 100_000;
    let taken = |elapsed: Option<u32>| {
        let mut world = World::sized(alb_tests::packet_path::Sizes {
            half_open: 1_024,
            ring: 512,
            ..Default::default()
        });
        let hop: HopEntry = world.prog.get(map::HOPS, 0);
        if let Some(elapsed) = elapsed {
            world.prog.set(map::HOPS, 0, HopEntry { flags: hop_flag::STARTS, ..hop });
            let start = now().wrapping_sub(elapsed);
            let times = TargetTimes { start, ramp: RAMP, ..TargetTimes::default() };
            world.prog.set(map::TARGET_TIMES, 0, times);
        }
        // Half of the turns are target 0's.
        for n in 0..200 {
            let flow = Flow { vip: (VIP, WEB), ..Flow::from(12_000 + n) };
            world.run(&flow.syn().0.frame());
        }
        let [first, second, third] = [0, 1, 2].map(|target| world.prog.active(target));
        assert_eq!(first + second + third, 200);
        assert!(second.abs_diff(third) < 60, "{second} {third}");
        first
    };
    assert_eq!(taken(None), 100);
    assert_eq!(taken(Some(RAMP)), 100);
    let (tenth, half) = (taken(Some(RAMP / 10)), taken(Some(RAMP / 2)));
    assert!((5..16).contains(&tenth), "{tenth}");
    assert!((44..57).contains(&half), "{half}");
}
