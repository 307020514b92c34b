//! Time in ticks.

use alb_common::expiry::TICK_SHIFT;
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;

/// Now. The coarse clock (Linux 5.11) costs 2 ns, the fine one 27.
#[inline(always)]
pub(super) fn now() -> u32 {
    (nanoseconds() >> TICK_SHIFT) as u32
}

/// The same in nanoseconds.
#[inline(always)]
#[expect(unsafe_code, reason = "a helper call")]
pub(super) fn nanoseconds() -> u64 {
    // SAFETY: the helper takes nothing and reads a clock.
    unsafe { bpf_ktime_get_coarse_ns() }
}
