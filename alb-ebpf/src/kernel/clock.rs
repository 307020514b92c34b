//! Time in ticks.

use alb_common::{clock, expiry::TICK_SHIFT};
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};

use super::maps;

/// Now, by the coarse clock (Linux 5.11), or a jiffy ago: the fine one costs ten times as much.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access and a helper call")]
pub(super) fn now() -> u32 {
    // SAFETY: the helper takes nothing; the verifier makes a load of it.
    let jiffies = unsafe { bpf_jiffies64() };
    let Some(place) = maps::CLOCK.get_ptr_mut(0) else { return ticks() };
    // SAFETY: an aligned word of an array, which whoever writes it writes whole.
    let word = unsafe { place.read_volatile() };
    clock::kept(word, jiffies).unwrap_or_else(|| {
        let tick = ticks();
        // SAFETY: as above. Another CPU may write what it has read in the same jiffy.
        unsafe { place.write_volatile(clock::keep(jiffies, tick)) };
        tick
    })
}

#[inline(always)]
fn ticks() -> u32 {
    (nanoseconds() >> TICK_SHIFT) as u32
}

/// The coarse clock in nanoseconds.
#[inline(always)]
#[expect(unsafe_code, reason = "a helper call")]
pub(super) fn nanoseconds() -> u64 {
    // SAFETY: the helper takes nothing and reads a clock.
    unsafe { bpf_ktime_get_coarse_ns() }
}
