//! Tables that are there for each family, as one: keys and values as [`wide`](super::super::wide) has
//! them, each kept where its family's packets look for it.

use std::os::fd::OwnedFd;

use super::{MapError, Table};
use crate::datapath::wide::{Addr, Key, TargetEntry, Wide};

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    Four,
    /// IPv6.
    Six,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Four, Self::Six];

    /// That of an address, or of what has one.
    pub fn of(key: &impl Key) -> Self {
        if key.is_ipv4() { Self::Four } else { Self::Six }
    }
}

/// Two maps by address.
#[derive(Debug)]
pub struct Dual<K: Key, V: Wide> {
    four: Table<K::Narrow, V::Narrow>,
    six: Table<K, V>,
}

impl<K: Key, V: Wide> Dual<K, V> {
    /// The maps of these names, from wherever `open` finds them.
    pub fn open<E>(
        four: &'static str,
        six: &'static str,
        open: &mut impl FnMut(&'static str) -> Result<OwnedFd, E>,
    ) -> Result<Self, E> {
        Ok(Self { four: Table::new(four, open(four)?), six: Table::new(six, open(six)?) })
    }

    /// The element under a key.
    pub fn get(&self, key: &K) -> Result<Option<V>, MapError> {
        match Family::of(key) {
            Family::Four => Ok(self.four.get(&key.narrow())?.map(|found| V::widen(&found))),
            Family::Six => self.six.get(key),
        }
    }

    /// Writes an element.
    pub fn set(&self, key: &K, value: &V) -> Result<(), MapError> {
        match Family::of(key) {
            Family::Four => self.four.set(&key.narrow(), &value.narrow()),
            Family::Six => self.six.set(key, value),
        }
    }

    /// Deletes an element; `false` if there was none.
    pub fn remove(&self, key: &K) -> Result<bool, MapError> {
        match Family::of(key) {
            Family::Four => self.four.remove(&key.narrow()),
            Family::Six => self.six.remove(key),
        }
    }

    /// Visits every element.
    pub fn for_each(&self, mut visit: impl FnMut(&K, &V)) -> Result<(), MapError> {
        self.four.for_each(|key, value| visit(&K::widen(key), &V::widen(value)))?;
        self.six.for_each(visit)
    }

    /// Copies all to other maps.
    pub fn copy_to(&self, other: &Self) -> Result<(), MapError> {
        self.four.copy_to(&other.four)?;
        self.six.copy_to(&other.six)
    }
}

/// Two arrays.
#[derive(Debug)]
pub struct Arrays<V: Wide> {
    four: Table<u32, V::Narrow>,
    six: Table<u32, V>,
}

impl<V: Wide> Arrays<V> {
    /// As [`Dual::open`].
    pub fn open<E>(
        four: &'static str,
        six: &'static str,
        open: &mut impl FnMut(&'static str) -> Result<OwnedFd, E>,
    ) -> Result<Self, E> {
        Ok(Self { four: Table::new(four, open(four)?), six: Table::new(six, open(six)?) })
    }

    /// An element of one of them.
    pub fn get(&self, family: Family, index: u32) -> Result<Option<V>, MapError> {
        match family {
            Family::Four => Ok(self.four.get(&index)?.map(|found| V::widen(&found))),
            Family::Six => self.six.get(&index),
        }
    }

    /// Writes the first elements of one of them.
    pub fn set_first(&self, family: Family, values: &[V]) -> Result<(), MapError> {
        let places: Vec<u32> = (0..).take(values.len()).collect();
        match family {
            Family::Four => {
                let values: Vec<_> = values.iter().map(Wide::narrow).collect();
                self.four.set_all(&places, &values)
            }
            Family::Six => self.six.set_all(&places, values),
        }
    }

    /// As [`Dual::copy_to`].
    pub fn copy_to(&self, other: &Self) -> Result<(), MapError> {
        self.four.copy_to(&other.four)?;
        self.six.copy_to(&other.six)
    }
}

/// An index is a target's of either family, and one without an address is free.
impl Arrays<TargetEntry> {
    /// The target of this index.
    pub fn target(&self, index: u32) -> Result<Option<TargetEntry>, MapError> {
        for family in Family::ALL {
            let found = self.get(family, index)?.filter(is_set);
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Writes a target.
    pub fn set(&self, index: u32, target: &TargetEntry) -> Result<(), MapError> {
        match Family::of(target) {
            Family::Four => self.four.set(&index, &target.narrow()),
            Family::Six => self.six.set(&index, target),
        }
    }

    /// Frees an index.
    pub fn clear(&self, index: u32) -> Result<(), MapError> {
        let none = TargetEntry::default();
        self.four.set(&index, &none.narrow())?;
        self.six.set(&index, &none)
    }

    /// Visits every target.
    pub fn for_each(&self, mut visit: impl FnMut(u32, TargetEntry)) -> Result<(), MapError> {
        self.four.for_each(|index, narrow| {
            let target = TargetEntry::widen(narrow);
            if is_set(&target) {
                visit(*index, target);
            }
        })?;
        self.six.for_each(|index, target| {
            if is_set(target) {
                visit(*index, *target);
            }
        })
    }
}

/// A target whose address is not zero, mapped or not.
fn is_set(target: &TargetEntry) -> bool {
    let [.., last] = target.addr.0;
    if target.is_ipv4() { last != 0 } else { target.addr != Addr::default() }
}
