//! Selection tables: how many slots an algorithm takes, and what a slot says.

use crate::limits::MAX_TARGETS;

/// Slots of a source-IP table, by size: primes, so that every step visits every slot.
const IP_HASH_SIZES: [u32; 9] =
    [1_021, 2_039, 4_093, 8_191, 16_381, 32_749, 65_521, 131_071, 262_139];

/// Slots a target of a source-IP table should have at least, on average.
const IP_HASH_SLOTS_PER_TARGET: usize = 100;

/// Slots of the source-IP table of this many targets; those out of service count, since a table
/// of another size moves nearly every client.
pub fn ip_hash_slots(targets: usize) -> u32 {
    let wanted = targets.saturating_mul(IP_HASH_SLOTS_PER_TARGET);
    let largest = IP_HASH_SIZES[IP_HASH_SIZES.len() - 1];
    IP_HASH_SIZES.into_iter().find(|size| *size as usize >= wanted).unwrap_or(largest)
}

/// Slots of the round-robin table of these weights: one cycle, in which each target has exactly
/// its share. Fewer targets never need more.
pub fn round_robin_slots(weights: impl Iterator<Item = u32>) -> u64 {
    let (sum, divisor) =
        weights.fold((0, 0), |(sum, divisor), weight| (sum + weight as u64, gcd(divisor, weight)));
    if divisor == 0 { 0 } else { sum / divisor as u64 }
}

/// A slot of a least-connection table: target index and weight. The tables of the other
/// algorithms hold bare indices.
#[inline(always)]
pub const fn weighted(target: u32, weight: u8) -> u32 {
    target | (weight as u32) << WEIGHT_SHIFT
}

/// Target index in a [`weighted`] slot.
#[inline(always)]
pub const fn weighted_target(slot: u32) -> u32 {
    slot & ((1 << WEIGHT_SHIFT) - 1)
}

/// Weight in a [`weighted`] slot.
#[inline(always)]
pub const fn weighted_weight(slot: u32) -> u8 {
    (slot >> WEIGHT_SHIFT) as u8
}

/// Bits of a target index.
const WEIGHT_SHIFT: u32 = 24;

const _: () = assert!(MAX_TARGETS <= 1 << WEIGHT_SHIFT, "an index must fit beside the weight");

/// The greatest common divisor; `gcd(0, b)` is `b`.
pub const fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (targets, slots) in [(0, 1_021), (10, 1_021), (11, 2_039), (100_000, 262_139)] {
            assert_eq!(ip_hash_slots(targets), slots);
        }
        for (weights, slots) in
            [(&[30, 20, 10][..], 6), (&[7, 0, 7], 2), (&[100, 99], 199), (&[0, 0], 0), (&[], 0)]
        {
            assert_eq!(round_robin_slots(weights.iter().copied()), slots, "{weights:?}");
        }
    }

    #[test]
    fn a_slot_says_target_and_weight() {
        for (target, weight) in [(0, 1), (MAX_TARGETS as u32 - 1, 100), (7, 255)] {
            let slot = weighted(target, weight);
            assert_eq!((weighted_target(slot), weighted_weight(slot)), (target, weight));
        }
    }
}
