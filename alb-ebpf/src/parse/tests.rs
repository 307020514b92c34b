//! Frames in, reasons or segments out.

extern crate std;

use core::net::Ipv4Addr;
use std::{vec, vec::Vec};

use alb_common::{net::Be16, tcp::flag};
use proptest::prelude::*;

use super::*;
use crate::{
    builder::{Tcp, timestamp},
    packet::Frame,
    reset, rewrite,
};

/// What the packet path does until it asks a table.
fn parse(frame: &mut [u8]) -> Result<Segment, Reason> {
    let frame = Frame::new(frame);
    let l3 = ip_offset::<_, Be32>(&frame)?;
    destination::<_, Be32>(&frame, l3)?;
    segment(&frame, l3)
}

/// A right frame with bytes replaced at an offset behind the start of the IPv4 header.
fn spoiled(tcp: &Tcp, offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = tcp.frame();
    let at = tcp.l3() + offset;
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

#[test]
fn right_frames() {
    let q = |tags: &[u16]| tags.iter().map(|kind| (*kind, 7)).collect::<Vec<_>>();
    for tcp in [
        Tcp::default(),
        Tcp { tags: q(&[0x8100]), ..Tcp::default() },
        Tcp { tags: q(&[0x88a8]), ..Tcp::default() },
        Tcp { tags: q(&[0x88a8, 0x8100]), ..Tcp::default() },
        Tcp { tags: q(&[0x8100, 0x8100]), ..Tcp::default() },
        Tcp { ip_options: vec![1; 4], ..Tcp::default() },
        Tcp { ip_options: vec![1; 40], options: vec![1; 40], ..Tcp::default() },
        Tcp { options: timestamp(1, 2), data: vec![9; 100], ..Tcp::default() },
        Tcp { padding: 6, ..Tcp::default() },
        Tcp { padding: 6, data: vec![1], flags: flag::ACK, ..Tcp::default() },
        Tcp { fragment: 0, ..Tcp::default() },
        // The reserved bit ("evil", RFC 3514) is nobody's business.
        Tcp { fragment: 0x8000, ..Tcp::default() },
    ] {
        let segment = parse(&mut tcp.frame()).expect("a right frame");
        let key = FlowKey {
            src: tcp.src.0.into(),
            dst: tcp.dst.0.into(),
            sport: Be16::new(tcp.src.1),
            dport: Be16::new(tcp.dst.1),
        };
        let tcp_header_len = 20 + tcp.options.len();
        let ip_len = tcp.l4() - tcp.l3() + tcp_header_len + tcp.data.len();
        let expected = Segment {
            l3: tcp.l3(),
            l4: tcp.l4(),
            ip_len: ip_len as u32,
            tcp_header_len: tcp_header_len as u32,
            key,
            flags: tcp.flags,
        };
        assert_eq!(segment, expected, "{tcp:?}");
        let syn = u32::from(tcp.flags & flag::SYN != 0);
        assert_eq!(segment.sequence_len(), tcp.data.len() as u32 + syn, "{tcp:?}");
        assert_eq!(segment.opens(), tcp.flags == flag::SYN);
    }
}

#[test]
fn wrong_frames() {
    use Reason::*;

    let tcp = Tcp::default();
    let tag = |count| Tcp { tags: vec![(0x8100, 7); count], ..Tcp::default() };
    let with = |flags| Tcp { flags, ..Tcp::default() }.frame();
    let cut = |tcp: &Tcp, len: usize| tcp.frame()[..len].to_vec();
    let ethertype = |tags: usize, kind: [u8; 2]| {
        let mut frame = tag(tags).frame();
        frame[12 + tags * 4..14 + tags * 4].copy_from_slice(&kind);
        frame
    };
    let port_zero = Tcp { src: (Ipv4Addr::new(198, 18, 0, 100), 0), ..Tcp::default() };
    let to_zero = Tcp { dst: (Ipv4Addr::new(198, 18, 0, 10), 0), ..Tcp::default() };

    for (name, mut frame, reason) in [
        ("ARP", ethertype(0, [0x08, 0x06]), NotIp),
        ("IPv6", ethertype(0, [0x86, 0xdd]), NotIp),
        ("a length, not a type", ethertype(0, [0x00, 0x26]), NotIp),
        ("ARP behind a tag", ethertype(1, [0x08, 0x06]), NotIp),
        ("ARP behind two tags", ethertype(2, [0x08, 0x06]), NotIp),
        ("three tags", tag(3).frame(), NotIp),
        (
            "a service tag inside",
            {
                let mut frame = tag(2).frame();
                frame[16..18].copy_from_slice(&[0x88, 0xa8]);
                frame
            },
            NotIp,
        ),
        ("nothing", vec![], Truncated),
        ("13 bytes", cut(&tcp, 13), Truncated),
        ("ends in the tag", cut(&tag(1), 17), Truncated),
        ("ends in the second tag", cut(&tag(2), 21), Truncated),
        ("ends before IPv4", cut(&tcp, 14), Truncated),
        ("ends in IPv4", cut(&tcp, 33), Truncated),
        ("ends before TCP", cut(&tcp, 34), BadIpHeader),
        ("ends in TCP", cut(&tcp, 53), BadIpHeader),
        (
            "IP ends in TCP",
            {
                let mut frame = spoiled(&tcp, 2, &[0, 39]);
                frame.pop();
                frame
            },
            Truncated,
        ),
        ("version 6", spoiled(&tcp, 0, &[0x65]), BadIpHeader),
        ("version 0", spoiled(&tcp, 0, &[0x05]), BadIpHeader),
        ("IHL 4", spoiled(&tcp, 0, &[0x44]), BadIpHeader),
        ("IHL 0", spoiled(&tcp, 0, &[0x40]), BadIpHeader),
        ("IHL beyond the total", spoiled(&tcp, 0, &[0x4f]), BadIpHeader),
        ("total below the header", spoiled(&tcp, 2, &[0, 19]), BadIpHeader),
        ("total 0", spoiled(&tcp, 2, &[0, 0]), BadIpHeader),
        ("total beyond the frame", spoiled(&tcp, 2, &[0, 41]), BadIpHeader),
        ("total 65,535", spoiled(&tcp, 2, &[255, 255]), BadIpHeader),
        ("total ends in TCP", spoiled(&tcp, 2, &[0, 39]), BadTcpHeader),
        ("ICMP", spoiled(&tcp, 9, &[1]), Icmp),
        (
            "an ICMP fragment",
            {
                let mut frame = spoiled(&tcp, 9, &[1]);
                frame[14 + 6] = 0x20;
                frame
            },
            Icmp,
        ),
        ("UDP", spoiled(&tcp, 9, &[17]), UnsupportedProtocol),
        ("first fragment", Tcp { fragment: 0x2000, ..Tcp::default() }.frame(), Fragment),
        ("later fragment", Tcp { fragment: 0x2005, ..Tcp::default() }.frame(), Fragment),
        ("last fragment", Tcp { fragment: 1, ..Tcp::default() }.frame(), Fragment),
        (
            "a UDP fragment",
            {
                let mut frame = spoiled(&tcp, 9, &[17]);
                frame[14 + 6] = 0x20;
                frame
            },
            Fragment,
        ),
        ("data offset 4", spoiled(&tcp, 32, &[0x40]), BadTcpHeader),
        ("data offset 0", spoiled(&tcp, 32, &[0]), BadTcpHeader),
        ("data offset beyond", spoiled(&tcp, 32, &[0x60]), BadTcpHeader),
        (
            "data offset beyond in padding",
            { spoiled(&Tcp { padding: 6, ..Tcp::default() }, 32, &[0x60]) },
            BadTcpHeader,
        ),
        ("source port 0", port_zero.frame(), BadTcpHeader),
        ("destination port 0", to_zero.frame(), BadTcpHeader),
        ("no flags", with(0), BadTcpFlags),
        ("SYN and FIN", with(flag::SYN | flag::FIN), BadTcpFlags),
        ("SYN and RST", with(flag::SYN | flag::RST), BadTcpFlags),
        ("FIN alone", with(flag::FIN), BadTcpFlags),
        ("a Christmas tree", with(flag::FIN | flag::PSH | flag::URG), BadTcpFlags),
    ] {
        assert_eq!(parse(&mut frame), Err(reason), "{name}");
    }
}

#[test]
fn clients() {
    for (addr, expected) in [
        ([0, 0, 0, 0], false),
        ([0, 1, 2, 3], false),
        ([1, 0, 0, 1], true),
        ([126, 255, 255, 255], true),
        ([127, 0, 0, 1], false),
        ([128, 0, 0, 1], true),
        ([198, 18, 0, 1], true),
        ([223, 255, 255, 255], true),
        ([224, 0, 0, 1], false),
        ([240, 0, 0, 1], false),
        ([255, 255, 255, 255], false),
    ] {
        assert_eq!(Be32::from(Ipv4Addr::from(addr)).is_client(), expected, "{addr:?}");
    }
}

#[test]
fn timestamps() {
    let linux_syn = {
        let mut options = vec![2, 4, 0x05, 0xb4, 4, 2, 8, 10];
        options.extend([0, 0, 0x12, 0x34, 0, 0, 0, 0]);
        options.extend([1, 3, 3, 7]);
        options
    };
    let padded = |nops: usize| {
        let mut options = vec![1; nops];
        options.extend(&timestamp(7, 0)[2..]);
        options.resize(options.len().next_multiple_of(4), 0);
        options
    };
    for (name, options, expected) in [
        ("none", vec![], None),
        ("Linux", timestamp(0xdead_beef, 1), Some(0xdead_beef)),
        ("a Linux SYN", linux_syn, Some(0x1234)),
        ("behind eleven NOPs", padded(11), Some(7)),
        ("too far behind", padded(12), None),
        ("behind the end", [vec![0, 0], timestamp(7, 0)[2..].to_vec()].concat(), None),
        ("length 0", vec![5, 0, 8, 10, 0, 0, 0, 7, 0, 0, 0, 0], None),
        ("length 1", vec![5, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 0], None),
        ("longer than the header", vec![5, 200, 1, 1], None),
        ("cut", vec![1, 1, 8, 10, 0, 0, 0, 7], None),
        ("only its kind", vec![1, 1, 1, 8], None),
    ] {
        let tcp = Tcp { options, data: vec![8, 10, 1, 2, 3, 4, 5, 6, 7, 8], ..Tcp::default() };
        let mut frame = tcp.frame();
        let segment = parse(&mut frame).expect("a right frame");
        assert_eq!(
            super::timestamp(&Frame::new(&mut frame), segment.l4, segment.tcp_header_len),
            expected,
            "{name}"
        );
    }
}

/// Bytes that look like a frame often enough to get past the first checks.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let mutation = (any::<prop::sample::Index>(), any::<u8>());
    (
        prop::collection::vec(mutation, 0..6),
        prop::sample::select(vec![0, 1, 2, 3]),
        0..11usize,
        0..11usize,
        prop::collection::vec(any::<u8>(), 0..80),
        any::<prop::sample::Index>(),
        any::<bool>(),
    )
        .prop_map(|(mutations, tags, ip, options, data, cut, whole)| {
            let tcp = Tcp {
                tags: vec![(0x8100, 1); tags],
                ip_options: vec![1; ip * 4],
                options: data.iter().copied().chain([0; 40]).take(options * 4).collect(),
                data,
                ..Tcp::default()
            };
            let mut frame = tcp.frame();
            for (at, byte) in mutations {
                let at = at.index(frame.len());
                frame[at] = byte;
            }
            if !whole {
                frame.truncate(cut.index(frame.len() + 1));
            }
            frame
        })
}

