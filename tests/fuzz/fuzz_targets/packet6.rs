//! As `packet`, of IPv6: any frame is parsed within its bounds, as a naive reader would, its
//! extension headers included, and rewritten so that right checksums stay right and wrong ones stay
//! wrong.
#![no_main]

use alb_common::{
    Reason,
    checksum::{fold, sum},
    flow::FlowKey,
    net::{Be16, Be128, Mac},
    tcp::flag,
};
use alb_ebpf::{
    icmp::Message,
    icmp6,
    ipv6::{IPV6_LEN, MOST_EXTENSION_BYTES, MOST_EXTENSIONS},
    mss,
    packet::Frame,
    parse::{self, Segment},
    reset,
    rewrite::{self, Rewrite},
};
use libfuzzer_sys::fuzz_target;

const TCP: u8 = 6;
const ICMPV6: u8 = 58;

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    let frame = Frame::new(&mut bytes);
    let Ok(l3) = parse::ip_offset::<_, Be128>(&frame) else { return };
    assert!(matches!(l3, 14 | 18 | 22) && l3 <= data.len());
    let Ok(destination) = parse::destination::<_, Be128>(&frame, l3) else { return };
    assert_eq!(octets(destination), data[l3 + 24..l3 + 40]);

    let message = icmp6::message(&frame, l3);
    let parsed = parse::segment::<_, Be128>(&frame, l3);
    assert_eq!(bytes, data, "parsing changes nothing");
    match (parsed, message) {
        (Ok(segment), _) => {
            check_segment(data, &segment);
            check_rewrite(data, &segment);
            check_clamp(data, &segment);
            if segment.flags & flag::RST == 0 {
                check_reset(data, &segment);
            }
            check_too_big(data, &segment);
        }
        (Err(Reason::Icmp), Ok(message)) => check_icmp(data, l3, message),
        (Err(_), _) => {}
    }
});

fn octets(address: Be128) -> [u8; 16] {
    let mut octets = [0; 16];
    for (to, word) in octets.chunks_exact_mut(4).zip(address.0) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    octets
}

/// The protocol behind the extension headers, and where it begins; `None` = too many, too long, or
/// to be routed on.
fn behind(ip: &[u8]) -> Option<(u8, usize)> {
    let (mut next, mut at, mut seen) = (ip[6], IPV6_LEN, 0);
    while matches!(next, 43 | 60) || next == 0 && seen == 0 {
        seen += 1;
        if seen > MOST_EXTENSIONS || next == 43 && ip[at + 3] != 0 {
            return None;
        }
        let length = (usize::from(ip[at + 1]) + 1) * 8;
        (next, at) = (ip[at], at + length);
        if at - IPV6_LEN > MOST_EXTENSION_BYTES {
            return None;
        }
    }
    Some((next, at))
}

/// What the headers say, read byte by byte.
fn check_segment(data: &[u8], segment: &Segment<Be128>) {
    let ip = &data[segment.l3..];
    let total = IPV6_LEN + usize::from(u16::from_be_bytes([ip[4], ip[5]]));
    assert_eq!((ip[0] >> 4, segment.ip_len as usize), (6, total));
    assert_eq!(behind(ip), Some((TCP, segment.l4 - segment.l3)));
    let tcp = &ip[segment.l4 - segment.l3..total];
    assert!(segment.tcp_header_len >= 20 && tcp.len() >= segment.tcp_header_len as usize);
    assert_eq!(segment.flags, tcp[13]);
    let FlowKey { src, dst, sport, dport } = segment.key;
    assert_eq!((octets(src), octets(dst)), (address(ip, 8), address(ip, 24)));
    assert_eq!(sport.0.to_ne_bytes(), tcp[0..2]);
    assert_eq!(dport.0.to_ne_bytes(), tcp[2..4]);
    assert!(segment.sequence_len() as usize <= tcp.len() + 2);
}

fn address(ip: &[u8], at: usize) -> [u8; 16] {
    ip[at..at + 16].try_into().expect("within the header")
}

/// The sum of what is behind the headers, its checksum and the pseudo-header included: all ones if
/// the checksum is right.
fn checked(data: &[u8], l3: usize) -> u16 {
    let ip = &data[l3..];
    let (protocol, at) = behind(ip).expect("it was parsed");
    let total = IPV6_LEN + usize::from(u16::from_be_bytes([ip[4], ip[5]]));
    let payload = &ip[at..total];
    let length = u64::from(u16::try_from(payload.len()).expect("within an IP packet").to_be());
    let pseudo = sum(&ip[8..40]) + u64::from(u16::from(protocol).to_be()) + length;
    match fold(sum(payload) + pseudo) {
        // Zero and all ones are the same number.
        0 => u16::MAX,
        sum => sum,
    }
}

