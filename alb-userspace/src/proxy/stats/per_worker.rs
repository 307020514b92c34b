//! One block for each worker, so that no two write to one cache line.

/// A worker: 0 to the number of workers less one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub usize);

/// A block for each worker. Lives where what it counts for lives, from plan to plan.
#[derive(Debug)]
pub struct PerWorker<T>(Box<[Padded<T>]>);

/// On cache lines of its own (two, for the prefetcher).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T: Default> PerWorker<T> {
    /// For this many workers, at least one.
    pub fn new(workers: usize) -> Self {
        Self((0..workers.max(1)).map(|_| Padded::default()).collect())
    }

    /// The block of a worker, which alone may write it. Workers beyond those it was made for
    /// share: counts may be lost, nothing worse.
    #[inline]
    pub fn at(&self, worker: WorkerId) -> &T {
        &self.0[worker.0 % self.0.len()].0
    }

    /// All blocks, for those who read.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|padded| &padded.0)
    }
}
