//! Frames in, reasons or segments out; and segments rewritten or answered, compared whole with
//! frames built for the purpose.

extern crate std;

use core::net::{Ipv4Addr, Ipv6Addr};
use std::{vec, vec::Vec};

use alb_common::{
    flow::FlowKey,
    net::{Be16, Mac},
    tcp::flag,
};
use proptest::prelude::*;

use super::*;
use crate::{
    builder::{
        Tcp,
        ipv6::{Extension, mapped},
    },
    packet::Frame,
    parse, reset, rewrite,
};

fn parse(frame: &mut [u8]) -> Result<Segment<Be128>, Reason> {
    let frame = Frame::new(frame);
    let l3 = parse::ip_offset::<_, Be128>(&frame)?;
    parse::destination::<_, Be128>(&frame, l3)?;
    parse::segment(&frame, l3)
}

fn key(tcp: &Tcp) -> FlowKey<Be128> {
    FlowKey {
        src: mapped(tcp.src.0).into(),
        dst: mapped(tcp.dst.0).into(),
        sport: Be16::new(tcp.src.1),
        dport: Be16::new(tcp.dst.1),
    }
}

/// An extension header of this kind and length in bytes. Zero behind a routing header's type: it
/// is done.
fn extension(kind: u8, len: usize) -> Extension {
    (kind, vec![0; len - 2])
}

#[test]
fn right_frames() {
    let options = || extension(DESTINATION_OPTIONS, 8);
    for extensions in [
        vec![],
        vec![extension(HOP_BY_HOP, 8)],
        vec![extension(HOP_BY_HOP, 16), options()],
        vec![extension(ROUTING, 24)],
        vec![options(), extension(ROUTING, 8), options()],
        vec![extension(HOP_BY_HOP, 8), options(), extension(ROUTING, 8), options()],
        vec![extension(DESTINATION_OPTIONS, MOST_EXTENSION_BYTES)],
    ] {
        for tags in 0..3 {
            let tcp = Tcp {
                tags: vec![(0x8100, 7); tags],
                options: vec![1; 12],
                data: vec![9; 33],
                flags: flag::ACK,
                padding: tags,
                ..Tcp::default()
            };
            let segment = parse(&mut tcp.frame6(&extensions)).expect("a right frame");
            let (l3, l4) = (tcp.l3(), tcp.l4_6(&extensions));
            let ip_len = (l4 - l3 + 32 + 33) as u32;
            let flags = flag::ACK;
            let expected = Segment { l3, l4, ip_len, tcp_header_len: 32, key: key(&tcp), flags };
            assert_eq!(segment, expected, "{extensions:?}");
            assert_eq!(segment.sequence_len(), 33, "{extensions:?}");
        }
    }
}

