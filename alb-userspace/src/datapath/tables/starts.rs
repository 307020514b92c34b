//! Which targets start slowly, and since when. Pure but for this memory.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use alb_common::{expiry::ticks, target::TargetTimes};

use super::Network;
use crate::{datapath::by_index::ByIndex, state::TargetState};

/// By target index: since when it is in service, the tick of that, and the ticks it takes.
#[derive(Clone, Debug, Default)]
pub(super) struct Starts(BTreeMap<u32, (Option<SystemTime>, u32, u32)>);

impl Starts {
    /// Takes over what is installed: a restart begins no start anew.
    pub(super) fn adopt(installed: &ByIndex<TargetTimes>) -> Self {
        let of = installed.iter().map(|(index, times)| (index, (None, times.start, times.ramp)));
        Self(of.collect())
    }

    /// A target of the model.
    pub(super) fn present(
        &mut self,
        index: u32,
        length: Duration,
        state: Option<&TargetState>,
        network: &Network,
    ) {
        let Some(state) = state.filter(|state| state.health.serves() && !length.is_zero()) else {
            self.0.remove(&index);
            return;
        };
        let ramp = ticks(u32::try_from(length.as_secs()).unwrap_or(u32::MAX));
        let (since, start, known) = self.0.get(&index).copied().unwrap_or((None, 0, 0));
        // In the tables when this run began: it was in service before.
        let adopted = known == ramp && since.is_none();
        if adopted || since == Some(state.since) && known == ramp {
            self.0.insert(index, (Some(state.since), start, ramp));
            return;
        }
        let ago = network.time.duration_since(state.since).unwrap_or_default();
        let ago = u32::try_from(ago.as_secs()).unwrap_or(u32::MAX).min(86_400);
        let start = if ago == 0 { network.now } else { network.now.wrapping_sub(ticks(ago)) };
        self.0.insert(index, (Some(state.since), start, ramp));
    }

    /// Start and length, ticks; zeroes = it has its full share.
    pub(super) fn of(&self, index: u32) -> (u32, u32) {
        self.0.get(&index).map(|(_, start, ramp)| (*start, *ramp)).unwrap_or_default()
    }

    /// Nothing names the target any more.
    pub(super) fn forget(&mut self, index: u32) {
        self.0.remove(&index);
    }
}
