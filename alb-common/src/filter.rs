//! Security groups: which clients may open which ports of an address.

use crate::{
    abi::plain,
    net::{Be32, Be128},
};

/// A prefix of clients' addresses, key of a longest-prefix-match trie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct FilterKey<A = Be32> {
    /// Bits that count: [`ID_BITS`] and the prefix's length.
    pub bits: u32,
    /// Whose filter it is: [`crate::service::local::filter`]. Never 0.
    pub id: u32,
    /// Network address.
    pub addr: A,
}

plain!(FilterKey<Be32>, 12: bits: u32, id: u32, addr: Be32);
plain!(FilterKey<Be128>, 24: bits: u32, id: u32, addr: Be128);

/// Bits of a key before the address.
pub const ID_BITS: u32 = 32;

impl<A> FilterKey<A> {
    /// All bits of a key for one address.
    pub const BITS: u32 = ID_BITS + size_of::<A>() as u32 * 8;
}

/// The open ports of a prefix, as an extent of `SLOTS`: at each port in it the verdict changes,
/// beginning with deny. Ascending, host order; [`ICMP`] is one more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FilterEntry {
    /// First slot.
    pub offset: u32,
    /// Slots in it; 0 = no port is open.
    pub len: u32,
}

plain!(FilterEntry, 8: offset: u32, len: u32);

/// The place of pings among the ports: behind them all.
pub const ICMP: u32 = 1 << 16;

/// Steps that halve any list of ports to nothing.
pub const PORT_STEPS: u32 = 17;

/// Whether a port is open by the number of changes at it or below.
#[inline(always)]
pub const fn is_open(changes: u32) -> bool {
    changes & 1 != 0
}
