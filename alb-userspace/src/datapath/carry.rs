//! Carries tables and flows from one set of maps to another of other sizes, while packets go on
//! through the old one and, from one moment on, through the new.
//!
//! Between the two looks at the switch, packets of a flow may meet the set of maps that does not
//! know it. They are dropped then, not answered with a RST, so that their senders repeat them. What
//! is lost: packet and byte counts of the moment.

use alb_common::{
    flow::{AGES, ring, stamp},
    limits,
    tcp::Direction,
};

use super::{
    collect::now,
    kernel::KernelError,
    maps::{Family, Flows, MapError, Maps},
    shape::Room,
    wide::{FlowEntry, FlowKey, RingSlot, Wide as _, tag},
};

/// Places of the half-open ring that are looked at again: another CPU may have taken a place
/// and not written it yet.
const UNWRITTEN: u64 = 64;
/// Flows that may begin between two looks for them to be called few.
const FEW: u64 = 16;
/// Looks until they are called few anyway.
const LOOKS: usize = 8;

/// A carrying from old maps to new ones.
#[derive(Debug)]
pub(super) struct Carry {
    old: Maps,
    /// Positions in the old rings of half-open flows up to which flows are carried.
    seen: [u64; 2],
    /// Tick at which the last full copy began.
    copied: Option<u32>,
    /// Limits of RSTs while none are sent, of the old maps and the new ones.
    limits: [u32; 2],
}

impl Carry {
    /// Begins; nothing is copied yet.
    pub(super) fn from(old: Maps) -> Self {
        Self { old, seen: [0; 2], copied: None, limits: [0; 2] }
    }

    /// Copies all but the flows, so that flows find what they name under the indices they name;
    /// the next change of the tables brings the rest up to date.
    pub(super) fn tables(&self, new: &Maps) -> Result<(), MapError> {
        let old = &self.old;
        old.settings.copy_to(&new.settings)?;
        old.locals.copy_to(&new.locals)?;
        old.local_cache.copy_to(&new.local_cache)?;
        old.interfaces.copy_to(&new.interfaces)?;
        old.interface_slots.copy_to(&new.interface_slots)?;
        old.targets.copy_to(&new.targets)?;
        old.hops.copy_to(&new.hops)?;
        old.target_times.copy_to(&new.target_times)?;
        old.listener_states.copy_to(&new.listener_states)?;
        old.slots.copy_to(&new.slots)?;
        old.listeners.copy_to(&new.listeners)?;
        old.filters.copy_to(&new.filters)
    }

    /// Makes the new flow tables equal to the old ones; nothing may run over the new ones yet.
    /// `room` is what they are made for.
    pub(super) fn mirror(&mut self, new: &Maps, room: Room) -> Result<(), KernelError> {
        self.copied = Some(now());
        self.old.target_active.copy_counters_to(&new.target_active)?;
        self.old.listener_active.copy_to(&new.listener_active)?;
        for family in Family::ALL {
            self.mirror_of(new, family, room.of(family))?;
        }
        Ok(())
    }

    fn mirror_of(&mut self, new: &Maps, family: Family, wanted: u32) -> Result<(), KernelError> {
        self.seen[family as usize] = self.head(family)?;
        // The half-open ones first: what is promoted meanwhile is read twice then, not never.
        let opening = Read::of(&self.old.half_open, family, |_| true)?;
        // Closed ones with the rest, in `merge`: their ports may change hands before, and the new maps
        // would send the packets of who has one then to who had it.
        let flows = Read::of(&self.old.flows, family, |entry| !entry.flags.closed())?;
        let room = wanted as usize * 2;
        if flows.keys.len() > room {
            return Err(KernelError::TooSmall { wanted, open: flows.keys.len().div_ceil(2) });
        }
        let sorted = flows.sorted();
        new.flows.set_all(family, &flows.keys, &flows.values)?;
        keep(&new.flows, family, &sorted)?;
        let promoted = |key: &FlowKey| sorted.binary_search(key).is_ok();
        let opening = opening.youngest(limits::half_open_for(wanted), promoted);
        new.half_open.set_all(family, &opening.keys, &opening.values)?;
        keep(&new.half_open, family, &opening.sorted())?;
        queue_half_open(new, family, &opening)?;
        Ok(())
    }

    /// Carries what began since the last look, until that is little: to be followed by the
    /// switch.
    pub(super) fn catch_up(&mut self, new: &Maps) -> Result<(), MapError> {
        for _ in 0..LOOKS {
            if self.latest(new)? <= FEW {
                break;
            }
        }
        self.forget_ended(new)
    }

