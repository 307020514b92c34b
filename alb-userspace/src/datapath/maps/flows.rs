//! A table of flows, of both families: keys and values as [`wide`](super::super::wide) has them.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use alb_common::{
    flow_table::RANDOM,
    net::{Be32, Be128},
};

use super::{
    Family, MapError,
    lines::{FlowLines, Unfinished},
};
use crate::datapath::wide::{FlowEntry, FlowKey, Wide as _};

/// Far longer than a line is written at, also by a CPU that a hypervisor stops meanwhile: whoever
/// has one for so long is no more.
const AGE: Duration = Duration::from_secs(5);

/// The flows of both families.
#[derive(Debug)]
pub struct Flows {
    four: FlowLines<Be32>,
    six: FlowLines<Be128>,
}

impl Flows {
    /// The maps of these names, from wherever `open` finds them.
    pub fn open<E>(
        four: &'static str,
        six: &'static str,
        open: &mut impl FnMut(&'static str) -> Result<OwnedFd, E>,
    ) -> Result<Self, E> {
        Ok(Self { four: FlowLines::new(four, open(four)?), six: FlowLines::new(six, open(six)?) })
    }

    /// The same for reading. The descriptors must be such as can write: the kernel maps nothing for
    /// others.
    pub fn open_to_read<E>(
        four: &'static str,
        six: &'static str,
        open: &mut impl FnMut(&'static str) -> Result<OwnedFd, E>,
    ) -> Result<Self, E> {
        Ok(Self {
            four: FlowLines::to_read(four, open(four)?),
            six: FlowLines::to_read(six, open(six)?),
        })
    }

    /// Makes tables of the lines that are none yet, their hashes keyed by these numbers.
    pub fn make(&self, four: [u64; RANDOM], six: [u64; RANDOM]) -> Result<(), MapError> {
        self.four.make(four)?;
        self.six.make(six)
    }

    /// The element under a key.
    pub fn get(&self, key: &FlowKey) -> Result<Option<FlowEntry>, MapError> {
        match Family::of(key) {
            Family::Four => Ok(self.four.get(&key.narrow())?.map(|found| FlowEntry::widen(&found))),
            Family::Six => self.six.get(key),
        }
    }

    /// Writes an element.
    pub fn set(&self, key: &FlowKey, entry: &FlowEntry) -> Result<(), MapError> {
        match Family::of(key) {
            Family::Four => self.four.set(&key.narrow(), &entry.narrow()),
            Family::Six => self.six.set(key, entry),
        }
    }

    /// Writes an element if there is none; whether it did.
    pub fn insert(&self, key: &FlowKey, entry: &FlowEntry) -> Result<bool, MapError> {
        match Family::of(key) {
            Family::Four => self.four.insert(&key.narrow(), &entry.narrow()),
            Family::Six => self.six.insert(key, entry),
        }
    }

    /// Writes many elements of one family.
    pub fn set_all(
        &self,
        family: Family,
        keys: &[FlowKey],
        entries: &[FlowEntry],
    ) -> Result<(), MapError> {
        let mut elements = keys.iter().zip(entries);
        match family {
            Family::Four => {
                elements.try_for_each(|(key, entry)| self.four.set(&key.narrow(), &entry.narrow()))
            }
            Family::Six => elements.try_for_each(|(key, entry)| self.six.set(key, entry)),
        }
    }

    /// Deletes an element; `false` if there was none.
    pub fn remove(&self, key: &FlowKey) -> Result<bool, MapError> {
        match Family::of(key) {
            Family::Four => self.four.remove(&key.narrow()),
            Family::Six => self.six.remove(key),
        }
    }

    /// Visits every element.
    pub fn for_each(&self, mut visit: impl FnMut(&FlowKey, &FlowEntry)) -> Result<(), MapError> {
        Family::ALL.into_iter().try_for_each(|family| self.for_each_of(family, &mut visit))
    }

    /// Visits every element of one family.
    pub fn for_each_of(
        &self,
        family: Family,
        mut visit: impl FnMut(&FlowKey, &FlowEntry),
    ) -> Result<(), MapError> {
        match family {
            Family::Four => self.four.for_each(|key, entry| {
                visit(&FlowKey::widen(key), &FlowEntry::widen(entry));
            }),
            Family::Six => self.six.for_each(visit),
        }
    }

    /// Visits every element, and says which lines were being written.
    pub fn look_through(
        &self,
        mut visit: impl FnMut(&FlowKey, &FlowEntry),
    ) -> Result<HalfWay, MapError> {
        let mut lines = Vec::new();
        self.four.look_through(
            |key, entry| visit(&FlowKey::widen(key), &FlowEntry::widen(entry)),
            |unfinished| lines.push(((Family::Four, unfinished), Instant::now())),
        )?;
        self.six.look_through(visit, |unfinished| {
            lines.push(((Family::Six, unfinished), Instant::now()));
        })?;
        Ok(HalfWay(lines))
    }

    /// Empties the lines that are being written since long before: who wrote them is no more. How
    /// many; they are not among those of the later look then, and of the others that knows since
    /// when.
    pub fn clear(&self, earlier: &HalfWay, later: &mut HalfWay) -> Result<usize, MapError> {
        let abandoned = later.abandoned_since(earlier);
        for (family, line) in &abandoned {
            match family {
                Family::Four => self.four.clear(*line)?,
                Family::Six => self.six.clear(*line)?,
            };
        }
        Ok(abandoned.len())
    }
}

/// Lines that were being written at one look, and when that was seen first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HalfWay(Vec<((Family, Unfinished), Instant)>);

impl HalfWay {
    /// Takes out those that were in the same state long before; knows of the others since when.
    fn abandoned_since(&mut self, earlier: &Self) -> Vec<(Family, Unfinished)> {
        let mut abandoned = Vec::new();
        self.0.retain_mut(|(line, seen)| {
            let first = earlier.0.iter().find(|(known, _)| known == line);
            let first = first.map_or(*seen, |(_, first)| *first);
            let age = seen.saturating_duration_since(first);
            *seen = first;
            if age >= AGE {
                abandoned.push(*line);
            }
            age < AGE
        });
        abandoned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_half_way_is_abandoned() {
        let start = Instant::now();
        let at = |seconds, lines: &[Unfinished]| {
            let seen = start + Duration::from_secs(seconds);
            HalfWay(lines.iter().map(|line| ((Family::Six, *line), seen)).collect())
        };
        let mut known = HalfWay::default();
        for (seconds, seen, abandoned) in [
            (0, &[(8, 1), (9, 1), (10, 2)][..], &[][..]),
            (4, &[(8, 1), (10, 6), (11, 1)], &[]), // 9 is done, 10 is another's
            (5, &[(8, 1), (9, 1), (10, 6), (11, 1)], &[(8, 1)]),
            (9, &[(9, 1), (10, 6), (11, 5)], &[(10, 6)]),
            (10, &[(9, 1), (11, 5)], &[(9, 1)]),
            (11, &[], &[]),
            (30, &[(11, 5)], &[]),
        ] {
            let mut later = at(seconds, seen);
            let abandoned: Vec<_> = abandoned.iter().map(|line| (Family::Six, *line)).collect();
            assert_eq!(later.abandoned_since(&known), abandoned, "{seconds}");
            assert_eq!(later.0.len(), seen.len() - abandoned.len(), "{seconds}");
            known = later;
        }
    }
}
