//! Which target a new flow goes to.

use core::ffi::c_void;

use alb_common::{
    hash,
    interface::hop_flag,
    limits::MAX_LEAST_CONN_TARGETS,
    net::{Address, Be32},
    selection::{weighted_target, weighted_weight},
    service::{ListenerEntry, algorithm},
};
use aya_ebpf::helpers::generated::bpf_loop;

use super::{atomic, count, maps};

/// Index of the target for a client, from the listener's extent of the slot array. `None` for
/// an extent that is empty or cannot be read.
#[inline(always)]
pub(super) fn target<A: Address>(listener: &ListenerEntry, client: A, now: u32) -> Option<u32> {
    let ListenerEntry { offset, len, index, algorithm, .. } = *listener;
    if len == 0 {
        return None;
    }
    if algorithm == algorithm::IP_HASH {
        let lot = client.client_hash();
        let target = *maps::SLOTS.get(offset.wrapping_add(hash::slot(lot, len)))?;
        return Some(if starts(target) {
            alb_instead(offset, len, target, lot, now)
        } else {
            target
        });
    }
    let lot = turn(index)?;
    let turn = (lot % len as u64) as u32;
    let target = if algorithm == algorithm::LEAST_CONN {
        let found = alb_least_connections(offset, len, turn);
        (found != NONE).then_some(found)?
    } else {
        *maps::SLOTS.get(offset.wrapping_add(turn))?
    };
    Some(if starts(target) { alb_instead(offset, len, target, lot as u32, now) } else { target })
}

/// Whether a target starts slowly, so that not every flow that falls to it is its own.
#[inline(always)]
fn starts(target: u32) -> bool {
    maps::HOPS.get(target).is_some_and(|hop| hop.flags & hop_flag::STARTS != 0)
}

/// Lots drawn until one falls to a target with its full share.
const DRAWS: u32 = 8;

/// The target itself if it takes the flow, else another by lot, in proportion to the slots that
/// each has, but none that is starting too. Where all are, the last one drawn has it. A client's
/// lots are the same every time, so with source-IP selection clients come to a starting target one
/// after the other, and stay.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
extern "C" fn alb_instead(offset: u32, len: u32, first: u32, lot: u32, now: u32) -> u32 {
    let (mut target, mut lot) = (first, lot);
    let mut draw = 0;
    while draw < DRAWS {
        let Some(times) = maps::TARGET_TIMES.get(target) else { return target };
        if times.is_full(now) || draw == 0 && times.admits(now, lot) {
            return target;
        }
        draw += 1;
        lot = hash::client(Be32(lot.wrapping_add(draw)));
        let Some(&slot) = maps::SLOTS.get(offset.wrapping_add(hash::slot(lot, len))) else {
            return target;
        };
        // The slots of other algorithms than least-connection have no weight.
        target = weighted_target(slot);
    }
    target
}

/// Takes the listener's next turn.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn turn(index: u16) -> Option<u64> {
    let state = maps::LISTENER_STATES.get_ptr_mut(index as u32)?;
    // SAFETY: an array element stays where it is; `turn` is its first field.
    let turn = unsafe { &raw mut (*state).turn };
    // SAFETY: `turn` is only changed atomically.
    Some(unsafe { atomic::fetch_add(turn, 1) })
}

/// Slots compared in one turn of the loop, whose call costs as much as some comparisons.
const STRIDE: u32 = 64;

/// No target has this index.
const NONE: u32 = u32::MAX;

/// A search under way: slots from one up to another, and the best so far.
#[repr(C)]
struct Search {
    from: u32,
    to: u32,
    weight: i64,
    active: i64,
    target: u32,
}

/// The target with the fewest active flows for its weight. Half-open flows count, so that flows
/// begun at the same time are seen; a CPU that is just choosing too is not. [`NONE`] if the
/// extent cannot be read.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
extern "C" fn alb_least_connections(offset: u32, len: u32, first: u32) -> u32 {
    let len = len.min(MAX_LEAST_CONN_TARGETS as u32);
    // Where it begins is the turn's, so that equals take turns. Userspace makes no longer table.
    let start = offset.wrapping_add(if first < len { first } else { 0 });
    let end = offset.wrapping_add(len);
    // Any target is better than this: `active * 0 < 1 * weight`.
    let mut search = Search { from: start, to: end, weight: 0, active: 1, target: 0 };
    search_through(&mut search);
    (search.from, search.to) = (offset, start);
    search_through(&mut search);
    if search.weight == 0 { NONE } else { search.target }
}

#[inline(always)]
#[expect(unsafe_code, reason = "a helper that calls back")]
fn search_through(search: &mut Search) {
    let turns = search.to.wrapping_sub(search.from).div_ceil(STRIDE);
    let context = (&raw mut *search).cast::<c_void>();
    // SAFETY: the helper calls `compare` with `context`, which outlives it (Linux 5.17).
    unsafe { bpf_loop(turns, compare as *mut c_void, context, 0) };
}

/// Compares [`STRIDE`] slots with the best so far; 1 ends the loop.
#[expect(unsafe_code, reason = "called back by a helper")]
unsafe extern "C" fn compare(turn: u32, context: *mut c_void) -> i64 {
    // SAFETY: `context` is the caller's `Search`, which nothing else uses meanwhile.
    let search = unsafe { &mut *context.cast::<Search>() };
    let first = search.from.wrapping_add(turn * STRIDE);
    let left = search.to.wrapping_sub(first).min(STRIDE);
    let Some(all) = maps::TARGET_ACTIVE.get_ptr_mut(0) else { return 1 };
    let mut step = 0;
    while step < left {
        let Some(&slot) = maps::SLOTS.get(first.wrapping_add(step)) else { return 1 };
        step += 1;
        let target = weighted_target(slot);
        // SAFETY: a counter of the element, which stays where it is; other CPUs change it atomically.
        let active = unsafe { count::of_target(all, target).read_volatile() };
        // Signed: a counter that is one too low must not look like the largest of all.
        let active = active.cast_signed();
        let weight = weighted_weight(slot) as i64;
        if active.wrapping_mul(search.weight) < search.active.wrapping_mul(weight) {
            search.target = target;
            search.weight = weight;
            search.active = active;
        }
    }
    0
}
