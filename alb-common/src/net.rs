//! Numbers in network byte order, addresses of both families and of the link layer, laid out so
//! that BPF loads them whole.

use core::{
    fmt::Debug,
    hash::Hash,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{abi::Plain, hash};

/// A 32-bit number in network byte order: an IPv4 address as it stands in a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Be32(pub u32);

/// A 128-bit number in network byte order: an IPv6 address as it stands in a packet. Four words, so
/// that a key with ports has no padding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Be128(pub [u32; 4]);

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

/// An address of a family, as tables and packets hold it.
pub trait Address: Plain + Copy + Debug + Default + Eq + Ord + Hash {
    /// For people and for the host's network.
    fn ip(self) -> IpAddr;

    /// Its one's-complement sum (RFC 1071).
    fn sum(self) -> u64;

    /// What taking it out adds to a sum (RFC 1624): the sum of its words' complements.
    fn taken(self) -> u64;

    /// A word that depends on every bit of two addresses.
    fn pair(a: Self, b: Self) -> u64;

    /// Hash for source-IP selection.
    fn client_hash(self) -> u32;

    /// All zero: none.
    fn is_unset(self) -> bool;

    /// As an IPv6 address: an IPv4 one is mapped (RFC 4291 §2.5.5.2).
    fn mapped(self) -> Be128;

    /// What a client is known by that has proven its address: of an IPv6 one the network, since
    /// whoever has one of it has all.
    fn owner(self) -> u64;
}

impl Address for Be32 {
    fn ip(self) -> IpAddr {
        self.addr().into()
    }

    #[inline(always)]
    fn sum(self) -> u64 {
        self.0 as u64
    }

    #[inline(always)]
    fn taken(self) -> u64 {
        (!self.0) as u64
    }

    #[inline(always)]
    fn pair(a: Self, b: Self) -> u64 {
        (a.0 as u64) << 32 | b.0 as u64
    }

    #[inline(always)]
    fn client_hash(self) -> u32 {
        hash::client(self)
    }

    #[inline(always)]
    fn is_unset(self) -> bool {
        self.0 == 0
    }

    #[inline(always)]
    fn owner(self) -> u64 {
        self.0 as u64
    }

    #[inline(always)]
    fn mapped(self) -> Be128 {
        Be128([0, 0, 0xffffu32.to_be(), self.0])
    }
}

impl Address for Be128 {
    fn ip(self) -> IpAddr {
        self.addr().into()
    }

    #[inline(always)]
    fn sum(self) -> u64 {
        self.0[0] as u64 + self.0[1] as u64 + self.0[2] as u64 + self.0[3] as u64
    }

    #[inline(always)]
    fn taken(self) -> u64 {
        4 * u32::MAX as u64 - self.sum()
    }

    #[inline(always)]
    fn pair(a: Self, b: Self) -> u64 {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let [a, b] = [a.0, b.0];
        let upper = (a[0] as u64) << 32 | b[0] as u64;
        let middle = (a[1] as u64) << 32 | b[1] as u64;
        let lower = (a[2] as u64) << 32 | b[2] as u64;
        let last = (a[3] as u64) << 32 | b[3] as u64;
        let mixed = (upper.wrapping_mul(ODD) ^ middle).wrapping_mul(ODD) ^ lower;
        (mixed ^ mixed >> 32).wrapping_mul(ODD) ^ last
    }

    #[inline(always)]
    fn client_hash(self) -> u32 {
        hash::client6(self)
    }

    #[inline(always)]
    fn is_unset(self) -> bool {
        self.0[0] | self.0[1] | self.0[2] | self.0[3] == 0
    }

    #[inline(always)]
    fn owner(self) -> u64 {
        (self.0[0] as u64) << 32 | self.0[1] as u64
    }

    /// Word by word: as a whole it would be copied by a call of `memmove`.
    #[inline(always)]
    fn mapped(self) -> Be128 {
        let [a, b, c, d] = self.0;
        Be128([a, b, c, d])
    }
}

// SAFETY: `repr(transparent)` over an array of integers.
#[expect(unsafe_code, reason = "transparent over integers")]
unsafe impl Plain for Be128 {}

impl Be128 {
    /// The address.
    pub fn addr(self) -> Ipv6Addr {
        let mut octets = [0; 16];
        for (place, word) in octets.chunks_exact_mut(4).zip(self.0) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        octets.into()
    }
}

impl From<Ipv6Addr> for Be128 {
    fn from(addr: Ipv6Addr) -> Self {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(addr.octets().chunks_exact(4)) {
            *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        Self(words)
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
        let address: Ipv6Addr = "2001:db8::8:800:200c:417a".parse().unwrap();
        let bytes: [u8; 16] =
            core::array::from_fn(|at| Be128::from(address).0[at / 4].to_ne_bytes()[at % 4]);
        assert_eq!(bytes, address.octets());
        assert_eq!(Be128::from(address).addr(), address);
        assert_eq!(Be16::new(0x0102).0.to_ne_bytes(), [1, 2]);
        assert_eq!(Be16::new(8080).host(), 8080);
        let bytes = [2, 0, 0, 1, 2, 3];
        assert_eq!(Mac::new(bytes).bytes(), bytes);
        assert!(Mac::default().is_unset() && !Mac::new(bytes).is_unset());
    }
}
