//! Which targets drain, and until when their flows may live. Pure but for this memory.
//!
//! A target drains that is removed, that has weight 0, or that has failed while its backend's
//! `unhealthyFlows` is `Reset`; the last is given no time.

use std::collections::BTreeMap;

use alb_common::{
    expiry::{due, ticks},
    target::TargetTimes,
};

use crate::{
    datapath::by_index::ByIndex,
    model::{Backend, Target, UnhealthyFlows},
    state::{Health, TargetState},
};

/// By target index.
#[derive(Clone, Debug, Default)]
pub(super) struct Drains {
    /// Seconds that the flows of a target may live on once it is removed.
    allowed: BTreeMap<u32, u32>,
    /// Ticks at which flows of draining targets are ended.
    ends: BTreeMap<u32, u32>,
    /// Seconds that those follow from, as far as this run has seen them begin.
    given: BTreeMap<u32, u32>,
}

impl Drains {
    /// Takes over what is installed.
    pub(super) fn adopt(installed: &ByIndex<TargetTimes>) -> Self {
        let ends = installed.iter().filter(|(_, times)| times.cut_at != 0);
        Self {
            allowed: installed.iter().map(|(index, times)| (index, times.drain)).collect(),
            ends: ends.map(|(index, times)| (index, times.cut_at)).collect(),
            given: BTreeMap::new(),
        }
    }

    /// A target of the model: `seconds` is what its flows are given, `None` = it does not drain.
    pub(super) fn present(&mut self, index: u32, drain: u32, seconds: Option<u32>, now: u32) {
        self.allowed.insert(index, drain);
        if let Some(seconds) = seconds {
            self.drain(index, seconds, now);
        } else {
            self.ends.remove(&index);
            self.given.remove(&index);
        }
    }

    /// A target that is not in the model any more.
    pub(super) fn removed(&mut self, index: u32, now: u32) {
        let seconds = self.allowed.get(&index).copied().unwrap_or_default();
        self.drain(index, seconds, now);
    }

    fn drain(&mut self, index: u32, seconds: u32, now: u32) {
        let before = self.given.insert(index, seconds);
        let from_now = || now.wrapping_add(ticks(seconds));
        let end = match (self.ends.get(&index).copied(), before) {
            // What is over stays over.
            (Some(end), _) if due(now, end) => end,
            (None, _) => from_now(),
            (Some(_), _) if seconds == 0 => from_now(),
            // Begun by an earlier run: it ends when that said.
            (Some(end), None) => end,
            (Some(end), Some(before)) => {
                end.wrapping_add(ticks(seconds)).wrapping_sub(ticks(before))
            }
        };
        // 0 means never.
        self.ends.insert(index, end.max(1));
    }

    /// Nothing names the target any more.
    pub(super) fn forget(&mut self, index: u32) {
        self.allowed.remove(&index);
        self.ends.remove(&index);
        self.given.remove(&index);
    }

    /// What the kernel is told of a target.
    pub(super) fn times(&self, index: u32) -> TargetTimes {
        TargetTimes {
            cut_at: self.ends.get(&index).copied().unwrap_or_default(),
            drain: self.allowed.get(&index).copied().unwrap_or_default(),
            ..TargetTimes::default()
        }
    }

    /// When flows of draining targets are ended.
    pub(super) fn ends(&self) -> &BTreeMap<u32, u32> {
        &self.ends
    }
}

/// Seconds that the flows of a target of the model are given; `None` = it does not drain.
pub(super) fn allowed(
    backend: &Backend,
    target: &Target,
    state: Option<&TargetState>,
) -> Option<u32> {
    // A restart begins with what the tables tell, and they do not tell a failed target from one
    // that has no weight: only a check that failed since does.
    let failed =
        state.is_some_and(|state| state.health == Health::Unhealthy && state.reason.is_some());
    if failed && backend.unhealthy_flows == UnhealthyFlows::Reset {
        return Some(0);
    }
    (target.weight == 0).then(|| seconds(backend))
}

/// `connectionDrainingSeconds`.
pub(super) fn seconds(backend: &Backend) -> u32 {
    u32::try_from(backend.connection_draining.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u32 = u32::MAX - 100; // wraps on the way

    #[test]
    fn a_drain_ends_once_and_may_be_called_off() {
        let mut drains = Drains::default();
        drains.present(7, 60, None, NOW);
        assert_eq!(drains.times(7), TargetTimes { drain: 60, ..TargetTimes::default() });
        drains.present(7, 60, Some(60), NOW);
        let end = NOW.wrapping_add(ticks(60));
        assert_eq!(drains.times(7).cut_at, end);
        // Removed meanwhile: it goes on where it was.
        drains.removed(7, NOW.wrapping_add(500));
        assert_eq!(drains.times(7).cut_at, end);
        drains.present(7, 60, None, NOW.wrapping_add(600));
        assert_eq!((drains.times(7).cut_at, drains.ends().len()), (0, 0));
    }

    #[test]
    fn other_seconds_move_the_end_but_not_that_of_what_is_over() {
        let mut drains = Drains::default();
        drains.present(7, 60, Some(60), 1_000);
        drains.present(7, 10, Some(10), 1_100);
        assert_eq!(drains.times(7).cut_at, 1_000 + ticks(10));
        drains.present(7, 300, Some(300), 1_000 + ticks(10));
        assert_eq!(drains.times(7).cut_at, 1_000 + ticks(10));
    }

    #[test]
    fn a_restart_ends_what_the_run_before_began_and_knows_what_it_allowed() {
        let installed = [
            (1, TargetTimes { cut_at: 5_000, drain: 60, ..TargetTimes::default() }),
            (2, TargetTimes { drain: 60, ..TargetTimes::default() }),
        ];
        let mut drains = Drains::adopt(&installed.into_iter().collect());
        drains.removed(1, 1_000);
        drains.removed(2, 1_000);
        let ends: Vec<_> = drains.ends().values().copied().collect();
        assert_eq!(ends, [5_000, 1_000 + ticks(60)]);
        // Drained by weight then, failed now.
        drains.present(1, 60, Some(0), 1_000);
        assert_eq!(drains.times(1).cut_at, 1_000 + ticks(0));
        drains.forget(1);
        assert_eq!(drains.times(1), TargetTimes::default());
    }
}
