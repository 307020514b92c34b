//! From what is installed and what is desired to map operations, in an order in which every
//! step leaves the tables whole: add before use, remove after use.

use std::{
    collections::{BTreeMap, HashMap},
    iter::Peekable,
    sync::Arc,
};

use alb_common::{
    filter::FilterEntry,
    interface::{HopEntry, InterfaceEntry},
    service::{ListenerEntry, local},
    settings::Settings,
    target::TargetTimes,
};

use super::{
    contents::{Contents, Installed, Selection},
    extents::{Extents, NoRoom},
    filter,
    local_cache::LocalCache,
    maps::{Local, Place},
    wide::{Addr, FilterKey, ListenerKey, TargetEntry},
};

/// One change of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapOp {
    /// Replaces the settings.
    SetSettings(Settings),
    /// Fills an interface slot and files it under its index.
    SetInterface {
        /// Slot.
        slot: u32,
        /// The interface.
        entry: InterfaceEntry,
    },
    /// Frees an interface slot.
    ClearInterface {
        /// Slot.
        slot: u32,
        /// Index that it was filed under.
        ifindex: u32,
    },
    /// Writes a target.
    SetTarget {
        /// Target index.
        index: u32,
        /// Where it is.
        entry: TargetEntry,
    },
    /// Writes when a target's flows end.
    SetTimes {
        /// Target index.
        index: u32,
        /// The moments.
        entry: TargetTimes,
    },
    /// Writes a target's next hop.
    SetHop {
        /// Target index.
        index: u32,
        /// The hop.
        entry: HopEntry,
    },
    /// Writes a selection table, or a list of ports.
    SetSlots {
        /// First slot.
        offset: u32,
        /// Target indices, or ports.
        targets: Arc<[u32]>,
    },
    /// Writes the open ports of a prefix.
    SetFilter {
        /// The prefix.
        key: FilterKey,
        /// The list of ports.
        entry: FilterEntry,
    },
    /// Removes a prefix.
    RemoveFilter(FilterKey),
    /// Writes a listener's idle timeout.
    SetListenerIdle {
        /// Listener index.
        index: u16,
        /// Ticks.
        idle: u32,
    },
    /// Switches a listener to a selection table.
    SetListener {
        /// VIP and port.
        key: ListenerKey,
        /// The extent.
        entry: ListenerEntry,
    },
    /// Removes a listener.
    RemoveListener(ListenerKey),
    /// Says what an address of ours is.
    SetLocal {
        /// The address.
        addr: Addr,
        /// `alb_common::service::local` bits.
        flags: u32,
    },
    /// Says what a place of the cache of our addresses holds.
    SetLocalCache {
        /// Where.
        place: Place,
        /// None: no address of this place is ours.
        local: Option<Local>,
    },
    /// An address is not ours any more.
    RemoveLocal(Addr),
    /// Clears a target, its hop and its moments; no flow names it.
    ClearTarget(u32),
}

/// Operations and what is installed after them.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In order.
    pub ops: Vec<MapOp>,
    /// Afterwards.
    pub installed: Installed,
}

/// Plans the way from `installed` to `desired`. New selection tables take room in `extents`;
/// what the old ones had is given back there by the caller when nobody can be reading it.
pub fn plan(
    installed: &Installed,
    desired: Contents,
    extents: &mut Extents,
) -> Result<Plan, NoRoom> {
    let old = &installed.contents;
    let mut ops = Vec::new();
    if old.settings != desired.settings {
        ops.push(MapOp::SetSettings(desired.settings));
    }
    // A slot whose device was made anew has another interface index: the old one goes first.
    for (slot, entry) in &old.interfaces {
        if !desired.interfaces.values().any(|kept| kept.ifindex == entry.ifindex) {
            ops.push(MapOp::ClearInterface { slot: *slot, ifindex: entry.ifindex });
        }
    }
    for (slot, entry) in changed(&old.interfaces, &desired.interfaces) {
        ops.push(MapOp::SetInterface { slot: *slot, entry: *entry });
    }
    let filters = filter::changes(&installed.filters, &old.filters, &desired.filters, extents)?;
    ops.extend(filters.before);
    let mut cache = LocalCache::of(&installed.local_cache);
    // SNAT addresses before the targets that use them: else the first answers would meet the
    // host's own stack.
    for (addr, flags) in &desired.locals {
        let before = old.locals.get(addr).copied().unwrap_or_default();
        // And a VIP is open to the proxy's connections before its listeners are.
        let proxy = if before & local::VIP != 0 { local::PROXY } else { 0 };
        let early = flags & !before & (local::SNAT | proxy);
        if early != 0 {
            cache.set(*addr, before | early, &mut ops);
        }
    }
    for (index, entry) in desired.targets.changed(&old.targets) {
        ops.push(MapOp::SetTarget { index, entry: *entry });
    }
    // Before the flags that have them read, which are with the hop; a moment that is no more
    // reads as never.
    for (index, entry) in desired.times.changed(&old.times) {
        ops.push(MapOp::SetTimes { index, entry: *entry });
    }
    for (index, entry) in desired.hops.changed(&old.hops) {
        ops.push(MapOp::SetHop { index, entry: *entry });
    }
    let entries = listeners(installed, &desired, extents, &mut ops)?;
    for (addr, flags) in changed(&old.locals, &desired.locals) {
        let before = old.locals.get(addr).copied().unwrap_or_default();
        let proxy = if before & local::VIP != 0 { local::PROXY } else { 0 };
        if *flags != before | (flags & (local::SNAT | proxy)) {
            cache.set(*addr, *flags, &mut ops);
        }
    }
    let local_cache = cache.settle(&desired.locals, &mut ops);

    for addr in gone(&old.locals, &desired.locals) {
        ops.push(MapOp::RemoveLocal(*addr));
    }
    for key in gone(&installed.entries, &entries) {
        ops.push(MapOp::RemoveListener(*key));
    }
    ops.extend(old.targets.gone(&desired.targets).map(MapOp::ClearTarget));
    ops.extend(filters.after);
    let installed =
        Installed { contents: desired, entries, filters: filters.installed, local_cache };
    Ok(Plan { ops, installed })
}

