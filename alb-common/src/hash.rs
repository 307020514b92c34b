//! Hashes that both sides, and every node, must agree on.

use crate::net::{Be32, Be128};

/// Hash of a client address for source-IP selection.
///
/// The finaliser of `MurmurHash3` (public domain): neighbouring addresses land far apart.
#[inline(always)]
pub const fn client(addr: Be32) -> u32 {
    let mut hash = u32::from_be(addr.0);
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

/// The same of an IPv6 client: the four words one after the other, each mixed with the hash of those
/// before it. The whole address counts, since clients of one site differ in the low words only.
#[inline(always)]
pub const fn client6(addr: Be128) -> u32 {
    let first = client(Be32(addr.0[0]));
    let second = client(Be32(first.to_be() ^ addr.0[1]));
    let third = client(Be32(second.to_be() ^ addr.0[2]));
    client(Be32(third.to_be() ^ addr.0[3]))
}

/// The slot of a table of `len` that a hash falls in: the high half of the product, which
/// needs no division and uses the hash's best bits.
#[inline(always)]
pub const fn slot(hash: u32, len: u32) -> u32 {
    ((hash as u64 * len as u64) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_in_range_and_even() {
        const LEN: u32 = 1021;
        let mut hits = [0u32; LEN as usize];
        for host in 0..LEN * 100 {
            hits[slot(client(Be32((0x0a00_0000 + host).to_be())), LEN) as usize] += 1;
        }
        assert_eq!(slot(u32::MAX, LEN), LEN - 1);
        assert!(hits.iter().all(|hit| (50..150).contains(hit)), "{hits:?}");
    }
}
