//! The source address and port towards the target.

use std::net::Ipv4Addr;

use alb_common::{
    Reason, expiry, hash,
    net::Be32,
    reason::Event,
    tcp::{FlowFlags, flag},
};
use alb_ebpf::builder::{Tcp, timestamp};
use alb_tests::packet_path::now;

use super::{
    FAMILY,
    flow::{CLIENT_ISN, Flow, TARGET_ISN},
    world::{CLIENT, IDLE, PORT_COUNT, PORT_FIRST, SNAT, SNAT_TOO, World, passed, reset, sent},
};
use crate::family::{Family, addr6};

const STRIDE: u16 = 7;

fn client(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 4, host)
}

fn spread((addr, port): (Ipv4Addr, u16)) -> u32 {
    let client = match FAMILY {
        Family::Ipv4 => Be32::from(addr).0,
        Family::Ipv6 => hash::client6(addr6(addr.into())),
    };
    hash::client(Be32(client ^ u32::from(port) << 16))
}

#[test]
fn the_client_s_own_port_if_it_can_be() {
    let world = World::new();
    let last = PORT_FIRST + PORT_COUNT - 1;
    for port in [PORT_FIRST, last] {
        world.open(&Flow::to_one(port));
    }
    for port in [1, PORT_FIRST - 1, last + 1, 65_535] {
        let slot = hash::slot(spread((CLIENT.0, port)), PORT_COUNT.into());
        let snat = (SNAT, PORT_FIRST + u16::try_from(slot).expect("in range"));
        world.open(&Flow { snat, ..Flow::to_one(port) });
    }
    assert_eq!(world.prog.active(0), 6);
}

#[test]
fn taken_ports_are_passed_over() {
    let world = World::new();
    let last = PORT_FIRST + PORT_COUNT - 1;
    // Half-open or established, a port is taken; behind the last comes the first.
    for (host, port, snat) in [
        (1, 12_000, 12_000),
        (2, 12_000, 12_000 + STRIDE),
        (3, 12_000, 12_000 + 2 * STRIDE),
        (1, last, last),
        (2, last, PORT_FIRST + STRIDE - 1),
    ] {
        let client = (client(host), port);
        let flow = Flow { client, snat: (SNAT, snat), ..Flow::to_one(port) };
        world.pass_on("SYN", flow.syn(), Reason::NewFlow);
        if host == 1 {
            world.pass_on("SYN-ACK", flow.syn_ack(), Reason::HandshakeReverse);
            world.pass_on("ACK", flow.ack(), Reason::Promoted);
        }
    }
    // Nothing is left of what was tried.
    assert_eq!((world.half_open().len(), world.flows().len()), (6, 4));
}

#[test]
fn addresses_are_used_in_turn() {
    let mut world = World::new();
    world.set_snat(0, &[SNAT, SNAT_TOO]);
    let addresses = [SNAT, SNAT_TOO];
    let [first, second] = [1, 2].map(|host| (client(host), 12_000));
    let start = |client| hash::slot(spread(client).rotate_left(16), 2) as usize;
    let chosen = addresses[start(first)];
    let flow = Flow { client: first, snat: (chosen, 12_000), ..Flow::to_one(12_000) };
    world.open(&flow);
    // The same port on the other address, or the next port if it was the other's turn.
    let own = addresses[start(second)];
    let other = addresses[(start(second) + 1) % 2];
    let snat = if own == chosen { other } else { own };
    world.open(&Flow { client: second, snat: (snat, 12_000), ..Flow::to_one(12_000) });
    assert_eq!(world.flows().len(), 4);
}

/// With so few ports that each is tried.
fn with_ports(count: u16) -> World {
    let mut world = World::new();
    world.set(|settings| {
        settings.port_count = count;
        settings.port_stride = 1;
    });
    world
}

/// Of one of these clients, whose own port is the first, on another.
fn at(host: u8, snat: u16) -> Flow {
    Flow { client: (client(host), PORT_FIRST), snat: (SNAT, snat), ..Flow::to_one(PORT_FIRST) }
}

#[test]
fn exhaustion_is_a_rst() {
    let mut world = with_ports(2);
    world.open(&at(1, PORT_FIRST));
    world.open(&at(2, PORT_FIRST + 1));
    let syn = at(3, 0).syn().0;
    world.check("none left", &syn, &reset(Reason::SnatExhausted, &syn));
    assert_eq!((world.half_open().len(), world.flows().len()), (0, 4));
    world.pass_on("others live", at(1, PORT_FIRST).later(flag::ACK, &[1]), Reason::FlowForward);

    world.set(|settings| settings.port_count = 0);
    let syn = at(4, 0).syn().0;
    world.check("no range", &syn, &reset(Reason::SnatExhausted, &syn));
}

