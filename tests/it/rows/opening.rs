//! From the SYN to the established flow.

use alb_common::{
    Reason,
    abi::map,
    flow::{FlowEntry, Totals},
    interface::{HopEntry, InterfaceEntry},
    net::Mac,
    tcp::{FlowFlags, flag},
};

use alb_ebpf::builder::Tcp;

use super::{
    flow::{CLIENT_ISN, Flow, TARGET_ISN},
    world::{CLIENT_MAC, HEADERS, World, dropped, reset},
};

#[test]
fn a_handshake() {
    let world = World::new();
    let flow = Flow::default();
    world.pass_on("SYN", flow.syn(), Reason::NewFlow);
    let keys = [flow.key(), flow.reverse_key()];
    assert!(world.half_open().keys().all(|key| keys.contains(key)));
    assert_eq!((world.half_open().len(), world.flows().len()), (2, 0));
    assert_eq!(world.prog.active(0), 1);

    world.pass_on("SYN again", flow.syn(), Reason::HandshakeForward);
    world.pass_on("SYN-ACK", flow.syn_ack(), Reason::HandshakeReverse);
    world.pass_on("SYN-ACK again", flow.syn_ack(), Reason::HandshakeReverse);
    world.pass_on("ACK", flow.ack(), Reason::Promoted);

    assert!(world.half_open().is_empty());
    let flows = world.flows();
    let (forward, reverse) = (flows[&flow.key()], flows[&flow.reverse_key()]);
    assert_eq!(flows.len(), 2);
    let mut expected = FlowEntry {
        tag: flow.key().tag(),
        src: flow.reverse_key().dst,
        dst: flow.reverse_key().src,
        sport: flow.reverse_key().dport,
        dport: flow.reverse_key().sport,
        mac: Mac::new(CLIENT_MAC),
        packets: 2,
        // Two SYNs and the ACK.
        bytes: 3 * HEADERS as u64,
        check_delta: forward.check_delta,
        last: forward.last,
        ..FlowEntry::default()
    };
    // It was established by its last packet.
    expected.begin(forward.last);
    assert_eq!(forward, expected);
    let expected = FlowEntry {
        tag: flow.reverse_key().tag(),
        route_generation: 1,
        interface: 0,
        src: flow.key().dst,
        dst: flow.key().src,
        sport: flow.key().dport,
        dport: flow.key().sport,
        flags: FlowFlags(FlowFlags::REVERSE),
        packets: 1,
        bytes: 2 * HEADERS as u64,
        check_delta: reverse.check_delta,
        last: reverse.last,
        ..expected
    };
    assert_eq!(reverse, expected);
    assert_eq!(world.prog.active(0), 1);
    assert_eq!(world.totals(0, 0), Totals { new_flows: 1, ..Totals::default() });

    world.pass_on("SYN-ACK once more", flow.syn_ack(), Reason::FlowReverse);
}

/// A SYN that is dropped for this reason leaves nothing behind: no flow, no port, no count.
/// `spoil` changes the world or the SYN; without it the same SYN opens a flow.
#[track_caller]
fn opens_nothing(reason: Reason, spoil: impl FnOnce(&mut World, &mut Tcp)) {
    let mut world = World::new();
    let flow = Flow::to_one(12_000);
    let hop: HopEntry = world.prog.get(map::HOPS, 0);
    let interface: InterfaceEntry = world.prog.get(map::INTERFACES, 0);
    let mut syn = flow.syn().0;
    spoil(&mut world, &mut syn);
    world.check("dropped", &syn, &dropped(reason, &syn.frame()));
    assert!(world.half_open().is_empty() && world.flows().is_empty());
    assert_eq!(world.prog.active(0), 0);
    assert_eq!(world.totals(0, 3).new_flows, 0);

    world.prog.set(map::HOPS, 0, hop);
    world.prog.set(map::INTERFACES, 0, interface);
    world.open(&flow);
}

#[test]
fn a_syn_whose_ttl_expires_opens_nothing() {
    for ttl in [0, 1] {
        opens_nothing(Reason::TtlExceeded, |_, syn| syn.ttl = ttl);
    }
}

#[test]
fn a_syn_larger_than_the_mtu_opens_nothing() {
    opens_nothing(Reason::MtuExceeded, |_, syn| syn.data = vec![1; 1_500 - 39]);
    opens_nothing(Reason::MtuExceeded, |world, _| {
        let interface: InterfaceEntry = world.prog.get(map::INTERFACES, 0);
        world.prog.set(map::INTERFACES, 0, InterfaceEntry { mtu: 39, ..interface });
    });
}

