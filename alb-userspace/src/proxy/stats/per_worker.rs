//! One block for each worker, so that no two write to one cache line.

use std::sync::OnceLock;

/// Blocks there are at most. Workers beyond share: counts may be lost, nothing worse.
const WORKERS: usize = 64;

/// A worker: 0 to the number of workers less one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub usize);

/// A block for each worker that counted. Lives where what it counts for lives, from plan to plan.
#[derive(Debug)]
pub struct PerWorker<T>(Box<[OnceLock<Box<Padded<T>>>]>);

/// On cache lines of its own (two, for the prefetcher).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T> Default for PerWorker<T> {
    fn default() -> Self {
        Self((0..WORKERS).map(|_| OnceLock::new()).collect())
    }
}

impl<T: Default> PerWorker<T> {
    /// The block of a worker, which alone may write it.
    #[inline]
    pub fn at(&self, worker: WorkerId) -> &T {
        &self.0[worker.0 % WORKERS].get_or_init(Box::default).0
    }

    /// All blocks, for those who read.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(OnceLock::get).map(|padded| &padded.0)
    }
}
