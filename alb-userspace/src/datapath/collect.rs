//! Collection: a sweep over the flow tables that removes what has had its time and counts what
//! lives. The packet path collects only when it needs room; this keeps the tables tidy.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use alb_common::{
    expiry::{self, TICK_SHIFT},
    flow::{FlowEntry, FlowKey},
    net::Be32,
    target::TargetState,
    tcp::Direction,
};
use nix::time::{ClockId, clock_gettime};

use super::{
    maps::{MapError, Maps, Table},
    replies::Replies,
};

/// What one sweep found alive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// By listener index.
    pub listeners: BTreeMap<u16, Live>,
    /// By target index.
    pub targets: BTreeMap<u32, Live>,
    /// SNAT addresses that flows use.
    pub snat: BTreeSet<Be32>,
    /// Source ports that flows use towards targets.
    pub ports: Replies,
    /// Established flows, closed ones that wait for collection included.
    pub established: u64,
    /// Half-open flows.
    pub half_open: u64,
    /// Counters of the flows that this sweep removed, by target and listener index.
    pub removed: Vec<(u32, u16, Live)>,
    /// How long it took.
    pub took: Duration,
}

/// Flows alive, and their counters that are not in the totals yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Open flows: half-open or established, not closed.
    pub active: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets to clients.
    pub packets_out: u64,
    /// IP bytes from clients.
    pub bytes_in: u64,
    /// IP bytes to clients.
    pub bytes_out: u64,
}

impl Live {
    /// Adds an entry of the established table.
    fn add(&mut self, entry: &FlowEntry) {
        if entry.flags.closed() {
            return; // Its counters are in the totals, and the fields hold something else.
        }
        match entry.flags.direction() {
            Direction::Forward => {
                self.active += 1;
                self.packets_in += u64::from(entry.packets);
                self.bytes_in += entry.bytes;
            }
            Direction::Reverse => {
                self.packets_out += u64::from(entry.packets);
                self.bytes_out += entry.bytes;
            }
        }
    }
}

impl Sweep {
    /// Whether a flow, also a closed one, names this target.
    pub fn names_target(&self, index: u32) -> bool {
        self.targets.contains_key(&index)
    }

    /// Whether a flow, also a closed one, names this listener.
    pub fn names_listener(&self, index: u16) -> bool {
        self.listeners.contains_key(&index)
    }

    /// How long to wait before the next one, so that sweeps take a twentieth of a CPU at most.
    pub fn pause(&self) -> Duration {
        (self.took * 20).clamp(Duration::from_secs(1), Duration::from_secs(10))
    }
}

/// The kernel's coarse monotonic clock in ticks, as the packet path reads it.
pub fn now() -> u32 {
    let time =
        clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::ZERO, Duration::from);
    let ticks = (time.as_nanos() >> TICK_SHIFT) & u128::from(u32::MAX); // wraps: see `expiry`
    u32::try_from(ticks).unwrap_or_default()
}

/// Sweeps both tables.
pub fn sweep(maps: &Maps) -> Result<Sweep, MapError> {
    let started = Instant::now();
    let idle = idle_timeouts(maps)?;
    let mut found = Sweep::default();
    let established = |entry: &FlowEntry| {
        expiry::lifetime(entry.flags, idle.get(&entry.listener).copied().unwrap_or(u32::MAX))
    };
    let half_open = |_: &FlowEntry| expiry::HALF_OPEN;

    let before = active(maps, &BTreeSet::new())?;
    let expired = walk(&maps.flows, established, |entry| {
        found.listeners.entry(entry.listener).or_default().add(entry);
        found.targets.entry(entry.target).or_default().add(entry);
        if entry.flags.direction() == Direction::Forward {
            found.established += 1;
            found.snat.insert(entry.src);
            found.ports.note(entry.sport.host());
        }
    })?;
    for key in expired {
        if let Some((forward, reverse)) = remove(&maps.flows, &key, established)? {
            let mut live = Live::default();
            live.add(&forward);
            live.add(&reverse);
            if let Some(counted) = found.targets.get_mut(&forward.target) {
                counted.active = counted.active.saturating_sub(live.active);
            }
            found.removed.push((forward.target, forward.listener, live));
        }
    }
    let expired = walk(&maps.half_open, half_open, |entry| {
        if entry.flags.direction() == Direction::Forward {
            found.half_open += 1;
            found.snat.insert(entry.src);
            found.ports.note(entry.sport.host());
            found.listeners.entry(entry.listener).or_default().active += 1;
            found.targets.entry(entry.target).or_default().active += 1;
        }
    })?;
    for key in expired {
        if let Some((forward, _)) = remove(&maps.half_open, &key, half_open)?
            && let Some(counted) = found.targets.get_mut(&forward.target)
        {
            counted.active = counted.active.saturating_sub(1);
        }
    }
    heal(maps, &found, &before)?;
    found.took = started.elapsed();
    Ok(found)
}