#[test]
fn a_syn_without_a_neighbour_opens_nothing() {
    opens_nothing(Reason::NoNextHop, |world, _| {
        world.prog.set(map::HOPS, 0, HopEntry::default());
    });
    // Resolved, but by an interface that is gone.
    opens_nothing(Reason::NoNextHop, |world, _| {
        let hop: HopEntry = world.prog.get(map::HOPS, 0);
        world.prog.set(map::HOPS, 0, HopEntry { interface: 1, ..hop });
    });
}

#[test]
fn what_does_not_promote() {
    let world = World::new();
    let flow = Flow::default();
    let ack = |seq, ack| flow.forward(flag::ACK, seq, ack, &[]).0;
    world.pass_on("SYN", flow.syn(), Reason::NewFlow);

    let early = flow.ack().0;
    world.check("before the SYN-ACK", &early, &reset(Reason::UnknownFlow, &early));
    world.pass_on("SYN-ACK", flow.syn_ack(), Reason::HandshakeReverse);
    for (name, number) in [
        ("far off", 0x4000_0000),
        ("the SYN itself", TARGET_ISN),
        ("too far", TARGET_ISN.wrapping_add(1_502)),
        ("half the space away", TARGET_ISN.wrapping_add(1 << 31)),
    ] {
        let packet = ack(CLIENT_ISN + 1, number);
        world.check(name, &packet, &reset(Reason::UnknownFlow, &packet));
    }
    assert_eq!((world.half_open().len(), world.flows().len()), (2, 0));
    world.pass_on("ACK", flow.ack(), Reason::Promoted);
}

#[test]
fn what_else_promotes() {
    let psh = flag::ACK | flag::PSH;
    let beyond = TARGET_ISN.wrapping_add(1 + 500);
    for (name, flags, number, data) in [
        ("data", psh, TARGET_ISN.wrapping_add(1), vec![1; 100]),
        ("data in the SYN-ACK acknowledged", flag::ACK, beyond, vec![]),
        ("odd data", psh, TARGET_ISN.wrapping_add(1), vec![0xff; 101]),
    ] {
        let world = World::new();
        let flow = Flow::default();
        world.pass_on("SYN", flow.syn(), Reason::NewFlow);
        world.pass_on("SYN-ACK", flow.syn_ack(), Reason::HandshakeReverse);
        let packet = flow.forward(flags, CLIENT_ISN + 1, number, &data);
        world.pass_on(name, packet, Reason::Promoted);
        assert_eq!(world.flows().len(), 2);
    }
}

#[test]
fn a_fin_with_the_promoting_ack() {
    let world = World::new();
    let flow = Flow::default();
    world.pass_on("SYN", flow.syn(), Reason::NewFlow);
    world.pass_on("SYN-ACK", flow.syn_ack(), Reason::HandshakeReverse);
    let fin = flag::FIN | flag::ACK;
    world.pass_on("ACK with FIN", flow.later(fin, &[1; 10]), Reason::Promoted);
    let flags = world.flows()[&flow.key()].flags;
    assert_eq!(flags, FlowFlags(FlowFlags::FIN_CLIENT));
    let flags = world.flows()[&flow.reverse_key()].flags;
    assert_eq!(flags, FlowFlags(FlowFlags::FIN_CLIENT | FlowFlags::REVERSE));
}

#[test]
fn a_forged_rst_does_not_end_a_handshake() {
    let world = World::new();
    let flow = Flow::default();
    world.pass_on("SYN", flow.syn(), Reason::NewFlow);
    for seq in [CLIENT_ISN + 2, CLIENT_ISN - 1, 0] {
        let rst = flow.forward(flag::RST, seq, 0, &[]);
        world.pass_on("RST", rst, Reason::HandshakeForward);
    }
    assert_eq!((world.half_open().len(), world.prog.active(0)), (2, 1));
}

#[test]
fn a_refused_handshake() {
    let rst = flag::RST | flag::ACK;
    let flow = Flow::default();
    for (name, packet, reason) in [
        ("by the target", flow.reverse(rst, 0, CLIENT_ISN + 1, &[]), Reason::HandshakeReverse),
        (
            "by the client",
            flow.forward(flag::RST, CLIENT_ISN + 1, 0, &[]),
            Reason::HandshakeForward,
        ),
    ] {
        let world = World::new();
        world.pass_on("SYN", flow.syn(), Reason::NewFlow);
        world.pass_on(name, packet, reason);
        assert!(world.half_open().is_empty() && world.flows().is_empty(), "{name}");
        assert_eq!(world.prog.active(0), 0, "{name}");
        assert_eq!(world.totals(0, 0).new_flows, 1, "{name}");
    }
}
