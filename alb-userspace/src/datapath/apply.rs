//! Carries out map operations, in order. Nothing is decided here.

use alb_common::{
    interface::{HopEntry, InterfaceEntry},
    service::ListenerState,
    target::TargetTimes,
};

use super::{
    maps::{MapError, Maps},
    plan::MapOp,
};

/// Slots written in one system call.
const BATCH: usize = 4_096;

/// Applies the operations of a plan. On an error the maps hold what was applied before it: a
/// state that is whole at every step, since a plan adds before use and removes after.
pub(super) fn apply(maps: &Maps, ops: &[MapOp]) -> Result<(), MapError> {
    ops.iter().try_for_each(|op| one(maps, op))
}

fn one(maps: &Maps, op: &MapOp) -> Result<(), MapError> {
    match op {
        MapOp::SetSettings(settings) => maps.settings.set(&0, settings),
        MapOp::SetInterface { slot, entry } => {
            maps.interfaces.set(slot, entry)?;
            maps.interface_slots.set(&entry.ifindex, slot)
        }
        MapOp::ClearInterface { slot, ifindex } => {
            maps.interface_slots.remove(ifindex)?;
            maps.interfaces.set(slot, &InterfaceEntry::default())
        }
        MapOp::SetTarget { index, entry } => maps.targets.set(*index, entry),
        MapOp::SetTimes { index, entry } => maps.target_times.set(index, entry),
        MapOp::SetHop { index, entry } => maps.hops.set(index, entry),
        MapOp::SetSlots { offset, targets } => slots(maps, *offset, targets),
        MapOp::SetFilter { key, entry } => maps.filters.set(key, entry),
        MapOp::RemoveFilter(key) => maps.filters.remove(key).map(drop),
        MapOp::SetListenerIdle { index, idle } => {
            let index = u32::from(*index);
            let turn = maps.listener_states.get(&index)?.unwrap_or_default().turn;
            // A turn that is taken meanwhile is taken twice: one connection out of line.
            maps.listener_states.set(&index, &ListenerState { turn, idle: u64::from(*idle) })
        }
        MapOp::SetListener { key, entry } => maps.listeners.set(key, entry),
        MapOp::RemoveListener(key) => maps.listeners.remove(key).map(drop),
        MapOp::SetLocal { addr, flags } => maps.locals.set(addr, flags),
        MapOp::SetLocalCache { place, local } => maps.local_cache.set(*place, *local),
        MapOp::RemoveLocal(addr) => maps.locals.remove(addr).map(drop),
        MapOp::ClearTarget(index) => {
            maps.hops.set(index, &HopEntry::default())?;
            maps.target_times.set(index, &TargetTimes::default())?;
            maps.targets.clear(*index)
        }
    }
}

fn slots(maps: &Maps, offset: u32, targets: &[u32]) -> Result<(), MapError> {
    let mut first = offset;
    for part in targets.chunks(BATCH) {
        let keys: Vec<u32> = (first..).take(part.len()).collect();
        maps.slots.set_all(&keys, part)?;
        first = first.saturating_add(u32::try_from(part.len()).unwrap_or(u32::MAX));
    }
    Ok(())
}
