//! Makes idle peers of flows that are over say something, so that the packet path can tell them.
//!
//! Only a RST with the sequence number that its receiver waits for ends a connection at once
//! (RFC 5961 §3.2), and nobody remembers those numbers for flows that are open: the entry of a
//! flow is one cache line, and every packet would write them. But a segment outside of the
//! window is answered with an ACK that names the number (RFC 9293 §3.10.7.4), and the packet path
//! answers that with the RST. So one segment is sent from the other side's address, as the packet
//! path would have sent it on. It goes through the host's own stack and its routes: the packet
//! path does not see what the host sends.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::{SystemTime, UNIX_EPOCH},
};

use alb_common::{checksum, flow::FlowKey, tcp::flag};
use socket2::{Domain, Protocol, Socket, Type};

/// Peers spoken to after one sweep: no more RSTs are asked for at once than a CPU may send.
const MOST: usize = 500;
/// Half of the sequence space. No window is larger than a quarter (RFC 7323 §2.3), so one of two
/// segments this far apart is outside of it.
const APART: u32 = 1 << 31;

/// Sends to the sender of each of these packets. Which of too many is left to chance, so that
/// those who never answer do not keep the others from being asked.
pub(super) fn provoke(packets: &[FlowKey]) {
    if packets.is_empty() {
        return;
    }
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let random = time.subsec_nanos();
    let first = random as usize % packets.len();
    let chosen = packets[first..].iter().chain(&packets[..first]).take(MOST);
    let sent = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))
        .map(|socket| send(&socket, chosen, random));
    match sent {
        Ok(0) => tracing::debug!(peers = packets.len(), "peers of ended flows asked to speak"),
        Ok(failed) => {
            tracing::debug!(peers = packets.len(), failed, "some cannot be asked to speak");
        }
        Err(error) => {
            tracing::warn!(%error, "idle peers of ended flows are not told: no raw socket");
        }
    }
}

/// How many could not be sent.
fn send<'a>(socket: &Socket, packets: impl Iterator<Item = &'a FlowKey>, random: u32) -> usize {
    let mut failed = 0;
    for key in packets {
        let to = SocketAddrV4::new(key.src.addr(), key.sport.host());
        for sequence in [random, random.wrapping_add(APART)] {
            // A peer that cannot be reached is no reason to leave out the others.
            failed += usize::from(socket.send_to(&segment(key, sequence), &to.into()).is_err());
        }
    }
    failed
}

/// Of an IPv4 header and of a TCP header, bytes.
const IP_LEN: usize = 20;
const LEN: usize = 2 * IP_LEN;

/// An ACK without data to the sender of `key`'s packets, from whom they are for.
fn segment(key: &FlowKey, sequence: u32) -> [u8; LEN] {
    let mut packet = [0; LEN];
    let mut put = |at: usize, bytes: &[u8]| packet[at..at + bytes.len()].copy_from_slice(bytes);
    let address = |addr: Ipv4Addr| addr.octets();
    put(0, &[0x45, 0]);
    put(2, &[0, 40]); // total length
    put(6, &[0x40, 0, 64, 6]); // don't fragment; time to live; TCP
    put(12, &address(key.dst.addr()));
    put(16, &address(key.src.addr()));
    put(IP_LEN, &key.dport.host().to_be_bytes());
    put(IP_LEN + 2, &key.sport.host().to_be_bytes());
    put(IP_LEN + 4, &sequence.to_be_bytes());
    put(IP_LEN + 8, &sequence.to_be_bytes());
    put(IP_LEN + 12, &[5 << 4, flag::ACK, 4, 0]); // header length, flags, window 1,024
    // Pseudo-header: both addresses, the protocol and the length (RFC 9293 §3.1).
    let sum = checksum::sum(&packet[12..]) + u64::from(6u16.to_be()) + u64::from(20u16.to_be());
    packet[IP_LEN + 16..IP_LEN + 18].copy_from_slice(&checksum::finish(sum).to_ne_bytes());
    let sum = checksum::sum(&packet[..IP_LEN]);
    packet[10..12].copy_from_slice(&checksum::finish(sum).to_ne_bytes());
    packet
}

#[cfg(test)]
mod tests {
    use alb_common::net::Be16;

    use super::*;

    #[test]
    fn a_segment_goes_to_the_sender_and_its_checksums_are_right() {
        let key = FlowKey {
            src: Ipv4Addr::new(198, 18, 0, 100).into(),
            dst: Ipv4Addr::new(198, 18, 0, 10).into(),
            sport: Be16::new(40_000),
            dport: Be16::new(80),
        };
        let packet = segment(&key, 0xdead_beef);
        let fixed = [0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6];
        assert_eq!(packet[..10], fixed);
        assert_eq!(packet[12..20], [198, 18, 0, 10, 198, 18, 0, 100]);
        assert_eq!(packet[20..24], [0, 80, 0x9c, 0x40]);
        assert_eq!(packet[24..32], [0xde, 0xad, 0xbe, 0xef, 0xde, 0xad, 0xbe, 0xef]);
        assert_eq!(packet[32..36], [0x50, 0x10, 4, 0]);
        // A sum that includes its checksum is all ones (RFC 1071 §1).
        let pseudo = u64::from(u16::from_ne_bytes([0, 6])) + u64::from(u16::from_ne_bytes([0, 20]));
        assert_eq!(checksum::fold(checksum::sum(&packet[..20])), 0xffff);
        assert_eq!(checksum::fold(checksum::sum(&packet[12..]) + pseudo), 0xffff);
    }
}