    /// Carries the flows that began since the last look, as the rings of half-open flows have
    /// noted them; how many places they have advanced.
    pub(super) fn latest(&mut self, new: &Maps) -> Result<u64, MapError> {
        let mut advanced = 0;
        for family in Family::ALL {
            advanced += self.latest_of(new, family)?;
        }
        Ok(advanced)
    }

    fn latest_of(&mut self, new: &Maps, family: Family) -> Result<u64, MapError> {
        let head = self.head(family)?;
        let settings = self.old.settings.get(&0)?.unwrap_or_default();
        let mask = match family {
            Family::Four => settings.half_open_mask,
            Family::Six => settings.half_open_mask6,
        };
        let seen = &mut self.seen[family as usize];
        let advanced = head - (*seen).min(head);
        *seen = head;
        // What the ring has lost by now waits for `merge`.
        let looked_at = (advanced + UNWRITTEN).min(u64::from(mask) + 1).min(head);
        for position in head - looked_at..head {
            let place = u32::try_from(position & u64::from(mask)).unwrap_or(mask);
            let slot = self.old.half_open_ring.get(family, place)?.unwrap_or_default();
            if slot.key != none(family) {
                self.flow(new, &slot.key)?;
            }
        }
        Ok(advanced)
    }

    /// From now on no packet of an unknown flow is answered over either set of maps: the other may
    /// know it, and a RST to one side of a connection leaves the other side waiting. If this process
    /// dies, the next change of the tables undoes it.
    pub(super) fn hush(&mut self, new: &Maps) -> Result<(), MapError> {
        self.limits = [rst_limit(&self.old, 0)?, rst_limit(new, 0)?];
        Ok(())
    }

    /// Undoes [`hush`](Self::hush).
    pub(super) fn speak(&self, new: &Maps) -> Result<(), MapError> {
        let [of_old, of_new] = self.limits;
        rst_limit(&self.old, of_old)?;
        rst_limit(new, of_new)?;
        Ok(())
    }

    /// Carries whatever the old maps know and the new ones do not, while packets go through the
    /// new ones. To be done once no link runs over the old ones.
    pub(super) fn merge(&self, new: &Maps) -> Result<(), MapError> {
        self.forget_ended(new)?;
        let old = &self.old;
        let mut read = [Vec::new(), Vec::new()];
        for (from, into) in [&old.half_open, &old.flows].into_iter().zip(&mut read) {
            from.for_each(|key, entry| into.push((*key, *entry)))?;
        }
        for (read, into) in read.iter().zip([&new.half_open, &new.flows]) {
            for (key, entry) in read {
                match into.get(key)? {
                    Some(found) if same(&found, entry) && supersedes(entry, &found) => {
                        into.set(key, entry)?;
                    }
                    Some(found) if same(&found, entry) => {}
                    _ if entry.flags.direction() == Direction::Forward => {
                        match self.flow(new, key) {
                            // Room was made sure of for the open ones.
                            Err(error) if entry.flags.closed() && error.is_full() => {}
                            done => done?,
                        }
                    }
                    None if entry.flags.is_held() => hold(new, key, entry)?,
                    // Carried with its forward entry, or an orphan.
                    _ => {}
                }
            }
        }
        let Some(copied) = self.copied else { return Ok(()) };
        // What ended in the old maps after it was copied.
        for (from, into) in [(&old.half_open, &new.half_open), (&old.flows, &new.flows)] {
            let mut untouched = Vec::new();
            into.for_each(|key, entry| {
                if ahead(copied, entry.last) > 0 {
                    untouched.push(*key);
                }
            })?;
            for key in untouched {
                if from.get(&key)?.is_none()
                    && into.get(&key)?.is_some_and(|entry| ahead(copied, entry.last) > 0)
                {
                    into.remove(&key)?;
                }
            }
        }
        Ok(())
    }

    /// Removes flows that ended in the old maps after they were copied. Packets of whoever has their
    /// ports there since may have been taken for theirs in the new ones, so that they look young.
    fn forget_ended(&self, new: &Maps) -> Result<(), MapError> {
        let Some(copied) = self.copied else { return Ok(()) };
        let (mut ended, mut failed) = (Vec::new(), Ok(()));
        new.flows.for_each(|key, entry| {
            if entry.flags.direction() == Direction::Forward && began_before(entry, copied) {
                match self.old.flows.get(key) {
                    Ok(Some(found)) if same(&found, entry) => {}
                    Ok(_) => ended.push((*key, *entry)),
                    Err(error) => failed = Err(error),
                }
            }
        })?;
        failed?;
        for (key, entry) in ended {
            remove_both(&new.flows, &key, &entry)?;
        }
        Ok(())
    }

