//! Collection: a sweep over the flow tables that removes what has had its time and counts what
//! lives. The packet path collects only when it needs room; this keeps the tables tidy.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::{Duration, Instant},
};

use alb_common::{
    expiry::{self, TICK_SHIFT},
    flow::Totals,
    flow_log::FlowRecord,
    tcp::{Direction, FlowFlags},
};
use nix::time::{ClockId, clock_gettime};

use super::{
    active::Active,
    maps::{Flows, HalfWay, MapError, Maps, Table},
    reconcile::Observation,
    replies::Replies,
    traffic::sum,
    wide::{Addr, FlowEntry, FlowKey},
};

/// What one sweep found alive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// By listener index.
    pub listeners: BTreeMap<u16, Live>,
    /// By target index.
    pub targets: BTreeMap<u32, Live>,
    /// SNAT addresses that flows use.
    pub snat: BTreeSet<Addr>,
    /// Source ports that flows use towards targets.
    pub ports: Replies,
    /// Established flows, closed ones that wait for collection included.
    pub established: u64,
    /// Half-open flows.
    pub half_open: u64,
    /// Counters of the flows that this sweep removed, by target and listener index.
    pub removed: Vec<(u32, u16, Live)>,
    /// What was added to active counters that were wrong, by target index.
    pub corrected: BTreeMap<u32, i64>,
    /// Packets that a peer of a flow that is over, and has not been told so, would send.
    pub provoke: Vec<FlowKey>,
    /// Records of the open flows that it removed, if they are wanted.
    pub ended: Vec<FlowRecord>,
    /// Lines of the tables of established and of half-open flows that were being written.
    pub half_way: Box<[HalfWay; 2]>,
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

