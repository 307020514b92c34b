//! Counts per second, from two samples. Time comes from the caller.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use alb_common::reason::Reason;

use super::counters::{Counters, ListenerRef};
use crate::state::TargetRef;

/// Two samples nearer than this say more about chance than about load.
const SHORTEST: Duration = Duration::from_millis(500);

/// Counters with their time.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When they were read.
    pub at: Instant,
    /// What they were.
    pub counters: Counters,
}

/// How fast the counters grow, per second. What is missing does not grow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rates {
    /// Packets by reason.
    pub reasons: BTreeMap<Reason, f64>,
    /// Connections opened, by listener and address.
    pub listeners: BTreeMap<ListenerRef, f64>,
    /// Connections opened, by target.
    pub targets: BTreeMap<TargetRef, f64>,
    /// Requests answered by the proxy, by id of the listener.
    pub requests: BTreeMap<String, f64>,
}

impl Rates {
    /// Growth from one sample to a later one. A counter that is new or was reset counts from zero;
    /// without time between them there is no rate.
    pub fn between(older: &Sample, newer: &Sample) -> Self {
        let seconds = newer.at.saturating_duration_since(older.at).as_secs_f64();
        if seconds <= 0.0 {
            return Self::default();
        }
        let rate = |before: Option<u64>, now: u64| {
            #[expect(clippy::cast_precision_loss, reason = "a rate needs no 16 digits")]
            let grown = now.checked_sub(before.unwrap_or_default()).unwrap_or(now) as f64;
            grown / seconds
        };
        let (old, new) = (&older.counters, &newer.counters);
        let reasons = new
            .reasons
            .iter()
            .map(|(reason, now)| (*reason, rate(old.reasons.get(reason).copied(), *now)))
            .collect();
        let listeners = new
            .listeners
            .iter()
            .map(|(listener, now)| {
                let before = old.listeners.get(listener).map(|traffic| traffic.new_flows);
                (listener.clone(), rate(before, now.new_flows))
            })
            .collect();
        let targets = new
            .targets
            .iter()
            .map(|(target, now)| {
                let before = old.targets.get(target).map(|traffic| traffic.new_flows);
                (target.clone(), rate(before, now.new_flows))
            })
            .collect();
        let total = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
        let before =
            |id: &String| old.proxied.listeners.get(id).map(|totals| total(&totals.requests));
        let requests = new
            .proxied
            .listeners
            .iter()
            .map(|(id, now)| (id.clone(), rate(before(id), total(&now.requests))))
            .collect();
        Self { reasons, listeners, targets, requests }
    }
}

/// Keeps two samples, far enough apart for a rate. Feed it about once a second.
#[derive(Clone, Debug, Default)]
pub struct Sampler {
    base: Option<Sample>,
    /// At least [`SHORTEST`] after `base`.
    last: Option<Sample>,
}

impl Sampler {
    /// Takes a sample in and tells the rates up to it; none until there is something to compare
    /// with. Asking often does not shorten the interval that rates are taken over.
    pub fn push(&mut self, sample: &Sample) -> Rates {
        let Some(newest) = self.last.as_ref().or(self.base.as_ref()) else {
            self.base = Some(sample.clone());
            return Rates::default();
        };
        if sample.at.saturating_duration_since(newest.at) >= SHORTEST {
            self.base = self.last.take().or(self.base.take());
            self.last = Some(sample.clone());
        }
        match (&self.base, &self.last) {
            (Some(base), Some(_)) => Rates::between(base, sample),
            _ => Rates::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use alb_common::reason::Reason;

    use super::{Rates, Sample, Sampler};
    use crate::report::counters::Counters;

    /// New flows at a time in milliseconds.
    fn sample(start: Instant, at: u64, packets: u64) -> Sample {
        let counters =
            Counters { reasons: [(Reason::NewFlow, packets)].into(), ..Counters::default() };
        Sample { at: start + Duration::from_millis(at), counters }
    }

    fn new_flows(rates: &Rates) -> Option<f64> {
        rates.reasons.get(&Reason::NewFlow).copied()
    }

    #[test]
    fn growth_is_per_second() {
        let start = Instant::now();
        for (older, newer, expected) in [
            ((0, 100), (2_000, 150), Some(25.0)),
            ((0, 100), (500, 100), Some(0.0)),
            // The tables were made anew in between.
            ((0, 100), (1_000, 30), Some(30.0)),
            ((1_000, 100), (1_000, 150), None),
            ((1_000, 100), (0, 150), None),
        ] {
            let rates =
                Rates::between(&sample(start, older.0, older.1), &sample(start, newer.0, newer.1));
            assert_eq!(new_flows(&rates), expected, "{older:?} → {newer:?}");
        }
    }

    #[test]
    fn asking_often_does_not_shorten_the_interval() {
        let start = Instant::now();
        let mut sampler = Sampler::default();
        for (at, packets, expected) in [
            (0, 0, None),
            (100, 50, None),
            (1_000, 100, Some(100.0)),
            (1_001, 110, Some(110.0 / 1.001)),
            (2_000, 300, Some(200.0)),
            (2_200, 320, Some(220.0 / 1.2)),
        ] {
            assert_eq!(new_flows(&sampler.push(&sample(start, at, packets))), expected, "{at} ms");
        }
    }
}
