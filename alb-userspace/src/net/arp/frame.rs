//! ARP frames for IPv4 over Ethernet: bytes to fields and back, pure.

use std::net::Ipv4Addr;

use crate::net::MacAddr;

/// Ethernet header and ARP for IPv4, without padding.
pub(super) const LENGTH: usize = 14 + 28;
const BROADCAST: MacAddr = [0xff; 6];
/// `EtherType` ARP.
const ETHER_TYPE: [u8; 2] = [0x08, 0x06];
/// Hardware Ethernet, protocol IPv4, address lengths 6 and 4.
const ETHERNET_IPV4: [u8; 6] = [0x00, 0x01, 0x08, 0x00, 6, 4];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Request = 1,
    Reply = 2,
}

/// One ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arp {
    pub(super) operation: Operation,
    pub(super) sender_mac: MacAddr,
    pub(super) sender: Ipv4Addr,
    pub(super) target_mac: MacAddr,
    pub(super) target: Ipv4Addr,
}

impl Arp {
    /// A gratuitous packet: sender and target are the address.
    pub(super) fn announcement(operation: Operation, mac: MacAddr, address: Ipv4Addr) -> Self {
        let target_mac = match operation {
            Operation::Request => MacAddr::default(),
            Operation::Reply => BROADCAST,
        };
        Self { operation, sender_mac: mac, sender: address, target_mac, target: address }
    }

    /// A question that leaves no trace in caches: the sender's address is unspecified.
    pub(super) fn probe(mac: MacAddr, address: Ipv4Addr) -> Self {
        Self {
            operation: Operation::Request,
            sender_mac: mac,
            sender: Ipv4Addr::UNSPECIFIED,
            target_mac: MacAddr::default(),
            target: address,
        }
    }

    /// The MAC of another host that has `address`, or is about to take it.
    pub(super) fn claims(self, address: Ipv4Addr, own: MacAddr) -> Option<MacAddr> {
        let has = self.sender == address;
        let takes = self.sender.is_unspecified()
            && self.operation == Operation::Request
            && self.target == address;
        ((has || takes) && self.sender_mac != own).then_some(self.sender_mac)
    }

    /// The whole broadcast frame.
    pub(super) fn to_frame(self) -> [u8; LENGTH] {
        let Self { operation, sender_mac, sender, target_mac, target } = self;
        let mut frame = [0; LENGTH];
        let parts: [&[u8]; 9] = [
            &BROADCAST,
            &sender_mac,
            &ETHER_TYPE,
            &ETHERNET_IPV4,
            &[0, operation as u8],
            &sender_mac,
            &sender.octets(),
            &target_mac,
            &target.octets(),
        ];
        let mut at = 0;
        for part in parts {
            frame[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        frame
    }

    /// Reads a frame; `None` = not ARP for IPv4 over Ethernet.
    pub(super) fn parse(frame: &[u8]) -> Option<Self> {
        let frame: &[u8; LENGTH] = frame.first_chunk()?;
        let (ethernet, arp) = frame.split_at(14);
        if ethernet[12..] != ETHER_TYPE || arp[..6] != ETHERNET_IPV4 {
            return None;
        }
        let operation = match arp[6..8] {
            [0, 1] => Operation::Request,
            [0, 2] => Operation::Reply,
            _ => return None,
        };
        Some(Self {
            operation,
            sender_mac: *arp[8..].first_chunk()?,
            sender: Ipv4Addr::from(*arp[14..].first_chunk::<4>()?),
            target_mac: *arp[18..].first_chunk()?,
            target: Ipv4Addr::from(*arp[24..].first_chunk::<4>()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Arp, LENGTH, Operation};

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x11];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 0x22];

    #[test]
    fn an_announcement_byte_by_byte() {
        let frame = Arp::announcement(Operation::Reply, MAC, [198, 18, 0, 10].into()).to_frame();
        #[rustfmt::skip]
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0x11, 0x08, 0x06,
            0, 1, 8, 0, 6, 4, 0, 2,
            2, 0, 0, 0, 0, 0x11, 198, 18, 0, 10,
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 198, 18, 0, 10,
        ];
        assert_eq!(frame, expected);
    }

    #[test]
    fn who_claims_an_address() {
        let address = [198, 18, 0, 10].into();
        let announced = Arp::announcement(Operation::Request, OTHER, address);
        assert_eq!(announced.claims(address, MAC), Some(OTHER));
        assert_eq!(announced.claims(address, OTHER), None);
        assert_eq!(announced.claims([198, 18, 0, 11].into(), MAC), None);
        assert_eq!(Arp::probe(OTHER, address).claims(address, MAC), Some(OTHER));
        let asks = Arp { sender: [198, 18, 0, 1].into(), ..Arp::probe(OTHER, address) };
        assert_eq!(asks.claims(address, MAC), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            reply: bool, sender_mac: [u8; 6], sender: [u8; 4], target_mac: [u8; 6], target: [u8; 4],
            padding in 0_usize..18,
        ) {
            let operation = if reply { Operation::Reply } else { Operation::Request };
            let (sender, target) = (sender.into(), target.into());
            let arp = Arp { operation, sender_mac, sender, target_mac, target };
            let mut frame = arp.to_frame().to_vec();
            frame.resize(LENGTH + padding, 0);
            prop_assert_eq!(Arp::parse(&frame), Some(arp));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if bytes.len() < LENGTH {
                prop_assert_eq!(Arp::parse(&bytes), None);
            }
        }
    }
}
