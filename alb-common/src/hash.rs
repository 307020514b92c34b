//! Hashes that both sides, and every node, must agree on.

use crate::net::Be32;

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
