//! Messages compared whole with ones built for the purpose.

extern crate std;

use core::net::Ipv4Addr;
use std::{vec, vec::Vec};

use alb_common::net::{Be16, Mac};
use proptest::prelude::*;

use super::*;
use crate::{
    builder::{
        Tcp,
        icmp::{Icmp, quote},
    },
    packet::Frame,
    parse,
};

const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 18, 9, 1);

fn understood(frame: &mut [u8]) -> Result<Message, Reason> {
    let frame = Frame::new(frame);
    let l3 = parse::ip_offset::<_, Be32>(&frame)?;
    message(&frame, l3)
}

/// Translates an error about `sent`, a packet that was `received` before it was rewritten.
fn translated(error: &Icmp, sent: &Tcp, received: &Tcp) -> Vec<u8> {
    let mut frame = error.frame();
    let Ok(Message::Error(quote)) = understood(&mut frame) else { panic!("{error:?}") };
    let key = FlowKey {
        src: sent.dst.0.into(),
        dst: sent.src.0.into(),
        sport: Be16::new(sent.dst.1),
        dport: Be16::new(sent.src.1),
    };
    assert_eq!(quote.key, key);
    let way = Rewrite {
        src: received.dst.0.into(),
        dst: received.src.0.into(),
        sport: Be16::new(received.dst.1),
        dport: Be16::new(received.src.1),
        check_delta: 0,
        next_hop: Mac::new([2, 0, 0, 0, 5, 5]),
        station: Mac::new([2, 0, 0, 0, 6, 6]),
    };
    translate(&Frame::new(&mut frame), &quote, &way).expect("it has time to live");
    frame
}

