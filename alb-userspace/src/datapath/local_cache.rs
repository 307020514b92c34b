//! What `LOCAL_CACHE` and `LOCAL_CACHE6` shall hold while addresses come, change and go.
//!
//! At every step a place says of an address what `LOCALS` says, or nothing; never that it is not
//! ours while it is to stay so.

use std::collections::BTreeMap;

use super::{
    maps::{Local, Place},
    plan::MapOp,
    wide::Addr,
};

/// The caches in the course of a plan, empty places left out.
#[derive(Debug)]
pub(super) struct LocalCache(BTreeMap<Place, Local>);

impl LocalCache {
    /// As they are installed.
    pub(super) fn of(installed: &BTreeMap<Place, Local>) -> Self {
        Self(installed.clone())
    }

    /// Says what an address of ours is, in `LOCALS` first: what the cache does not know is asked
    /// there.
    pub(super) fn set(&mut self, addr: Addr, flags: u32, ops: &mut Vec<MapOp>) {
        ops.push(MapOp::SetLocal { addr, flags });
        let place = Place::of(&addr);
        if self.0.get(&place).is_none_or(|held| held.addr == addr) {
            self.put(place, Some(Local { addr, flags }), ops);
        }
    }

    /// Lets every place hold the first of its addresses, once `LOCALS` has all of them and before
    /// it loses the others; what is installed then. A crash may have left anything.
    pub(super) fn settle(
        mut self,
        locals: &BTreeMap<Addr, u32>,
        ops: &mut Vec<MapOp>,
    ) -> BTreeMap<Place, Local> {
        let mut wanted = BTreeMap::new();
        for (&addr, &flags) in locals {
            wanted.entry(Place::of(&addr)).or_insert(Local { addr, flags });
        }
        let gone: Vec<Place> =
            self.0.keys().filter(|place| !wanted.contains_key(place)).copied().collect();
        let wanted = wanted.into_iter().map(|(place, local)| (place, Some(local)));
        for (place, local) in gone.into_iter().map(|place| (place, None)).chain(wanted) {
            self.put(place, local, ops);
        }
        self.0
    }

    fn put(&mut self, place: Place, local: Option<Local>, ops: &mut Vec<MapOp>) {
        let before = match local {
            Some(local) => self.0.insert(place, local),
            None => self.0.remove(&place),
        };
        if before != local {
            ops.push(MapOp::SetLocalCache { place, local });
        }
    }
}
