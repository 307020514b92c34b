//! Any frame is parsed within its bounds, as a naive reader would, and rewritten so that right
//! checksums stay right and wrong ones stay wrong.
#![no_main]

use alb_common::{
    Reason,
    checksum::{fold, sum},
    flow::FlowKey,
    net::{Be16, Be32, Mac},
    tcp::flag,
};
use alb_ebpf::{
    icmp::{self, Message},
    mss,
    packet::Frame,
    parse::{self, Segment},
    reset,
    rewrite::{self, Rewrite},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    let frame = Frame::new(&mut bytes);
    let Ok(l3) = parse::ip_offset::<_, Be32>(&frame) else { return };
    assert!(matches!(l3, 14 | 18 | 22) && l3 <= data.len());
    let Ok(destination) = parse::destination::<_, Be32>(&frame, l3) else { return };
    assert_eq!(destination.0.to_ne_bytes(), data[l3 + 16..l3 + 20]);

    let message = icmp::message(&frame, l3);
    let parsed = parse::segment::<_, Be32>(&frame, l3);
    assert_eq!(bytes, data, "parsing changes nothing");
    if let (Err(Reason::Icmp), Ok(message)) = (parsed, message) {
        check_icmp(data, l3, message);
    }

    let Ok(segment) = parsed else { return };
    check_segment(data, &segment);
    let frame = Frame::new(&mut bytes);
    let _timestamp = parse::timestamp(&frame, segment.l4, segment.tcp_header_len);
    assert_eq!(bytes, data, "parsing changes nothing");

    check_rewrite(data, &segment);
    check_clamp(data, &segment);
    if segment.flags & flag::RST == 0 {
        check_reset(data, &segment);
    }
});

