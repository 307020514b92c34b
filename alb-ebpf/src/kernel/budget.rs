//! How many packets of our own a CPU may send in a window of time.

use alb_common::settings::RST_WINDOW_SHIFT;

use super::{balance, clock, maps};

/// Takes one out of this CPU's budget, by its index; `false` if it is used up.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
pub(super) fn allows(kind: u32) -> bool {
    let (Some(settings), Some(budget)) = (balance::settings(), maps::RST_BUDGET.get_ptr_mut(kind))
    else {
        return false;
    };
    // SAFETY: this CPU's element, which only this function writes.
    let budget = unsafe { &mut *budget };
    let window = clock::now() >> RST_WINDOW_SHIFT;
    if budget.window != window {
        budget.window = window;
        budget.sent = 0;
    }
    budget.sent += 1;
    budget.sent <= settings.rst_per_window
}
