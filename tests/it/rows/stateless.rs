//! Packets that are decided without a flow: not ours, malformed, refused.

use std::net::Ipv4Addr;

use alb_common::{Reason, reason::Verdict, service::local, settings::RST_WINDOW_SHIFT, tcp::flag};
use alb_ebpf::builder::Tcp;
use alb_tests::packet_path::now;

use super::{
    flow::Flow,
    world::{CLIENT, DEAD, PORT_FIRST, SNAT, VIP, WEB, World, dropped, passed, reset},
};

fn to(dst: (Ipv4Addr, u16)) -> Tcp {
    Tcp { dst, ..Flow::default().syn().0 }
}

fn spoiled(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = to((VIP, WEB)).frame();
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

/// Passed or dropped as they are.
#[test]
fn left_as_they_are() {
    let world = World::new();
    let world = World { prog: world.prog.with_ipv6(), ..world };
    let syn = to((VIP, WEB));
    let from = |src: [u8; 4]| Tcp { src: (src.into(), 9), ..syn.clone() }.frame();
    let cut = |len: usize| syn.frame()[..len].to_vec();
    let snat = |port| to((SNAT, port)).frame();
    let protocol_at = |dst, protocol: u8| {
        let mut frame = to(dst).frame();
        frame[23] = protocol;
        frame
    };
    for (name, frame, reason) in [
        ("ARP", spoiled(12, &[0x08, 0x06]), Reason::NotIp),
        ("IPv6", spoiled(12, &[0x86, 0xdd]), Reason::NotOurs),
        ("to another", to((Ipv4Addr::new(198, 18, 0, 11), WEB)).frame(), Reason::NotOurs),
        ("below the SNAT range", snat(PORT_FIRST - 1), Reason::HostTraffic),
        ("above the SNAT range", snat(30_000), Reason::HostTraffic),
        ("in the SNAT range, of no flow", snat(PORT_FIRST), Reason::HostTraffic),
        ("last SNAT port, of no flow", snat(29_999), Reason::HostTraffic),
        ("UDP to the SNAT address", protocol_at((SNAT, 53), 17), Reason::HostTraffic),
        ("UDP to the VIP", protocol_at((VIP, 53), 17), Reason::UnsupportedProtocol),
        ("ends in IPv4", cut(30), Reason::Truncated),
        ("ends in TCP", cut(50), Reason::BadIpHeader),
        ("IP version 5", spoiled(14, &[0x55]), Reason::BadIpHeader),
        ("IP header of 16 bytes", spoiled(14, &[0x44]), Reason::BadIpHeader),
        ("longer than its frame", spoiled(16, &[0, 41]), Reason::BadIpHeader),
        ("data offset 4", spoiled(46, &[0x40]), Reason::BadTcpHeader),
        ("data offset beyond", spoiled(46, &[0x60]), Reason::BadTcpHeader),
        ("port 0", to((VIP, 0)).frame(), Reason::BadTcpHeader),
        ("first fragment", spoiled(20, &[0x20, 0]), Reason::Fragment),
        ("last fragment", spoiled(20, &[0, 9]), Reason::Fragment),
        ("null scan", spoiled(47, &[0]), Reason::BadTcpFlags),
        ("Christmas tree", spoiled(47, &[0x29]), Reason::BadTcpFlags),
        ("SYN and FIN", spoiled(47, &[0x03]), Reason::BadTcpFlags),
        ("from 0.0.0.0", from([0; 4]), Reason::BadSource),
        ("from loopback", from([127, 0, 0, 1]), Reason::BadSource),
        ("from a group", from([224, 0, 0, 1]), Reason::BadSource),
        ("from broadcast", from([255; 4]), Reason::BadSource),
        ("from the VIP itself", from(VIP.octets()), Reason::BadSource),
        ("RST of no flow", Tcp { flags: flag::RST, ..syn.clone() }.frame(), Reason::UnexpectedRst),
        (
            "RST to no listener",
            Tcp { flags: flag::RST, ..to((VIP, 9)) }.frame(),
            Reason::UnexpectedRst,
        ),
    ] {
        let expected = match reason.verdict() {
            Verdict::Pass => passed(reason, &frame),
            Verdict::Drop => dropped(reason, &frame),
            Verdict::Forward | Verdict::Reset | Verdict::Reply => {
                panic!("{name}: not of this table")
            }
        };
        world.step(name, &frame, &expected);
    }
    assert!(world.flows().is_empty() && world.half_open().is_empty());
}

#[test]
fn answered_with_a_rst() {
    let world = World::new();
    let syn = to((VIP, WEB));
    let with = |flags, data: &[u8]| Tcp { flags, ack: 77, data: data.to_vec(), ..syn.clone() };
    let q = vec![(0x88a8, 5), (0x8100, 6)];
    for (name, packet, reason) in [
        ("ACK", with(flag::ACK, &[]), Reason::UnknownFlow),
        ("data", with(flag::ACK | flag::PSH, &[1; 700]), Reason::UnknownFlow),
        ("FIN", with(flag::FIN | flag::ACK, &[]), Reason::UnknownFlow),
        ("SYN-ACK", with(flag::SYN | flag::ACK, &[]), Reason::UnknownFlow),
        ("VLAN", Tcp { tags: q, ..with(flag::ACK, &[1]) }, Reason::UnknownFlow),
        (
            "options",
            Tcp { ip_options: vec![1; 8], options: vec![1; 8], ..with(flag::ACK, &[]) },
            Reason::UnknownFlow,
        ),
        ("padding", Tcp { padding: 6, ..with(flag::ACK, &[]) }, Reason::UnknownFlow),
        ("no listener", to((VIP, 9)), Reason::NoListener),
        ("no listener, ACK", Tcp { flags: flag::ACK, ..to((VIP, 9)) }, Reason::NoListener),
        ("no healthy target", to((VIP, DEAD)), Reason::NoHealthyTarget),
        ("with data", Tcp { data: vec![1; 9], ..to((VIP, DEAD)) }, Reason::NoHealthyTarget),
        (
            "ACK, no healthy target",
            Tcp { flags: flag::ACK, ..to((VIP, DEAD)) },
            Reason::UnknownFlow,
        ),
    ] {
        world.check(name, &packet, &reset(reason, &packet));
    }
    assert!(world.flows().is_empty() && world.half_open().is_empty());
}

#[test]
fn frames_for_other_stations_are_not_ours() {
    let world = World::new();
    for to_station in [[2, 0, 0, 0, 7, 7], [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
        for flags in [flag::SYN, flag::ACK, flag::RST] {
            let packet = Tcp { to: to_station, flags, ..to((VIP, WEB)) };
            let left = passed(Reason::OtherStation, &packet.frame());
            world.check("another station's", &packet, &left);
        }
    }
    assert!(world.flows().is_empty() && world.half_open().is_empty());
}

#[test]
fn the_node_s_own_address_may_be_a_vip() {
    let mut world = World::new();
    world.prog.local(VIP, local::VIP | local::SNAT);
    let ssh = to((VIP, 22));
    world.check("no listener", &ssh, &passed(Reason::HostTraffic, &ssh.frame()));
    let udp = spoiled(23, &[17]);
    world.step("another protocol", &udp, &passed(Reason::HostTraffic, &udp));
    let unknown = Tcp { flags: flag::ACK, ..to((VIP, WEB)) };
    world.check("a listener", &unknown, &reset(Reason::UnknownFlow, &unknown));
}

#[test]
fn rsts_are_limited() {
    const PACKETS: u64 = 600;
    let mut world = World::new();
    world.set(|settings| settings.rst_per_window = 3);
    let packet = Tcp { flags: flag::ACK, src: CLIENT, ..to((VIP, WEB)) };
    // A budget a CPU and a window.
    let cpus = std::thread::available_parallelism().expect("a count of CPUs").get() as u64;
    let window = || now() >> RST_WINDOW_SHIFT;
    let first = window();
    for _ in 0..PACKETS {
        world.prog.run(&packet.frame());
    }
    let most = 3 * cpus * u64::from(window().wrapping_sub(first) + 1);
    let counters = world.prog.counters();
    let (sent, limited) = (counters["unknown_flow"], counters["rst_limited"]);
    assert_eq!(sent + limited, PACKETS);
    assert!((3..=most).contains(&sent), "{counters:?}, at most {most}");

    world.set(|settings| settings.rst_per_window = 0);
    world.check("no budget", &packet, &dropped(Reason::RstLimited, &packet.frame()));
    // The host would answer an answer that no flow waits for.
    let answer = to((SNAT, PORT_FIRST));
    world.check("an answer", &answer, &dropped(Reason::RstLimited, &answer.frame()));
    let ssh = to((SNAT, 22));
    world.check("the host's own", &ssh, &passed(Reason::HostTraffic, &ssh.frame()));
}