/// Writes new selection tables and switches listeners to them. Equal tables share an extent.
fn listeners(
    installed: &Installed,
    desired: &Contents,
    extents: &mut Extents,
    ops: &mut Vec<MapOp>,
) -> Result<BTreeMap<ListenerKey, ListenerEntry>, NoRoom> {
    let mut tables = Tables { installed, placed: None };
    let mut entries = Vec::with_capacity(desired.listeners.len());
    let mut old = installed.contents.listeners.iter().peekable();
    let mut old_entries = installed.entries.iter().peekable();
    for (key, selection) in &desired.listeners {
        let before = at(&mut old, key);
        let entry_before = at(&mut old_entries, key);
        if let (Some(before), Some(entry)) = (before, entry_before)
            && before == selection
        {
            entries.push((*key, *entry));
            continue;
        }
        let Selection { index, algorithm, idle, max, sibling, slots } = selection;
        let len = u32::try_from(slots.len()).unwrap_or(u32::MAX);
        let offset = if len == 0 { 0 } else { tables.place(slots, extents, ops)? };
        if before.is_none_or(|before| (before.index, before.idle) != (*index, *idle)) {
            ops.push(MapOp::SetListenerIdle { index: *index, idle: *idle });
        }
        let entry = ListenerEntry {
            offset,
            len,
            index: *index,
            algorithm: *algorithm,
            max: *max,
            sibling: *sibling,
            reserved: 0,
        };
        if entry_before != Some(&entry) {
            ops.push(MapOp::SetListener { key: *key, entry });
        }
        entries.push((*key, entry));
    }
    Ok(entries.into_iter().collect())
}

/// Where selection tables are.
struct Tables<'a> {
    installed: &'a Installed,
    /// Offset of each; `None` = nobody has asked.
    placed: Option<HashMap<Arc<[u32]>, u32>>,
}

impl Tables<'_> {
    fn place(
        &mut self,
        slots: &Arc<[u32]>,
        extents: &mut Extents,
        ops: &mut Vec<MapOp>,
    ) -> Result<u32, NoRoom> {
        let placed = self.placed.get_or_insert_with(|| {
            let Installed { contents, entries, .. } = self.installed;
            let of = |(key, entry): (&_, &ListenerEntry)| {
                Some((contents.listeners.get(key)?.slots.clone(), entry.offset))
            };
            entries.iter().filter_map(of).collect()
        });
        if let Some(offset) = placed.get(slots) {
            return Ok(*offset);
        }
        let offset = extents.take(u32::try_from(slots.len()).unwrap_or(u32::MAX))?;
        ops.push(MapOp::SetSlots { offset, targets: slots.clone() });
        placed.insert(slots.clone(), offset);
        Ok(offset)
    }
}

/// The value of a key in a sorted walk that is asked for ascending keys.
fn at<'a, K: Ord + 'a, V: 'a>(
    walk: &mut Peekable<impl Iterator<Item = (&'a K, &'a V)>>,
    key: &K,
) -> Option<&'a V> {
    while walk.next_if(|(next, _)| *next < key).is_some() {}
    walk.next_if(|(next, _)| *next == key).map(|(_, value)| value)
}

/// Both are sorted: one walk beside the other, for there may be a hundred thousand of them.
fn changed<'a, K: Ord, V: PartialEq>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    let mut before = old.iter().peekable();
    new.iter().filter(move |(key, value)| at(&mut before, key) != Some(*value))
}

/// Keys of `old` that `new` has not.
fn gone<'a, K: Ord, V, W>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, W>,
) -> impl Iterator<Item = &'a K> {
    let mut after = new.keys().peekable();
    old.keys().filter(move |key| {
        while after.next_if(|new| new < key).is_some() {}
        after.peek() != Some(key)
    })
}

#[cfg(test)]
mod tests;
