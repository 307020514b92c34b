//! What `LOCAL_CACHE` shall hold while addresses come, change and go: those of IPv4, for IPv6 has no
//! such cache.
//!
//! At every step a place says of an address what `LOCALS` says, or nothing; never that it is not
//! ours while it is to stay so.

use std::collections::BTreeMap;

use alb_common::local::{Said, place, says, word};

use super::{
    plan::MapOp,
    wide::{Addr, Key as _, Wide as _},
};

/// The cache in the course of a plan: words by place, empty ones left out.
#[derive(Debug)]
pub(super) struct LocalCache(BTreeMap<u32, u64>);

impl LocalCache {
    /// As it is installed.
    pub(super) fn of(installed: &BTreeMap<u32, u64>) -> Self {
        Self(installed.clone())
    }

    /// Says what an address of ours is, in `LOCALS` first: what the cache does not know is asked
    /// there.
    pub(super) fn set(&mut self, addr: Addr, flags: u32, ops: &mut Vec<MapOp>) {
        ops.push(MapOp::SetLocal { addr, flags });
        if !addr.is_ipv4() {
            return;
        }
        let addr = addr.narrow();
        let place = place(addr);
        let held = self.0.get(&place).copied().unwrap_or_default();
        if says(held, addr) != Said::Nothing {
            self.put(place, word(addr, flags), ops);
        }
    }

    /// Lets every place hold the first of its addresses, once `LOCALS` has all of them and before
    /// it loses the others; what is installed then. A crash may have left anything.
    pub(super) fn settle(
        mut self,
        locals: &BTreeMap<Addr, u32>,
        ops: &mut Vec<MapOp>,
    ) -> BTreeMap<u32, u64> {
        let mut wanted = BTreeMap::new();
        for (addr, flags) in locals.iter().filter(|(addr, _)| addr.is_ipv4()) {
            let addr = addr.narrow();
            wanted.entry(place(addr)).or_insert_with(|| word(addr, *flags));
        }
        let gone: Vec<u32> =
            self.0.keys().filter(|place| !wanted.contains_key(place)).copied().collect();
        for (place, word) in gone.into_iter().map(|place| (place, 0)).chain(wanted) {
            self.put(place, word, ops);
        }
        self.0
    }

    fn put(&mut self, place: u32, word: u64, ops: &mut Vec<MapOp>) {
        let before = if word == 0 { self.0.remove(&place) } else { self.0.insert(place, word) };
        if before.unwrap_or_default() != word {
            ops.push(MapOp::SetLocalCache { place, word });
        }
    }
}
