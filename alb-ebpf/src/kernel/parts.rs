//! The way from the program of one family to that of the other. Returns only if there is none.

use aya_ebpf::EbpfContext;

use super::maps;

/// Where both arrays have the IPv6 program.
const IPV6: u32 = 0;

/// Leaves a packet at XDP to the IPv6 program.
#[inline(always)]
#[expect(unsafe_code, reason = "a helper call")]
pub fn xdp<C: EbpfContext>(context: &C) {
    // SAFETY: nothing is held over the call.
    unsafe { maps::XDP_PARTS.tail_call(context, IPV6) };
}

/// Leaves a packet at TC to the IPv6 program.
#[inline(always)]
#[expect(unsafe_code, reason = "a helper call")]
pub fn tc<C: EbpfContext>(context: &C) {
    // SAFETY: nothing is held over the call.
    unsafe { maps::TC_PARTS.tail_call(context, IPV6) };
}