    fn head(&self, family: Family) -> Result<u64, MapError> {
        let index = of(family, ring::HALF_OPEN);
        Ok(self.old.ring_heads.get(&index)?.unwrap_or_default())
    }

    /// Carries one flow by its forward key, from whichever table it is in. Where the new maps
    /// have another flow in its place that is younger, it is left behind.
    fn flow(&self, new: &Maps, key: &FlowKey) -> Result<(), MapError> {
        // In the order in which a promotion shows: inserted there before it is deleted here.
        if let Some(pair) = pair(&self.old.half_open, key)? {
            take_port(&new.flows, &pair)?;
            let promoted = new.flows.get(key)?.is_some_and(|found| same(&found, &pair.0));
            if !promoted {
                place(&new.half_open, key, &pair)?;
            }
        }
        let Some(pair) = pair(&self.old.flows, key)? else { return Ok(()) };
        take_port(&new.flows, &pair)?;
        let reverse_key = pair.0.peer_key();
        let claimed = new.half_open.get(&reverse_key)?;
        if claimed
            .is_some_and(|found| !same(&found, &pair.1) && ahead(found.last, pair.1.last) >= 0)
        {
            return Ok(());
        }
        if place(&new.flows, key, &pair)? {
            for (key, entry) in [(key, &pair.0), (&reverse_key, &pair.1)] {
                if new.half_open.get(key)?.is_some_and(|found| same(&found, entry)) {
                    new.half_open.remove(key)?;
                }
            }
        }
        Ok(())
    }
}

/// An index in `RING_HEADS`.
fn of(family: Family, ring: u32) -> u32 {
    match family {
        Family::Four => ring,
        Family::Six => ring::IPV6 + ring,
    }
}

/// The key in a place of a ring that was never used.
fn none(family: Family) -> FlowKey {
    match family {
        Family::Four => FlowKey::widen(&alb_common::flow::FlowKey::default()),
        Family::Six => FlowKey::default(),
    }
}

/// Carries an entry that holds a port, unless the port has been claimed, or there is no room.
fn hold(new: &Maps, key: &FlowKey, entry: &FlowEntry) -> Result<(), MapError> {
    if new.half_open.get(key)?.is_some() {
        return Ok(());
    }
    match new.flows.insert(key, entry) {
        Err(error) if error.is_full() => Ok(()),
        done => done.map(drop),
    }
}

/// Both entries of a flow: forward and reverse.
fn pair(table: &Flows, key: &FlowKey) -> Result<Option<(FlowEntry, FlowEntry)>, MapError> {
    let Some(forward) = table.get(key)?.filter(|entry| entry.tag == tag(key)) else {
        return Ok(None);
    };
    let peer_key = forward.peer_key();
    let reverse = table.get(&peer_key)?;
    let of_this = |entry: &FlowEntry| entry.tag == tag(&peer_key) && entry.peer_key() == *key;
    Ok(reverse.filter(of_this).map(|reverse| (forward, reverse)))
}

/// Removes a closed flow whose port this one has taken over, as the packet path did in the old maps.
fn take_port(table: &Flows, (forward, reverse): &(FlowEntry, FlowEntry)) -> Result<(), MapError> {
    let key = forward.peer_key();
    let Some(found) = table.get(&key)? else { return Ok(()) };
    let is_over = found.flags.closed() && !reverse.flags.closed() && !same(&found, reverse);
    if is_over { remove_both(table, &key, &found) } else { Ok(()) }
}

/// Removes an entry that is still this flow's, and its peer.
fn remove_both(table: &Flows, key: &FlowKey, entry: &FlowEntry) -> Result<(), MapError> {
    let peer_key = entry.peer_key();
    if table.get(key)?.is_some_and(|found| same(&found, entry)) {
        table.remove(key)?;
    }
    if table.get(&peer_key)?.is_some_and(|found| found.peer_key() == *key) {
        table.remove(&peer_key)?;
    }
    Ok(())
}

/// Whether a forward entry's flow was established before this tick. One of long ago may seem to
/// come after it: half of the ages that are told apart are the past.
fn began_before(entry: &FlowEntry, tick: u32) -> bool {
    let age = tick.wrapping_sub(entry.begun()) % AGES;
    (1..AGES / 2).contains(&age)
}

/// Writes both entries, the reverse one first: it holds the port. `false` = the port or the
/// client's addresses are a younger flow's.
fn place(table: &Flows, key: &FlowKey, pair: &(FlowEntry, FlowEntry)) -> Result<bool, MapError> {
    let (forward, reverse) = pair;
    Ok(place_one(table, &forward.peer_key(), reverse)? && place_one(table, key, forward)?)
}