fn words(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<[u8; 4]>(), 0..=most).prop_map(|words| words.concat())
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
        options in (words(10), words(10), words(10)),
        data in prop::collection::vec(any::<u8>(), 0..40),
        // Half a checksum stays as it is.
        quoted in prop_oneof![8..17usize, 18..24usize, Just(200)],
        kind in prop::sample::select(vec![(3, 0), (3, 1), (3, 4), (11, 0), (12, 0)]),
        tags in 0..3usize,
        padding in 0..9usize,
        ttl in 2..=255u8,
    ) {
        let sent = Tcp {
            src: sent_from,
            dst: sent_to,
            ip_options: options.0,
            options: options.1,
            data,
            ttl: 9,
            ..Tcp::default()
        };
        let received = Tcp { src: from, dst: to, ..sent.clone() };
        let error = Icmp {
            kind,
            tags: vec![(0x8100, 3); tags],
            ip_options: options.2,
            padding,
            ttl,
            ..Icmp::about(ROUTER, &sent, 1_300, quoted)
        };
        let expected = Icmp {
            to: [2, 0, 0, 0, 5, 5],
            from: [2, 0, 0, 0, 6, 6],
            ttl: ttl - 1,
            src: to.0,
            dst: from.0,
            body: quote(&received, quoted),
            ..error.clone()
        };
        prop_assert_eq!(translated(&error, &sent, &received), expected.frame());
    }

    #[test]
    fn a_ping_is_answered(
        src in any::<u32>(),
        dst in any::<u32>(),
        ttl in any::<u8>(),
        rest in any::<[u8; 4]>(),
        body in prop::collection::vec(any::<u8>(), 0..99),
        ip_options in words(10),
        tags in 0..3usize,
    ) {
        let ping = Icmp {
            ttl,
            rest,
            body,
            ip_options,
            tags: vec![(0x8100, 3); tags],
            ..Icmp::ping(src.into(), dst.into())
        };
        let mut frame = ping.frame();
        assert_eq!(understood(&mut frame), Ok(Message::Echo), "{ping:?}");
        echo(&Frame::new(&mut frame), 14 + tags * 4).expect("it is all there");
        let answer = Icmp {
            to: ping.from,
            from: ping.to,
            src: ping.dst,
            dst: ping.src,
            ttl: 64,
            kind: (0, 0),
            ..ping
        };
        prop_assert_eq!(frame, answer.frame());
    }

    #[test]
    fn a_packet_too_big_is_answered(
        (src, dst) in (endpoint(), endpoint()),
        ip_options in words(10),
        options in words(10),
        data in prop::collection::vec(any::<u8>(), 100..300),
        mtu in any::<u16>(),
        tags in 0..3usize,
    ) {
        let packet = Tcp {
            src,
            dst,
            ip_options,
            options,
            data,
            tags: vec![(0x8100, 3); tags],
            flags: 0x10,
            ..Tcp::default()
        };
        let mut bytes = packet.frame();
        let mut frame = Frame::new(&mut bytes);
        let segment = parse::segment(&frame, packet.l3()).expect("a right segment");
        too_big(&mut frame, &segment, mtu).expect("there is room");
        let answer = Icmp {
            to: packet.from,
            from: packet.to,
            tags: packet.tags.clone(),
            id: 0,
            ttl: 64,
            ..Icmp::about(packet.dst.0, &packet, mtu, 8)
        };
        prop_assert_eq!(frame.bytes(), answer.frame());
    }

    #[test]
    fn any_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        any_message(&mut bytes);
    }

    #[test]
    fn nearly_right_errors(
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        quoted in 0..40usize,
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut bytes = Icmp::about(ROUTER, &Tcp::default(), 1_300, quoted).frame();
        for (at, byte) in mutations {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if !whole {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        any_message(&mut bytes);
    }
}

/// Everything that is done to a message, on an allocation of exactly its size.
fn any_message(bytes: &mut [u8]) {
    const GUARD: usize = 64;
    let mut room = vec![0xa5; bytes.len() + 2 * GUARD];
    let inside = GUARD..GUARD + bytes.len();
    room[inside.clone()].copy_from_slice(bytes);
    match understood(&mut room[inside.clone()]) {
        Ok(Message::Error(quote)) => {
            let way = Rewrite {
                src: alb_common::net::Be32(1),
                dst: alb_common::net::Be32(2),
                sport: Be16(3),
                dport: Be16(4),
                check_delta: 5,
                next_hop: Mac::default(),
                station: Mac::default(),
            };
            _ = translate(&Frame::new(&mut room[inside.clone()]), &quote, &way);
        }
        Ok(Message::Echo) => {
            let frame = Frame::new(&mut room[inside.clone()]);
            let l3 = parse::ip_offset::<_, Be32>(&frame).expect("it was parsed");
            echo(&frame, l3).expect("it was parsed");
        }
        Ok(Message::Other) | Err(_) => {}
    }
    assert!(room[..inside.start].iter().chain(&room[inside.end..]).all(|byte| *byte == 0xa5));
}

#[test]
fn what_a_message_is() {
    let sent = Tcp::default();
    let error = Icmp::about(ROUTER, &sent, 1_300, 8);
    let spoiled = |at: usize, byte: u8| {
        let mut error = error.clone();
        error.body[at] = byte;
        error
    };
    let of = |kind| Icmp { kind, ..error.clone() };
    let bad = Err(Reason::BadIcmp);
    for (name, message, expected) in [
        ("echo reply", of((0, 0)), Ok(Message::Other)),
        ("source quench", of((4, 0)), Ok(Message::Other)),
        ("redirect", of((5, 1)), Ok(Message::Other)),
        ("timestamp request", of((13, 0)), Ok(Message::Other)),
        ("a ping with a code", of((8, 1)), Ok(Message::Other)),
        ("about UDP", spoiled(9, 17), Ok(Message::Other)),
        ("about IPv6", spoiled(0, 0x65), bad),
        ("about a header of 16 bytes", spoiled(0, 0x44), bad),
        ("about a header that is cut", spoiled(0, 0x46), bad),
        ("about a later fragment", spoiled(7, 1), bad),
        ("7 bytes of TCP", Icmp::about(ROUTER, &sent, 0, 7), bad),
        ("nothing quoted", Icmp { body: vec![], ..error.clone() }, bad),
        ("a fragment", Icmp { fragment: 0x2000, ..error.clone() }, Err(Reason::Fragment)),
    ] {
        assert_eq!(understood(&mut message.frame()), expected, "{name}");
    }
    assert!(matches!(understood(&mut spoiled(6, 0x20).frame()), Ok(Message::Error(_))));
    let mut short = error.frame();
    short[17] = 27;
    assert_eq!(understood(&mut short), bad);
}
