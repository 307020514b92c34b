//! Slow start: the share of a target grows linearly after it came into service.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::Candidate;

/// Shares are parts of this.
const WHOLE: u32 = 1 << 16;
/// A share never is less: a target must be seen to work, and one request is the least there is.
const LEAST: u32 = WHOLE / 100;

/// The targets of a backend that are starting slowly.
#[derive(Debug)]
pub(super) struct Ramps {
    length: Duration,
    /// By position; `None` has its full share.
    starts: Box<[Option<Start>]>,
    /// When the first of them began, if nobody has a full share: shares are relative to its.
    eldest: Option<Instant>,
    /// When the last of them has its full share.
    end: Instant,
}

#[derive(Debug)]
struct Start {
    since: Instant,
    /// Turns so far.
    turns: AtomicU32,
}

impl Ramps {
    /// `None` if every target that is in service has its full share for good.
    pub(super) fn new(length: Duration, candidates: &[Candidate], weights: &[u32]) -> Option<Self> {
        if length.is_zero() {
            return None;
        }
        let serving = || candidates.iter().zip(weights).filter(|(_, weight)| **weight > 0);
        let last = serving().filter_map(|(of, _)| of.since).max()?;
        let full = serving().any(|(of, _)| of.since.is_none());
        let eldest = if full { None } else { serving().filter_map(|(of, _)| of.since).min() };
        let start = |since| Start { since, turns: AtomicU32::new(0) };
        let starts = candidates.iter().map(|of| of.since.map(start)).collect();
        Some(Self { length, starts, eldest, end: last + length })
    }

    /// The shares now; `None` if all are full.
    pub(super) fn at(&self, now: impl FnOnce() -> Instant) -> Option<Ramp<'_>> {
        let now = now();
        if now >= self.end {
            return None;
        }
        let most = self.eldest.map_or(WHOLE, |since| self.grown(since, now));
        Some(Ramp { ramps: self, now, most })
    }

    fn grown(&self, since: Instant, now: Instant) -> u32 {
        let elapsed = now.saturating_duration_since(since).as_micros();
        let share = elapsed * u128::from(WHOLE) / self.length.as_micros().max(1);
        u32::try_from(share).unwrap_or(WHOLE).clamp(LEAST, WHOLE)
    }
}

/// The shares at one moment.
#[derive(Debug)]
pub(super) struct Ramp<'a> {
    ramps: &'a Ramps,
    now: Instant,
    /// The largest share of all: the one that gets all of its turns.
    most: u32,
}

impl Ramp<'_> {
    /// Part of its turns that a target takes, of [`WHOLE`].
    fn share(&self, at: usize) -> u32 {
        let start = self.ramps.starts.get(at).and_then(Option::as_ref);
        let grown = start.map_or(WHOLE, |start| self.ramps.grown(start.since, self.now));
        let part = u64::from(grown) * u64::from(WHOLE) / u64::from(self.most);
        u32::try_from(part).unwrap_or(WHOLE).min(WHOLE)
    }

    /// Whether a target takes the turn it has now. Turns taken are spread evenly: multiples of
    /// the golden section fall below any share as often as the share says.
    pub(super) fn admits_turn(&self, at: usize) -> bool {
        let Some(Some(start)) = self.ramps.starts.get(at) else { return true };
        let share = self.share(at);
        if share >= WHOLE {
            return true;
        }
        let turn = start.turns.fetch_add(1, Relaxed).wrapping_mul(0x9e37_79b1);
        turn >> 16 < share
    }

    /// Whether a target takes this client yet. One it takes it keeps.
    pub(super) fn admits_client(&self, at: usize, hash: u32) -> bool {
        // Slots follow from the high bits; this must not.
        hash.wrapping_mul(0x9e37_79b1) >> 16 < self.share(at)
    }

    /// A weight, scaled down by its share and up by [`WHOLE`]; never 0.
    pub(super) fn scale(&self, at: usize, weight: u32) -> u64 {
        (u64::from(weight) * u64::from(self.share(at))).max(1)
    }
}
