//! Counters: reasons and events per packet, totals per flow.

use alb_common::{
    Reason,
    flow::{FlowEntry, Totals},
    limits::MAX_TARGETS,
    reason::Event,
    target::TargetActive,
};

use super::{atomic, maps};

/// Counts a packet.
#[inline(always)]
pub(crate) fn reason(reason: Reason) {
    bump(reason as u32);
}

/// Counts an event.
#[inline(always)]
pub(super) fn event(event: Event) {
    bump(Reason::COUNT as u32 + event as u32);
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn bump(index: u32) {
    if let Some(counter) = maps::COUNTERS.get_ptr_mut(index) {
        // SAFETY: the lookup returned this CPU's element, which nothing else writes: the
        // program is not re-entered on one CPU.
        unsafe { *counter += 1 }
    }
}

/// Adds to the active flows of a flow's target and listener.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
pub(super) fn active<A>(flow: &FlowEntry<A>, add: i64) {
    let (target, listener) = (flow.target, flow.listener);
    if let Some(active) = maps::LISTENER_ACTIVE.get_ptr_mut(listener as u32) {
        // SAFETY: as below.
        unsafe {
            atomic::fetch_add(active, add.cast_unsigned());
        }
    }
    if let Some(all) = maps::TARGET_ACTIVE.get_ptr_mut(0) {
        // SAFETY: a counter of the element, aligned; every writer of it in the kernel is this function.
        unsafe {
            atomic::fetch_add(of_target(all, target), add.cast_unsigned());
        }
    }
}

/// Open flows of a target among those of all. A remainder, because a comparison would have the verifier
/// follow two ways; no index is as large.
#[inline(always)]
pub(super) const fn of_target(all: *mut TargetActive, target: u32) -> *mut u64 {
    const { assert!(MAX_TARGETS.is_power_of_two()) };
    all.cast::<u64>().wrapping_add(target as usize & (MAX_TARGETS - 1))
}

/// Open flows of a listener. Signed: a counter that is one too low must not look like many.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
pub(super) fn open_flows(listener: u16) -> i64 {
    let Some(active) = maps::LISTENER_ACTIVE.get_ptr(listener as u32) else { return 0 };
    // SAFETY: an aligned word of an array; other CPUs change it atomically.
    unsafe { core::ptr::read_volatile(active) }.cast_signed()
}

/// Counts a flow that begins.
#[inline(always)]
pub(super) fn new_flow<A>(flow: &FlowEntry<A>) {
    total(flow.target, flow.listener, |totals| totals.new_flows += 1);
    active(flow, 1);
}

/// Folds the counters of an ended flow's two entries into the totals.
#[inline(always)]
pub(super) fn fold<A>(forward: &FlowEntry<A>, reverse: &FlowEntry<A>) {
    total(forward.target, forward.listener, |totals| {
        totals.packets_in += forward.packets as u64;
        totals.bytes_in += forward.bytes;
        totals.packets_out += reverse.packets as u64;
        totals.bytes_out += reverse.bytes;
    });
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn total(target: u32, listener: u16, add: impl Fn(&mut Totals)) {
    if let Some(totals) = maps::TARGET_TOTALS.get_ptr_mut(target) {
        // SAFETY: this CPU's element; nothing else holds a reference to it meanwhile.
        add(unsafe { &mut *totals });
    }
    if let Some(totals) = maps::LISTENER_TOTALS.get_ptr_mut(listener as u32) {
        // SAFETY: as above.
        add(unsafe { &mut *totals });
    }
}
