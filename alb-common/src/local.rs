//! Where `LOCAL_CACHE` keeps what is known of an IPv4 address, and `LOCAL_CACHE6` of an IPv6 one.
//!
//! Each is a direct-mapped cache of `LOCALS` that also knows of absence: an address has one place.
//! An empty place means that none of its addresses is ours, one that holds the address says what
//! it is, and one that holds another address says nothing: `LOCALS` is asked then. So a packet,
//! whoever's it is, seldom costs a hash lookup before that of its flow.

use crate::{
    abi::plain,
    net::{Be32, Be128},
};

/// Bits of a place.
const BITS: u32 = 14;
/// Places, of 8 bytes each and of 24: only those of addresses that packets come for are read.
pub const PLACES: usize = 1 << BITS;

/// The place of an address, below [`PLACES`].
#[inline(always)]
pub const fn place(addr: Be32) -> u32 {
    // Fibonacci hashing: neighbours in a subnet do not share a place.
    addr.0.wrapping_mul(0x9e37_79b1) >> (u32::BITS - BITS)
}

/// An address and its [`crate::service::local`] bits, which are not 0, as they are kept. One word,
/// so that a reader sees both or neither.
#[inline(always)]
pub const fn word(addr: Be32, flags: u32) -> u64 {
    addr.0 as u64 | (flags as u64) << 32
}

/// The address and bits that a word was made of.
pub const fn held(word: u64) -> (Be32, u32) {
    (Be32(word as u32), (word >> 32) as u32)
}

/// What a place of `LOCAL_CACHE6` holds; all zero: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Held6 {
    /// The address.
    pub addr: Be128,
    /// Its [`crate::service::local`] bits, and above them a sum of the address: what is read while
    /// userspace replaces it, parts of one address and of another, is nobody's then.
    pub word: u64,
}

plain!(Held6, 24: addr: Be128, word: u64);

/// The place of an IPv6 address, below [`PLACES`].
#[inline(always)]
pub const fn place6(addr: Be128) -> u32 {
    (mixed(addr) >> (u64::BITS - BITS)) as u32
}

/// Bits of an address beside those of its place.
#[inline(always)]
const fn sum6(addr: Be128) -> u32 {
    (mixed(addr) >> (u32::BITS - BITS)) as u32
}

#[inline(always)]
const fn mixed(addr: Be128) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let [a, b, c, d] = addr.0;
    let (upper, lower) = ((a as u64) << 32 | b as u64, (c as u64) << 32 | d as u64);
    let both = upper.wrapping_mul(ODD) ^ lower;
    (both ^ both >> 32).wrapping_mul(ODD)
}

/// Without a branch for each word, which a derived comparison has.
#[inline(always)]
const fn is_same(one: Be128, other: Be128) -> bool {
    let ([a, b, c, d], other) = (one.0, other.0);
    (a ^ other[0]) | (b ^ other[1]) | (c ^ other[2]) | (d ^ other[3]) == 0
}

impl Held6 {
    /// An address and its bits, which are not 0.
    pub const fn new(addr: Be128, flags: u32) -> Self {
        Self { addr, word: (sum6(addr) as u64) << 32 | flags as u64 }
    }

    /// The address and bits that it was made of; `None` if it is empty.
    pub const fn get(&self) -> Option<(Be128, u32)> {
        if self.word == 0 { None } else { Some((self.addr, self.word as u32)) }
    }

    /// What it says of an address whose place this is.
    #[inline(always)]
    pub const fn says(&self, addr: Be128) -> Said {
        if self.word == 0 {
            Said::NotOurs
        } else if (self.word >> 32) as u32 == sum6(addr) && is_same(self.addr, addr) {
            Said::Ours(self.word as u32)
        } else {
            Said::Nothing
        }
    }
}

/// What a place says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is ours, with these [`crate::service::local`] bits.
    Ours(u32),
    /// It is not ours.
    NotOurs,
    /// Nothing: the place is another address's.
    Nothing,
}

/// What the word in the place of `addr` says of it.
#[inline(always)]
pub const fn says(word: u64, addr: Be32) -> Said {
    if word == 0 {
        Said::NotOurs
    } else if word as u32 == addr.0 {
        Said::Ours((word >> 32) as u32)
    } else {
        Said::Nothing
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{collections::BTreeMap, vec::Vec};

    use super::*;

    #[test]
    fn a_place_of_ipv6_says_what_it_was_told() {
        let addr = Be128([0x2001_0db8u32.to_be(), 0, 0, 7]);
        let held = Held6::new(addr, 5);
        assert_eq!(held.get(), Some((addr, 5)));
        assert_eq!(held.says(addr), Said::Ours(5));
        assert_eq!(held.says(Be128([0, 0, 0, 7])), Said::Nothing);
        assert_eq!(Held6::default().says(addr), Said::NotOurs);
        assert_eq!(Held6::default().get(), None);
    }

    #[test]
    fn what_is_half_replaced_says_nothing() {
        // Two addresses of one place, in networks of their own: packets may come for what is made of
        // the one's first words and the other's last.
        let mut places = BTreeMap::<u32, Vec<Be128>>::new();
        for n in 0..400 {
            let addr = Be128([0x2001_0db8u32.to_be(), n, n, n + 1]);
            places.entry(place6(addr)).or_default().push(addr);
        }
        let sharing = places.values().find(|of| of.len() > 1).expect("400²/2 pairs, 2¹⁴ places");
        let new = Held6::new(sharing[1], 2);
        for (old, parts) in [Held6::default(), Held6::new(sharing[0], 1)]
            .into_iter()
            .flat_map(|old| (1..7).map(move |parts| (old, parts)))
        {
            let from = |part: usize| if parts >> (part / 2) & 1 == 0 { old } else { new };
            let addr = Be128(core::array::from_fn(|word| from(word).addr.0[word]));
            let read = Held6 { addr, word: from(4).word };
            if read == old || read == new {
                continue;
            }
            let said = if read.word == 0 { Said::NotOurs } else { Said::Nothing };
            assert_eq!(read.says(addr), said, "{parts:03b}");
        }
    }

    #[test]
    fn neighbours_of_ipv6_do_not_share_a_place() {
        for word in [1, 3] {
            let mut places = BTreeMap::<u32, u32>::new();
            for n in 0..1_000u32 {
                let mut addr = Be128([0x2001_0db8u32.to_be(), 0, 0, 1u32.to_be()]);
                addr.0[word] = n.to_be();
                *places.entry(place6(addr)).or_default() += 1;
            }
            // 1,000 draws out of 16,384 give 970 different ones on average.
            assert!(places.len() > 930, "{word}: {}", places.len());
        }
    }
}
