//! Copies beside the stack.

use alb_common::abi::Plain;

/// Copies a value one word after the other. An assignment would be a call of `memmove`, or loads of
/// all its words, for which there is no room on the stack, before the stores.
///
/// # Safety
///
/// `from` may be read and `to` written, both aligned; they are not the same.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
pub(super) unsafe fn words<T: Plain>(from: *const T, to: *mut T) {
    if align_of::<T>() == align_of::<u64>() {
        // SAFETY: the caller's promise, and what it is aligned to.
        unsafe { each(from.cast::<u64>(), to.cast::<u64>(), size_of::<T>()) }
    } else {
        const { assert!(align_of::<T>() >= align_of::<u32>()) };
        // SAFETY: as above.
        unsafe { each(from.cast::<u32>(), to.cast::<u32>(), size_of::<T>()) }
    }
}

/// # Safety
///
/// As of [`words`], for so many bytes.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
unsafe fn each<W: Plain>(from: *const W, to: *mut W, bytes: usize) {
    let mut word = 0;
    while word < bytes / size_of::<W>() {
        // SAFETY: within the value, by the caller's promise.
        let value = unsafe { from.wrapping_add(word).read_volatile() };
        // SAFETY: as above.
        unsafe { to.wrapping_add(word).write_volatile(value) };
        word += 1;
    }
}