#[test]
fn wrong_frames() {
    use Reason as R;

    let tcp = Tcp::default();
    let frame = tcp.frame6(&[]);
    let spoiled = |at: usize, bytes: &[u8]| {
        let mut frame = frame.clone();
        frame[14 + at..14 + at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    let with = |extensions: &[Extension]| tcp.frame6(extensions);
    let cut = |len: usize| frame[..len].to_vec();
    let to_follow = (ROUTING, vec![4, 1, 0, 0, 0, 0]);
    let longest = extension(DESTINATION_OPTIONS, MOST_EXTENSION_BYTES);
    for (name, mut frame, reason) in [
        ("IPv4", tcp.frame(), R::NotIp),
        ("ARP", { [&frame[..12], &[8, 6], &frame[14..]].concat() }, R::NotIp),
        ("three tags", Tcp { tags: vec![(0x8100, 7); 3], ..tcp.clone() }.frame6(&[]), R::NotIp),
        ("ends before IPv6", cut(14), R::Truncated),
        ("ends in IPv6", cut(53), R::Truncated),
        ("ends before TCP", cut(54), R::BadIpHeader),
        ("ends in TCP", cut(73), R::BadIpHeader),
        ("version 4", spoiled(0, &[0x45]), R::BadIpHeader),
        ("no payload", spoiled(4, &[0, 0]), R::BadIpHeader),
        ("payload ends in TCP", spoiled(4, &[0, 19]), R::BadTcpHeader),
        ("payload beyond the frame", spoiled(4, &[0, 21]), R::BadIpHeader),
        ("payload 65,535", spoiled(4, &[255, 255]), R::BadIpHeader),
        ("ICMPv6", spoiled(6, &[58]), R::Icmp),
        ("UDP", spoiled(6, &[17]), R::UnsupportedProtocol),
        ("no next header", spoiled(6, &[59]), R::UnsupportedProtocol),
        ("ICMP of IPv4", spoiled(6, &[1]), R::UnsupportedProtocol),
        ("a fragment", with(&[extension(FRAGMENT, 8)]), R::Fragment),
        (
            "options, fragment",
            with(&[extension(HOP_BY_HOP, 8), extension(FRAGMENT, 8)]),
            R::Fragment,
        ),
        ("a route to follow", with(&[to_follow]), R::ExtensionHeaders),
        (
            "hop-by-hop not first",
            { with(&[extension(DESTINATION_OPTIONS, 8), extension(HOP_BY_HOP, 8)]) },
            R::ExtensionHeaders,
        ),
        ("too many", with(&vec![extension(DESTINATION_OPTIONS, 8); 5]), R::ExtensionHeaders),
        ("too long", with(&[longest.clone(), extension(ROUTING, 8)]), R::ExtensionHeaders),
        (
            "one too long",
            { with(&[extension(DESTINATION_OPTIONS, MOST_EXTENSION_BYTES + 8)]) },
            R::ExtensionHeaders,
        ),
        ("extension beyond the packet", spoiled(6, &[60]), R::ExtensionHeaders),
        ("data offset 4", spoiled(52, &[0x40]), R::BadTcpHeader),
        ("data offset beyond", spoiled(52, &[0x60]), R::BadTcpHeader),
        ("source port 0", spoiled(40, &[0, 0]), R::BadTcpHeader),
        ("no flags", spoiled(53, &[0]), R::BadTcpFlags),
    ] {
        assert_eq!(parse(&mut frame), Err(reason), "{name}");
    }
    assert!(parse(&mut with(&[longest])).is_ok());
}

#[test]
fn clients() {
    for (addr, expected) in [
        ("::", false),
        ("::1", false),
        ("::ffff:198.18.0.1", false),
        ("2001:db8::1", true),
        ("fd00::1", true),
        ("fe7f::1", true),
        ("fe80::1", false),
        ("febf::1", false),
        ("fec0::1", true),
        ("ff02::1", false),
    ] {
        let addr: Ipv6Addr = addr.parse().expect("an address");
        assert_eq!(Be128::from(addr).is_client(), expected, "{addr}");
    }
}

/// Rewrites a frame of `before` with the addresses of `after`.
fn applied(before: &Tcp, after: &Tcp, extensions: &[Extension]) -> Result<Vec<u8>, Reason> {
    let mut frame = before.frame6(extensions);
    let new = key(after);
    let way = Rewrite {
        src: new.src,
        dst: new.dst,
        sport: new.sport,
        dport: new.dport,
        check_delta: rewrite::check_delta(&key(before), &new),
        next_hop: Mac::new(after.to),
        station: Mac::new(after.from),
    };
    let l4 = before.l4_6(extensions);
    rewrite::apply(&mut Frame::new(&mut frame), before.l3(), l4, &way).map(|()| frame)
}

fn endpoint() -> impl Strategy<Value = (Ipv4Addr, u16)> {
    // Extremes more often than chance: they are where carries go wrong.
    let word = prop_oneof![any::<u32>(), Just(0), Just(u32::MAX), Just(0xffff_0000), Just(0xffff)];
    let port = prop_oneof![1..=u16::MAX, Just(0xffff), Just(0xff00), Just(1)];
    (word.prop_map(Ipv4Addr::from), port)
}

prop_compose! {
    fn segments()(
        stations in any::<([u8; 6], [u8; 6])>(),
        tags in 0..3usize,
        (tos, seq, ack, window) in any::<(u8, u32, u32, u16)>(),
        ttl in 2..=255u8,
        (src, dst) in (endpoint(), endpoint()),
        options in 0..11usize,
        data in prop::collection::vec(any::<u8>(), 0..100),
        padding in 0..8usize,
        is_ack in any::<bool>(),
    ) -> Tcp {
        Tcp {
            to: stations.0,
            from: stations.1,
            tags: vec![(0x8100, 5); tags],
            tos,
            ttl,
            src,
            dst,
            seq,
            ack,
            flags: if is_ack { flag::ACK } else { flag::SYN },
            window,
            options: vec![1; options * 4],
            data,
            padding,
            ..Tcp::default()
        }
    }
}

fn extensions() -> impl Strategy<Value = Vec<Extension>> {
    prop_oneof![
        Just(vec![]),
        (1..9usize).prop_map(|words| vec![extension(HOP_BY_HOP, words * 8)]),
        (1..9usize, 1..8usize).prop_map(|(a, b)| vec![
            extension(ROUTING, a * 8),
            extension(DESTINATION_OPTIONS, b * 8)
        ]),
    ]
}

proptest! {
    #[test]
    fn equals_a_frame_built_anew(
        before in segments(),
        extensions in extensions(),
        (src, dst) in (endpoint(), endpoint()),
        stations in any::<([u8; 6], [u8; 6])>(),
    ) {
        let (to, from) = stations;
        let after = Tcp { to, from, ttl: before.ttl - 1, src, dst, ..before.clone() };
        prop_assert_eq!(applied(&before, &after, &extensions), Ok(after.frame6(&extensions)));
    }

    #[test]
    fn equals_a_reset_built_anew(tcp in segments(), extensions in extensions()) {
        let mut bytes = tcp.frame6(&extensions);
        let segment = parse(&mut bytes).expect("a right frame");
        let mut frame = Frame::new(&mut bytes);
        reset::write(&mut frame, &segment, None).expect("room for a RST");
        let (seq, ack, flags) = if tcp.flags == flag::ACK {
            (tcp.ack, 0, flag::RST)
        } else {
            (0, tcp.seq.wrapping_add(tcp.data.len() as u32 + 1), flag::RST | flag::ACK)
        };
        let expected = Tcp {
            to: tcp.from,
            from: tcp.to,
            tags: tcp.tags.clone(),
            src: tcp.dst,
            dst: tcp.src,
            seq,
            ack,
            flags,
            window: 0,
            ..Tcp::default()
        };
        prop_assert_eq!(frame.bytes(), expected.frame6(&[]));
    }

    #[test]
    fn nearly_right_frames(
        tcp in segments(),
        extensions in extensions(),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut frame = tcp.frame6(&extensions);
        for (at, byte) in mutations {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        if !whole {
            frame.truncate(cut.index(frame.len() + 1));
        }
        whole_path(&frame);
    }
}

/// Everything that is done to a frame, between guards.
fn whole_path(bytes: &[u8]) {
    const GUARD: usize = 64;
    let mut room = vec![0xa5; bytes.len() + 2 * GUARD];
    room[GUARD..GUARD + bytes.len()].copy_from_slice(bytes);
    let inside = GUARD..GUARD + bytes.len();
    if let Ok(segment) = parse(&mut room[inside.clone()]) {
        let mut frame = Frame::new(&mut room[inside.clone()]);
        assert!(segment.l4 + segment.tcp_header_len as usize <= frame.len());
        assert!(segment.l3 + segment.ip_len as usize <= frame.len());
        // Offsets go through a mask of eight bits in the kernel.
        assert!(segment.l4 < 256);
        assert!(segment.sequence_len() <= segment.ip_len);
        let way = Rewrite {
            src: Be128([1, 2, 3, 4]),
            dst: Be128([5, 6, 7, 8]),
            sport: Be16(3),
            dport: Be16(4),
            check_delta: 5,
            next_hop: Mac::default(),
            station: Mac::default(),
        };
        _ = rewrite::apply(&mut frame, segment.l3, segment.l4, &way);
        let mut frame = Frame::new(&mut room[inside.clone()]);
        reset::write(&mut frame, &segment, None).expect("a parsed segment can be answered");
        assert_eq!(frame.len(), segment.l3 + 60);
    }
    assert!(room[..inside.start].iter().chain(&room[inside.end..]).all(|byte| *byte == 0xa5));
}

#[test]
fn hop_limit() {
    for (ttl, expected) in [(0, None), (1, None), (2, Some(1)), (255, Some(254))] {
        let before = Tcp { ttl, ..Tcp::default() };
        match (applied(&before, &before, &[]), expected) {
            (Err(reason), None) => assert_eq!(reason, Reason::TtlExceeded),
            (Ok(frame), Some(ttl)) => assert_eq!(frame, Tcp { ttl, ..before }.frame6(&[])),
            (result, _) => panic!("hop limit {ttl}: {result:?}"),
        }
    }
}
