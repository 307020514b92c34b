//! Records of flows that end, for the access log: into a ring buffer that the daemon reads.

use alb_common::{
    flow::FlowEntry,
    flow_log::FlowRecord,
    net::{Be32, Be128},
    reason::Event,
    tcp::FlowFlags,
};
use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;

use super::{balance, clock, count, maps, tables::Tables};

/// Writes the record of a flow that ends in this state, if they are wanted and there is room.
#[inline(always)]
pub(super) fn write<A: Tables>(forward: &FlowEntry<A>, reverse: &FlowEntry<A>, state: u8) {
    if balance::settings().is_none_or(|settings| settings.flow_log == 0) {
        return;
    }
    let Some(mut record) = maps::FLOW_LOG.reserve_untyped::<FlowRecord>(0) else {
        count::event(Event::FlowRecordLost);
        return;
    };
    // SAFETY: bytes of the ring, aligned to eight; each bit pattern is a record.
    #[expect(unsafe_code, reason = "what the kernel hands out is no record yet")]
    let place = unsafe { record.assume_init_mut() };
    place.tell(forward, reverse, FlowFlags(state), clock::nanoseconds());
    // The reader looks by itself: nobody waits for a line.
    record.submit(BPF_RB_NO_WAKEUP as u64);
}

/// [`write`] of IPv4, a global function.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own, and pointers from its callers")]
#[unsafe(no_mangle)]
pub(super) extern "C" fn alb_log_flow(
    forward: *const FlowEntry<Be32>,
    reverse: *const FlowEntry<Be32>,
    state: u32,
) -> u32 {
    // SAFETY: null, or made of a reference that is alive for the call.
    let Some(forward) = (unsafe { forward.as_ref() }) else { return 0 };
    // SAFETY: as above.
    let Some(reverse) = (unsafe { reverse.as_ref() }) else { return 0 };
    write(forward, reverse, state as u8);
    0
}

/// The same of IPv6.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own, and pointers from its callers")]
#[unsafe(no_mangle)]
pub(super) extern "C" fn alb_log_flow6(
    forward: *const FlowEntry<Be128>,
    reverse: *const FlowEntry<Be128>,
    state: u32,
) -> u32 {
    // SAFETY: null, or made of a reference that is alive for the call.
    let Some(forward) = (unsafe { forward.as_ref() }) else { return 0 };
    // SAFETY: as above.
    let Some(reverse) = (unsafe { reverse.as_ref() }) else { return 0 };
    write(forward, reverse, state as u8);
    0
}
