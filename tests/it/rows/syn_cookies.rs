//! Clients that have to prove themselves while too many SYNs come to nothing.

use std::net::Ipv4Addr;

use alb_common::{Reason, net::Address as _, syn, tcp::flag};
use alb_tests::{cpu, packet_path::now};

use super::{
    FAMILY,
    flow::{CLIENT_ISN, Flow},
    world::{DEAD, Expect, HASHED, VIP, World, answer, dropped, key},
};
use crate::family::{Family, addr6};

/// SYNs that may come to nothing; a quarter of them towards one target.
const LIMIT: u32 = 8;
/// Whose SYNs come to nothing.
const FLOODER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

/// One whose SYNs are counted by this thread's CPU alone.
fn world() -> World {
    cpu::stay_on_one();
    let mut world = World::new();
    world.set(|settings| settings.syn_limit = LIMIT);
    world
}

/// More SYNs than may come to nothing, also if a window ends meanwhile: for a second at least,
/// clients have to prove themselves.
fn flood(world: &World) {
    for port in 0..3 * u16::try_from(LIMIT).expect("few") {
        let flow = Flow { client: (FLOODER, 20_000 + port), ..Flow::default() };
        world.run_both(&flow.syn().0.frame());
    }
}

/// The cookie that a flow's SYN is answered with in an epoch, reckoned from what is documented.
fn cookie(world: &World, flow: &Flow, epoch: u32) -> u32 {
    let key = key(&flow.syn().0);
    let (src, dst) = match FAMILY {
        Family::Ipv4 => (key.src.mapped(), key.dst.mapped()),
        Family::Ipv6 => (addr6(key.src), addr6(key.dst)),
    };
    let join = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
    let [k0, k1, k2, k3] = world.settings.syn_key;
    let last = u64::from(key.sport.0) << 48 | u64::from(key.dport.0) << 32 | u64::from(epoch);
    let words = [
        join(src.0[0], src.0[1]),
        join(src.0[2], src.0[3]),
        join(dst.0[0], dst.0[1]),
        join(dst.0[2], dst.0[3]),
        last,
    ];
    let low = syn::siphash([join(k0, k1), join(k2, k3)], words) & u64::from(u32::MAX);
    syn::acknowledgment(u32::try_from(low).expect("32 bits"), CLIENT_ISN)
}

/// What answers a SYN now: the SYN-ACK with the cookie.
fn challenge(flow: &Flow, cookie: u32) -> Expect {
    answer(Reason::SynChallenged, &flow.syn().0, (0, cookie, flag::SYN | flag::ACK))
}

/// Has a flow's SYN answered, in whichever epoch that is; the cookie.
#[track_caller]
fn challenged(world: &World, flow: &Flow) -> u32 {
    // An epoch is 8.6 s; the next attempt is in one for sure.
    for _ in 0..10 {
        let epoch = syn::epoch(now());
        let cookie = cookie(world, flow, epoch);
        flood(world);
        if syn::epoch(now()) == epoch {
            world.check("a SYN", &flow.syn().0, &challenge(flow, cookie));
            return cookie;
        }
    }
    panic!("epochs pass too fast");
}

#[test]
fn a_client_proves_itself_once() {
    let world = world();
    let flow = Flow::to_one(13_000);
    let cookie = challenged(&world, &flow);
    // As a stack answers an acknowledgment of what it has not sent.
    let (rst, _) = flow.forward(flag::RST, cookie, 0, &[]);
    world.check("the answer", &rst, &dropped(Reason::SynProven, &rst.frame()));
    flood(&world);
    for port in [13_000, 13_001] {
        let flow = Flow::to_one(port);
        world.pass_on("the SYN again", flow.syn(), Reason::NewFlow);
        world.pass_on("SYN-ACK", flow.syn_ack(), Reason::HandshakeReverse);
        world.pass_on("ACK", flow.ack(), Reason::Promoted);
    }
    if FAMILY == Family::Ipv4 {
        // Of an IPv6 network it is the same client.
        let other = Flow { client: (Ipv4Addr::new(198, 18, 0, 177), 13_000), ..flow };
        challenged(&world, &other);
    }
}

#[test]
fn a_guess_proves_nothing() {
    let world = world();
    let flow = Flow::to_one(13_000);
    let cookie = challenged(&world, &flow);
    for wrong in [cookie.wrapping_add(1), CLIENT_ISN + 1, 0] {
        let (rst, _) = flow.forward(flag::RST, wrong, 0, &[]);
        world.check("a guess", &rst, &dropped(Reason::UnexpectedRst, &rst.frame()));
    }
    // Another's is not good for this one.
    let (rst, _) = Flow::to_one(13_001).forward(flag::RST, cookie, 0, &[]);
    world.check("another port", &rst, &dropped(Reason::UnexpectedRst, &rst.frame()));
    challenged(&world, &flow);
}

#[test]
fn a_proof_that_is_repeated_hides_no_flood() {
    let world = world();
    let flow = Flow::to_one(13_000);
    let cookie = cookie(&world, &flow, syn::epoch(now()));
    let (rst, _) = flow.forward(flag::RST, cookie, 0, &[]);
    // Also if a window ends meanwhile; no target has them, which would tell of a flood by itself.
    for port in 0..6 * u16::try_from(LIMIT).expect("few") {
        world.run_both(&rst.frame());
        let flow = Flow { client: (FLOODER, 20_000 + port), vip: (VIP, DEAD), ..Flow::default() };
        world.run_both(&flow.syn().0.frame());
    }
    let counters = world.prog.counters();
    assert!(counters.contains_key("syn_proven"), "the proof was good: {counters:?}");
    assert!(counters.contains_key("syn_challenged"), "{counters:?}");
}

#[test]
fn handshakes_that_are_completed_are_no_flood() {
    let world = world();
    for port in 13_000..13_000 + 3 * u16::try_from(LIMIT).expect("few") {
        let flow = Flow::to_one(port);
        world.pass_on("SYN", flow.syn(), Reason::NewFlow);
        world.pass_on("SYN-ACK", flow.syn_ack(), Reason::HandshakeReverse);
        world.pass_on("ACK", flow.ack(), Reason::Promoted);
    }
}

#[test]
fn one_target_is_protected_apart() {
    let mut world = world();
    // Nobody floods the node.
    world.set(|settings| settings.syn_limit = 400);
    for port in 0..300 {
        let flow = Flow { client: (FLOODER, 20_000 + port), ..Flow::to_one(0) };
        world.run_both(&flow.syn().0.frame());
    }
    let counters = world.prog.counters();
    let (opened, held) = (counters["new_flow"], counters["syn_challenged"]);
    assert!(opened >= 100 && held >= 50, "{opened} {held}");
    // The others are another matter: of some clients, one has the second or the third.
    for last in 1..60 {
        let client = (Ipv4Addr::new(198, 18, 0, last), 13_000);
        let flow = Flow { client, vip: (VIP, HASHED), ..Flow::default() };
        world.run_both(&flow.syn().0.frame());
    }
    assert!(world.prog.counters()["new_flow"] > opened, "others are served");
}
