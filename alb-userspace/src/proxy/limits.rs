//! `limitation` of a listener, exact over all workers: open connections and requests a second.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use super::plan::ListenerShared;

/// A token bucket in one word: it holds one second's worth and fills evenly, so that after a
/// pause a burst of at most one second's requests is let through, and never more than
/// `limit × seconds + limit` in any span (generic cell rate algorithm, ITU-T I.371).
#[derive(Debug, Default)]
pub struct Bucket {
    /// When it would be full, nanoseconds since `START`; in the past = it is.
    full_at: AtomicU64,
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

const SECOND: u64 = 1_000_000_000;

impl Bucket {
    /// Takes one of `limit` a second; false = there is none.
    pub fn take(&self, limit: u32) -> bool {
        // 584 years of nanoseconds fit.
        let now = u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.take_at(limit, now + SECOND)
    }

    /// `now` is at least one second after the zero of `full_at`.
    fn take_at(&self, limit: u32, now: u64) -> bool {
        let Some(interval) = SECOND.checked_div(u64::from(limit)) else { return false };
        let taken = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let next = full_at.max(now) + interval;
            (next <= now + SECOND).then_some(next)
        });
        taken.is_ok()
    }
}

/// One of a listener's open connections; counted off when dropped.
#[derive(Debug)]
pub struct Admission(Arc<ListenerShared>);

impl Admission {
    /// Counts a connection; `None` = there are `limit` already.
    pub fn take(shared: &Arc<ListenerShared>, limit: Option<u32>) -> Option<Self> {
        let limit = limit.unwrap_or(u32::MAX);
        let counted =
            shared.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < limit).then(|| open + 1)
            });
        counted.is_ok().then(|| Self(Arc::clone(shared)))
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
