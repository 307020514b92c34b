//! The two rings: half-open and closed flows by age. What a newcomer overwrites is the oldest;
//! so both tables are kept in bounds without a daemon.

use alb_common::{
    expiry,
    flow::{FlowEntry, FlowKey, RingSlot, ring, stamp},
    net::{Be32, Be128},
    reason::Event,
    settings::Settings,
    tcp::Direction,
};

use super::{atomic, balance, close, count, established, maps, tables::Tables};

/// Places of the closed ring looked at each time that the flow table is full.
const RECLAIM_BATCH: u32 = 8;

/// The next place for a half-open flow.
#[inline(always)]
pub(super) fn next_half_open<A: Tables>() -> Option<u32> {
    advance(A::RINGS + ring::HALF_OPEN)
}

/// Queues a half-open flow at its place; the oldest of a full ring gives way: whether one did.
///
/// Says so because on return from a call without a result Linux 6.1 refuses what the compiler may
/// have left in the register for one. The same holds for [`push_closed`].
#[inline(never)]
pub(super) fn push_half_open<A: Tables>(settings: &Settings, key: &FlowKey<A>, head: u32) -> bool {
    let slot = RingSlot { key: *key, at: stamp(head) as u32 };
    let Some(place) = A::half_open_place(head & A::half_open_mask(settings)) else {
        return false;
    };
    let oldest = replace(place, slot);
    if oldest.key.src.is_unset() {
        return false;
    }
    let Some(entry) = A::half_open(&oldest.key) else { return false };
    let Some(copy) = established::copy(entry, &oldest.key) else { return false };
    // The flow of this place is gone, and a younger one has its key.
    if copy.route_generation as u32 != oldest.at {
        return false;
    }
    remove_half_open(&oldest.key, &copy);
    true
}

/// Removes a half-open flow, given either of its entries.
#[inline(always)]
pub(super) fn remove_half_open<A: Tables>(key: &FlowKey<A>, copy: &FlowEntry<A>) {
    let mut room = FlowKey::default();
    let Some(peer_key) = A::peer_key(copy, &mut room) else { return };
    let (forward_key, reverse_key) = match copy.flags.direction() {
        Direction::Forward => (key, peer_key),
        Direction::Reverse => (peer_key, key),
    };
    // Whoever removes the forward entry counts: another CPU may be at it too.
    if A::remove_half_open(forward_key).is_ok() {
        count::active(copy, -1);
    }
    _ = A::remove_half_open(reverse_key);
}

/// Queues the closed flow whose entries are in the scratch, and collects the oldest if it has had
/// its time: whether it had. A call of its own beside `close::note`, so that their stack frames are
/// not added.
#[inline(never)]
pub(super) fn push_closed<A: Tables>(now: u32) -> bool {
    let (Some(settings), Some(scratch)) = (balance::settings(), A::scratch()) else { return false };
    let slot = RingSlot { key: scratch.forward.peer_key(), at: now };
    let Some(head) = advance(A::RINGS + ring::CLOSED) else { return false };
    let Some(place) = A::closed_place(head & A::closed_mask(settings)) else { return false };
    let oldest = replace(place, slot);
    if oldest.key.src.is_unset() || oldest.key == slot.key {
        return false;
    }
    let Some(entry) = A::flow(&oldest.key) else { return false };
    let Some(copy) = established::copy(entry, &oldest.key) else { return false };
    if close::done(&copy, slot.at) {
        A::remove(&oldest.key, entry);
        return true;
    }
    if copy.flags.closed() {
        // Its time has not come: it queues again.
        let Some(head) = advance(A::RINGS + ring::CLOSED) else { return false };
        if let Some(place) = A::closed_place(head & A::closed_mask(settings)) {
            replace(place, oldest);
        }
    }
    false
}

/// Collects some closed flows before their time, as long as their port need not be kept. Goes
/// round and round over the places in use: those at the front may be ones that must wait.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn reclaim_closed<A: Tables>(now: u32) -> u32 {
    let Some(settings) = balance::settings() else { return 0 };
    let Some(&head) = maps::RING_HEADS.get(A::RINGS + ring::CLOSED) else { return 0 };
    let used = head.min(A::closed_mask(settings) as u64 + 1) as u32;
    if used == 0 {
        return 0;
    }
    let Some(batch) = advance(A::RINGS + ring::RECLAIMED) else { return 0 };
    let mut step = 0;
    while step < RECLAIM_BATCH {
        let place = batch.wrapping_mul(RECLAIM_BATCH).wrapping_add(step) % used;
        step += 1;
        let Some(slot) = A::closed_place(place) else { continue };
        // SAFETY: a live array element; of one that is being replaced, at worst no flow has the key.
        let key = unsafe { (*slot).key };
        let Some(entry) = A::flow(&key) else { continue };
        let Some(copy) = established::copy(entry, &key) else { continue };
        // A port that is held is worth less than an open flow.
        if copy.flags.is_held()
            || copy.flags.closed()
                && expiry::older(now, copy.last, expiry::port_hold(copy.flags, u32::MAX))
        {
            A::remove(&key, entry);
            count::event(Event::ClosedReclaimed);
        }
    }
    0
}

/// [`reclaim_closed`] of IPv4, a global function, which has to return a number.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
pub(super) extern "C" fn alb_reclaim_closed(now: u32) -> u32 {
    reclaim_closed::<Be32>(now)
}

/// The same of IPv6.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
pub(super) extern "C" fn alb_reclaim_closed6(now: u32) -> u32 {
    reclaim_closed::<Be128>(now)
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
fn replace<A>(place: *mut RingSlot<A>, slot: RingSlot<A>) -> RingSlot<A> {
    // SAFETY: a live array element. The position came from an atomic counter, so another CPU
    // is at the same one only after a whole round.
    unsafe { core::ptr::replace(place, slot) }
}
