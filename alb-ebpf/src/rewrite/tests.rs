//! A rewritten frame is the frame that would have been built with the new addresses.

extern crate std;

use core::net::Ipv4Addr;
use std::{vec, vec::Vec};

use alb_common::flow::FlowKey;
use proptest::prelude::*;

use super::*;
use crate::{
    builder::{Tcp, ones_sum},
    packet::Frame,
};

fn key(tcp: &Tcp) -> FlowKey {
    FlowKey {
        src: tcp.src.0.into(),
        dst: tcp.dst.0.into(),
        sport: Be16::new(tcp.src.1),
        dport: Be16::new(tcp.dst.1),
    }
}

/// Rewrites the frame of `before` with the addresses of `after`, the frame given.
fn applied(before: &Tcp, after: &Tcp, mut frame: Vec<u8>) -> Result<Vec<u8>, Reason> {
    let way: Rewrite = Rewrite {
        src: after.src.0.into(),
        dst: after.dst.0.into(),
        sport: Be16::new(after.src.1),
        dport: Be16::new(after.dst.1),
        check_delta: check_delta(&key(before), &key(after)),
        next_hop: Mac::new(after.to),
        station: Mac::new(after.from),
    };
    apply(&mut Frame::new(&mut frame), before.l3(), before.l4(), &way).map(|()| frame)
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
        words in any::<(u8, u16, u32, u32, u16)>(),
        ttl in 2..=255u8,
        src in endpoint(),
        dst in endpoint(),
        options in (0..11usize, 0..11usize),
        bytes in prop::collection::vec(any::<u8>(), 40..60),
        data in prop::collection::vec(any::<u8>(), 0..100),
        padding in 0..8usize,
    ) -> Tcp {
        let (tos, id, seq, ack, window) = words;
        Tcp {
            to: stations.0,
            from: stations.1,
            tags: vec![(0x8100, 5); tags],
            tos,
            id,
            fragment: 0x4000,
            ttl,
            src,
            dst,
            ip_options: bytes[..options.0 * 4].to_vec(),
            seq,
            ack,
            flags: 0x10,
            window,
            options: bytes[..options.1 * 4].to_vec(),
            data,
            padding,
        }
    }
}

proptest! {
    #[test]
    fn equals_a_frame_built_anew(
        before in segments(),
        src in endpoint(),
        dst in endpoint(),
        stations in any::<([u8; 6], [u8; 6])>(),
    ) {
        let after = Tcp {
            to: stations.0,
            from: stations.1,
            ttl: before.ttl - 1,
            src,
            dst,
            ..before.clone()
        };
        let frame = applied(&before, &after, before.frame());
        prop_assert_eq!(frame, Ok(after.frame()));
    }

    /// The difference between the right and the wrong checksum survives, so whoever checks
    /// it in the end finds it wrong.
    #[test]
    fn a_wrong_checksum_stays_wrong(
        before in segments(),
        src in endpoint(),
        dst in endpoint(),
        at in any::<prop::sample::Index>(),
        flip in 1..=255u8,
    ) {
        let mut frame = before.frame();
        let end = frame.len() - before.padding;
        let at = before.l3() + at.index(end - before.l3());
        // Another header or total length moves what is summed.
        prop_assume!(![0, 2, 3].contains(&(at - before.l3())));
        frame[at] ^= flip;
        prop_assume!(frame[before.l3() + 8] > 1);
        prop_assert!(!is_right(&frame, &before));
        // As in the packet path, what is replaced is what the frame says.
        let (ip, tcp) = (before.l3() + 12, before.l4());
        let addr = |at: usize| <[u8; 4]>::try_from(&frame[at..at + 4]).expect("4 bytes").into();
        let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let said = Tcp {
            src: (addr(ip), port(tcp)),
            dst: (addr(ip + 4), port(tcp + 2)),
            ..before.clone()
        };
        let after = Tcp { src, dst, ..before.clone() };
        let frame = applied(&said, &after, frame).expect("it has time to live");
        prop_assert!(!is_right(&frame, &before));
    }
}

/// Whether both checksums are right in a frame with the lengths of `tcp`.
fn is_right(frame: &[u8], tcp: &Tcp) -> bool {
    let ip = &frame[tcp.l3()..tcp.l4()];
    let segment = &frame[tcp.l4()..frame.len() - tcp.padding];
    let len = (segment.len() as u16).to_be_bytes();
    let summed = [&ip[12..20], &[0, ip[9]], &len, segment].concat();
    ones_sum(ip) == 0xffff && ones_sum(&summed) == 0xffff
}

#[test]
fn time_to_live() {
    for (ttl, expected) in [(0, None), (1, None), (2, Some(1)), (255, Some(254))] {
        let before = Tcp { ttl, ..Tcp::default() };
        let untouched = before.frame();
        match (applied(&before, &before, untouched.clone()), expected) {
            (Err(reason), None) => assert_eq!(reason, Reason::TtlExceeded),
            (Ok(frame), Some(ttl)) => assert_eq!(frame, Tcp { ttl, ..before }.frame()),
            (result, _) => panic!("TTL {ttl}: {result:?}"),
        }
    }
}

#[test]
fn an_expired_packet_is_not_touched() {
    let before = Tcp { ttl: 1, ..Tcp::default() };
    let mut bytes = before.frame();
    let way = Rewrite {
        src: Be32(1),
        dst: Be32(2),
        sport: Be16(3),
        dport: Be16(4),
        check_delta: 5,
        next_hop: Mac::default(),
        station: Mac::default(),
    };
    let result = apply(&mut Frame::new(&mut bytes), before.l3(), before.l4(), &way);
    assert_eq!(result, Err(Reason::TtlExceeded));
    assert_eq!(bytes, before.frame());
}