/// Everything that is done to a frame, on an allocation of exactly its size: a stray access
/// is a write to a guard here, and an error under Miri.
fn whole_path(bytes: &[u8]) {
    const GUARD: usize = 64;
    let mut room = vec![0xa5; bytes.len() + 2 * GUARD];
    room[GUARD..GUARD + bytes.len()].copy_from_slice(bytes);
    let inside = GUARD..GUARD + bytes.len();
    if let Ok(segment) = parse(&mut room[inside.clone()]) {
        let mut frame = Frame::new(&mut room[inside.clone()]);
        assert!(segment.l4 + segment.tcp_header_len as usize <= frame.len());
        assert!(segment.l3 + segment.ip_len as usize <= frame.len());
        assert!(segment.sequence_len() <= segment.ip_len);
        super::timestamp(&frame, segment.l4, segment.tcp_header_len);
        let way = rewrite::Rewrite {
            src: Be32(1),
            dst: Be32(2),
            sport: Be16(3),
            dport: Be16(4),
            check_delta: 5,
            next_hop: alb_common::net::Mac::default(),
            station: alb_common::net::Mac::default(),
        };
        _ = rewrite::apply(&mut frame, segment.l3, segment.l4, &way);
        let mut frame = Frame::new(&mut room[inside.clone()]);
        reset::write(&mut frame, &segment, None).expect("a parsed segment can be answered");
        assert_eq!(frame.len(), segment.l3 + 40);
    }
    assert!(room[..inside.start].iter().chain(&room[inside.end..]).all(|byte| *byte == 0xa5));
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        whole_path(&bytes);
    }

    #[test]
    fn nearly_right_frames(bytes in frames()) {
        whole_path(&bytes);
    }
}