/// What the headers say, read byte by byte.
fn check_segment(data: &[u8], segment: &Segment) {
    let ip = &data[segment.l3..];
    let header = usize::from(ip[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    assert_eq!((segment.l4 - segment.l3, segment.ip_len as usize), (header, total));
    let tcp = &ip[header..total];
    assert!(header >= 20 && tcp.len() >= segment.tcp_header_len as usize);
    assert!(segment.tcp_header_len >= 20);
    assert_eq!(segment.flags, tcp[13]);
    let FlowKey { src, dst, sport, dport } = segment.key;
    assert_eq!(src.0.to_ne_bytes(), ip[12..16]);
    assert_eq!(dst.0.to_ne_bytes(), ip[16..20]);
    assert_eq!(sport.0.to_ne_bytes(), tcp[0..2]);
    assert_eq!(dport.0.to_ne_bytes(), tcp[2..4]);
    assert!(segment.sequence_len() as usize <= tcp.len() + 2);
}

/// Both sums, the checksum fields included: all ones if the checksums are right.
fn sums(data: &[u8], segment: &Segment) -> [u16; 2] {
    let ip = &data[segment.l3..segment.l3 + segment.ip_len as usize];
    let (header, tcp) = ip.split_at(segment.l4 - segment.l3);
    let length = u16::try_from(tcp.len()).expect("within an IP packet").to_be();
    let pseudo = sum(&header[12..20]) + u64::from(6u16.to_be()) + u64::from(length);
    [sum(header), sum(tcp) + pseudo].map(|sum| match fold(sum) {
        // Zero and all ones are the same number.
        0 => u16::MAX,
        sum => sum,
    })
}

/// What an address becomes, from the frame itself, so that the fuzzer chooses it.
fn chosen(data: &[u8], old: &FlowKey) -> (FlowKey, Rewrite) {
    let word = |at: usize| data.get(at).copied().unwrap_or(at as u8);
    let half = |at| u16::from_ne_bytes([word(at), word(at + 1)]);
    let whole = |at| u32::from_ne_bytes([word(at), word(at + 1), word(at + 2), word(at + 3)]);
    let end = data.len().saturating_sub(12);
    let new = FlowKey {
        src: Be32(whole(end)),
        dst: Be32(whole(end + 4)),
        sport: Be16(half(end + 8)),
        dport: Be16(half(end + 10)),
    };
    let rewrite = Rewrite {
        src: new.src,
        dst: new.dst,
        sport: new.sport,
        dport: new.dport,
        check_delta: rewrite::check_delta(old, &new),
        next_hop: Mac([1, 2, 3]),
        station: Mac([4, 5, 6]),
    };
    (new, rewrite)
}

/// Any rewrite leaves the sums what they were and touches nothing but the fields it is about.
fn check_rewrite(data: &[u8], segment: &Segment) {
    let (new, rewrite) = chosen(data, &segment.key);
    let mut bytes = data.to_vec();
    let (l3, l4) = (segment.l3, segment.l4);
    let ttl = data[l3 + 8];
    match rewrite::apply(&mut Frame::new(&mut bytes), l3, l4, &rewrite) {
        Ok(()) => {}
        Err(reason) => {
            assert_eq!(reason, Reason::TtlExceeded);
            assert!(ttl <= 1, "TTL {ttl}");
            return;
        }
    }
    assert_eq!(sums(&bytes, segment), sums(data, segment), "sums are kept");
    let after = parse::segment::<_, Be32>(&Frame::new(&mut bytes), l3);
    if let Ok(after) = after {
        assert_eq!(after, Segment { key: new, ..*segment });
    } else {
        assert!(new.sport.0 == 0 || new.dport.0 == 0, "only port 0 makes it unreadable");
    }
    let touched = |at: usize| {
        at < 12
            || at == l3 + 8
            || (l3 + 10..l3 + 20).contains(&at)
            || (l4..l4 + 4).contains(&at)
            || (l4 + 16..l4 + 18).contains(&at)
    };
    for (at, (old, new)) in data.iter().zip(&bytes).enumerate() {
        assert!(old == new || touched(at), "byte {at} is none of ours");
    }
}

/// The answer goes back where the segment came from, with right checksums and nothing after it.
fn check_reset(data: &[u8], segment: &Segment) {
    let mut bytes = data.to_vec();
    let mut frame = Frame::new(&mut bytes);
    reset::write(&mut frame, segment, None).expect("the segment was parsed");
    let answer = parse::segment::<_, Be32>(&frame, segment.l3).expect("the answer is well-formed");
    let FlowKey { src, dst, sport, dport } = segment.key;
    assert_eq!(answer.key, FlowKey { src: dst, dst: src, sport: dport, dport: sport });
    assert_eq!((answer.ip_len, answer.tcp_header_len), (40, 20));
    assert_ne!(answer.flags & flag::RST, 0);
    let bytes = frame.bytes();
    assert_eq!(bytes.len(), segment.l3 + 40);
    assert_eq!(sums(bytes, &answer), [u16::MAX; 2], "right checksums");
    assert_eq!((&bytes[..6], &bytes[6..12]), (&data[6..12], &data[..6]), "stations swap");
}

/// A message is answered or translated within its frame, and its sums stay what they were.
fn check_icmp(data: &[u8], l3: usize, message: Message) {
    let mut bytes = data.to_vec();
    let frame = Frame::new(&mut bytes);
    match message {
        Message::Echo => icmp::echo(&frame, l3).expect("the message was parsed"),
        Message::Error(quote) => {
            let (_, rewrite) = chosen(data, &quote.key);
            if let Err(reason) = icmp::translate(&frame, &quote, &rewrite) {
                assert_eq!(reason, Reason::TtlExceeded);
                return;
            }
        }
        Message::Other => return,
    }
    let sums = |data: &[u8]| {
        let ip = &data[l3..];
        let (header, len) =
            (usize::from(ip[0] & 15) * 4, usize::from(u16::from_be_bytes([ip[2], ip[3]])));
        [sum(&ip[..header]), sum(&ip[header..len])].map(|sum| match fold(sum) {
            0 => u16::MAX,
            sum => sum,
        })
    };
    assert_eq!(sums(&bytes), sums(data), "sums are kept");
}

/// An option at most is lowered, and the sums stay what they were.
fn check_clamp(data: &[u8], segment: &Segment) {
    let mut bytes = data.to_vec();
    mss::clamp(&mut Frame::new(&mut bytes), segment.l4, segment.tcp_header_len, 1500);
    assert_eq!(sums(&bytes, segment), sums(data, segment), "sums are kept");
    let options = segment.l4 + 20..segment.l4 + segment.tcp_header_len as usize;
    let checksum = segment.l4 + 16..segment.l4 + 18;
    for (at, (old, new)) in data.iter().zip(&bytes).enumerate() {
        assert!(old == new || options.contains(&at) || checksum.contains(&at), "byte {at}");
    }
}
