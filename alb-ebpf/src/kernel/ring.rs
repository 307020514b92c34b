//! The two rings: half-open and closed flows by age. What a newcomer overwrites is the oldest;
//! so both tables are kept in bounds without a daemon.

use alb_common::{
    expiry,
    flow::{FlowEntry, FlowKey, RingSlot, ring, stamp},
    reason::Event,
    settings::Settings,
    tcp::Direction,
};

use super::{atomic, balance, close, count, established, maps};

/// Places of the closed ring looked at each time that the flow table is full.
const RECLAIM_BATCH: u32 = 8;

/// The next place for a half-open flow.
#[inline(always)]
pub(super) fn next_half_open() -> Option<u32> {
    advance(ring::HALF_OPEN)
}

/// Queues a half-open flow at its place; the oldest of a full ring gives way.
#[inline(never)]
pub(super) fn push_half_open(settings: &Settings, key: &FlowKey, head: u32) {
    let slot = RingSlot { key: *key, at: stamp(head) as u32 };
    let Some(place) = maps::HALF_OPEN_RING.get_ptr_mut(head & settings.half_open_mask) else {
        return;
    };
    let oldest = replace(place, slot);
    if oldest.key.src.0 == 0 {
        return;
    }
    let Some(entry) = maps::HALF_OPEN.get_ptr_mut(&oldest.key) else { return };
    let Some(copy) = established::copy(entry, &oldest.key) else { return };
    // The flow of this place is gone, and a younger one has its key.
    if copy.route_generation as u32 != oldest.at {
        return;
    }
    remove_half_open(&oldest.key, &copy);
    count::event(Event::HalfOpenEvicted);
}

/// Removes a half-open flow, given either of its entries.
#[inline(always)]
pub(super) fn remove_half_open(key: &FlowKey, copy: &FlowEntry) {
    let peer_key = copy.peer_key();
    let (forward_key, reverse_key) = match copy.flags.direction() {
        Direction::Forward => (key, &peer_key),
        Direction::Reverse => (&peer_key, key),
    };
    // Whoever removes the forward entry counts: another CPU may be at it too.
    if maps::HALF_OPEN.remove(forward_key).is_ok() {
        count::active(copy, -1);
    }
    _ = maps::HALF_OPEN.remove(reverse_key);
}

/// Queues a closed flow, and collects the oldest if it has had its time.
#[inline(always)]
pub(super) fn push_closed(settings: &Settings, slot: RingSlot) {
    let Some(head) = advance(ring::CLOSED) else { return };
    let Some(place) = maps::CLOSED_RING.get_ptr_mut(head & settings.closed_mask) else { return };
    let oldest = replace(place, slot);
    if oldest.key.src.0 == 0 || oldest.key == slot.key {
        return;
    }
    let Some(entry) = maps::FLOWS.get_ptr_mut(&oldest.key) else { return };
    let Some(copy) = established::copy(entry, &oldest.key) else { return };
    if close::done(&copy, slot.at) {
        close::remove(&oldest.key, entry);
        count::event(Event::ClosedReclaimed);
    } else if copy.flags.closed() {
        // Its time has not come: it queues again.
        let Some(head) = advance(ring::CLOSED) else { return };
        if let Some(place) = maps::CLOSED_RING.get_ptr_mut(head & settings.closed_mask) {
            replace(place, oldest);
        }
    }
}

/// Collects some closed flows before their time, as long as their port need not be kept. Goes
/// round and round over the places in use: those at the front may be ones that must wait.
#[inline(always)]
pub(super) fn reclaim_closed(now: u32) {
    alb_reclaim_closed(now);
}

/// [`reclaim_closed`], a global function, which has to return a number.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
extern "C" fn alb_reclaim_closed(now: u32) -> u32 {
    let Some(settings) = balance::settings() else { return 0 };
    let Some(&head) = maps::RING_HEADS.get(ring::CLOSED) else { return 0 };
    let used = head.min(settings.closed_mask as u64 + 1) as u32;
    if used == 0 {
        return 0;
    }
    let Some(batch) = advance(ring::RECLAIMED) else { return 0 };
    let mut step = 0;
    while step < RECLAIM_BATCH {
        let place = batch.wrapping_mul(RECLAIM_BATCH).wrapping_add(step) % used;
        step += 1;
        let Some(slot) = maps::CLOSED_RING.get(place) else { continue };
        let key = slot.key;
        let Some(entry) = maps::FLOWS.get_ptr_mut(&key) else { continue };
        let Some(copy) = established::copy(entry, &key) else { continue };
        if copy.flags.closed()
            && expiry::older(now, copy.last, expiry::port_hold(copy.flags, u32::MAX))
        {
            close::remove(&key, entry);
            count::event(Event::ClosedReclaimed);
        }
    }
    0
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn advance(index: u32) -> Option<u32> {
    let head = maps::RING_HEADS.get_ptr_mut(index)?;
    // SAFETY: an array element of one word, only ever changed by this function.
    Some(unsafe { atomic::fetch_add(head, 1) } as u32)
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn replace(place: *mut RingSlot, slot: RingSlot) -> RingSlot {
    // SAFETY: a live array element. The position came from an atomic counter, so another CPU
    // is at the same one only after a whole round.
    unsafe { core::ptr::replace(place, slot) }
}
