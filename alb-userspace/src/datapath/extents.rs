//! Room in the slot array.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use alb_common::service::ListenerEntry;

/// A packet that has read a listener's entry has read its slot long before this is over.
const GRACE: Duration = Duration::from_secs(1);

/// Extents in use, and those that were until recently.
#[derive(Clone, Debug)]
pub struct Extents {
    size: u32,
    /// Length by offset.
    used: BTreeMap<u32, u32>,
    retired: BTreeMap<u32, Instant>,
}

/// No hole is large enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no room for a selection table of {wanted} slots: {used} of {size} are in use, those of the tables \
     that it takes the place of included; fewer targets, or weights with a common divisor, need \
     less, and a change in two steps does too"
)]
pub struct NoRoom {
    wanted: u32,
    used: u32,
    size: u32,
}

impl Extents {
    /// Nothing in use.
    pub fn new(size: u32) -> Self {
        Self { size, used: BTreeMap::new(), retired: BTreeMap::new() }
    }

    /// Takes the first hole that is large enough.
    pub fn take(&mut self, len: u32) -> Result<u32, NoRoom> {
        let mut offset = 0;
        for (next, taken) in &self.used {
            if next - offset >= len {
                break;
            }
            offset = next + taken;
        }
        if self.size - offset < len {
            return Err(NoRoom { wanted: len, used: self.used.values().sum(), size: self.size });
        }
        self.used.insert(offset, len);
        Ok(offset)
    }

    /// Notes which extents the listeners use now. Others are free after a grace period.
    pub fn keep<'a>(&mut self, entries: impl Iterator<Item = &'a ListenerEntry>, now: Instant) {
        let mut kept = BTreeSet::new();
        for entry in entries.filter(|entry| entry.len > 0) {
            self.used.insert(entry.offset, entry.len);
            kept.insert(entry.offset);
        }
        for offset in self.used.keys() {
            if kept.contains(offset) {
                self.retired.remove(offset);
            } else {
                self.retired.entry(*offset).or_insert(now);
            }
        }
        let free: Vec<u32> = self
            .retired
            .iter()
            .filter(|(_, since)| now.saturating_duration_since(**since) >= GRACE)
            .map(|(offset, _)| *offset)
            .collect();
        for offset in free {
            self.retired.remove(&offset);
            self.used.remove(&offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(offset: u32, len: u32) -> ListenerEntry {
        ListenerEntry { offset, len, ..ListenerEntry::default() }
    }

    #[test]
    fn holes_are_used_after_a_grace() {
        let mut extents = Extents::new(10);
        assert_eq!((extents.take(4), extents.take(4)), (Ok(0), Ok(4)));
        let start = Instant::now();
        extents.keep([entry(4, 4)].iter(), start);
        assert!(extents.take(3).is_err(), "a packet may still be reading there");
        extents.keep([entry(4, 4)].iter(), start + GRACE);
        assert_eq!((extents.take(3), extents.take(2)), (Ok(0), Ok(8)));
        assert_eq!(extents.take(2), Err(NoRoom { wanted: 2, used: 9, size: 10 }));
    }

    #[test]
    fn what_was_found_installed_is_in_use() {
        let mut extents = Extents::new(10);
        extents.keep([entry(0, 6), entry(0, 6), entry(3, 0)].iter(), Instant::now());
        assert_eq!(extents.take(5).map_err(|error| error.used), Err(6));
        assert_eq!(extents.take(4), Ok(6));
    }
}
