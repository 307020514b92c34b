//! Makes idle peers of flows that are over say something, so that the packet path can tell them.
//!
//! Only a RST with the sequence number that its receiver waits for ends a connection at once
//! (RFC 5961 §3.2), and nobody remembers those numbers for flows that are open: the entry of a
//! flow is one cache line, and every packet would write them. But a segment outside of the
//! window is answered with an ACK that names the number (RFC 9293 §3.10.7.4), and the packet path
//! answers that with the RST. So one segment is sent from the other side's address, as the packet
//! path would have sent it on. It goes through the host's own stack and its routes: the packet
//! path does not see what the host sends.

use std::time::{SystemTime, UNIX_EPOCH};

use alb_common::tcp::flag;
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    segment::Segment,
    wide::{self, FlowKey, Key as _},
};

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
    let (four, six): (Vec<_>, Vec<_>) = chosen.partition(|key| key.is_ipv4());
    for (domain, packets) in [(Domain::IPV4, four), (Domain::IPV6, six)] {
        if !packets.is_empty() {
            speak(domain, &packets, random);
        }
    }
}

fn speak(domain: Domain, packets: &[&FlowKey], random: u32) {
    let sent = Socket::new(domain, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))
        .map(|socket| send(&socket, packets, random));
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
fn send(socket: &Socket, packets: &[&FlowKey], random: u32) -> usize {
    let mut failed = 0;
    for key in packets {
        for sequence in [random, random.wrapping_add(APART)] {
            let segment = segment(key, sequence);
            // A peer that cannot be reached is no reason to leave out the others.
            // Of a raw IPv6 socket the port is the protocol.
            let mut to = segment.to;
            if to.is_ipv6() {
                to.set_port(0);
            }
            failed += usize::from(socket.send_to(&segment.bytes(), &to.into()).is_err());
        }
    }
    failed
}

/// An ACK without data to the sender of `key`'s packets, from whom they are for.
fn segment(key: &FlowKey, sequence: u32) -> Segment {
    Segment {
        from: wide::end(key.dst, key.dport),
        to: wide::end(key.src, key.sport),
        sequence,
        acknowledgment: sequence,
        flags: flag::ACK,
        window: 1024,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_goes_to_the_sender() {
        let end = |text: &str| text.parse().unwrap();
        let key = wide::between(end("198.18.0.100:40000"), end("198.18.0.10:80"));
        let Segment { from, to, sequence, acknowledgment, flags, .. } = segment(&key, 7);
        let (from, to) = (from.to_string(), to.to_string());
        assert_eq!((&*from, &*to), ("198.18.0.10:80", "198.18.0.100:40000"));
        assert_eq!((sequence, acknowledgment, flags), (7, 7, flag::ACK));
    }
}