impl Live {
    fn join(&mut self, other: &Self) {
        let Self { active, packets_in, packets_out, bytes_in, bytes_out } = other;
        self.active += active;
        self.packets_in += packets_in;
        self.packets_out += packets_out;
        self.bytes_in += bytes_in;
        self.bytes_out += bytes_out;
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

    /// Takes open flows off that were seen and are removed.
    fn take_off(&mut self, flow: &FlowEntry, open: u64) {
        let (target, listener) =
            (self.targets.get_mut(&flow.target), self.listeners.get_mut(&flow.listener));
        for counted in target.into_iter().chain(listener) {
            counted.active = counted.active.saturating_sub(open);
        }
    }

    /// How long to wait before the next one: sweeps take a fiftieth of a CPU, more only so that
    /// one ends within 10 s of the last, which is how long a counter may be wrong.
    pub fn pause(&self) -> Duration {
        (self.took * 50).clamp(Duration::from_secs(1), Duration::from_secs(8))
    }
}

/// The kernel's coarse monotonic clock in ticks, as the packet path reads it, or up to a jiffy later.
pub fn now() -> u32 {
    let ticks = (nanoseconds() >> TICK_SHIFT) & u64::from(u32::MAX); // wraps: see `expiry`
    u32::try_from(ticks).unwrap_or_default()
}

/// The same in nanoseconds.
pub fn nanoseconds() -> u64 {
    let time =
        clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::ZERO, Duration::from);
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// How long the peers of a flow that is over may take to hear of it. After that it is removed;
/// what they send then is answered as a packet of no flow.
const LINGER: u32 = expiry::ticks(15);

/// Sweeps both tables and sets the active counters of these targets and listeners right. `cuts` says when the
/// flows of targets that drain are over, `tells` whether the open flows that it removes are told of;
/// `half_way` is of the sweep before.
pub fn sweep(
    maps: &Maps,
    active: (&Active, &Active),
    (targets, listeners): (&[u32], &[u32]),
    cuts: &BTreeMap<u32, u32>,
    tells: bool,
    half_way: &[HalfWay; 2],
) -> Result<Sweep, MapError> {
    let started = Instant::now();
    let start = now();
    let idle = idle_timeouts(maps)?;
    let mut found = Sweep::default();
    let cut = |entry: &FlowEntry| {
        let at = cuts.get(&entry.target).filter(|at| expiry::due(start, **at));
        at.filter(|_| !entry.flags.closed())
    };
    let established = |entry: &FlowEntry| {
        let idle = idle.get(&entry.listener).copied().unwrap_or(u32::MAX);
        let is_told =
            |at: &u32| entry.flags.has(FlowFlags::CUT) || expiry::older(start, *at, LINGER);
        expiry::older(now(), entry.last, expiry::lifetime(entry.flags, idle))
            || cut(entry).is_some_and(is_told)
    };
    let half_open = |entry: &FlowEntry| expiry::older(now(), entry.last, expiry::HALF_OPEN);

    let (of_targets, of_listeners) = active;
    let before = Counters::before(&maps.target_totals, of_targets, targets)?;
    let before_listeners = Counters::before(&maps.listener_totals, of_listeners, listeners)?;
    let mut removed: BTreeMap<u32, u64> = BTreeMap::new();
    let mut removed_of_listeners: BTreeMap<u32, u64> = BTreeMap::new();
    let mut take_off = |flow: &FlowEntry| {
        // At once: a daemon that is killed here leaves one flow too many, and the next puts
        // it right.
        of_targets.add(flow.target, -1);
        of_listeners.add(flow.listener.into(), -1);
        *removed.entry(flow.target).or_default() += 1;
        *removed_of_listeners.entry(flow.listener.into()).or_default() += 1;
    };
    // First those under way: one that is promoted meanwhile is in the other table by then.
    let mut opening = HashSet::new();
    let (expired, half_open_lines) = walk(&maps.half_open, half_open, |key, entry| {
        if entry.flags.direction() == Direction::Forward {
            opening.insert(*key);
            found.half_open += 1;
            found.snat.insert(entry.src);
            found.ports.note(entry.sport.host());
            found.listeners.entry(entry.listener).or_default().active += 1;
            found.targets.entry(entry.target).or_default().active += 1;
        }
    })?;
    for key in expired {
        if let Some((forward_key, forward, _)) = remove(&maps.half_open, &key, half_open)? {
            take_off(&forward);
            opening.remove(&forward_key);
            found.take_off(&forward, 1);
        }
    }
    let (expired, lines) = walk(&maps.flows, established, |key, entry| {
        let mut live = Live::default();
        live.add(entry);
        // A promotion is a packet, so only flows of this moment can be among those.
        let is_recent = !expiry::older(start, entry.last, 1);
        if live.active > 0 && is_recent && opening.contains(key) {
            live.active = 0;
        }
        found.listeners.entry(entry.listener).or_default().join(&live);
        found.targets.entry(entry.target).or_default().join(&live);
        if cut(entry).is_some() && !entry.flags.has(FlowFlags::CUT) {
            found.provoke.push(*key);
        }
        // It waits for collection too, though it has one entry only.
        found.established += u64::from(entry.flags.is_held());
        if entry.flags.direction() == Direction::Forward {
            found.established += 1;
            found.snat.insert(entry.src);
            found.ports.note(entry.sport.host());
        }
    })?;
    for key in expired {
        if let Some((forward_key, forward, reverse)) = remove(&maps.flows, &key, established)? {
            let mut live = Live::default();
            live.add(&forward);
            live.add(&reverse);
            if live.active > 0 {
                take_off(&forward);
                // Not of one whose other direction was gone already: both tell who speaks to whom.
                if tells && reverse.peer_key() == forward_key {
                    let cut = if cut(&forward).is_some() { FlowFlags::CUT } else { 0 };
                    let state = FlowFlags(forward.flags.0 | reverse.flags.0 | cut);
                    let mut record = FlowRecord::default();
                    record.tell(&forward, &reverse, state, nanoseconds());
                    found.ended.push(record);
                }
            }
            found.take_off(&forward, live.active);
            found.removed.push((forward.target, forward.listener, live));
        }
    }
    let seen = |index| found.targets.get(&index).map_or(0, |live| live.active);
    let corrected = before.correct(seen, &removed)?;
    let seen = |index: u32| {
        let live = u16::try_from(index).ok().and_then(|index| found.listeners.get(&index));
        live.map_or(0, |live| live.active)
    };
    before_listeners.correct(seen, &removed_of_listeners)?;
    found.corrected = corrected;
    found.half_way = Box::new([lines, half_open_lines]);
    clear(maps, half_way, &mut found.half_way)?;
    found.took = started.elapsed();
    Ok(found)
}

/// Empties lines that are being written since long before.
fn clear(maps: &Maps, earlier: &[HalfWay; 2], later: &mut [HalfWay; 2]) -> Result<(), MapError> {
    let tables = [&maps.flows, &maps.half_open];
    for ((table, earlier), later) in tables.into_iter().zip(earlier).zip(later) {
        let cleared = table.clear(earlier, later)?;
        if cleared > 0 {
            tracing::debug!(lines = cleared, "emptied what was left half-way in a flow table");
        }
    }
    Ok(())
}

/// Counters of targets or listeners at one moment: flows begun, and flows active.
struct Counters<'a> {
    totals: &'a Table<u32, Totals>,
    active: &'a Active,
    of: BTreeMap<u32, (u64, u64)>,
}

