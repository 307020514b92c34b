//! The rows' frames and tables in IPv6: every IPv4 address stands for an IPv6 one.

use std::net::{Ipv4Addr, Ipv6Addr};

use alb_common::{
    checksum,
    flow::{FlowEntry, FlowKey},
    net::{Address as _, Be32, Be128},
    target::TargetEntry,
};
use alb_ebpf::{builder::ipv6::mapped, packet::Frame, parse, rewrite};

/// What the rows are run over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
}

pub(crate) fn addr6(addr: Be32) -> Be128 {
    mapped(addr.addr()).into()
}

fn addr4(addr: Be128) -> Be32 {
    let octets = addr.addr().octets();
    let addr = Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]);
    assert_eq!(Ipv6Addr::from(octets), mapped(addr), "an address that stands for an IPv4 one");
    addr.into()
}

pub(crate) fn key6(key: FlowKey) -> FlowKey<Be128> {
    let FlowKey { src, dst, sport, dport } = key;
    FlowKey { src: addr6(src), dst: addr6(dst), sport, dport }
}

fn key4(key: FlowKey<Be128>) -> FlowKey {
    let FlowKey { src, dst, sport, dport } = key;
    FlowKey { src: addr4(src), dst: addr4(dst), sport, dport }
}

fn entry<A, B>(of: &FlowEntry<A>, (src, dst): (B, B), tag: u16, check_delta: u16) -> FlowEntry<B> {
    FlowEntry {
        tag,
        route_generation: of.route_generation,
        src,
        dst,
        sport: of.sport,
        dport: of.dport,
        check_delta,
        listener: of.listener,
        interface: of.interface,
        flags: of.flags,
        mac: of.mac,
        target: of.target,
        last: of.last,
        packets: of.packets,
        bytes: of.bytes,
    }
}

/// What a key's packets become.
fn after<A: Copy>(of: &FlowEntry<A>) -> FlowKey<A> {
    FlowKey { src: of.src, dst: of.dst, sport: of.sport, dport: of.dport }
}

pub(crate) fn entry6(key: FlowKey, of: &FlowEntry) -> FlowEntry<Be128> {
    let (key, new) = (key6(key), key6(after(of)));
    entry(of, (new.src, new.dst), key.tag(), rewrite::check_delta(&key, &new))
}

/// The flow of IPv4 that one of IPv6 stands for; its tag and its checksums' difference are right.
pub(crate) fn flow4(key: FlowKey<Be128>, of: &FlowEntry<Be128>) -> (FlowKey, FlowEntry) {
    assert_eq!(of.tag, key.tag());
    let delta = rewrite::check_delta(&key, &after(of));
    // Zero and all ones are the same number.
    assert_eq!(of.check_delta % 0xffff, delta % 0xffff, "{key:?}");
    let (key, new) = (key4(key), key4(after(of)));
    let delta = rewrite::check_delta(&key, &new);
    (key, entry(of, (new.src, new.dst), key.tag(), delta))
}

pub(crate) fn target6(of: &TargetEntry) -> TargetEntry<Be128> {
    let TargetEntry { id, addr, port, snat_count, snat } = *of;
    TargetEntry { id, addr: addr6(addr), port, snat_count, snat: snat.map(addr6) }
}

/// A frame of IPv4 in IPv6, any other as it is. It has no options, nor is it a fragment; what follows
/// the packet stays.
pub(crate) fn frame6(frame: &[u8]) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    let view = Frame::new(&mut bytes);
    let Ok(l3) = parse::ip_offset::<_, Be32>(&view) else { return frame.to_vec() };
    let segment: parse::Segment = parse::segment(&view, l3).expect("a segment");
    let end = l3 + segment.ip_len as usize;
    let mut tcp = frame[segment.l4..end].to_vec();
    let key = key6(segment.key);
    let delta = segment.key.src.taken() + segment.key.dst.taken() + key.src.sum() + key.dst.sum();
    let check = checksum::update(u16::from_ne_bytes([tcp[16], tcp[17]]), delta);
    tcp[16..18].copy_from_slice(&check.to_ne_bytes());

    let (tos, hops) = (frame[l3 + 1], frame[l3 + 8]);
    let len = u16::try_from(tcp.len()).expect("an IP packet").to_be_bytes();
    let [high, low] = len;
    [
        &frame[..l3 - 2],
        &[0x86, 0xdd, 0x60 | tos >> 4, tos << 4, 0, 0, high, low, 6, hops],
        &key.src.addr().octets(),
        &key.dst.addr().octets(),
        &tcp,
        &frame[end..],
    ]
    .concat()
}
