//! Counters that are exact over all workers. Each lives as long as the thing it counts for is
//! in a plan or in use; a plan takes them over from the one before.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use crate::proxy::limits::Bucket;

/// A listener's.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct ListenerShared {
    /// Open connections.
    pub connections: AtomicU32,
    /// Requests of this second, against `max_qps`.
    pub requests: Bucket,
}

/// A backend's.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct BackendShared {
    /// Next turn of the round robin.
    pub turn: AtomicU64,
}

/// A target's. Alone on its cache line, so that busy targets do not slow each other.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct TargetShared {
    /// Requests (http) or connections (tcp) it has now.
    pub in_flight: AtomicU32,
}

/// One request or connection of a target; counted off when dropped.
#[derive(Debug)]
pub struct InFlight(Arc<TargetShared>);

impl InFlight {
    pub(super) fn new(shared: Arc<TargetShared>) -> Self {
        shared.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
