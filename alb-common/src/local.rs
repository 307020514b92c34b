//! Where `LOCAL_CACHE` keeps what is known of an address.
//!
//! It is a direct-mapped cache of `LOCALS` that also knows of absence: each address has one place.
//! An empty place means that none of its addresses is ours, one that holds the address says what
//! it is, and one that holds another address says nothing: `LOCALS` is asked then. So a packet,
//! whoever's it is, seldom costs a hash lookup before that of its flow.

use crate::net::Be32;

/// Bits of a place.
const BITS: u32 = 14;
/// Places, 8 bytes each: half of a second-level cache at most, and only those in use are read.
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
