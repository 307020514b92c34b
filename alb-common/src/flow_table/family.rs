//! What lines of each family are made of, and the hash of their keys.

use super::{Address, Be32, Be128, Debug, FlowKey};

/// Random numbers that a table's hash is keyed by, of which a family may use the first.
pub const RANDOM: usize = 10;

/// Keeps [`Lined`] to the families that layouts are proved for.
mod known {
    pub trait Known {}
    impl Known for super::Be32 {}
    impl Known for super::Be128 {}
}

/// A family with lines of its own.
pub trait Lined: Address + known::Known {
    /// Keys of a table's hash.
    type Seeds: Copy + Debug + Default + PartialEq + Eq + Send + Sync;
    /// What makes a line one or two cache lines.
    type Rest: Copy + Debug + Default + PartialEq + Eq;

    /// Keys made of random numbers.
    fn seeds(random: [u64; RANDOM]) -> Self::Seeds;

    /// A universal hash of a key, and an odd number that is as secret.
    fn hash_of(key: &FlowKey<Self>, seeds: &Self::Seeds) -> (u64, u64);

    /// [`shared::occupied`](super::shared::occupied), compiled with this crate: also what is otherwise
    /// not optimised looks through millions of lines.
    #[cfg(not(target_arch = "bpf"))]
    fn occupied(lines: &[super::shared::Line<Self>], from: u32) -> Option<(u32, u32)>;
}

impl Lined for Be32 {
    type Seeds = [u64; 4];
    type Rest = [u32; 0];

    fn seeds([a, b, c, d, ..]: [u64; RANDOM]) -> [u64; 4] {
        [a, b, c | 1, d | 1]
    }

    #[inline(always)]
    fn hash_of(key: &FlowKey, &[a, b, c, d]: &[u64; 4]) -> (u64, u64) {
        (product(key.src.0, a, key.dst.0, b).wrapping_add(ports(key).wrapping_mul(c)), d)
    }

    #[cfg(not(target_arch = "bpf"))]
    fn occupied(lines: &[super::shared::Line<Self>], from: u32) -> Option<(u32, u32)> {
        super::shared::occupied(lines, from)
    }
}

impl Lined for Be128 {
    type Seeds = [u64; RANDOM];
    type Rest = [u32; 4];

    fn seeds(mut random: [u64; RANDOM]) -> [u64; RANDOM] {
        random[8] |= 1;
        random[9] |= 1;
        random
    }

    #[inline(always)]
    fn hash_of(key: &FlowKey<Self>, seeds: &[u64; RANDOM]) -> (u64, u64) {
        let FlowKey { src: Be128(src), dst: Be128(dst), .. } = key;
        let sum = product(src[0], seeds[0], dst[0], seeds[1])
            .wrapping_add(product(src[1], seeds[2], dst[1], seeds[3]))
            .wrapping_add(product(src[2], seeds[4], dst[2], seeds[5]))
            .wrapping_add(product(src[3], seeds[6], dst[3], seeds[7]));
        (sum.wrapping_add(ports(key).wrapping_mul(seeds[8])), seeds[9])
    }

    #[cfg(not(target_arch = "bpf"))]
    fn occupied(lines: &[super::shared::Line<Self>], from: u32) -> Option<(u32, u32)> {
        super::shared::occupied(lines, from)
    }
}

#[inline(always)]
const fn ports<A>(key: &FlowKey<A>) -> u64 {
    (key.sport.0 as u64) << 16 | key.dport.0 as u64
}

#[inline(always)]
const fn product(x: u32, a: u64, y: u32, b: u64) -> u64 {
    (x as u64).wrapping_add(a).wrapping_mul((y as u64).wrapping_add(b))
}
