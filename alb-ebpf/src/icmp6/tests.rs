//! Messages compared whole with ones built for the purpose.

extern crate std;

use core::net::Ipv4Addr;
use std::{vec, vec::Vec};

use alb_common::net::{Be16, Mac};
use proptest::prelude::*;

use super::*;
use crate::{
    builder::{Tcp, icmp::Icmp, ipv6::mapped},
    packet::Frame,
    parse,
};

const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 18, 9, 1);

fn understood(frame: &mut [u8]) -> Result<Message<Be128>, Reason> {
    let frame = Frame::new(frame);
    let l3 = parse::ip_offset::<_, Be128>(&frame)?;
    message(&frame, l3)
}

/// Translates an error about `sent`, a packet that was `received` before it was rewritten.
fn translated(error: &Icmp, sent: &Tcp, received: &Tcp) -> Vec<u8> {
    let mut frame = error.frame6(&[]);
    let Ok(Message::Error(quote)) = understood(&mut frame) else { panic!("{error:?}") };
    let key = FlowKey {
        src: mapped(sent.dst.0).into(),
        dst: mapped(sent.src.0).into(),
        sport: Be16::new(sent.dst.1),
        dport: Be16::new(sent.src.1),
    };
    assert_eq!(quote.key, key);
    let way = Rewrite {
        src: mapped(received.dst.0).into(),
        dst: mapped(received.src.0).into(),
        sport: Be16::new(received.dst.1),
        dport: Be16::new(received.src.1),
        check_delta: 0,
        next_hop: Mac::new([2, 0, 0, 0, 5, 5]),
        station: Mac::new([2, 0, 0, 0, 6, 6]),
    };
    translate(&mut Frame::new(&mut frame), &quote, &way).expect("it has hops left");
    frame
}

fn endpoint() -> impl Strategy<Value = (Ipv4Addr, u16)> {
    let word = prop_oneof![any::<u32>(), Just(0), Just(u32::MAX), Just(0xffff_0000), Just(0xffff)];
    (word.prop_map(Ipv4Addr::from), prop_oneof![1..=u16::MAX, Just(0xffff), Just(1)])
}

