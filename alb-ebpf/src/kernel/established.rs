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
    balance::{self, Egress, Forward, Then},
    close, count,
    host::Host,
    maps, neighbour, ring,
    tables::Tables,
};
use crate::{parse::Segment, rewrite::Rewrite};

/// The way of a packet whose flow is established; `None` if it has none. `then` is set if something
/// is to follow.
#[inline(always)]
pub(super) fn find<P: Host, A: Tables>(
    packet: &P,
    segment: &Segment<A>,
    settings: &Settings,
    now: u32,
    then: &mut Then,
) -> Result<Option<Forward<A>>, Reason> {
    let Some(entry) = A::flow_here(&segment.key) else {
        return Ok(None);
    };
    let Some(copy) = copy(entry, &segment.key) else {
        return Ok(None);
    };
    let copy = &copy;
    // A RST of the client's own may be forged; the target answers this SYN as it must.
    if segment.opens() && copy.flags.closed() && !copy.flags.has(FlowFlags::RST_CLIENT) {
        *then = Then::Clear;
        return Ok(None);
    }
    if is_cut(settings, copy.target, now) {
        if segment.opens() {
            // So that its record says why it ended.
            mark_told(entry);
            *then = Then::Clear;
            return Ok(None);
        }
        if segment.flags & flag::RST == 0 {
            return Err(Reason::FlowCut);
        }
        // Who sends a RST knows; the other side may have it from him, or be told as well.
        mark_told(entry);
    } else {
        touch(segment, entry, copy, now);
        if copy.flags.concerns(copy.flags.direction(), segment.flags) {
            *then = Then::Close;
        }
    }
    match copy.flags.direction() {
        Direction::Forward => {
            neighbour::follow_client(packet, entry, copy);
            way(copy, Reason::FlowForward).map(Some)
        }
        Direction::Reverse => {
            let (interface, mac) = neighbour::client(packet, settings, entry, copy);
            by(copy, interface as u32, mac, Reason::FlowReverse).map(Some)
        }
    }
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

/// A copy of an entry that is this key's for sure: the kernel may give the element to another
/// key while we read it, so the tag is read after the rest.
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