#[test]
fn the_oldest_half_open_flow_gives_up_its_port() {
    let mut world = with_ports(4);
    world.open(&at(1, PORT_FIRST));
    let opening = [(2, 500), (3, 900), (4, 200)];
    for ((host, ticks), port) in opening.into_iter().zip(PORT_FIRST + 1..) {
        let flow = at(host, port);
        world.pass_on("SYN", flow.syn(), Reason::NewFlow);
        world.edit_half_open(flow.reverse_key(), |entry| entry.last = now().wrapping_sub(ticks));
    }
    let flow = at(5, PORT_FIRST + 2);
    let (before, after) = flow.syn();
    let expected = sent(Reason::NewFlow, &after).with(Event::HalfOpenEvicted);
    world.check("that of the third client", &before, &expected);
    assert_eq!((world.half_open().len(), world.flows().len()), (6, 2));
    assert_eq!(world.prog.active(0), 4);
    world.pass_on("SYN-ACK", flow.syn_ack(), Reason::HandshakeReverse);
    world.pass_on("ACK", flow.ack(), Reason::Promoted);
    let open = at(1, PORT_FIRST).later(flag::ACK, &[1]);
    world.pass_on("the open one lives", open, Reason::FlowForward);
}

/// A second client's SYN whose own port the first client's flow has or had.
struct Contest {
    world: World,
    first: Flow,
    second: Flow,
}

impl Contest {
    fn new(options: [Vec<u8>; 2]) -> Self {
        let world = World::new();
        let [first, second] = options.map(|options| Flow { options, ..Flow::to_one(12_000) });
        let second = Flow { client: (client(1), 12_000), ..second };
        world.open(&first);
        Self { world, first, second }
    }

    fn syn(&self, sequence: u32, port: u16) -> (Tcp, Tcp) {
        let second = Flow { snat: (SNAT, port), ..self.second.clone() };
        second.forward(flag::SYN, sequence, 0, &[])
    }

    /// The port is kept from it.
    #[track_caller]
    fn kept(self, name: &str, sequence: u32) {
        let packet = self.syn(sequence, 12_000 + STRIDE);
        self.world.pass_on(name, packet, Reason::NewFlow);
        assert_eq!(self.world.flows().len(), 2, "{name}");
    }

    /// It takes the port over.
    #[track_caller]
    fn taken(self, name: &str, sequence: u32) {
        let (before, after) = self.syn(sequence, 12_000);
        let expected = sent(Reason::NewFlow, &after).with(Event::PortReclaimed);
        self.world.check(name, &before, &expected);
        assert!(self.world.flows().is_empty(), "{name}");
        assert_eq!(self.world.prog.active(0), 1, "{name}");
        let totals = self.world.totals(0, 3);
        assert_eq!(totals.new_flows, 2, "{name}");
        assert!(totals.packets_in >= 2 && totals.packets_out >= 1, "{name}: {totals:?}");
    }

    fn age(&mut self, ticks: u32) {
        let key = self.first.reverse_key();
        self.world.edit(key, |entry| entry.last = now().wrapping_sub(ticks));
    }
}

#[test]
fn a_port_is_held_after_the_target_closed_first() {
    /// The client's next sequence number after its FIN.
    const NEXT: u32 = CLIENT_ISN + 2;
    let none = || [vec![], vec![]];
    let times = |first, second| [timestamp(first, 0), timestamp(second, 0)];
    for (name, options, sequence, is_kept) in [
        ("the same number", none(), NEXT, true),
        ("an older number", none(), NEXT - 1, true),
        ("half the space ahead", none(), NEXT.wrapping_add(1 << 31), true),
        ("a newer number", none(), NEXT + 1, false),
        ("newer in both", times(50, 51), NEXT + 1, false),
        ("the same time", times(50, 50), NEXT + 1, true),
        ("an older time", times(50, 49), NEXT + 1, true),
        ("time wrapped", times(u32::MAX, 3), NEXT + 1, false),
        ("newer time, older number", times(50, 51), NEXT, true),
        ("time only then", [timestamp(50, 0), vec![]], NEXT + 1, false),
        ("time only now", [vec![], timestamp(50, 0)], NEXT + 1, false),
    ] {
        let contest = Contest::new(options);
        contest.world.close_by_target(&contest.first);
        if is_kept { contest.kept(name, sequence) } else { contest.taken(name, sequence) }
    }

    let mut contest = Contest::new(none());
    contest.world.close_by_target(&contest.first);
    contest.age(expiry::TIME_WAIT - 600);
    contest.kept("almost over", 0);
    let mut contest = Contest::new(none());
    contest.world.close_by_target(&contest.first);
    contest.age(expiry::TIME_WAIT + 2);
    contest.taken("over", 0);
}

