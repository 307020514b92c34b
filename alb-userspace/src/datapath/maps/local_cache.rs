//! What is known of addresses, by places that are computed from them: see [`alb_common::local`].

use std::os::fd::OwnedFd;

use alb_common::local::{self, Held6};

use super::{Family, MapError, Table};
use crate::datapath::wide::{Addr, Wide as _};

/// Where an address is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// In the cache of this family.
    pub family: Family,
    /// At this index, below [`local::PLACES`].
    pub index: u32,
}

impl Place {
    /// That of an address.
    pub fn of(addr: &Addr) -> Self {
        let family = Family::of(addr);
        let index = match family {
            Family::Four => local::place(addr.narrow()),
            Family::Six => local::place6(*addr),
        };
        Self { family, index }
    }
}

/// An address of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// The address.
    pub addr: Addr,
    /// `alb_common::service::local` bits, not 0.
    pub flags: u32,
}

/// The caches of both families.
#[derive(Debug)]
pub struct LocalCaches {
    four: Table<u32, u64>,
    six: Table<u32, Held6>,
}

impl LocalCaches {
    /// The maps of these names, from wherever `open` finds them.
    pub fn open<E>(
        four: &'static str,
        six: &'static str,
        open: &mut impl FnMut(&'static str) -> Result<OwnedFd, E>,
    ) -> Result<Self, E> {
        Ok(Self { four: Table::new(four, open(four)?), six: Table::new(six, open(six)?) })
    }

    /// Writes a place; none: no address of this place is ours.
    pub fn set(&self, place: Place, local: Option<Local>) -> Result<(), MapError> {
        let Place { family, index } = place;
        match family {
            Family::Four => {
                let word = local.map(|of| local::word(of.addr.narrow(), of.flags));
                self.four.set(&index, &word.unwrap_or_default())
            }
            Family::Six => {
                let held = local.map(|of| Held6::new(of.addr, of.flags));
                self.six.set(&index, &held.unwrap_or_default())
            }
        }
    }

    /// Visits every place that is not empty.
    pub fn for_each(&self, mut visit: impl FnMut(Place, Local)) -> Result<(), MapError> {
        self.four.for_each(|index, word| {
            let (addr, flags) = local::held(*word);
            if *word != 0 {
                let place = Place { family: Family::Four, index: *index };
                visit(place, Local { addr: Addr::widen(&addr), flags });
            }
        })?;
        self.six.for_each(|index, held| {
            if let Some((addr, flags)) = held.get() {
                visit(Place { family: Family::Six, index: *index }, Local { addr, flags });
            }
        })
    }

    /// Copies all to other maps.
    pub fn copy_to(&self, other: &Self) -> Result<(), MapError> {
        self.four.copy_to(&other.four)?;
        self.six.copy_to(&other.six)
    }
}
