//! Unsolicited neighbour advertisements (RFC 4861 §4.4, §7.2.6): an IPv6 address's gratuitous ARP.
//! Pure.

use std::net::Ipv6Addr;

use alb_common::checksum;

use crate::net::MacAddr;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The same as a station (RFC 2464 §7).
const ALL_STATIONS: MacAddr = [0x33, 0x33, 0, 0, 0, 1];
const ETHER_TYPE: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;
/// Type and code.
const ADVERTISEMENT: [u8; 2] = [136, 0];
/// What neighbours know of the address is to be replaced.
const OVERRIDE: u8 = 0x20;
/// Option "target link-layer address", in units of eight bytes.
const TARGET_STATION: [u8; 2] = [2, 1];

/// The frame that tells all hosts on a link that `address` is at `mac`.
pub(super) fn frame(mac: MacAddr, address: Ipv6Addr) -> Vec<u8> {
    let message = |checksum: [u8; 2]| {
        let parts: [&[u8]; 6] = [
            &ADVERTISEMENT,
            &checksum,
            &[OVERRIDE, 0, 0, 0],
            &address.octets(),
            &TARGET_STATION,
            &mac,
        ];
        parts.concat()
    };
    let pseudo = [&address.octets()[..], &ALL_NODES.octets(), &[0, 0, 0, 32, 0, 0, 0, ICMPV6]];
    let sum = checksum::sum(&pseudo.concat()) + checksum::sum(&message([0; 2]));
    let message = message(checksum::finish(sum).to_ne_bytes());
    let parts: [&[u8]; 7] = [
        &ALL_STATIONS,
        &mac,
        &ETHER_TYPE,
        // Version; length behind the header; protocol; a hop limit that no router has touched.
        &[0x60, 0, 0, 0, 0, 32, ICMPV6, 255],
        &address.octets(),
        &ALL_NODES.octets(),
        &message,
    ];
    parts.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertisement_byte_by_byte() {
        let address: Ipv6Addr = "2001:db8::10".parse().unwrap();
        let frame = frame([2, 0, 0, 0, 0, 0x11], address);
        assert_eq!(frame.len(), 14 + 40 + 32);
        #[rustfmt::skip]
        let expected = [
            0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0x11, 0x86, 0xdd,
            0x60, 0, 0, 0, 0, 32, 58, 255,
        ];
        assert_eq!(frame[..22], expected);
        assert_eq!(frame[22..38], address.octets());
        assert_eq!(frame[38..54], ALL_NODES.octets());
        assert_eq!(frame[54..56], [136, 0]);
        assert_eq!(frame[58..62], [0x20, 0, 0, 0]);
        assert_eq!(frame[62..78], address.octets());
        assert_eq!(frame[78..], [2, 1, 2, 0, 0, 0, 0, 0x11]);
        // With its checksum the sum is all ones (RFC 1071 §1).
        let pseudo = checksum::sum(&[0, 32, 0, ICMPV6]);
        assert_eq!(checksum::fold(checksum::sum(&frame[22..]) + pseudo), 0xffff);
    }
}
