//! A TCP segment without options and data, as bytes. Pure.

use std::net::SocketAddrV4;

use alb_common::checksum;

/// Bytes of an IPv4 header, and of a TCP header, without options.
pub(super) const HEADER: usize = 20;
/// Bytes of a segment.
pub(super) const LEN: usize = 2 * HEADER;

/// What it says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) from: SocketAddrV4,
    pub(super) to: SocketAddrV4,
    pub(super) sequence: u32,
    pub(super) acknowledgment: u32,
    /// As in the header (RFC 9293 §3.1).
    pub(super) flags: u8,
    pub(super) window: u16,
}

impl Segment {
    /// From its IPv4 header on, with right checksums.
    pub(super) fn bytes(&self) -> [u8; LEN] {
        let mut packet = [0; LEN];
        let mut put = |at: usize, bytes: &[u8]| packet[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &[0x45, 0, 0, 40]); // header of 20 bytes; total length
        put(6, &[0x40, 0, 64, 6]); // don't fragment; time to live; TCP
        put(12, &self.from.ip().octets());
        put(16, &self.to.ip().octets());
        put(HEADER, &self.from.port().to_be_bytes());
        put(HEADER + 2, &self.to.port().to_be_bytes());
        put(HEADER + 4, &self.sequence.to_be_bytes());
        put(HEADER + 8, &self.acknowledgment.to_be_bytes());
        put(HEADER + 12, &[5 << 4, self.flags]); // header of 20 bytes
        put(HEADER + 14, &self.window.to_be_bytes());
        // Pseudo-header: both addresses, the protocol and the length (RFC 9293 §3.1).
        let pseudo = u64::from(6_u16.to_be()) + u64::from(20_u16.to_be());
        let sum = checksum::sum(&packet[12..]) + pseudo;
        packet[HEADER + 16..HEADER + 18].copy_from_slice(&checksum::finish(sum).to_ne_bytes());
        let sum = checksum::sum(&packet[..HEADER]);
        packet[10..12].copy_from_slice(&checksum::finish(sum).to_ne_bytes());
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_its_place_and_the_checksums_are_right() {
        let packet = Segment {
            from: "198.18.0.10:80".parse().unwrap(),
            to: "198.18.0.100:40000".parse().unwrap(),
            sequence: 0xdead_beef,
            acknowledgment: 0x0102_0304,
            flags: 0x10,
            window: 1024,
        }
        .bytes();
        assert_eq!(packet[..10], [0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6]);
        assert_eq!(packet[12..20], [198, 18, 0, 10, 198, 18, 0, 100]);
        assert_eq!(packet[20..24], [0, 80, 0x9c, 0x40]);
        assert_eq!(packet[24..32], [0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4]);
        assert_eq!(packet[32..36], [0x50, 0x10, 4, 0]);
        // A sum that includes its checksum is all ones (RFC 1071 §1).
        let pseudo = u64::from(u16::from_ne_bytes([0, 6])) + u64::from(u16::from_ne_bytes([0, 20]));
        assert_eq!(checksum::fold(checksum::sum(&packet[..20])), 0xffff);
        assert_eq!(checksum::fold(checksum::sum(&packet[12..]) + pseudo), 0xffff);
    }
}
