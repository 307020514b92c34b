//! Packets of established flows: one lookup, then arrays.

use core::sync::atomic::{Ordering, compiler_fence};

use alb_common::{
    Reason,
    flow::{FlowEntry, FlowKey},
    interface::hop_flag,
    net::{Address, Mac},
    reason::Event,
    settings::Settings,
    tcp::{Direction, FlowFlags, flag},
};

use super::{
    balance::{self, Egress, Forward},
    close, count,
    host::Host,
    maps, neighbour, ring,
    tables::Tables,
};
use crate::{parse::Segment, rewrite::Rewrite};

/// What [`open`] tells beside the reason.
#[derive(Clone, Copy)]
pub(super) struct Open {
    /// The way out; none = the packet does not go on.
    pub(super) egress: Egress,
    /// The flow's state changes with this packet: [`close`] is to follow.
    pub(super) ends: bool,
}

/// The flow of a packet. In one number, because a larger result would be returned by pointer, which
/// the verifier refuses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// There is none.
    None,
    /// It is over, and the packet a SYN that uses its addresses and ports again: [`Tables::clear`] is
    /// to follow. Where that is found out there is no stack left for it.
    Over,
    /// What became of the packet.
    Flow(Reason),
}

impl From<Reason> for Found {
    #[inline(always)]
    fn from(reason: Reason) -> Self {
        Self::Flow(reason)
    }
}

/// Takes a packet of an established flow on its way: what to count and the way out; `None` if it is
/// of none.
#[inline(always)]
pub(super) fn along<P: Host, A: Tables>(
    packet: &mut P,
    segment: &Segment<A>,
    settings: &Settings,
    now: u32,
) -> Result<Option<(Reason, Egress)>, Reason> {
    let mut open = Open { egress: Egress::NONE, ends: false };
    let reason = match A::open(packet, segment, settings, now, &mut open) {
        Found::Flow(reason) => reason,
        Found::Over => {
            A::clear(&segment.key);
            return Ok(None);
        }
        Found::None => return Ok(None),
    };
    if open.ends {
        close(packet, segment, now);
    }
    if open.egress.is_none() { Err(reason) } else { Ok(Some((reason, open.egress))) }
}

/// What of [`along`] needs most of the stack, a call of its own.
#[inline(never)]
pub(super) fn open<P: Host, A: Tables>(
    packet: &mut P,
    segment: &Segment<A>,
    settings: &Settings,
    now: u32,
    open: &mut Open,
) -> Found {
    let forward = match find(packet, segment, settings, now, &mut open.ends) {
        Ok(forward) => forward,
        Err(found) => return found,
    };
    if let Err(reason) = balance::finish(packet, segment, &forward) {
        return Found::Flow(reason);
    }
    open.egress = forward.egress;
    Found::Flow(forward.reason)
}

/// The way of a packet whose flow is established. `ends` is set if it is to be followed by [`close`].
#[inline(always)]
pub(super) fn find<P: Host, A: Tables>(
    packet: &P,
    segment: &Segment<A>,
    settings: &Settings,
    now: u32,
    ends: &mut bool,
) -> Result<Forward<A>, Found> {
    let entry = A::flow_here::<P>(&segment.key).ok_or(Found::None)?;
    let copy = &copy(entry, &segment.key).ok_or(Found::None)?;
    *ends = note(segment, settings, now, entry, copy)?;
    match copy.flags.direction() {
        Direction::Forward => {
            neighbour::follow_client(packet, entry, copy);
            Ok(way(copy, Reason::FlowForward)?)
        }
        Direction::Reverse => {
            let (interface, mac) = neighbour::client(packet, settings, entry, copy);
            Ok(by(copy, interface as u32, mac, Reason::FlowReverse)?)
        }
    }
}

/// Counts a packet in its flow, unless that is over: whether its state changes with it.
#[inline(always)]
pub(super) fn note<A: Tables>(
    segment: &Segment<A>,
    settings: &Settings,
    now: u32,
    entry: *mut FlowEntry<A>,
    copy: &FlowEntry<A>,
) -> Result<bool, Found> {
    if copy.flags.is_held() {
        return Err(Found::None);
    }
    // A RST of the client's own may be forged; the target answers this SYN as it must.
    if segment.opens() && copy.flags.closed() && !copy.flags.has(FlowFlags::RST_CLIENT) {
        return Err(Found::Over);
    }
    if is_cut(settings, copy.target, now) {
        if segment.opens() {
            // So that its record says why it ended.
            mark_told(entry);
            return Err(Found::Over);
        }
        if segment.flags & flag::RST == 0 {
            return Err(Found::Flow(Reason::FlowCut));
        }
        // Who sends a RST knows; the other side may have it from him, or be told as well.
        mark_told(entry);
        return Ok(false);
    }
    touch(segment, entry, copy, now);
    Ok(copy.flags.concerns(copy.flags.direction(), segment.flags))
}