proptest! {
    /// As if the router had seen the packet that the sender sent.
    #[test]
    fn an_error_is_translated(
        (sent_from, sent_to) in (endpoint(), endpoint()),
        (from, to) in (endpoint(), endpoint()),
        options in 0..11usize,
        data in prop::collection::vec(any::<u8>(), 0..40),
        // Half a checksum stays as it is.
        quoted in prop_oneof![8..17usize, 18..24usize, Just(200)],
        kind in prop::sample::select(vec![(1, 0), (1, 4), (2, 0), (3, 0), (4, 1)]),
        tags in 0..3usize,
        padding in 0..9usize,
        ttl in 2..=255u8,
    ) {
        let sent = Tcp {
            src: sent_from,
            dst: sent_to,
            options: vec![1; options * 4],
            data,
            ttl: 9,
            ..Tcp::default()
        };
        let received = Tcp { src: from, dst: to, ..sent.clone() };
        let error = Icmp {
            kind,
            tags: vec![(0x8100, 3); tags],
            padding,
            ttl,
            ..Icmp::about6(ROUTER, &sent, 1_300, quoted)
        };
        let expected = Icmp {
            to: [2, 0, 0, 0, 5, 5],
            from: [2, 0, 0, 0, 6, 6],
            ttl: ttl - 1,
            src: to.0,
            dst: from.0,
            body: received.quote6(&[], quoted),
            ..error.clone()
        };
        prop_assert_eq!(translated(&error, &sent, &received), expected.frame6(&[]));
    }

    #[test]
    fn a_ping_is_answered(
        (src, dst) in any::<(u32, u32)>(),
        ttl in any::<u8>(),
        rest in any::<[u8; 4]>(),
        body in prop::collection::vec(any::<u8>(), 0..99),
        tags in 0..3usize,
        words in 0..3usize,
    ) {
        let ping = Icmp {
            kind: (ECHO, 0),
            ttl,
            rest,
            body,
            tags: vec![(0x8100, 3); tags],
            ..Icmp::ping(src.into(), dst.into())
        };
        let extensions = vec![(60, vec![1; words * 8 + 6]); usize::from(words > 0)];
        let mut frame = ping.frame6(&extensions);
        assert_eq!(understood(&mut frame), Ok(Message::Echo), "{ping:?}");
        echo(&mut Frame::new(&mut frame), 14 + tags * 4).expect("it is all there");
        let answer = Icmp {
            to: ping.from,
            from: ping.to,
            src: ping.dst,
            dst: ping.src,
            ttl: 64,
            kind: (ECHO_REPLY, 0),
            ..ping
        };
        prop_assert_eq!(frame, answer.frame6(&extensions));
    }

    #[test]
    fn a_packet_too_big_is_answered(
        (src, dst) in (endpoint(), endpoint()),
        options in 0..11usize,
        data in prop::collection::vec(any::<u8>(), 100..300),
        mtu in any::<u16>(),
        tags in 0..3usize,
    ) {
        let packet = Tcp {
            src,
            dst,
            options: vec![1; options * 4],
            data,
            tags: vec![(0x8100, 3); tags],
            flags: 0x10,
            ..Tcp::default()
        };
        let mut bytes = packet.frame6(&[]);
        let mut frame = Frame::new(&mut bytes);
        let segment = parse::segment(&frame, packet.l3()).expect("a right segment");
        too_big(&mut frame, &segment, mtu).expect("there is room");
        let answer = Icmp {
            to: packet.from,
            from: packet.to,
            tags: packet.tags.clone(),
            ttl: 64,
            ..Icmp::about6(packet.dst.0, &packet, mtu, 8)
        };
        prop_assert_eq!(frame.bytes(), answer.frame6(&[]));
    }

    #[test]
    fn nearly_right_errors(
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        quoted in 0..40usize,
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut bytes = Icmp::about6(ROUTER, &Tcp::default(), 1_300, quoted).frame6(&[]);
        for (at, byte) in mutations {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if !whole {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        any_message(&bytes);
    }
}

/// Everything that is done to a message, between guards.
fn any_message(bytes: &[u8]) {
    const GUARD: usize = 64;
    let mut room = vec![0xa5; bytes.len() + 2 * GUARD];
    let inside = GUARD..GUARD + bytes.len();
    room[inside.clone()].copy_from_slice(bytes);
    match understood(&mut room[inside.clone()]) {
        Ok(Message::Error(quote)) => {
            let way = Rewrite {
                src: Be128([1, 2, 3, 4]),
                dst: Be128([5, 6, 7, 8]),
                sport: Be16(3),
                dport: Be16(4),
                check_delta: 5,
                next_hop: Mac::default(),
                station: Mac::default(),
            };
            _ = translate(&mut Frame::new(&mut room[inside.clone()]), &quote, &way);
        }
        Ok(Message::Echo) => {
            let mut frame = Frame::new(&mut room[inside.clone()]);
            let l3 = parse::ip_offset::<_, Be128>(&frame).expect("it was parsed");
            echo(&mut frame, l3).expect("it was parsed");
        }
        Ok(Message::Other) | Err(_) => {}
    }
    assert!(room[..inside.start].iter().chain(&room[inside.end..]).all(|byte| *byte == 0xa5));
}

#[test]
fn what_a_message_is() {
    let sent = Tcp::default();
    let error = Icmp::about6(ROUTER, &sent, 1_300, 8);
    let spoiled = |at: usize, byte: u8| {
        let mut error = error.clone();
        error.body[at] = byte;
        error
    };
    let of = |kind| Icmp { kind, ..error.clone() };
    let bad = Err(Reason::BadIcmp);
    for (name, message, expected) in [
        ("reserved", of((0, 0)), Ok(Message::Other)),
        ("an error to come", of((100, 0)), Ok(Message::Other)),
        ("echo reply", of((129, 0)), Ok(Message::Other)),
        ("a ping with a code", of((128, 1)), Ok(Message::Other)),
        ("router advertisement", of((134, 0)), Err(Reason::Icmp)),
        ("neighbour solicitation", of((135, 0)), Err(Reason::Icmp)),
        ("neighbour advertisement", of((136, 0)), Err(Reason::Icmp)),
        ("about UDP", spoiled(6, 17), Ok(Message::Other)),
        ("about a fragment", spoiled(6, 44), Ok(Message::Other)),
        ("about IPv4", spoiled(0, 0x45), bad),
        ("7 bytes of TCP", Icmp::about6(ROUTER, &sent, 0, 7), bad),
        ("nothing quoted", Icmp { body: vec![], ..error.clone() }, bad),
    ] {
        assert_eq!(understood(&mut message.frame6(&[])), expected, "{name}");
    }
    let mut short = error.frame6(&[]);
    short[19] = 7;
    assert_eq!(understood(&mut short), bad);
    let fragment = error.frame6(&[(44, vec![0; 6])]);
    assert_eq!(understood(&mut fragment.clone()), Err(Reason::Fragment));
}
