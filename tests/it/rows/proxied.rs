//! Listeners that the proxy serves: their packets reach the host's stack, and nothing else does.

use alb_common::{
    Reason,
    service::{ListenerEntry, algorithm, local},
    tcp::flag,
};
use alb_ebpf::builder::Tcp;

use super::{
    flow::Flow,
    world::{CLIENT, VIP, WEB, World, passed, reset},
};

const PROXIED: u16 = 443;
const NOBODY: u16 = 22;

fn world() -> World {
    let mut world = World::new();
    world.prog.local(VIP, local::VIP | local::PROXY);
    let entry = ListenerEntry {
        offset: 0,
        len: 0,
        index: 9,
        algorithm: algorithm::PROXY,
        ..ListenerEntry::default()
    };
    world.listen(PROXIED, entry);
    world
}

fn packet(port: u16, flags: u8, data: &[u8]) -> Tcp {
    Tcp { src: CLIENT, dst: (VIP, port), flags, data: data.to_vec(), ..Flow::default().syn().0 }
}

const KINDS: [(&str, u8, &[u8]); 6] = [
    ("SYN", flag::SYN, &[]),
    ("ACK", flag::ACK, &[]),
    ("data", flag::ACK | flag::PSH, &[7; 700]),
    ("FIN", flag::ACK | flag::FIN, &[]),
    ("RST", flag::RST, &[]),
    ("RST with ACK", flag::RST | flag::ACK, &[]),
];

#[test]
fn everything_to_a_proxied_port_goes_to_the_stack() {
    let world = world();
    for (name, flags, data) in KINDS {
        let frame = packet(PROXIED, flags, data).frame();
        world.step(name, &frame, &passed(Reason::Proxied, &frame));
    }
    assert!(world.flows().is_empty() && world.half_open().is_empty());
}

#[test]
fn connections_outlive_their_listener_but_no_new_one_is_let_in() {
    let world = world();
    for (name, flags, data) in KINDS {
        let packet = packet(NOBODY, flags, data);
        let expected = match flags {
            flag::SYN => reset(Reason::NoListener, &packet),
            _ => passed(Reason::Proxied, &packet.frame()),
        };
        world.step(name, &packet.frame(), &expected);
    }
}

#[test]
fn the_kernels_listeners_on_the_same_address_stay_its_own() {
    let world = world();
    let unknown = packet(WEB, flag::ACK, &[]);
    world.step("no flow", &unknown.frame(), &reset(Reason::UnknownFlow, &unknown));
    let flow = Flow::default();
    world.pass_on("SYN", flow.syn(), Reason::NewFlow);
    world.pass_on("SYN-ACK", flow.syn_ack(), Reason::HandshakeReverse);
    world.pass_on("ACK", flow.ack(), Reason::Promoted);
}

/// A listener that becomes the proxy's keeps the flows that the kernel has already.
#[test]
fn flows_of_a_listener_that_becomes_proxied_go_on() {
    let mut world = world();
    let flow = Flow::default();
    world.pass_on("SYN", flow.syn(), Reason::NewFlow);
    world.pass_on("SYN-ACK", flow.syn_ack(), Reason::HandshakeReverse);
    world.pass_on("ACK", flow.ack(), Reason::Promoted);
    world.listen(WEB, ListenerEntry { algorithm: algorithm::PROXY, ..ListenerEntry::default() });
    world.pass_on("data", flow.later(flag::ACK | flag::PSH, &[1; 10]), Reason::FlowForward);
    let other = Tcp { src: (CLIENT.0, CLIENT.1 + 1), ..flow.syn().0 };
    world.step("another SYN", &other.frame(), &passed(Reason::Proxied, &other.frame()));
}