fn place_one(table: &Flows, key: &FlowKey, entry: &FlowEntry) -> Result<bool, MapError> {
    let Some(found) = table.get(key)? else { return table.insert(key, entry) };
    let is_same = same(&found, entry);
    if is_same && !supersedes(entry, &found) {
        return Ok(true);
    }
    if !is_same && ahead(found.last, entry.last) >= 0 {
        return Ok(false);
    }
    table.set(key, entry)?;
    Ok(true)
}

/// Whether two entries under one key are of one flow: they rewrite alike.
fn same(a: &FlowEntry, b: &FlowEntry) -> bool {
    a.peer_key() == b.peer_key() && a.target == b.target
}

/// Sets how many RSTs a CPU may send in a window; what it was.
fn rst_limit(maps: &Maps, limit: u32) -> Result<u32, MapError> {
    let mut settings = maps.settings.get(&0)?.unwrap_or_default();
    let before = std::mem::replace(&mut settings.rst_per_window, limit);
    maps.settings.set(&0, &settings)?;
    Ok(before)
}

/// Whether the old maps know more of a flow than the new ones: they have seen its last packet.
/// One that closed in the old ones and was heard of in the new ones since stays open there until
/// it is idle: it may have been opened anew.
fn supersedes(old: &FlowEntry, new: &FlowEntry) -> bool {
    ahead(old.last, new.last) > 0
}

/// By how many ticks `a` is later than `b`; they wrap.
fn ahead(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b).cast_signed()
}

/// What a table held.
#[derive(Debug, Default)]
struct Read {
    keys: Vec<FlowKey>,
    values: Vec<FlowEntry>,
}

impl Read {
    fn of(
        table: &Flows,
        family: Family,
        wanted: impl Fn(&FlowEntry) -> bool,
    ) -> Result<Self, MapError> {
        let mut read = Self::default();
        table.for_each_of(family, |key, entry| {
            if wanted(entry) {
                read.keys.push(*key);
                read.values.push(*entry);
            }
        })?;
        Ok(read)
    }

    fn sorted(&self) -> Vec<FlowKey> {
        let mut keys = self.keys.clone();
        keys.sort_unstable();
        keys
    }

    /// At most so many half-open flows, the oldest first, each with the stamp of its place in a
    /// ring that begins with them.
    fn youngest(&self, limit: u32, promoted: impl Fn(&FlowKey) -> bool) -> Self {
        let both = self.keys.iter().zip(&self.values);
        let mut reverse: Vec<_> = Vec::new();
        let mut forward: Vec<_> = Vec::new();
        for (key, entry) in both {
            match entry.flags.direction() {
                Direction::Reverse => reverse.push((*key, *entry)),
                Direction::Forward if !promoted(key) => forward.push((*key, *entry)),
                Direction::Forward => {}
            }
        }
        let now = now();
        forward.sort_unstable_by_key(|(_, entry)| ahead(entry.last, now));
        reverse.sort_unstable_by_key(|(key, _)| *key);
        let surplus = forward.len().saturating_sub(limit as usize);
        let mut chosen = Self::default();
        let mut place = 0;
        for (key, mut entry) in forward.into_iter().skip(surplus) {
            let peer_key = entry.peer_key();
            let Ok(peer) = reverse.binary_search_by_key(&peer_key, |(key, _)| *key) else {
                continue;
            };
            entry.route_generation = stamp(place);
            place += 1;
            chosen.keys.extend([peer_key, key]);
            chosen.values.extend([reverse[peer].1, entry]);
        }
        chosen
    }
}

/// Removes what is not among these keys, which are sorted.
fn keep(table: &Flows, family: Family, keys: &[FlowKey]) -> Result<(), MapError> {
    let mut gone = Vec::new();
    table.for_each_of(family, |key, _| {
        if keys.binary_search(key).is_err() {
            gone.push(*key);
        }
    })?;
    for key in gone {
        table.remove(&key)?;
    }
    Ok(())
}

/// Queues half-open flows in the order of [`Read::youngest`].
fn queue_half_open(new: &Maps, family: Family, opening: &Read) -> Result<(), MapError> {
    let forward = opening
        .keys
        .iter()
        .zip(&opening.values)
        .filter(|(_, entry)| entry.flags.direction() == Direction::Forward);
    let slots: Vec<_> = forward
        .map(|(key, entry)| RingSlot { key: *key, at: u32::from(entry.route_generation) })
        .collect();
    new.half_open_ring.set_first(family, &slots)?;
    new.ring_heads.set(&of(family, ring::HALF_OPEN), &(slots.len() as u64))
}

#[cfg(test)]
mod tests;
