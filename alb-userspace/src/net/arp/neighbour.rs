//! Neighbour discovery's frames (RFC 4861 §4.3, §4.4): the unsolicited advertisement, an IPv6
//! address's gratuitous ARP (§7.2.6), and the question whether somebody has an address (RFC 4862
//! §5.4.2). Pure.

use std::net::Ipv6Addr;

use alb_common::checksum;

use crate::net::MacAddr;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ETHER_TYPE: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;
/// Type and code.
const SOLICITATION: [u8; 2] = [135, 0];
const ADVERTISEMENT: [u8; 2] = [136, 0];
/// What neighbours know of the address is to be replaced.
const OVERRIDE: u8 = 0x20;
/// Option "target link-layer address", in units of eight bytes.
const TARGET_STATION: [u8; 2] = [2, 1];
/// A hop limit that no router has touched.
const FROM_THIS_LINK: u8 = 255;

/// The frame that tells all hosts on a link that `address` is at `mac`.
pub(super) fn advertisement(mac: MacAddr, address: Ipv6Addr) -> Vec<u8> {
    let body: [&[u8]; 4] = [&[OVERRIDE, 0, 0, 0], &address.octets(), &TARGET_STATION, &mac];
    frame(mac, address, ALL_NODES, ADVERTISEMENT, &body.concat())
}

/// The frame that asks who has `address`, and leaves no trace in caches: its sender's address is
/// unspecified, so that the answer goes to all hosts.
pub(super) fn probe(mac: MacAddr, address: Ipv6Addr) -> Vec<u8> {
    let octets = address.octets();
    let mut group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
    group[13..].copy_from_slice(&octets[13..]);
    let body = [&[0; 4][..], &octets].concat();
    frame(mac, Ipv6Addr::UNSPECIFIED, group.into(), SOLICITATION, &body)
}

/// The MAC of another host that says in this frame that it has `address`.
pub(super) fn claims(frame: &[u8], address: Ipv6Addr, own: MacAddr) -> Option<MacAddr> {
    let (ethernet, packet) = frame.split_first_chunk::<14>()?;
    let (header, message) = packet.split_first_chunk::<40>()?;
    let (target, options) = message.get(8..)?.split_first_chunk::<16>()?;
    let answers = ethernet[12..] == ETHER_TYPE
        && header[6..8] == [ICMPV6, FROM_THIS_LINK]
        && message[..2] == ADVERTISEMENT
        && *target == address.octets();
    let station = options.strip_prefix(&TARGET_STATION).and_then(<[u8]>::first_chunk);
    let holder = *station.or_else(|| ethernet[6..].first_chunk())?;
    (answers && holder != own).then_some(holder)
}

/// A frame to a multicast address (RFC 2464 §7).
fn frame(mac: MacAddr, source: Ipv6Addr, group: Ipv6Addr, kind: [u8; 2], body: &[u8]) -> Vec<u8> {
    let message = |checksum: [u8; 2]| [&kind[..], &checksum, body].concat();
    // Shorter than 256 bytes.
    let [.., length] = message([0; 2]).len().to_be_bytes();
    let (source, group) = (source.octets(), group.octets());
    let pseudo = [&source[..], &group, &[0, 0, 0, length, 0, 0, 0, ICMPV6]].concat();
    let sum = checksum::sum(&pseudo) + checksum::sum(&message([0; 2]));
    let parts: [&[u8]; 8] = [
        &[0x33, 0x33],
        &group[12..],
        &mac,
        &ETHER_TYPE,
        // Version; length behind the header; protocol; hop limit.
        &[0x60, 0, 0, 0, 0, length, ICMPV6, FROM_THIS_LINK],
        &source,
        &group,
        &message(checksum::finish(sum).to_ne_bytes()),
    ];
    parts.concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: MacAddr = [2, 0, 0, 0, 0, 0x11];
    const OTHER: MacAddr = [2, 0, 0, 0, 0, 0x22];

    /// With its checksum the sum of a message is all ones (RFC 1071 §1).
    fn assert_checksum(frame: &[u8], length: u8) {
        let pseudo = checksum::sum(&[0, length, 0, ICMPV6]);
        assert_eq!(checksum::fold(checksum::sum(&frame[22..]) + pseudo), 0xffff);
    }

    #[test]
    fn an_advertisement_byte_by_byte() {
        let address: Ipv6Addr = "2001:db8::10".parse().unwrap();
        let frame = advertisement(MAC, address);
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
        assert_checksum(&frame, 32);
    }

    #[test]
    fn a_question_byte_by_byte() {
        let address: Ipv6Addr = "2001:db8::1:fe12:3456".parse().unwrap();
        let group: Ipv6Addr = "ff02::1:ff12:3456".parse().unwrap();
        let frame = probe(MAC, address);
        assert_eq!(frame.len(), 14 + 40 + 24);
        #[rustfmt::skip]
        let expected = [
            0x33, 0x33, 0xff, 0x12, 0x34, 0x56, 2, 0, 0, 0, 0, 0x11, 0x86, 0xdd,
            0x60, 0, 0, 0, 0, 24, 58, 255,
        ];
        assert_eq!(frame[..22], expected);
        assert_eq!(frame[22..38], [0; 16]);
        assert_eq!(frame[38..54], group.octets());
        assert_eq!(frame[54..56], [135, 0]);
        assert_eq!(frame[58..62], [0; 4]);
        assert_eq!(frame[62..], address.octets());
        assert_checksum(&frame, 24);
    }

    #[test]
    fn who_claims_an_address() {
        let address: Ipv6Addr = "2001:db8::10".parse().unwrap();
        let answer = advertisement(OTHER, address);
        assert_eq!(claims(&answer, address, MAC), Some(OTHER));
        assert_eq!(claims(&answer, address, OTHER), None, "our own");
        assert_eq!(claims(&answer, "2001:db8::11".parse().unwrap(), MAC), None);
        assert_eq!(claims(&probe(OTHER, address), address, MAC), None, "a question");
        let from_afar = [&answer[..21], &[254], &answer[22..]].concat();
        assert_eq!(claims(&from_afar, address, MAC), None);
        // Who answers for another says where that one is.
        let proxy: MacAddr = [2, 0, 0, 0, 0, 0x33];
        let by_proxy = [&answer[..6], &proxy, &answer[12..]].concat();
        assert_eq!(claims(&by_proxy, address, MAC), Some(OTHER));
        assert_eq!(claims(&by_proxy[..78], address, MAC), Some(proxy), "no option");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
            prop_assert_eq!(claims(&bytes, Ipv6Addr::LOCALHOST, MAC), None);
        }
    }
}