impl<'a> Counters<'a> {
    /// What began is read before what is active, and after it at the end: a flow that begins
    /// in between makes the bounds wider, never wrong.
    fn before(
        totals: &'a Table<u32, Totals>,
        active: &'a Active,
        indices: &[u32],
    ) -> Result<Self, MapError> {
        let begun = |index: &u32| {
            let begun = sum(&totals.per_cpu(index)?).new_flows;
            Ok((*index, (begun, active.get(*index))))
        };
        let of = indices.iter().map(begun).collect::<Result<_, _>>()?;
        Ok(Self { totals, active, of })
    }

    /// Corrects what is wrong for sure, and says what.
    fn correct(
        self,
        seen: impl Fn(u32) -> u64,
        removed: &BTreeMap<u32, u64>,
    ) -> Result<BTreeMap<u32, i64>, MapError> {
        let Self { totals, active, of } = self;
        let mut corrected = BTreeMap::new();
        for (index, (begun, before)) in of {
            let after = active.get(index);
            let seen = seen(index);
            if (before, after) == (seen, seen) {
                continue;
            }
            let begun = sum(&totals.per_cpu(&index)?).new_flows.wrapping_sub(begun);
            let removed = removed.get(&index).copied().unwrap_or_default();
            let correction = Observation { before, after, begun, seen, removed }.correction();
            if correction != 0 {
                active.add(index, correction);
                corrected.insert(index, correction);
            }
        }
        Ok(corrected)
    }
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

/// Visits every entry; returns the keys of those that have had their time, and which lines were
/// being written.
fn walk(
    table: &Flows,
    is_over: impl Fn(&FlowEntry) -> bool,
    mut visit: impl FnMut(&FlowKey, &FlowEntry),
) -> Result<(Vec<FlowKey>, HalfWay), MapError> {
    let mut expired = Vec::new();
    let half_way = table.look_through(|key, entry| {
        visit(key, entry);
        if is_over(entry) {
            expired.push(*key);
        }
    })?;
    Ok((expired, half_way))
}

/// Removes the flow of an expired entry, if it still is one and the other direction is too:
/// a transfer in one direction keeps both. The forward entry goes first. Returns what was
/// removed: the forward key, both entries.
fn remove(
    table: &Flows,
    key: &FlowKey,
    is_over: impl Fn(&FlowEntry) -> bool,
) -> Result<Option<(FlowKey, FlowEntry, FlowEntry)>, MapError> {
    let Some(entry) = table.get(key)? else { return Ok(None) };
    let peer_key = entry.peer_key();
    // What holds a port only may name a client that has another flow by now.
    let peer = table.get(&peer_key)?.filter(|peer| peer.peer_key() == *key);
    if !is_over(&entry) || peer.as_ref().is_some_and(|peer| !is_over(peer)) {
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
        Direction::Forward => (*forward_key, entry, peer),
        Direction::Reverse => (*forward_key, peer, entry),
    }))
}
