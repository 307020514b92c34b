//! Frames as the capturing programs leave them.

use alb_common::capture::HOOK_TC;

use super::*;
use crate::datapath::segment::Segment;

/// A frame with a TCP segment.
pub(in crate::datapath::capture) fn frame(from: &str, to: &str, flags: u8) -> Frame {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let kind = if from.is_ipv4() { [8, 0] } else { [0x86, 0xdd] };
    let segment = Segment { from, to, sequence: 1, acknowledgment: 2, flags, window: 3 }.bytes();
    let bytes = [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &kind, &segment].concat();
    Frame { len: u32::try_from(bytes.len()).unwrap(), bytes }
}

/// A record and what is behind it, as bytes.
fn left(record: &CaptureRecord, bytes: &[&[u8]]) -> Vec<u8> {
    let CaptureRecord { came, left, ifindex, hook, action, reason, events, before, .. } = *record;
    let CaptureRecord { before_len, after, after_len, before_tag, after_tag, .. } = *record;
    let mut out = [came.to_ne_bytes(), left.to_ne_bytes()].concat();
    for word in [
        ifindex, hook, action, reason, events, before, before_len, after, after_len, before_tag,
        after_tag, 0,
    ] {
        out.extend(word.to_ne_bytes());
    }
    out.extend(bytes.concat());
    out
}

const CLIENT: &str = "198.18.0.100:40000";
const VIP: &str = "198.18.0.10:80";

#[test]
fn a_record_is_read_whole_or_not_at_all() {
    let (before, after) = (frame(CLIENT, VIP, 2), frame("198.18.1.1:40000", "198.18.1.21:8080", 2));
    let record = CaptureRecord {
        came: 5,
        left: 7,
        ifindex: 3,
        hook: HOOK_TC,
        action: 7,
        reason: Reason::NewFlow as u32,
        events: 1 << Event::PortReclaimed as u32,
        before: before.len,
        before_len: before.len,
        after: after.len,
        after_len: after.len,
        ..CaptureRecord::default()
    };
    let bytes = left(&record, &[&before.bytes, &after.bytes]);
    let captured = Captured::of(&bytes).unwrap();
    assert_eq!((captured.before.clone(), captured.after.clone()), (before.clone(), Some(after)));
    assert_eq!(
        (captured.reason, captured.events.as_slice()),
        (Reason::NewFlow, &[Event::PortReclaimed][..])
    );
    assert_eq!((captured.hook, captured.action, captured.ifindex), (Hook::Tc, 7, 3));
    for len in 0..bytes.len() {
        assert_eq!(Captured::of(&bytes[..len]), None, "{len}");
    }
    let unsent = CaptureRecord { after: 0, after_len: 0, ..record };
    assert_eq!(Captured::of(&left(&unsent, &[&before.bytes])).unwrap().after, None);
    let unknown = CaptureRecord { reason: 99, ..record };
    assert_eq!(Captured::of(&left(&unknown, &[&bytes])), None);
}

#[test]
fn addresses_ports_and_flags() {
    for (from, to) in [(CLIENT, VIP), ("[2001:db8::64]:40000", "[2001:db8::a]:80")] {
        let frame = frame(from, to, 0x12);
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        let said = Said { from, to, protocol: 6, flags: Some(0x12) };
        assert_eq!(frame.said(), Some(said));
        for len in 0..frame.bytes.len() {
            let bytes = frame.bytes[..len].to_vec();
            if let Some(cut) = (Frame { bytes, len: 0 }).said() {
                assert_eq!((cut.from.ip(), cut.to.ip()), (said.from.ip(), said.to.ip()), "{len}");
            }
        }
    }
    let arp = [&[0xff; 12][..], &[8, 6], &[0; 28]].concat();
    assert_eq!(Frame { bytes: arp, len: 42 }.said(), None);
}

#[test]
fn extension_headers_and_fragments() {
    let plain = frame("[2001:db8::64]:40000", "[2001:db8::a]:80", 2);
    let said = plain.said().unwrap();
    // Destination options, then a fragment header with an offset in 8 bytes.
    for (offset, port) in [(0, 80), (1, 0)] {
        let mut bytes = plain.bytes.clone();
        bytes[20] = 60;
        let fragment = [6, 0, 0, offset << 3 | 1, 0, 0, 0, 9];
        let headers = [&[44, 1][..], &[0; 14], &fragment].concat();
        bytes.splice(54..54, headers);
        let found = Frame { bytes, len: 0 }.said().unwrap();
        assert_eq!((found.from.ip(), found.protocol), (said.from.ip(), 6));
        assert_eq!(found.to.port(), port);
    }
    let mut later = frame(CLIENT, VIP, 2);
    later.bytes[21] = 1;
    assert_eq!(later.said().unwrap().to.port(), 0);
}

#[test]
fn a_tag_that_was_aside_is_in_its_place() {
    let plain = frame(CLIENT, VIP, 2);
    let proto = u32::from(u16::from_ne_bytes([0x81, 0]));
    let tagged = Frame::new(&plain.bytes, plain.len, proto | 0x2007 << 16);
    assert_eq!(tagged.bytes[10..18], [0, 2, 0x81, 0, 0x20, 7, 8, 0]);
    assert_eq!((tagged.len, tagged.said()), (plain.len + 4, plain.said()));
}

#[test]
fn the_rest_of_a_frame_may_be_in_other_buffers() {
    let mut plain = frame(CLIENT, VIP, 2);
    plain.bytes[16..18].copy_from_slice(&9000_u16.to_be_bytes());
    assert_eq!(Frame::new(&plain.bytes, plain.len, 0).len, 9014);
}

proptest::proptest! {
    #[test]
    fn whatever_the_bytes_are_they_are_read_or_refused(
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 64..400),
        numbers in proptest::array::uniform5(0_u32..400),
        kind in 0..4_usize,
    ) {
        let [reason, before, before_len, after, tag] = numbers;
        let record = CaptureRecord {
            reason: reason % 64,
            before,
            before_len,
            after,
            after_len: after,
            before_tag: tag,
            ..CaptureRecord::default()
        };
        let mut bytes = bytes;
        bytes[12..14].copy_from_slice(&[[8, 0], [0x86, 0xdd], [0x81, 0], [8, 6]][kind]);
        let told = Captured::of(&left(&record, &[&bytes]));
        if let Some(told) = told {
            proptest::prop_assert!(told.before.bytes.len() >= before as usize);
            for frame in [Some(told.before), told.after].into_iter().flatten() {
                let _said = frame.said();
            }
        }
        let _any = Captured::of(&bytes);
    }
}
