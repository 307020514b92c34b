//! Counts by a word, for sets of reasons that others own and that are rare.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A count for each word that occurred. The lock is one worker's own but for the moment in
/// which somebody reads.
#[derive(Debug, Default)]
pub struct Words(Mutex<BTreeMap<&'static str, u64>>);

impl Words {
    /// Counts one.
    pub fn count(&self, word: &'static str) {
        *self.lock().entry(word).or_default() += 1;
    }

    /// Adds what was counted to `totals`.
    pub fn add_to(&self, totals: &mut BTreeMap<String, u64>) {
        let counts: Vec<_> = self.lock().iter().map(|(word, count)| (*word, *count)).collect();
        for (word, count) in counts {
            *totals.entry(word.to_owned()).or_default() += count;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