/// What an address becomes, from the frame itself, so that the fuzzer chooses it.
fn chosen(data: &[u8], old: &FlowKey<Be128>) -> (FlowKey<Be128>, Rewrite<Be128>) {
    let end = data.len().saturating_sub(36);
    let word = |at: usize| data.get(end + at).copied().unwrap_or(at as u8);
    let half = |at| u16::from_ne_bytes([word(at), word(at + 1)]);
    let whole = |at| u32::from_ne_bytes([word(at), word(at + 1), word(at + 2), word(at + 3)]);
    let address = |at| Be128([whole(at), whole(at + 4), whole(at + 8), whole(at + 12)]);
    let (src, dst) = (address(0), address(16));
    let new = FlowKey { src, dst, sport: Be16(half(32)), dport: Be16(half(34)) };
    let rewrite = Rewrite {
        src,
        dst,
        sport: new.sport,
        dport: new.dport,
        check_delta: rewrite::check_delta(old, &new),
        next_hop: Mac([1, 2, 3]),
        station: Mac([4, 5, 6]),
    };
    (new, rewrite)
}

/// Any rewrite leaves the sum what it was and touches nothing but the fields it is about.
fn check_rewrite(data: &[u8], segment: &Segment<Be128>) {
    let (new, rewrite) = chosen(data, &segment.key);
    let mut bytes = data.to_vec();
    let (l3, l4) = (segment.l3, segment.l4);
    let limit = data[l3 + 7];
    match rewrite::apply(&mut Frame::new(&mut bytes), l3, l4, &rewrite) {
        Ok(()) => assert_eq!(bytes[l3 + 7], limit - 1),
        Err(reason) => {
            assert_eq!(reason, Reason::TtlExceeded);
            assert!(limit <= 1, "hop limit {limit}");
            return;
        }
    }
    assert_eq!(checked(&bytes, l3), checked(data, l3), "the sum is kept");
    if let Ok(after) = parse::segment::<_, Be128>(&Frame::new(&mut bytes), l3) {
        assert_eq!(after, Segment { key: new, ..*segment });
    } else {
        assert!(new.sport.0 == 0 || new.dport.0 == 0, "only port 0 makes it unreadable");
    }
    let touched = |at: usize| {
        at < 12
            || at == l3 + 7
            || (l3 + 8..l3 + 40).contains(&at)
            || (l4..l4 + 4).contains(&at)
            || (l4 + 16..l4 + 18).contains(&at)
    };
    for (at, (old, new)) in data.iter().zip(&bytes).enumerate() {
        assert!(old == new || touched(at), "byte {at} is none of ours");
    }
}

/// The answer goes back where the segment came from, with a right checksum and nothing after it.
fn check_reset(data: &[u8], segment: &Segment<Be128>) {
    let mut bytes = data.to_vec();
    let mut frame = Frame::new(&mut bytes);
    reset::write(&mut frame, segment, None).expect("the segment was parsed");
    let answer = parse::segment::<_, Be128>(&frame, segment.l3).expect("it is well-formed");
    let FlowKey { src, dst, sport, dport } = segment.key;
    assert_eq!(answer.key, FlowKey { src: dst, dst: src, sport: dport, dport: sport });
    assert_eq!((answer.ip_len, answer.tcp_header_len), (60, 20));
    assert_ne!(answer.flags & flag::RST, 0);
    let bytes = frame.bytes();
    assert_eq!(bytes.len(), segment.l3 + 60);
    assert_eq!(checked(bytes, segment.l3), u16::MAX, "a right checksum");
    assert_eq!((&bytes[..6], &bytes[6..12]), (&data[6..12], &data[..6]), "stations swap");
}

/// "Packet too big" has a right checksum and quotes what came.
fn check_too_big(data: &[u8], segment: &Segment<Be128>) {
    let mut bytes = data.to_vec();
    let mut frame = Frame::new(&mut bytes);
    if segment.ip_len < 1280 || icmp6::too_big(&mut frame, segment, 1280).is_err() {
        return;
    }
    let (bytes, l3) = (frame.bytes(), segment.l3);
    assert_eq!(bytes[l3 + 6], ICMPV6);
    assert_eq!(checked(bytes, l3), u16::MAX, "a right checksum");
    assert_eq!(bytes[l3 + 48..l3 + 96], data[l3..l3 + 48]);
}

/// A message is answered or translated within its frame, and its sum stays what it was.
fn check_icmp(data: &[u8], l3: usize, message: Message<Be128>) {
    let mut bytes = data.to_vec();
    let mut frame = Frame::new(&mut bytes);
    match message {
        Message::Echo => icmp6::echo(&mut frame, l3).expect("the message was parsed"),
        Message::Error(quote) => {
            let (_, rewrite) = chosen(data, &quote.key);
            if let Err(reason) = icmp6::translate(&mut frame, &quote, &rewrite) {
                assert_eq!(reason, Reason::TtlExceeded);
                return;
            }
        }
        Message::Other => return,
    }
    assert_eq!(checked(&bytes, l3), checked(data, l3), "the sum is kept");
}

/// An option at most is lowered, and the sum stays what it was.
fn check_clamp(data: &[u8], segment: &Segment<Be128>) {
    let mut bytes = data.to_vec();
    mss::clamp(&mut Frame::new(&mut bytes), segment.l4, segment.tcp_header_len, 1500);
    assert_eq!(checked(&bytes, segment.l3), checked(data, segment.l3), "the sum is kept");
    let options = segment.l4 + 20..segment.l4 + segment.tcp_header_len as usize;
    let checksum = segment.l4 + 16..segment.l4 + 18;
    for (at, (old, new)) in data.iter().zip(&bytes).enumerate() {
        assert!(old == new || options.contains(&at) || checksum.contains(&at), "byte {at}");
    }
}
