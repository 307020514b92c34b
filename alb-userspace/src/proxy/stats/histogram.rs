//! Durations by size, in buckets that double: finding one is counting leading zeros.

use std::time::Duration;

use super::Counter;

/// Upper bounds of the buckets but the last, microseconds: 64 µs to 67 s, doubling.
pub const BOUNDS: [u64; 21] = bounds();
/// `log₂` of the first bound.
const FIRST: u32 = 6;

const fn bounds() -> [u64; 21] {
    let mut bounds = [0; 21];
    let mut index = 0;
    while index < bounds.len() {
        bounds[index] = 1 << (FIRST as usize + index);
        index += 1;
    }
    bounds
}

/// Durations as one worker saw them.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Not cumulative; the last holds what is above every bound.
    buckets: [Counter; BOUNDS.len() + 1],
    /// Nanoseconds.
    sum: Counter,
}

impl Histogram {
    /// Takes in one duration.
    #[inline]
    pub fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos.div_ceil(1_000))].add(1);
        self.sum.add(nanos);
    }
}

/// The first bucket whose bound is not below.
fn bucket(micros: u64) -> usize {
    let bits = u64::BITS - micros.saturating_sub(1).leading_zeros();
    (bits.saturating_sub(FIRST) as usize).min(BOUNDS.len())
}

/// The sum of histograms.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HistogramTotals {
    /// As many as [`BOUNDS`] and one more, not cumulative; empty = nothing was counted.
    pub buckets: Vec<u64>,
    /// Nanoseconds, all durations together.
    pub sum: u64,
}

impl HistogramTotals {
    /// Adds what one worker saw.
    pub fn add(&mut self, part: &Histogram) {
        self.buckets.resize(BOUNDS.len() + 1, 0);
        for (total, bucket) in self.buckets.iter_mut().zip(&part.buckets) {
            *total += bucket.get();
        }
        self.sum = self.sum.wrapping_add(part.sum.get());
    }

    /// How many durations there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_bound_is_in_its_own_bucket_and_one_more_in_the_next() {
        for (index, bound) in BOUNDS.into_iter().enumerate() {
            assert_eq!(bucket(bound), index, "{bound}");
            assert_eq!(bucket(bound + 1), index + 1, "{bound}");
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BOUNDS.len());
    }

    #[test]
    fn a_fraction_above_a_bound_is_above_it() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_micros(64));
        histogram.observe(Duration::from_nanos(64_001));
        assert_eq!((histogram.buckets[0].get(), histogram.buckets[1].get()), (1, 1));
    }

    proptest! {
        #[test]
        fn totals_are_the_sum(parts in prop::collection::vec(
            prop::collection::vec(0_u64..200_000_000_000, 0..50), 0..4)) {
            let mut totals = HistogramTotals::default();
            for part in &parts {
                let histogram = Histogram::default();
                for nanos in part {
                    histogram.observe(Duration::from_nanos(*nanos));
                }
                totals.add(&histogram);
            }
            let all: Vec<u64> = parts.into_iter().flatten().collect();
            prop_assert_eq!(totals.count(), all.len() as u64);
            prop_assert_eq!(totals.sum, all.iter().sum::<u64>());
            let mut below = 0;
            for (bucket, bound) in totals.buckets.iter().zip(BOUNDS) {
                below += bucket;
                let expected = all.iter().filter(|nanos| **nanos <= bound * 1_000).count() as u64;
                prop_assert_eq!(below, expected, "at most {}", bound);
            }
        }
    }
}
