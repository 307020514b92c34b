//! Security groups: who gets in, and what is no business of theirs.

use std::net::Ipv4Addr;

use alb_common::{
    Reason,
    abi::map,
    filter::{FilterEntry, FilterKey, ICMP, ID_BITS},
    service::{ListenerEntry, algorithm, local},
    tcp::flag,
};
use alb_ebpf::builder::icmp::Icmp;
use alb_tests::packet_path::Action;

use super::{
    flow::Flow,
    world::{BALANCER_MAC, CLIENT_MAC, Expect, ONE, SNAT, VIP, WEB, World, dropped, passed, reset},
};

const FILTER: u32 = local::MAX_FILTER;
/// Slots that no selection table uses.
const LIST: u32 = 20;

/// A prefix and the ports at which the verdict changes.
fn allow(world: &mut World, prefix: (Ipv4Addr, u32), changes: &[u32], place: u32) {
    for (slot, port) in (place..).zip(changes) {
        world.prog.set(map::SLOTS, slot, *port);
    }
    let key = FilterKey { bits: ID_BITS + prefix.1, id: FILTER, addr: prefix.0.into() };
    let len = u32::try_from(changes.len()).expect("few");
    world.prog.allow(key, FilterEntry { offset: place, len });
}

fn guard(world: &mut World, kind: u32) {
    world.prog.local(VIP, local::filtered(kind, FILTER));
}

fn syn_from(client: Ipv4Addr, port: u16) -> Flow {
    // Each of the clients from a port of its own, so that none is in another's way.
    let own = 12_000 + u16::from(client.octets()[3]);
    Flow { client: (client, own), vip: (VIP, port), snat: (SNAT, own), ..Flow::default() }
}

#[test]
fn the_longest_prefix_and_its_ports_decide_before_anything_is_written() {
    let mut world = World::new();
    guard(&mut world, local::VIP);
    let any = Ipv4Addr::UNSPECIFIED;
    allow(&mut world, (any, 0), &[u32::from(ONE), u32::from(ONE) + 1], LIST);
    allow(&mut world, (Ipv4Addr::new(198, 18, 3, 0), 24), &[], LIST);
    allow(&mut world, (Ipv4Addr::new(198, 18, 3, 7), 32), &[0, 83, 84], LIST + 8);
    for (client, port, open) in [
        ([198, 18, 0, 100], ONE, true),
        ([198, 18, 0, 100], WEB, false),
        ([198, 18, 3, 1], ONE, false),
        ([198, 18, 3, 7], ONE, false),
        ([198, 18, 3, 7], WEB, true),
    ] {
        let flow = syn_from(client.into(), port);
        let syn = flow.syn().0;
        if open {
            world.pass_on("allowed", flow.syn(), Reason::NewFlow);
        } else {
            world.check("denied", &syn, &dropped(Reason::SecurityGroup, &syn.frame()));
            assert!(!world.half_open().contains_key(&flow.key()));
        }
    }
    // Not even a RST tells that there is something.
    for port in [WEB, 9_999] {
        for flags in [flag::SYN, flag::ACK] {
            let packet = syn_from([198, 18, 3, 1].into(), port).forward(flags, 1, 2, &[]).0;
            world.check("denied", &packet, &dropped(Reason::SecurityGroup, &packet.frame()));
        }
    }
    let packet = syn_from([198, 18, 3, 7].into(), 9_999).syn().0;
    world.check("an open port without a listener", &packet, &reset(Reason::NoListener, &packet));
}

#[test]
fn every_port_of_a_long_list_is_found() {
    let mut world = World::new();
    guard(&mut world, local::VIP);
    // Every other port from 44 to 82 is open.
    let changes: Vec<u32> = (44..84).collect();
    allow(&mut world, (Ipv4Addr::UNSPECIFIED, 0), &changes, LIST);
    for (client, port) in (1..).zip(30..100u16) {
        let flow = syn_from(Ipv4Addr::new(198, 18, 5, client), port);
        let packet = flow.forward(flag::ACK, 1, 2, &[]).0;
        let is_open = (44..84).contains(&port) && port % 2 == 0;
        let expected = if !is_open {
            dropped(Reason::SecurityGroup, &packet.frame())
        } else if (80..84).contains(&port) {
            reset(Reason::UnknownFlow, &packet)
        } else {
            reset(Reason::NoListener, &packet)
        };
        world.check(&format!("port {port}"), &packet, &expected);
    }
}

