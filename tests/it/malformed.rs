//! Frames that no stack sends: none arrives at a target in a form that its stack would take, except
//! those that only look odd.

use std::net::Ipv4Addr;

use alb_tests::{
    client::Conversation,
    topology::{CLIENT, Lab, Shape, VIP},
    wait,
    wire::{self, Syn, Wire},
};

use crate::setting::{PORT, Service, servers, vip};

/// How a frame is spoiled.
type Spoil = fn(&mut Vec<u8>);

/// Never seen by a target, and counted under this reason. The Ethernet header is 14 bytes long,
/// the IP header 20, the TCP header 24.
const DROPPED: [(&str, &str, Spoil); 15] = [
    ("ends within the IP header", "truncated", |frame| frame.truncate(14 + 12)),
    ("ends within the TCP header", "truncated", |frame| {
        frame[17] = 28;
        frame.truncate(14 + 28);
    }),
    ("total length beyond a cut frame", "bad_ip_header", |frame| frame.truncate(14 + 28)),
    ("IP header of 16 bytes", "bad_ip_header", |frame| frame[14] = 0x44),
    ("IP version 6", "bad_ip_header", |frame| frame[14] = 0x65),
    ("total length below the header's", "bad_ip_header", |frame| frame[16..18].fill(0)),
    ("total length beyond the frame", "bad_ip_header", |frame| frame[16] = 0x40),
    ("TCP header of 16 bytes", "bad_tcp_header", |frame| frame[46] = 0x40),
    ("TCP header beyond the segment", "bad_tcp_header", |frame| frame[46] = 0xf0),
    ("source port 0", "bad_tcp_header", |frame| frame[34..36].fill(0)),
    ("SYN and FIN", "bad_tcp_flags", |frame| frame[47] = 0x03),
    ("first fragment", "fragment", |frame| frame[20] = 0x20),
    ("later fragment", "fragment", |frame| frame[21] = 0x05),
    ("from a multicast address", "bad_source", |frame| frame[26] = 224),
    ("from the VIP itself", "bad_source", |frame| frame[26..30].copy_from_slice(&VIP.octets())),
];

#[test]
fn malformed_frames_are_never_forwarded_wrongly() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let servers = servers(&lab);
    let daemon = Service::of(&lab).serve(&lab);
    let client = Wire::open(&lab.client.namespace, "eth0");
    let target = Wire::open(&lab.targets[0].namespace, "eth0");
    let balancer = wire::mac(&lab.balancer.namespace, "eth0");
    let syn = |number: u16, address: Ipv4Addr| Syn {
        link: (balancer, client.mac),
        from: (address, 40_000 + number),
        to: (VIP, PORT),
        sequence: 0xbad0_0000 + u32::from(number),
    };

    for (number, (what, reason, spoil)) in (0..).zip(DROPPED) {
        let before = daemon.reason(reason);
        let mut frame = syn(number, CLIENT).frame(&[]);
        spoil(&mut frame);
        if frame.len() >= 58 && frame[14] & 15 >= 5 {
            wire::seal(&mut frame);
        }
        client.send(&frame);
        wait::until(&format!("{what}: {reason}"), wait::LONG, || {
            (daemon.reason(reason) > before).then_some(())
        });
    }
    // Checksums are the receiver's to judge: a wrong one must still be wrong when it arrives.
    for (number, byte) in [(100, 24), (101, 50)] {
        let mut frame = syn(number, CLIENT).frame(&[]);
        frame[byte] ^= 0x5a;
        client.send(&frame);
    }
    // IP options are allowed; the header behind them must be found.
    client.send(&syn(102, CLIENT).frame(&[1, 1, 1, 0]));
    let last = syn(103, CLIENT);
    client.send(&last.frame(&[]));

    let is_last = |frame: &[u8]| wire::tcp_of(frame) == Some((last.sequence, 2));
    let arrived = target.receive_until(wait::LONG, is_last);
    for frame in arrived.iter().filter(|frame| frame[12..14] == [8, 0]) {
        let Some((sequence, flags)) = wire::tcp_of(frame) else { panic!("not TCP: {frame:x?}") };
        // The client's stack knows nothing of these connections and resets them.
        if flags & 4 == 0 {
            match sequence.wrapping_sub(0xbad0_0000) {
                100 | 101 => assert!(!wire::is_acceptable(frame), "mended: {frame:x?}"),
                102 | 103 => assert!(wire::is_acceptable(frame), "spoiled: {frame:x?}"),
                other => panic!("frame {other} arrived: {frame:x?}"),
            }
        }
    }
    Conversation::open(&lab.client.namespace, vip())
        .and_then(|mut talk| talk.exchange(b"alive"))
        .expect("the balancer still serves");
    drop(servers);
}
