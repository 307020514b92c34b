//! Counters of listeners and targets: totals of ended flows in the kernel, flows alive as the
//! last sweep found them, and flows that a sweep removed.

use std::collections::BTreeMap;

use alb_common::flow::Totals;

use super::{
    collect::{Live, Sweep},
    maps::{MapError, Maps},
};
use crate::report::Traffic;

/// Totals of ended flows at the time of a sweep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    targets: BTreeMap<u32, Totals>,
    listeners: BTreeMap<u32, Totals>,
}

impl Ended {
    /// Reads the totals of these indices.
    pub(super) fn read(maps: &Maps, targets: &[u32], listeners: &[u32]) -> Result<Self, MapError> {
        let targets = targets
            .iter()
            .map(|index| Ok((*index, sum(&maps.target_totals.per_cpu(index)?))))
            .collect::<Result<_, MapError>>()?;
        let listeners = listeners
            .iter()
            .map(|index| Ok((*index, sum(&maps.listener_totals.per_cpu(index)?))))
            .collect::<Result<_, MapError>>()?;
        Ok(Self { targets, listeners })
    }
}

/// One index's share: all CPUs together.
pub(super) fn sum(per_cpu: &[Totals]) -> Totals {
    per_cpu.iter().fold(Totals::default(), |sum, cpu| Totals {
        new_flows: sum.new_flows + cpu.new_flows,
        packets_in: sum.packets_in + cpu.packets_in,
        packets_out: sum.packets_out + cpu.packets_out,
        bytes_in: sum.bytes_in + cpu.bytes_in,
        bytes_out: sum.bytes_out + cpu.bytes_out,
    })
}

/// What is known as of the last sweep.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    targets: BTreeMap<u32, Account>,
    listeners: BTreeMap<u32, Account>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    /// Of flows that sweeps removed: the packet path did not fold them.
    removed: Live,
    /// What is shown; never goes back, though a flow that ends while a sweep is under way may
    /// be seen on neither side or on both.
    shown: Traffic,
}

impl Account {
    fn update(&mut self, ended: &Totals, live: &Live) {
        let Self { removed, shown } = self;
        let next = Traffic {
            new_flows: ended.new_flows,
            active_flows: live.active,
            packets_in: ended.packets_in + live.packets_in + removed.packets_in,
            packets_out: ended.packets_out + live.packets_out + removed.packets_out,
            bytes_in: ended.bytes_in + live.bytes_in + removed.bytes_in,
            bytes_out: ended.bytes_out + live.bytes_out + removed.bytes_out,
        };
        *shown = Traffic {
            new_flows: next.new_flows.max(shown.new_flows),
            active_flows: next.active_flows,
            packets_in: next.packets_in.max(shown.packets_in),
            packets_out: next.packets_out.max(shown.packets_out),
            bytes_in: next.bytes_in.max(shown.bytes_in),
            bytes_out: next.bytes_out.max(shown.bytes_out),
        };
    }

    fn remove(&mut self, live: &Live) {
        self.removed.packets_in += live.packets_in;
        self.removed.packets_out += live.packets_out;
        self.removed.bytes_in += live.bytes_in;
        self.removed.bytes_out += live.bytes_out;
    }
}

impl Ledger {
    /// Takes in a sweep and the totals read with it.
    pub(super) fn take_in(&mut self, sweep: &Sweep, ended: &Ended) {
        for (target, listener, live) in &sweep.removed {
            self.targets.entry(*target).or_default().remove(live);
            self.listeners.entry(u32::from(*listener)).or_default().remove(live);
        }
        for (index, totals) in &ended.targets {
            let live = sweep.targets.get(index).copied().unwrap_or_default();
            self.targets.entry(*index).or_default().update(totals, &live);
        }
        for (index, totals) in &ended.listeners {
            let live = u16::try_from(*index).ok().and_then(|index| sweep.listeners.get(&index));
            let live = live.copied().unwrap_or_default();
            self.listeners.entry(*index).or_default().update(totals, &live);
        }
    }

    /// The index will have another owner.
    pub(super) fn forget_target(&mut self, index: u32) {
        self.targets.remove(&index);
    }

    /// The index will have another owner.
    pub(super) fn forget_listener(&mut self, index: u32) {
        self.listeners.remove(&index);
    }

    /// Of a target index.
    pub(super) fn target(&self, index: u32) -> Traffic {
        self.targets.get(&index).map(|account| account.shown).unwrap_or_default()
    }

    /// Of a listener index.
    pub(super) fn listener(&self, index: u32) -> Traffic {
        self.listeners.get(&index).map(|account| account.shown).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(active: u64, bytes_in: u64) -> Live {
        Live { active, bytes_in, ..Live::default() }
    }

    fn ended(bytes_in: u64) -> Ended {
        let totals = Totals { new_flows: 1, bytes_in, ..Totals::default() };
        Ended { targets: [(7, totals)].into(), listeners: [(3, totals)].into() }
    }

    fn sweep(live_now: Option<Live>, removed: Option<Live>) -> Sweep {
        Sweep {
            targets: live_now.map(|live| (7, live)).into_iter().collect(),
            listeners: live_now.map(|live| (3, live)).into_iter().collect(),
            removed: removed.map(|live| (7, 3, live)).into_iter().collect(),
            ..Sweep::default()
        }
    }

    #[test]
    fn bytes_are_counted_once_wherever_they_are() {
        let mut ledger = Ledger::default();
        for (sweep, ended, active, bytes) in [
            (sweep(Some(live(1, 100)), None), ended(0), 1, 100), // alive
            (sweep(None, None), ended(150), 0, 150),             // ended in the kernel
            (sweep(Some(live(1, 10)), None), ended(150), 1, 160), // another
            (sweep(None, Some(live(0, 10))), ended(150), 0, 160), // that expired
            (sweep(None, None), ended(140), 0, 160),             // never back
        ] {
            ledger.take_in(&sweep, &ended);
            let target = ledger.target(7);
            assert_eq!((target.active_flows, target.bytes_in), (active, bytes));
            assert_eq!(ledger.listener(3), target);
        }
        assert_eq!(ledger.target(8), Traffic::default());
    }
}
