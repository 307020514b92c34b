//! What the maps hold, as plain data: the desired state and the installed one are both this.

use std::{collections::BTreeMap, sync::Arc};

use alb_common::{
    interface::{HopEntry, InterfaceEntry},
    selection::weighted_target,
    service::{ListenerEntry, algorithm},
    settings::Settings,
    target::TargetTimes,
};

use super::{
    by_index::ByIndex,
    filter::{self, Filter},
    maps::{Local, MapError, Maps, Place},
    wide::{Addr, ListenerKey, TargetEntry},
};

/// A listener with its selection table in place of an extent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Listener index.
    pub index: u16,
    /// `alb_common::service::algorithm` code.
    pub algorithm: u16,
    /// Idle timeout, ticks.
    pub idle: u32,
    /// Most open flows, together with those of `sibling`; 0 = no limit.
    pub max: u32,
    /// Index of the same listener on the other address, or its own.
    pub sibling: u16,
    /// Target indices in turn or by hash, or each once with its weight.
    pub slots: Arc<[u32]>,
}

impl Selection {
    /// Indices of the targets that get new flows; the same one more than once.
    pub fn targets(&self) -> impl Iterator<Item = u32> {
        let weighted = self.algorithm == algorithm::LEAST_CONN;
        self.slots.iter().map(move |slot| if weighted { weighted_target(*slot) } else { *slot })
    }
}

/// Desired contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Node-wide settings.
    pub settings: Settings,
    /// Interfaces by slot.
    pub interfaces: BTreeMap<u32, InterfaceEntry>,
    /// Targets by index.
    pub targets: ByIndex<TargetEntry>,
    /// Next hops by target index.
    pub hops: ByIndex<HopEntry>,
    /// When their flows end, by target index.
    pub times: ByIndex<TargetTimes>,
    /// Listeners.
    pub listeners: BTreeMap<ListenerKey, Selection>,
    /// Security groups, by id.
    pub filters: BTreeMap<u32, Arc<Filter>>,
    /// Our addresses.
    pub locals: BTreeMap<Addr, u32>,
}

/// Contents as they are installed: listeners with their extents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// All but the listeners' entries.
    pub contents: Contents,
    /// What `LISTENERS` holds.
    pub entries: BTreeMap<ListenerKey, ListenerEntry>,
    /// What `FILTERS` holds, by id.
    pub filters: BTreeMap<u32, filter::Installed>,
    /// What `LOCAL_CACHE` and `LOCAL_CACHE6` hold, without empty places.
    pub local_cache: BTreeMap<Place, Local>,
}

impl Installed {
    /// Every extent of `SLOTS` that is named: offset and length.
    pub fn extents(&self) -> impl Iterator<Item = (u32, u32)> {
        let listeners = self.entries.values().map(|entry| (entry.offset, entry.len));
        let filters = self.filters.values().flat_map(|of| of.values());
        listeners.chain(filters.map(|entry| (entry.offset, entry.len)))
    }
}

/// Reads everything that is installed.
pub fn read(maps: &Maps) -> Result<Installed, MapError> {
    let mut installed = Installed::default();
    let Installed { contents, entries, filters, local_cache } = &mut installed;
    contents.settings = maps.settings.get(&0)?.unwrap_or_default();
    maps.interfaces.for_each(|slot, entry| {
        if entry.ifindex != 0 {
            contents.interfaces.insert(*slot, *entry);
        }
    })?;
    maps.targets.for_each(|index, entry| {
        contents.targets.insert(index, entry);
    })?;
    for index in contents.targets.keys() {
        let hop = maps.hops.get(&index)?.unwrap_or_default();
        contents.hops.insert(index, hop);
        let times = maps.target_times.get(&index)?.unwrap_or_default();
        contents.times.insert(index, times);
    }
    maps.locals.for_each(|addr, flags| {
        contents.locals.insert(*addr, *flags);
    })?;
    maps.local_cache.for_each(|place, local| {
        local_cache.insert(place, local);
    })?;
    maps.listeners.for_each(|key, entry| {
        entries.insert(*key, *entry);
    })?;
    let mut prefixes = BTreeMap::<u32, BTreeMap<_, _>>::new();
    maps.filters.for_each(|key, entry| {
        let (id, prefix) = filter::prefix(key);
        prefixes.entry(id).or_default().insert(prefix, *entry);
    })?;
    let mut slots = Vec::new();
    if !entries.is_empty() || !prefixes.is_empty() {
        maps.slots.for_each(|_, target| slots.push(*target))?;
    }
    let extent = |offset: u32, len: u32| {
        let first = offset as usize;
        slots.get(first..first + len as usize).unwrap_or_default().into()
    };
    for (id, of) in prefixes {
        let ports = of.iter().map(|(prefix, entry)| (*prefix, extent(entry.offset, entry.len)));
        contents.filters.insert(id, Arc::new(Filter(ports.collect())));
        filters.insert(id, Arc::new(of));
    }
    for (key, entry) in entries {
        let slots = extent(entry.offset, entry.len);
        let state = maps.listener_states.get(&u32::from(entry.index))?.unwrap_or_default();
        let selection = Selection {
            index: entry.index,
            algorithm: entry.algorithm,
            idle: u32::try_from(state.idle).unwrap_or(u32::MAX),
            max: entry.max,
            sibling: entry.sibling,
            slots,
        };
        contents.listeners.insert(*key, selection);
    }
    Ok(installed)
}
