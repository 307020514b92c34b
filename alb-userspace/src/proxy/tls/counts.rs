//! How many handshakes there were, and how they ended. A handshake costs thousands of times what
//! counting it does, so that workers share the counters.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Failure;

/// Counters of one listener's handshakes.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Counts {
    full: AtomicU64,
    resumed: AtomicU64,
    failed: [AtomicU64; Failure::ALL.len()],
}

/// What was counted until now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Handshakes that presented a certificate.
    pub full: u64,
    /// Handshakes that went on with an earlier session.
    pub resumed: u64,
    /// Handshakes that failed, by reason; every reason once.
    pub failed: Vec<(Failure, u64)>,
}

impl Counts {
    pub(super) fn succeeded(&self, resumed: bool) {
        let counter = if resumed { &self.resumed } else { &self.full };
        counter.fetch_add(1, Relaxed);
    }

    pub(super) fn failed(&self, failure: Failure) {
        self.failed[failure as usize].fetch_add(1, Relaxed);
    }

    /// What was counted until now.
    pub fn tally(&self) -> Tally {
        let failed = Failure::ALL.into_iter().zip(&self.failed);
        Tally {
            full: self.full.load(Relaxed),
            resumed: self.resumed.load(Relaxed),
            failed: failed.map(|(failure, count)| (failure, count.load(Relaxed))).collect(),
        }
    }
}
