//! A TCP segment without options and data, as bytes. Pure.

use std::net::{IpAddr, SocketAddr};

use alb_common::checksum;

/// Bytes of a TCP header without options.
pub(super) const HEADER: usize = 20;

/// What it says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) from: SocketAddr,
    /// Of the same family.
    pub(super) to: SocketAddr,
    pub(super) sequence: u32,
    pub(super) acknowledgment: u32,
    /// As in the header (RFC 9293 §3.1).
    pub(super) flags: u8,
    pub(super) window: u16,
}

impl Segment {
    /// From its IP header on, with right checksums.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let octets = |end: SocketAddr| match end.ip() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let addresses = [octets(self.from), octets(self.to)].concat();
        let mut packet = if self.from.is_ipv4() {
            // Header of 20 bytes; total length; don't fragment; time to live; TCP.
            let mut header = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
            header.extend(&addresses);
            let sum = checksum::finish(checksum::sum(&header));
            header[10..12].copy_from_slice(&sum.to_ne_bytes());
            header
        } else {
            // Version; length behind the header; TCP; hop limit.
            let mut header = vec![0x60, 0, 0, 0, 0, 20, 6, 64];
            header.extend(&addresses);
            header
        };
        let tcp = packet.len();
        let mut put = |bytes: &[u8]| packet.extend(bytes);
        put(&self.from.port().to_be_bytes());
        put(&self.to.port().to_be_bytes());
        put(&self.sequence.to_be_bytes());
        put(&self.acknowledgment.to_be_bytes());
        put(&[5 << 4, self.flags]); // header of 20 bytes
        put(&self.window.to_be_bytes());
        put(&[0; 4]);
        // Pseudo-header: both addresses, the protocol and the length (RFC 9293 §3.1, RFC 8200 §8.1).
        let pseudo = u64::from(6_u16.to_be()) + u64::from(20_u16.to_be());
        let sum = checksum::sum(&addresses) + checksum::sum(&packet[tcp..]) + pseudo;
        packet[tcp + 16..tcp + 18].copy_from_slice(&checksum::finish(sum).to_ne_bytes());
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(from: &str, to: &str) -> Vec<u8> {
        Segment {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            sequence: 0xdead_beef,
            acknowledgment: 0x0102_0304,
            flags: 0x10,
            window: 1024,
        }
        .bytes()
    }

    #[test]
    fn every_field_has_its_place_and_the_checksums_are_right() {
        let packet = packet("198.18.0.10:80", "198.18.0.100:40000");
        assert_eq!(packet[..10], [0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6]);
        assert_eq!(packet[12..20], [198, 18, 0, 10, 198, 18, 0, 100]);
        assert_eq!(packet[20..24], [0, 80, 0x9c, 0x40]);
        assert_eq!(packet[24..32], [0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4]);
        assert_eq!(packet[32..36], [0x50, 0x10, 4, 0]);
        // A sum that includes its checksum is all ones (RFC 1071 §1).
        assert_eq!(checksum::fold(checksum::sum(&packet[..20])), 0xffff);
        assert_eq!(with_pseudo_header(&packet[12..]), 0xffff);
    }

    #[test]
    fn ipv6_too() {
        let packet = packet("[2001:db8::a]:80", "[2001:db8::64]:40000");
        assert_eq!((packet.len(), &packet[..8]), (60, &[0x60, 0, 0, 0, 0, 20, 6, 64][..]));
        assert_eq!((packet[23], packet[39]), (0xa, 0x64));
        assert_eq!(packet[40..44], [0, 80, 0x9c, 0x40]);
        assert_eq!(packet[52..56], [0x50, 0x10, 4, 0]);
        assert_eq!(with_pseudo_header(&packet[8..]), 0xffff);
    }

    /// The sum of addresses and segment, and of protocol and length.
    fn with_pseudo_header(bytes: &[u8]) -> u16 {
        let pseudo = u64::from(u16::from_ne_bytes([0, 6])) + u64::from(u16::from_ne_bytes([0, 20]));
        checksum::fold(checksum::sum(bytes) + pseudo)
    }
}
