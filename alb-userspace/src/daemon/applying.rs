//! How long it takes until a snapshot is in force. Knows nothing of what that takes.

use crate::{
    proxy::stats::{Histogram, HistogramTotals},
    state::Snapshot,
};

/// From publication to both engines choosing by it; the first one, of the start, is not counted.
#[derive(Debug, Default)]
pub(super) struct Applying {
    /// The last generation that was in force; zero before the first.
    generation: u64,
    times: Histogram,
}

impl Applying {
    /// A snapshot is in force; it may have been before.
    pub(super) fn done(&mut self, snapshot: &Snapshot) {
        if self.generation == snapshot.generation {
            return;
        }
        if self.generation > 0 {
            self.times.observe(snapshot.published.elapsed());
        }
        self.generation = snapshot.generation;
    }

    /// All so far.
    pub(super) fn totals(&self) -> HistogramTotals {
        let mut totals = HistogramTotals::default();
        totals.add(&self.times);
        totals
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;
    use crate::state::{
        Store, TargetStates,
        fixture::{model, target},
    };

    #[tokio::test(start_paused = true)]
    async fn each_change_counts_once_and_from_its_publication() {
        let target = |last| target("t", ([198, 18, 1, last], 80).into());
        let store = Store::new(model(&[("b", None)], &[target(1)]), &TargetStates::default());
        let mut applying = Applying::default();
        applying.done(&store.snapshot());
        assert_eq!(applying.totals().count(), 0, "the start");
        let changed = store.apply(model(&[("b", None)], &[target(2)]));
        for _ in 0..2 {
            advance(Duration::from_millis(20)).await;
            applying.done(&changed);
        }
        let totals = applying.totals();
        assert_eq!((totals.count(), totals.sum), (1, 20_000_000));
    }
}
