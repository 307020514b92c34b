//! Targets whose flows are over.

use alb_common::{
    Reason,
    abi::map,
    interface::{HopEntry, hop_flag},
    target::TargetTimes,
    tcp::{FlowFlags as F, flag},
};
use alb_tests::packet_path::now;

use super::{
    flow::Flow,
    world::{World, reset},
};

/// Ends the flows of a target this many ticks from now.
fn cut(world: &mut World, target: u32, from_now: u32) {
    let hop: HopEntry = world.prog.get(map::HOPS, target);
    world.prog.set(map::HOPS, target, HopEntry { flags: hop_flag::DRAINS, ..hop });
    let cut_at = now().wrapping_add(from_now);
    world.prog.set(map::TARGET_TIMES, target, TargetTimes { cut_at, ..TargetTimes::default() });
    world.set(|settings| settings.draining = 1);
}

#[test]
fn a_flow_lives_until_its_target_has_drained_and_both_sides_are_told() {
    let mut world = World::new();
    let flow = Flow::default();
    let other = Flow { target: 1, ..Flow::from(12_001) };
    world.open(&flow);
    world.open(&other);
    cut(&mut world, 0, 1_000);
    world.pass_on("data", flow.later(flag::ACK, &[1; 9]), Reason::FlowForward);
    world.pass_on("data back", flow.answer(flag::ACK, &[1; 9]), Reason::FlowReverse);

    cut(&mut world, 0, 0);
    let told = |world: &World| {
        let flows = world.flows();
        [flow.key(), flow.reverse_key()].map(|key| flows[&key].flags.has(F::CUT))
    };
    assert_eq!(told(&world), [false, false]);
    for (name, (packet, _), expected) in [
        ("from the client", flow.later(flag::ACK, &[1; 100]), [true, false]),
        ("again", flow.later(flag::FIN | flag::ACK, &[]), [true, false]),
        ("from the target", flow.answer(flag::ACK | flag::PSH, &[1; 5]), [true, true]),
    ] {
        // Its sequence number is what the receiver has acknowledged.
        world.check(name, &packet, &reset(Reason::FlowCut, &packet));
        assert_eq!(told(&world), expected, "{name}");
    }
    world.pass_on("another target's", other.later(flag::ACK, &[1]), Reason::FlowForward);
    world.pass_on("and back", other.answer(flag::ACK, &[1]), Reason::FlowReverse);
}

#[test]
fn a_rst_passes_and_is_never_answered() {
    let mut world = World::new();
    let flow = Flow::default();
    world.open(&flow);
    cut(&mut world, 0, 0);
    world.pass_on("RST", flow.later(flag::RST, &[]), Reason::FlowForward);
    // The target takes no RST that is not within its window: it is told as well.
    let flags = world.flows()[&flow.key()].flags;
    assert!(flags.has(F::CUT) && !flags.closed());
    let data = flow.answer(flag::ACK, &[1; 5]).0;
    world.check("from the target", &data, &reset(Reason::FlowCut, &data));
}

#[test]
fn a_syn_on_a_flow_that_is_over_goes_to_another_target() {
    let mut world = World::new();
    // Slots of the listener: 0, 1, 0, 2.
    let established = Flow::default();
    world.open(&established);
    let at_one = Flow { target: 1, ..Flow::from(12_001) };
    world.open(&at_one);
    let half_open = Flow::from(12_002);
    world.pass_on("SYN", half_open.syn(), Reason::NewFlow);
    cut(&mut world, 0, 0);
    let again = Flow { target: 2, ..half_open };
    world.open(&again);
    // The turn is target 0's again, which is in the table still: what matters is that the SYN
    // opens a flow.
    world.pass_on("SYN", established.syn(), Reason::NewFlow);
    assert_eq!((0..3).map(|target| world.prog.active(target)).collect::<Vec<_>>(), [1, 1, 1]);
}
