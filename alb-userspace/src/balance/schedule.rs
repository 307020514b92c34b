//! Weighted round robin: the order in which targets take turns.

use std::{cmp::Reverse, collections::BinaryHeap};

use alb_common::selection::gcd;

/// One whole cycle of a smooth weighted round robin, as indices into `weights`. Each target has
/// exactly its share: the cycle is as long as the sum of the weights over their greatest common
/// divisor. Weight 0 has no turn.
///
/// Turn `k` of a target of weight `w` is due at `(k + ½) / w` of the cycle, and turns are taken
/// in the order they are due: between two turns of one target the others have theirs in
/// proportion, at every point of the cycle. (nginx's smooth round robin computes such an order
/// step by step at the cost of all targets a step.)
pub fn schedule(weights: &[u32]) -> Vec<usize> {
    let divisor = weights.iter().copied().filter(|weight| *weight > 0).fold(0, gcd);
    if divisor == 0 {
        return Vec::new();
    }
    let weights: Vec<u32> = weights.iter().map(|weight| weight / divisor).collect();
    turns(&weights)
}

/// The order of turns where each index has as many as its count says.
pub(super) fn turns(counts: &[u32]) -> Vec<usize> {
    let mut due: BinaryHeap<Reverse<Turn>> = counts
        .iter()
        .enumerate()
        .filter(|(_, count)| **count > 0)
        .map(|(index, count)| Reverse(Turn { number: 0, of: *count, index }))
        .collect();
    let mut order = Vec::with_capacity(counts.iter().map(|count| *count as usize).sum());
    while let Some(Reverse(turn)) = due.pop() {
        order.push(turn.index);
        let number = turn.number + 1;
        if number < turn.of {
            due.push(Reverse(Turn { number, ..turn }));
        }
    }
    order
}

/// Turn `number` of `of`, due at `(number + ½) / of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn {
    number: u32,
    of: u32,
    index: usize,
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let due = |turn: &Self, by: &Self| (2 * u64::from(turn.number) + 1) * u64::from(by.of);
        due(self, other).cmp(&due(other, self)).then(self.index.cmp(&other.index))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use alb_common::selection::round_robin_slots;
    use proptest::prelude::*;

    use super::schedule;

    #[test]
    fn small_cycles() {
        for (weights, order) in [
            (&[30, 20, 10][..], &[0, 1, 0, 2, 1, 0][..]),
            (&[1, 1, 1], &[0, 1, 2]),
            (&[5, 0, 5], &[0, 2]),
            (&[7], &[0]),
            (&[0, 0], &[]),
            (&[], &[]),
        ] {
            assert_eq!(schedule(weights), order, "{weights:?}");
        }
    }

    #[test]
    fn a_thousand_targets() {
        let weights: Vec<u32> = (0..1_000).map(|index| index % 100 + 1).collect();
        assert_eq!(schedule(&weights).len(), 50_500);
    }

    proptest! {
        #[test]
        fn shares_are_exact_and_spread(weights in proptest::collection::vec(0u32..=100, 1..20)) {
            let order = schedule(&weights);
            let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
            let serving = weights.iter().filter(|weight| **weight > 0).count() as u64;
            let mut taken = vec![0u64; weights.len()];
            for (position, index) in (1u64..).zip(&order) {
                taken[*index] += 1;
                for (index, weight) in weights.iter().enumerate() {
                    // Turns taken and turns due, both times the total weight. Rounding is half a
                    // turn at most for each target.
                    let due = position * u64::from(*weight);
                    let off = (taken[index] * total).abs_diff(due);
                    prop_assert!(2 * off <= total * (serving + 1), "{off} of {total}");
                }
            }
            for (index, weight) in weights.iter().enumerate() {
                prop_assert_eq!(taken[index] * total, u64::from(*weight) * order.len() as u64);
            }
            prop_assert_eq!(order.len() as u64, round_robin_slots(weights.iter().copied()));
            let fewer = round_robin_slots(weights.iter().skip(1).copied());
            prop_assert!(fewer <= order.len() as u64, "what fits fits with fewer");
        }
    }
}