/// Idle timeouts by listener index. A listener that is gone keeps its timeout for the flows
/// that it has left: nobody clears it before another listener takes the index.
fn idle_timeouts(maps: &Maps) -> Result<BTreeMap<u16, u32>, MapError> {
    let mut timeouts = BTreeMap::new();
    maps.listener_states.for_each(|index, state| {
        if let (Ok(index), Ok(idle @ 1..)) = (u16::try_from(*index), u32::try_from(state.idle)) {
            timeouts.insert(index, idle);
        }
    })?;
    Ok(timeouts)
}

/// Visits every entry; returns the keys of those older than `lifetime`.
fn walk(
    table: &Table<FlowKey, FlowEntry>,
    lifetime: impl Fn(&FlowEntry) -> u32,
    mut visit: impl FnMut(&FlowEntry),
) -> Result<Vec<FlowKey>, MapError> {
    let now = now();
    let mut expired = Vec::new();
    table.for_each(|key, entry| {
        visit(entry);
        if expiry::older(now, entry.last, lifetime(entry)) {
            expired.push(*key);
        }
    })?;
    Ok(expired)
}

/// Removes the flow of an expired entry, if it still is one and the other direction is too:
/// a transfer in one direction keeps both. The forward entry goes first. Returns what was
/// removed, as forward and reverse.
fn remove(
    table: &Table<FlowKey, FlowEntry>,
    key: &FlowKey,
    lifetime: impl Fn(&FlowEntry) -> u32,
) -> Result<Option<(FlowEntry, FlowEntry)>, MapError> {
    let now = now();
    let Some(entry) = table.get(key)? else { return Ok(None) };
    let peer_key = entry.peer_key();
    let peer = table.get(&peer_key)?;
    let expired = |entry: &FlowEntry| expiry::older(now, entry.last, lifetime(entry));
    if !expired(&entry) || peer.as_ref().is_some_and(|peer| !expired(peer)) {
        return Ok(None);
    }
    let (forward_key, reverse_key) = match entry.flags.direction() {
        Direction::Forward => (key, &peer_key),
        Direction::Reverse => (&peer_key, key),
    };
    let orphan = peer.is_none() && entry.flags.direction() == Direction::Reverse;
    if !orphan && !table.remove(forward_key)? {
        // Taken over meanwhile, perhaps together with its port.
        return Ok(None);
    }
    if table.get(reverse_key)?.is_some_and(|reverse| reverse.peer_key() == *forward_key) {
        table.remove(reverse_key)?;
    }
    let peer = peer.unwrap_or_default();
    Ok((!orphan).then_some(match entry.flags.direction() {
        Direction::Forward => (entry, peer),
        Direction::Reverse => (peer, entry),
    }))
}

/// Active counters of all targets that have any, and of those named.
fn active(maps: &Maps, named: &BTreeSet<u32>) -> Result<BTreeMap<u32, u64>, MapError> {
    let mut active = BTreeMap::new();
    maps.target_states.for_each(|index, state| {
        if state.active != 0 || named.contains(index) {
            active.insert(*index, state.active);
        }
    })?;
    Ok(active)
}

/// Sets the active counters right that were not in use during the sweep and differ from what
/// it counted: userspace's own removals, and anything a killed daemon left behind.
fn heal(maps: &Maps, found: &Sweep, before: &BTreeMap<u32, u64>) -> Result<(), MapError> {
    let after = active(maps, &BTreeSet::new())?;
    let named: BTreeSet<u32> = found.targets.keys().chain(before.keys()).copied().collect();
    for index in named {
        let counted = found.targets.get(&index).map_or(0, |live| live.active);
        let (old, new) = (before.get(&index), after.get(&index));
        if old == new && new.copied().unwrap_or(0) != counted {
            maps.target_states.set(&index, &TargetState { active: counted })?;
        }
    }
    Ok(())
}
