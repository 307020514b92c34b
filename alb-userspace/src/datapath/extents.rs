//! Room in the slot array.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// A packet that has read an entry that names slots has read them long before this is over.
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

    /// Notes which extents are named now, by offset and length. Others are free after a grace
    /// period.
    pub fn keep(&mut self, named: impl Iterator<Item = (u32, u32)>, now: Instant) {
        let mut named: Vec<(u32, u32)> = named.filter(|(_, len)| *len > 0).collect();
        named.sort_unstable();
        let mut kept = named.iter().map(|(offset, _)| *offset).peekable();
        for offset in self.used.keys() {
            while kept.next_if(|next| next < offset).is_some() {}
            if kept.peek() == Some(offset) {
                self.retired.remove(offset);
            } else {
                self.retired.entry(*offset).or_insert(now);
            }
        }
        // What was found in the kernel.
        for (offset, len) in named {
            if self.used.get(&offset) != Some(&len) {
                self.used.insert(offset, len);
                self.retired.remove(&offset);
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

    #[test]
    fn holes_are_used_after_a_grace() {
        let mut extents = Extents::new(10);
        assert_eq!((extents.take(4), extents.take(4)), (Ok(0), Ok(4)));
        let start = Instant::now();
        extents.keep([(4, 4)].into_iter(), start);
        assert!(extents.take(3).is_err(), "a packet may still be reading there");
        extents.keep([(4, 4)].into_iter(), start + GRACE);
        assert_eq!((extents.take(3), extents.take(2)), (Ok(0), Ok(8)));
        assert_eq!(extents.take(2), Err(NoRoom { wanted: 2, used: 9, size: 10 }));
    }

    #[test]
    fn what_was_found_installed_is_in_use() {
        let mut extents = Extents::new(10);
        extents.keep([(0, 6), (0, 6), (3, 0)].into_iter(), Instant::now());
        assert_eq!(extents.take(5).map_err(|error| error.used), Err(6));
        assert_eq!(extents.take(4), Ok(6));
    }
}