#[test]
fn other_ends_hold_a_port_briefly() {
    let none = || [vec![], vec![]];
    let newer = CLIENT_ISN + 1_000;
    let contest = Contest::new(none());
    contest.world.close_by_client(&contest.first);
    contest.kept("the last ACK is under way", newer);
    let mut contest = Contest::new(none());
    contest.world.close_by_client(&contest.first);
    contest.world.pass_on("last ACK", contest.first.last_ack(), Reason::FlowForward);
    contest.age(2);
    contest.taken("everything acknowledged", 0);

    let mut contest = Contest::new(none());
    let rst = contest.first.answer(flag::RST, &[]);
    contest.world.pass_on("RST", rst, Reason::FlowReverse);
    contest.age(2);
    contest.kept("a RST may be forged", newer);
    let mut contest = Contest::new(none());
    let rst = contest.first.answer(flag::RST, &[]);
    contest.world.pass_on("RST", rst, Reason::FlowReverse);
    contest.age(expiry::CLOSED + 2);
    contest.taken("reset and silent", 0);
}

#[test]
fn a_live_flow_keeps_its_port() {
    let none = || [vec![], vec![]];
    Contest::new(none()).kept("established", u32::MAX);
    let mut contest = Contest::new(none());
    contest.age(IDLE - 600);
    contest.kept("idle, not yet expired", u32::MAX);
    let mut contest = Contest::new(none());
    contest.age(IDLE + 2);
    contest.taken("expired", 0);

    let contest = Contest::new(none());
    let fin = contest.first.answer(flag::FIN | flag::ACK, &[]);
    contest.world.pass_on("FIN", fin, Reason::FlowReverse);
    let flags = contest.world.flows()[&contest.first.key()].flags;
    assert_eq!(flags, FlowFlags(FlowFlags::FIN_TARGET | FlowFlags::TARGET_FIRST));
    contest.kept("half closed", u32::MAX);
}

/// A client's flow that its target closes, on a port that is not the first that the client would have:
/// that was another client's.
fn after_a_contest() -> (World, [Flow; 2]) {
    let contest = Contest::new([vec![], vec![]]);
    let second = Flow { snat: (SNAT, 12_000 + STRIDE), ..contest.second };
    contest.world.open(&second);
    contest.world.close_by_target(&second);
    (contest.world, [contest.first, second])
}

#[test]
fn a_client_s_next_flow_has_its_port_again() {
    let (world, [_, flow]) = after_a_contest();
    let (before, after) = flow.forward(flag::SYN, CLIENT_ISN + 1_000, 0, &[]);
    let expected = sent(Reason::NewFlow, &after).with(Event::PortReclaimed);
    world.check("beyond its last", &before, &expected);
    assert_eq!((world.flows().len(), world.half_open().len()), (2, 2));
    assert_eq!(world.prog.active(0), 2);

    let (mut world, [first, flow]) = after_a_contest();
    world.close_by_client(&first);
    world.pass_on("last ACK", first.last_ack(), Reason::FlowForward);
    world.edit(first.reverse_key(), |entry| entry.last = now().wrapping_sub(2));
    let next = Flow { snat: (SNAT, 12_000 + 2 * STRIDE), ..flow.clone() };
    let (before, after) = next.forward(flag::SYN, CLIENT_ISN, 0, &[]);
    world.check("not beyond it", &before, &sent(Reason::NewFlow, &after));
    let held = world.flows()[&flow.reverse_key()];
    assert!(held.flags.is_held());
    assert!(!world.flows().contains_key(&flow.key()));

    // The address is not among the target's any more.
    let (mut world, [_, flow]) = after_a_contest();
    world.set_snat(0, &[SNAT_TOO]);
    let next = Flow { snat: (SNAT_TOO, 12_000), ..flow };
    let packet = next.forward(flag::SYN, CLIENT_ISN + 1_000, 0, &[]);
    world.pass_on("another address", packet, Reason::NewFlow);
}

