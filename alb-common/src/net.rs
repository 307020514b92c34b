//! Numbers in network byte order and MAC addresses, laid out so that BPF loads them whole.

use core::net::Ipv4Addr;

use crate::abi::Plain;

/// A 32-bit number in network byte order: an IPv4 address as it stands in a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Be32(pub u32);

/// A 16-bit number in network byte order: a port as it stands in a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Be16(pub u16);

/// An Ethernet address as three 16-bit loads: six single bytes would be six loads in BPF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Mac(pub [u16; 3]);

// SAFETY: `repr(transparent)` over integers.
#[expect(unsafe_code, reason = "transparent over integers")]
unsafe impl Plain for Be32 {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "transparent over integers")]
unsafe impl Plain for Be16 {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "transparent over integers")]
unsafe impl Plain for Mac {}

impl Be32 {
    /// The address.
    pub const fn addr(self) -> Ipv4Addr {
        let [a, b, c, d] = self.0.to_ne_bytes();
        Ipv4Addr::new(a, b, c, d)
    }
}

impl From<Ipv4Addr> for Be32 {
    fn from(addr: Ipv4Addr) -> Self {
        Self(u32::from_ne_bytes(addr.octets()))
    }
}

impl Be16 {
    /// From host order.
    #[inline(always)]
    pub const fn new(host: u16) -> Self {
        Self(host.to_be())
    }

    /// In host order.
    #[inline(always)]
    pub const fn host(self) -> u16 {
        u16::from_be(self.0)
    }
}

impl Mac {
    /// From the bytes as they stand in a frame.
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self([
            u16::from_ne_bytes([bytes[0], bytes[1]]),
            u16::from_ne_bytes([bytes[2], bytes[3]]),
            u16::from_ne_bytes([bytes[4], bytes[5]]),
        ])
    }

    /// The bytes as they stand in a frame.
    pub const fn bytes(self) -> [u8; 6] {
        let high = self.0[0].to_ne_bytes();
        let middle = self.0[1].to_ne_bytes();
        let low = self.0[2].to_ne_bytes();
        [high[0], high[1], middle[0], middle[1], low[0], low[1]]
    }

    /// All zero: not known.
    #[inline(always)]
    pub const fn is_unset(self) -> bool {
        self.0[0] | self.0[1] | self.0[2] == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_order_is_network_order() {
        assert_eq!(Be32::from(Ipv4Addr::new(198, 18, 0, 10)).0.to_ne_bytes(), [198, 18, 0, 10]);
        assert_eq!(Be32::from(Ipv4Addr::new(1, 2, 3, 4)).addr(), Ipv4Addr::new(1, 2, 3, 4));
        assert_eq!(Be16::new(0x0102).0.to_ne_bytes(), [1, 2]);
        assert_eq!(Be16::new(8080).host(), 8080);
        let bytes = [2, 0, 0, 1, 2, 3];
        assert_eq!(Mac::new(bytes).bytes(), bytes);
        assert!(Mac::default().is_unset() && !Mac::new(bytes).is_unset());
    }
}
