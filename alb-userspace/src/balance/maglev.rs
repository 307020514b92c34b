//! Weighted source-IP selection: Maglev's consistent hash table (Eisenbud et al., NSDI 2016,
//! §3.4), with exact weights.
//!
//! Each target prefers the slots of a prime-sized table in an order of its own, which follows
//! from its address and port alone, so every node computes the same table. Targets take turns
//! at claiming their most preferred free slot, as many turns as their weight is worth. When a
//! target goes, its slots are shared out, and few others change hands.

use std::net::SocketAddr;

use alb_common::selection::ip_hash_slots;
use sha2::{Digest as _, Sha256};

use super::schedule::turns;

/// A table of indices into `targets`, empty if no weight is above 0. A target that is out of
/// service is given with weight 0 rather than left out: the size of the table follows from the
/// number of targets, and another size moves nearly every client.
pub fn table(targets: &[(SocketAddr, u32)]) -> Vec<usize> {
    // Ties between turns are broken by position, which must not depend on the caller's order.
    let mut order: Vec<usize> = (0..targets.len()).collect();
    order.sort_by_key(|index| targets[*index].0);
    let sorted: Vec<(SocketAddr, u32)> = order.iter().map(|index| targets[*index]).collect();
    fill(&sorted).into_iter().map(|index| order[index]).collect()
}

fn fill(targets: &[(SocketAddr, u32)]) -> Vec<usize> {
    let size = ip_hash_slots(targets.len());
    let quotas = quotas(targets, size);
    if quotas.iter().all(|quota| *quota == 0) {
        return Vec::new();
    }
    let mut preferences: Vec<Preference> =
        targets.iter().map(|(address, _)| Preference::new(*address, size)).collect();
    let mut slots = vec![None; size as usize];
    for index in turns(&quotas) {
        // A free slot exists: there are as many turns as slots.
        for slot in preferences[index].by_ref() {
            if slots[slot].is_none() {
                slots[slot] = Some(index);
                break;
            }
        }
    }
    slots.into_iter().flatten().collect()
}

/// Slots each target gets: its share, rounded so that the sum is the size (largest remainder;
/// equal remainders by address, so that the order of the targets does not matter).
fn quotas(targets: &[(SocketAddr, u32)], size: u32) -> Vec<u32> {
    let total: u64 = targets.iter().map(|(_, weight)| u64::from(*weight)).sum();
    if total == 0 {
        return vec![0; targets.len()];
    }
    let share = |weight: u32| u64::from(weight) * u64::from(size);
    let mut quotas: Vec<u32> = targets
        .iter()
        .map(|(_, weight)| u32::try_from(share(*weight) / total).unwrap_or(size))
        .collect();
    let mut order: Vec<usize> = (0..targets.len()).collect();
    order.sort_by_key(|index| {
        let (address, weight) = targets[*index];
        (std::cmp::Reverse(share(weight) % total), address)
    });
    let left = size - quotas.iter().sum::<u32>();
    for index in order.into_iter().take(left as usize) {
        quotas[index] += 1;
    }
    quotas
}

/// The slots in a target's order of preference: `(offset + n · skip) mod size`.
struct Preference {
    next: u32,
    skip: u32,
    size: u32,
    left: u32,
}

impl Preference {
    fn new(address: SocketAddr, size: u32) -> Self {
        let digest = Sha256::digest(address.to_string());
        let word = |at: usize| {
            let bytes: [u8; 8] = std::array::from_fn(|index| digest[at + index]);
            u64::from_be_bytes(bytes)
        };
        let remainder = |value: u64, by: u32| u32::try_from(value % u64::from(by)).unwrap_or(0);
        Self {
            next: remainder(word(0), size),
            skip: remainder(word(8), size - 1) + 1,
            size,
            left: size,
        }
    }
}

impl Iterator for Preference {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let slot = self.next;
        self.next = (self.next + self.skip) % self.size;
        Some(slot as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(count: u8, weight: impl Fn(u8) -> u32) -> Vec<(SocketAddr, u32)> {
        (0..count).map(|n| (SocketAddr::from(([198, 18, 1, n], 8080)), weight(n))).collect()
    }

    fn by_address(targets: &[(SocketAddr, u32)]) -> Vec<SocketAddr> {
        table(targets).into_iter().map(|index| targets[index].0).collect()
    }

    #[test]
    fn weights_are_exact_to_one_slot() {
        for targets in [targets(3, |n| 10 * (u32::from(n) + 1)), targets(100, u32::from)] {
            let table = table(&targets);
            let total: u64 = targets.iter().map(|(_, weight)| u64::from(*weight)).sum();
            for (index, (_, weight)) in targets.iter().enumerate() {
                let has = table.iter().filter(|slot| **slot == index).count() as u64;
                // Both sides times the total weight, so that the share is a whole number.
                let share = table.len() as u64 * u64::from(*weight);
                assert!(
                    (has * total).abs_diff(share) < total,
                    "{index}: {has} for {share}/{total}"
                );
            }
        }
    }

    /// Slots that neither had `lost` nor kept their target, and those that had not `lost`.
    fn moved(
        before: &[(SocketAddr, u32)],
        after: &[(SocketAddr, u32)],
        lost: SocketAddr,
    ) -> (usize, usize) {
        let (before, after) = (by_address(before), by_address(after));
        assert_eq!(before.len(), after.len());
        let unrelated = before.iter().zip(&after).filter(|(before, _)| **before != lost);
        let moved = unrelated.clone().filter(|(before, after)| before != after).count();
        (moved, unrelated.count())
    }

    #[test]
    fn few_clients_move_when_one_of_a_hundred_goes() {
        let all = targets(100, |_| 10);
        for gone in [0usize, 17, 42, 99] {
            let lost = all[gone].0;
            let mut without = all.clone();
            without.remove(gone);
            let mut unhealthy = all.clone();
            unhealthy[gone].1 = 0;
            for rest in [without, unhealthy] {
                let (moved, unrelated) = moved(&all, &rest, lost);
                assert!(moved * 100 <= unrelated * 2, "{gone}: {moved} of {unrelated} moved");
            }
        }
    }

    #[test]
    fn health_never_changes_the_size() {
        for count in [2, 11, 21, 41, 82, 164] {
            let all = targets(count, |_| 10);
            let mut rest = all.clone();
            rest[0].1 = 0;
            let (moved, unrelated) = moved(&all, &rest, all[0].0);
            assert!(moved * 10 <= unrelated, "{count}: {moved} of {unrelated} moved");
        }
    }

    #[test]
    fn a_thousand_targets() {
        let many: Vec<(SocketAddr, u32)> = (0..1_000u16)
            .map(|n| (SocketAddr::from(([198, 18, 2, 1], 1_000 + n)), u32::from(n % 100) + 1))
            .collect();
        assert_eq!(table(&many).len(), 131_071);
    }

    #[test]
    fn the_order_of_targets_does_not_matter() {
        let forward = targets(10, |n| u32::from(n) + 1);
        let mut backward = forward.clone();
        backward.reverse();
        assert_eq!(by_address(&forward), by_address(&backward));
    }

    #[test]
    fn nobody_to_choose() {
        assert!(table(&[]).is_empty());
        assert!(table(&targets(3, |_| 0)).is_empty());
    }
}
