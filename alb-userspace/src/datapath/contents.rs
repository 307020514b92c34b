//! What the maps hold, as plain data: the desired state and the installed one are both this.

use std::collections::BTreeMap;

use alb_common::{
    interface::{HopEntry, InterfaceEntry},
    net::Be32,
    selection::weighted_target,
    service::{ListenerEntry, ListenerKey, algorithm},
    settings::Settings,
    target::TargetEntry,
};

use super::maps::{MapError, Maps};

/// A listener with its selection table in place of an extent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Listener index.
    pub index: u16,
    /// `alb_common::service::algorithm` code.
    pub algorithm: u16,
    /// Idle timeout, ticks.
    pub idle: u32,
    /// Target indices in turn or by hash, or each once with its weight.
    pub slots: std::sync::Arc<[u32]>,
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
    pub targets: BTreeMap<u32, TargetEntry>,
    /// Next hops by target index.
    pub hops: BTreeMap<u32, HopEntry>,
    /// Listeners.
    pub listeners: BTreeMap<ListenerKey, Selection>,
    /// Our addresses.
    pub locals: BTreeMap<Be32, u32>,
}

/// Contents as they are installed: listeners with their extents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// All but the listeners' entries.
    pub contents: Contents,
    /// What `LISTENERS` holds.
    pub entries: BTreeMap<ListenerKey, ListenerEntry>,
}

/// Reads everything that is installed.
pub fn read(maps: &Maps) -> Result<Installed, MapError> {
    let mut installed = Installed::default();
    let Installed { contents, entries } = &mut installed;
    contents.settings = maps.settings.get(&0)?.unwrap_or_default();
    maps.interfaces.for_each(|slot, entry| {
        if entry.ifindex != 0 {
            contents.interfaces.insert(*slot, *entry);
        }
    })?;
    maps.targets.for_each(|index, entry| {
        if entry.addr != Be32(0) {
            contents.targets.insert(*index, *entry);
        }
    })?;
    for index in contents.targets.keys() {
        let hop = maps.hops.get(index)?.unwrap_or_default();
        contents.hops.insert(*index, hop);
    }
    maps.locals.for_each(|addr, flags| {
        contents.locals.insert(*addr, *flags);
    })?;
    maps.listeners.for_each(|key, entry| {
        entries.insert(*key, *entry);
    })?;
    let mut slots = Vec::new();
    if !entries.is_empty() {
        maps.slots.for_each(|_, target| slots.push(*target))?;
    }
    for (key, entry) in entries {
        let first = entry.offset as usize;
        let slots = slots.get(first..first + entry.len as usize).unwrap_or_default().into();
        let state = maps.listener_states.get(&u32::from(entry.index))?.unwrap_or_default();
        let selection = Selection {
            index: entry.index,
            algorithm: entry.algorithm,
            idle: u32::try_from(state.idle).unwrap_or(u32::MAX),
            slots,
        };
        contents.listeners.insert(*key, selection);
    }
    Ok(installed)
}