/// Whether the flows of a target are over.
#[inline(always)]
pub(super) fn is_cut(settings: &Settings, target: u32, now: u32) -> bool {
    settings.draining != 0
        && maps::HOPS.get(target).is_some_and(|hop| hop.flags & hop_flag::DRAINS != 0)
        && maps::TARGET_TIMES.get(target).is_some_and(|times| times.is_cut(now))
}

/// Notes that the sender of a packet was told that its flow is over.
#[inline(never)]
pub(super) fn told<A: Tables>(key: &FlowKey<A>) {
    if let Some(entry) = A::flow(key) {
        mark_told(entry);
    }
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
pub(super) fn mark_told<A>(entry: *mut FlowEntry<A>) {
    // SAFETY: a live element of the flow table; if it is another flow's by now, that one is told
    // later than it might be, when it is cut.
    unsafe { (*entry).flags.0 |= FlowFlags::CUT }
}

/// Notes a FIN or RST, and queues a flow that it ends.
#[inline(always)]
pub(super) fn close<P: Host, A: Tables>(packet: &P, segment: &Segment<A>, now: u32) {
    if let Some(entry) = A::flow(&segment.key)
        && close::note(packet, segment, entry)
        && ring::push_closed::<A>(now)
    {
        count::event(Event::ClosedReclaimed);
    }
}

/// A copy of an entry that is this key's for sure: its line may become another key's while we read it,
/// so the tag is read after the rest.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
pub(super) fn copy<A: Address>(entry: *mut FlowEntry<A>, key: &FlowKey<A>) -> Option<FlowEntry<A>> {
    // SAFETY: the lookup returned a value of the map's type; it stays mapped for the program's
    // run (RCU), and every bit pattern is a valid entry.
    let copy = unsafe { *entry };
    // Keeps the compiler from reading the tag first.
    compiler_fence(Ordering::SeqCst);
    // SAFETY: as above.
    let tag = unsafe { &raw const (*entry).tag };
    // SAFETY: as above.
    let tag = unsafe { core::ptr::read_volatile(tag) };
    (tag == key.tag()).then_some(copy)
}

/// As [`copy`], to a place that is not the stack.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
pub(super) fn copy_to<A: Address>(
    place: &mut FlowEntry<A>,
    entry: *mut FlowEntry<A>,
    key: &FlowKey<A>,
) -> bool {
    // An assignment would be a call of `memmove`.
    // SAFETY: as in `copy`; an element of one map does not overlap that of another.
    unsafe { core::ptr::copy_nonoverlapping(entry, place, 1) };
    compiler_fence(Ordering::SeqCst);
    // SAFETY: as in `copy`.
    let tag = unsafe { &raw const (*entry).tag };
    // SAFETY: as in `copy`.
    let tag = unsafe { core::ptr::read_volatile(tag) };
    tag == key.tag()
}

/// Counts the packet in its entry. A closed flow's counters are folded already.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
pub(super) fn touch<A>(
    segment: &Segment<A>,
    entry: *mut FlowEntry<A>,
    copy: &FlowEntry<A>,
    now: u32,
) {
    // SYNs to a dead target do not keep its flow.
    if copy.last != now && !segment.opens() {
        // SAFETY: as in `copy`. A lost race with another CPU costs one tick.
        unsafe { (*entry).last = now }
    }
    if copy.flags.closed() {
        return;
    }
    // SAFETY: as in `copy`. Packets of one flow arrive on one CPU; if not, a count is lost.
    unsafe { (*entry).packets = copy.packets.wrapping_add(1) }
    // SAFETY: as above.
    unsafe { (*entry).bytes = copy.bytes.wrapping_add(segment.ip_len as u64) }
}

/// Where a packet of this entry goes and as what.
#[inline(always)]
pub(super) fn way<A: Copy>(copy: &FlowEntry<A>, reason: Reason) -> Result<Forward<A>, Reason> {
    let (slot, next_hop) = match copy.flags.direction() {
        Direction::Forward => {
            let hop = maps::HOPS.get(copy.target).ok_or(Reason::Internal)?;
            if !hop.is_resolved() {
                return Err(Reason::NoNextHop);
            }
            (hop.interface as u32, hop.mac)
        }
        Direction::Reverse => (copy.interface as u32, copy.mac),
    };
    by(copy, slot, next_hop, reason)
}

/// The rewrite of an entry, by this interface slot and next hop.
#[inline(always)]
fn by<A: Copy>(
    copy: &FlowEntry<A>,
    slot: u32,
    next_hop: Mac,
    reason: Reason,
) -> Result<Forward<A>, Reason> {
    let interface = balance::interface(slot).ok_or(Reason::NoNextHop)?;
    let rewrite = Rewrite {
        src: copy.src,
        dst: copy.dst,
        sport: copy.sport,
        dport: copy.dport,
        check_delta: copy.check_delta,
        next_hop,
        station: interface.mac,
    };
    Ok(Forward { rewrite, egress: Egress::of(interface), mtu: interface.mtu, reason })
}