#[test]
fn what_is_open_stays_open_and_a_filter_without_prefixes_denies_all() {
    let mut world = World::new();
    let flow = Flow::default();
    world.open(&flow);
    let half_open = Flow { target: 1, ..Flow::from(12_001) };
    world.pass_on("SYN", half_open.syn(), Reason::NewFlow);
    guard(&mut world, local::VIP);
    world.pass_on("data", flow.later(flag::ACK, &[1; 9]), Reason::FlowForward);
    world.pass_on("data back", flow.answer(flag::ACK, &[1; 9]), Reason::FlowReverse);
    world.pass_on("SYN-ACK", half_open.syn_ack(), Reason::HandshakeReverse);
    world.pass_on("ACK", half_open.ack(), Reason::Promoted);
    let other = Flow::from(12_002).syn().0;
    world.check("new", &other, &dropped(Reason::SecurityGroup, &other.frame()));
}

#[test]
fn what_the_proxy_serves_is_guarded_too() {
    let mut world = World::new();
    guard(&mut world, local::VIP | local::PROXY);
    let entry = ListenerEntry { algorithm: algorithm::PROXY, ..ListenerEntry::default() };
    world.listen(443, entry);
    allow(&mut world, (Ipv4Addr::new(198, 18, 0, 0), 24), &[443, 444], LIST);
    let inside = syn_from([198, 18, 0, 100].into(), 443);
    let outside = syn_from([198, 18, 3, 1].into(), 443);
    let syn = inside.syn().0;
    world.check("allowed", &syn, &passed(Reason::Proxied, &syn.frame()));
    let syn = outside.syn().0;
    world.check("denied", &syn, &dropped(Reason::SecurityGroup, &syn.frame()));
    let ack = outside.later(flag::ACK, &[]).0;
    world.check("of a connection that is open", &ack, &passed(Reason::Proxied, &ack.frame()));
}

#[test]
fn the_host_s_own_ports_are_not_guarded() {
    let mut world = World::new();
    guard(&mut world, local::VIP | local::SNAT);
    let flow = syn_from([198, 18, 0, 100].into(), 22);
    let syn = flow.syn().0;
    world.check("SSH", &syn, &passed(Reason::HostTraffic, &syn.frame()));
    let syn = syn_from([198, 18, 0, 100].into(), WEB).syn().0;
    world.check("a listener", &syn, &dropped(Reason::SecurityGroup, &syn.frame()));
    // The other address is none of a load balancer's.
    let mut to_snat = syn_from([198, 18, 0, 100].into(), 22);
    to_snat.vip.0 = SNAT;
    let syn = to_snat.syn().0;
    world.check("SSH", &syn, &passed(Reason::HostTraffic, &syn.frame()));
}

#[test]
fn pings_are_guarded_by_the_place_behind_all_ports() {
    let mut world = World::new();
    guard(&mut world, local::VIP);
    let any = Ipv4Addr::UNSPECIFIED;
    allow(&mut world, (any, 0), &[0, ICMP], LIST);
    allow(&mut world, (Ipv4Addr::new(198, 18, 3, 0), 24), &[ICMP], LIST + 8);
    for (client, open) in [([198, 18, 0, 100], false), ([198, 18, 3, 1], true)] {
        let ping = Icmp { to: BALANCER_MAC, from: CLIENT_MAC, ..Icmp::ping(client.into(), VIP) };
        let expected = if open {
            let (to, from, src, dst) = (ping.from, ping.to, ping.dst, ping.src);
            let answer = Icmp { to, from, src, dst, ttl: 64, kind: (0, 0), ..ping.clone() };
            Expect {
                action: Action::Transmit,
                frame: answer.frame(),
                reason: Reason::IcmpEcho,
                events: vec![],
            }
        } else {
            dropped(Reason::SecurityGroup, &ping.frame())
        };
        world.step(&format!("from {client:?}"), &ping.frame(), &expected);
    }
}
