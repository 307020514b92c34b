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
    net::SocketAddrV4,
    time::{SystemTime, UNIX_EPOCH},
};

use alb_common::{
    flow::FlowKey,
    net::{Be16, Be32},
    tcp::flag,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::segment::Segment;

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
        for sequence in [random, random.wrapping_add(APART)] {
            let segment = segment(key, sequence);
            // A peer that cannot be reached is no reason to leave out the others.
            failed += usize::from(socket.send_to(&segment.bytes(), &segment.to.into()).is_err());
        }
    }
    failed
}

/// An ACK without data to the sender of `key`'s packets, from whom they are for.
fn segment(key: &FlowKey, sequence: u32) -> Segment {
    let end = |addr: Be32, port: Be16| SocketAddrV4::new(addr.addr(), port.host());
    Segment {
        from: end(key.dst, key.dport),
        to: end(key.src, key.sport),
        sequence,
        acknowledgment: sequence,
        flags: flag::ACK,
        window: 1024,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_segment_goes_to_the_sender() {
        let key = FlowKey {
            src: Ipv4Addr::new(198, 18, 0, 100).into(),
            dst: Ipv4Addr::new(198, 18, 0, 10).into(),
            sport: Be16::new(40_000),
            dport: Be16::new(80),
        };
        let Segment { from, to, sequence, acknowledgment, flags, .. } = segment(&key, 7);
        let (from, to) = (from.to_string(), to.to_string());
        assert_eq!((&*from, &*to), ("198.18.0.10:80", "198.18.0.100:40000"));
        assert_eq!((sequence, acknowledgment, flags), (7, 7, flag::ACK));
    }
}