#[test]
fn a_port_is_held_though_its_client_goes_elsewhere() {
    let held = || {
        let world = World::new();
        let flow = Flow::default();
        world.open(&flow);
        world.close_by_target(&flow);
        // The next turn is another target's.
        let next = Flow { target: 1, ..flow.clone() };
        world.open(&next);
        assert_eq!(world.flows().len(), 3);
        (world, flow, next)
    };
    let other =
        |snat| Flow { client: (client(1), 12_000), snat: (SNAT, snat), ..Flow::to_one(12_000) };

    let (world, flow, next) = held();
    let packet = other(12_000 + STRIDE).forward(flag::SYN, CLIENT_ISN, 0, &[]);
    world.pass_on("kept from another client", packet, Reason::NewFlow);
    let late = flow.answer(flag::ACK, &[]).0;
    world.check("of no flow", &late, &passed(Reason::HostTraffic, &late.frame()));
    world.pass_on("its client's", next.later(flag::ACK, &[1]), Reason::FlowForward);

    let (world, flow, next) = held();
    let (before, after) = other(12_000).forward(flag::SYN, CLIENT_ISN + 1_000, 0, &[]);
    let expected = sent(Reason::NewFlow, &after).with(Event::PortReclaimed);
    world.check("beyond the last", &before, &expected);
    assert!(!world.flows().contains_key(&flow.reverse_key()));
    world.pass_on("its client's lives", next.later(flag::ACK, &[1]), Reason::FlowForward);

    let (mut world, flow, next) = held();
    world.edit(flow.reverse_key(), |entry| {
        entry.last = now().wrapping_sub(expiry::TIME_WAIT + 2);
    });
    let (before, after) = other(12_000).forward(flag::SYN, CLIENT_ISN, 0, &[]);
    let expected = sent(Reason::NewFlow, &after).with(Event::PortReclaimed);
    world.check("its time is over", &before, &expected);
    world.pass_on("its client's lives", next.later(flag::ACK, &[1]), Reason::FlowForward);
    assert_eq!((world.prog.active(0), world.prog.active(1)), (1, 1));
}

#[test]
fn held_ports_are_taken_before_anybody_is_refused() {
    let mut world = with_ports(4);
    world.open(&at(1, PORT_FIRST));
    for (host, port, ticks) in [(2, PORT_FIRST + 1, 500), (3, PORT_FIRST + 2, 900)] {
        let flow = at(host, port);
        world.open(&flow);
        world.close_by_target(&flow);
        world.edit(flow.reverse_key(), |entry| entry.last = now().wrapping_sub(ticks));
    }
    // Whose RST may be forged goes on, perhaps.
    let reset_flow = at(4, PORT_FIRST + 3);
    world.open(&reset_flow);
    world.pass_on("RST", reset_flow.answer(flag::RST, &[]), Reason::FlowReverse);

    for (host, port) in [(5, PORT_FIRST + 2), (6, PORT_FIRST + 1)] {
        let (before, after) = at(host, port).forward(flag::SYN, CLIENT_ISN, 0, &[]);
        let expected =
            sent(Reason::NewFlow, &after).with(Event::PortTakenEarly).with(Event::PortReclaimed);
        world.check("the longest silent one's", &before, &expected);
    }
    assert_eq!((world.half_open().len(), world.flows().len()), (4, 4));
    world.pass_on(
        "the open one lives",
        at(1, PORT_FIRST).later(flag::ACK, &[1]),
        Reason::FlowForward,
    );
    assert_eq!(world.prog.active(0), 3);
}

#[test]
fn a_port_is_not_taken_while_its_flow_may_repeat_what_was_lost() {
    type Close = fn(&World, &Flow);
    for (name, close, ticks) in [
        ("the last ACK is under way", (|world, flow| world.close_by_client(flow)) as Close, 900),
        ("closed just now", |world, flow| world.close_by_target(flow), 2),
    ] {
        let mut world = World::new();
        world.set(|settings| settings.port_count = 1);
        let flow = Flow { snat: (SNAT, PORT_FIRST), ..Flow::to_one(12_000) };
        world.open(&flow);
        close(&world, &flow);
        world.edit(flow.reverse_key(), |entry| entry.last = now().wrapping_sub(ticks));
        let other = Flow { client: (client(1), 12_000), ..flow.clone() };
        let syn = other.forward(flag::SYN, CLIENT_ISN, 0, &[]).0;
        world.check(name, &syn, &reset(Reason::SnatExhausted, &syn));
        world.pass_on(name, flow.later(flag::ACK, &[1]), Reason::FlowForward);
    }
}

#[test]
fn a_syn_of_a_target_s_frees_no_port() {
    let world = World::new();
    let flow = Flow::to_one(12_000);
    world.open(&flow);
    world.close_by_target(&flow);
    let syn = flow.reverse(flag::SYN, TARGET_ISN, 0, &[]).0;
    world.check("of no flow", &syn, &passed(Reason::HostTraffic, &syn.frame()));
    // Both entries or none: a forward one would be nobody's.
    assert!(world.flows().is_empty());
}
