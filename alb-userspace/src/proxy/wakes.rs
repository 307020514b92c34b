//! For tests: a waker that counts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Wake,
};

/// How often a task was woken.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicUsize);

impl Count {
    /// Since it was asked the last time.
    pub(super) fn take(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }

    pub(super) fn so_far(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
