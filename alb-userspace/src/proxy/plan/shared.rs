//! Counters that are exact over all workers. Each lives as long as the thing it counts for is
//! in a plan or in use; a plan takes them over from the one before.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use super::Target;
use crate::proxy::{
    limits::Bucket,
    stats::{BackendStats, ListenerStats, PerWorker, UpstreamError, WorkerId},
};

/// A listener's.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct ListenerShared {
    /// Open connections.
    pub connections: AtomicU32,
    /// Requests of this second, against `max_qps`.
    pub requests: Bucket,
    /// What each worker counts.
    pub stats: PerWorker<ListenerStats>,
    /// Connections that ended by a defect of this program.
    pub panics: AtomicU64,
}

/// A backend's.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct BackendShared {
    /// What each worker counts.
    pub stats: PerWorker<BackendStats>,
}

impl BackendShared {
    /// Counts a failure of one of its targets.
    pub fn fails(&self, target: &Target, worker: WorkerId, error: UpstreamError) {
        self.stats.at(worker).errors.count(error);
        target.shared.failed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Tells the counts of one target from those of all others while both live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SharedId(usize);

/// A target's. Alone on its cache line, so that busy targets do not slow each other.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct TargetShared {
    /// Requests (http) or connections (tcp) it has now.
    pub in_flight: AtomicU32,
    /// All it was given so far. On the line that `in_flight` moves anyway.
    pub given: AtomicU64,
    /// Of these, those that failed on its side.
    pub failed: AtomicU64,
}

impl TargetShared {
    /// Whose they are.
    pub fn id(self: &Arc<Self>) -> SharedId {
        SharedId(Arc::as_ptr(self).addr())
    }
}

/// One request or connection of a target; counted off when dropped.
#[derive(Debug)]
pub struct InFlight(Arc<TargetShared>);

impl InFlight {
    pub(super) fn new(shared: Arc<TargetShared>) -> Self {
        shared.in_flight.fetch_add(1, Ordering::Relaxed);
        shared.given.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }

    /// Whose counts it is in.
    pub fn id(&self) -> SharedId {
        self.0.id()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
