//! Which target a new flow goes to.

use alb_common::{
    hash,
    net::Be32,
    service::{ListenerEntry, algorithm},
};

use super::{atomic, maps};

/// Index of the target for a client, from the listener's extent of the slot array. `None` for
/// an extent that is empty or cannot be read.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
pub(super) fn target(listener: &ListenerEntry, client: Be32) -> Option<u32> {
    if listener.len == 0 {
        return None;
    }
    let slot = if listener.algorithm == algorithm::IP_HASH {
        hash::slot(hash::client(client), listener.len)
    } else {
        let state = maps::LISTENER_STATES.get_ptr_mut(listener.index as u32)?;
        // SAFETY: an array element stays where it is; `turn` is its first field.
        let turn = unsafe { &raw mut (*state).turn };
        // SAFETY: `turn` is only changed atomically.
        let turn = unsafe { atomic::fetch_add(turn, 1) };
        (turn % listener.len as u64) as u32
    };
    maps::SLOTS.get(listener.offset + slot).copied()
}
