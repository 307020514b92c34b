//! RSTs compared whole with frames built for the purpose.

extern crate std;

use std::{vec, vec::Vec};

use alb_common::net::Be32;
use proptest::prelude::*;

use super::*;
use crate::{
    builder::{Tcp, timestamp},
    packet::Frame,
    parse,
};

/// What is written over the frame of `tcp`.
fn answer(tcp: &Tcp) -> Vec<u8> {
    let mut bytes = tcp.frame();
    let mut frame = Frame::new(&mut bytes);
    let l3 = parse::ip_offset::<_, Be32>(&frame).expect("IPv4");
    let segment = parse::segment::<_, Be32>(&frame, l3).expect("a right segment");
    write(&mut frame, &segment, None).expect("room for a RST");
    frame.bytes().to_vec()
}

/// The RST of RFC 9293 §3.5.2 with these numbers.
fn expected(tcp: &Tcp, seq: u32, ack: u32, flags: u8) -> Vec<u8> {
    Tcp {
        to: tcp.from,
        from: tcp.to,
        tags: tcp.tags.clone(),
        tos: 0,
        id: 0,
        fragment: 0x4000,
        ttl: 64,
        src: tcp.dst,
        dst: tcp.src,
        ip_options: vec![],
        seq,
        ack,
        flags,
        window: 0,
        options: vec![],
        data: vec![],
        padding: 0,
    }
    .frame()
}

#[test]
fn rows() {
    let ack = Tcp { seq: 5_000, ack: 7_000, flags: flag::ACK, ..Tcp::default() };
    for tcp in [
        ack.clone(),
        Tcp { flags: flag::ACK | flag::FIN, ..ack.clone() },
        Tcp { flags: flag::ACK | flag::SYN, ..ack.clone() },
        Tcp { flags: flag::ACK | flag::PSH, data: vec![1; 99], ..ack.clone() },
        Tcp { tags: vec![(0x8100, 9)], options: timestamp(1, 2), ..ack.clone() },
        Tcp { tags: vec![(0x88a8, 9), (0x8100, 8)], ip_options: vec![1; 40], ..ack.clone() },
        Tcp { padding: 6, ..ack },
    ] {
        assert_eq!(answer(&tcp), expected(&tcp, 7_000, 0, flag::RST), "{tcp:?}");
    }

    let syn = Tcp { seq: u32::MAX, ..Tcp::default() };
    for (tcp, next) in [
        (Tcp::default(), 1_001),
        (syn.clone(), 0),
        (Tcp { data: vec![1; 10], ..syn.clone() }, 10),
        (Tcp { options: timestamp(1, 2), padding: 2, ..syn.clone() }, 0),
        (Tcp { ip_options: vec![1; 12], options: vec![1; 40], data: vec![2; 3], ..syn }, 3),
    ] {
        assert_eq!(answer(&tcp), expected(&tcp, 0, next, flag::RST | flag::ACK), "{tcp:?}");
    }
}

#[test]
fn sequence_space() {
    let segment = |flags, data: usize| parse::Segment {
        l3: 14,
        l4: 34,
        ip_len: 20 + 24 + data as u32,
        tcp_header_len: 24,
        key: alb_common::flow::FlowKey::<Be32>::default(),
        flags,
    };
    for (flags, data, expected) in [
        (flag::ACK, 0, 0),
        (flag::ACK, 10, 10),
        (flag::SYN, 0, 1),
        (flag::SYN, 10, 11),
        (flag::FIN | flag::ACK, 0, 1),
        (flag::FIN | flag::ACK | flag::PSH, 10, 11),
    ] {
        assert_eq!(segment(flags, data).sequence_len(), expected, "{flags:#x} {data}");
    }
}

proptest! {
    #[test]
    fn any_segment(
        numbers in any::<(u32, u32)>(),
        addresses in any::<(u32, u32)>(),
        ports in (1..=u16::MAX, 1..=u16::MAX),
        is_ack in any::<bool>(),
        data in prop::collection::vec(any::<u8>(), 0..50),
        words in (0..11usize, 0..11usize, 0..3usize),
    ) {
        let tcp = Tcp {
            tags: vec![(0x8100, 3); words.2],
            src: (addresses.0.into(), ports.0),
            dst: (addresses.1.into(), ports.1),
            ip_options: vec![1; words.0 * 4],
            options: vec![1; words.1 * 4],
            seq: numbers.0,
            ack: numbers.1,
            flags: if is_ack { flag::ACK } else { flag::SYN },
            data,
            ..Tcp::default()
        };
        let rst = if is_ack {
            expected(&tcp, tcp.ack, 0, flag::RST)
        } else {
            let next = tcp.seq.wrapping_add(tcp.data.len() as u32 + 1);
            expected(&tcp, 0, next, flag::RST | flag::ACK)
        };
        prop_assert_eq!(answer(&tcp), rst);
    }
}
