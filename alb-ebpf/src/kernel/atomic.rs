//! Atomic operations. The one place that knows how the BPF back end wants it.
//!
//! `AtomicU64::fetch_add` does not exist for this target, and a relaxed `atomic_xadd` is
//! compiled to an add that does not fetch. Sequentially consistent and at `target-cpu=v3` it
//! is `BPF_ATOMIC | BPF_FETCH` (Linux 5.12); a packet test holds it to that.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd};

/// Adds and returns what was there before.
///
/// # Safety
///
/// `value` points into a map value, 8-byte aligned, that is only changed atomically.
#[inline(always)]
#[expect(unsafe_code, reason = "an intrinsic on a raw map pointer")]
pub(super) unsafe fn fetch_add(value: *mut u64, add: u64) -> u64 {
    // SAFETY: the caller's promise is the intrinsic's.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(value, add) }
}

/// The same of a word of 32 bits; it wraps.
///
/// # Safety
///
/// `value` points into a map value, 4-byte aligned, that is only changed atomically.
#[inline(always)]
#[expect(unsafe_code, reason = "an intrinsic on a raw map pointer")]
pub(super) unsafe fn fetch_add_word(value: *mut u32, add: u32) -> u32 {
    // SAFETY: the caller's promise is the intrinsic's.
    unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::SeqCst }>(value, add) }
}

/// Puts `to` where `from` is: whether it was.
///
/// # Safety
///
/// As [`fetch_add_word`].
#[inline(always)]
#[expect(unsafe_code, reason = "an intrinsic on a raw map pointer")]
pub(super) unsafe fn swap(value: *mut u32, from: u32, to: u32) -> bool {
    use AtomicOrdering::SeqCst;
    // SAFETY: the caller's promise is the intrinsic's.
    unsafe { atomic_cxchg::<u32, { SeqCst }, { SeqCst }>(value, from, to) }.1
}
