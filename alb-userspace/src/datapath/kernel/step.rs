//! The moments between two changes of the pinned state, by name, so that a test can end or halt
//! the process at each of them. Release builds know nothing of it.

use nix::sys::signal::{Signal, raise};

/// Names a step in the environment: a debug build kills itself when it gets there.
pub const KILL_AT: &str = "ALB_KILL_AT";
/// The same, but it stops until it gets SIGCONT. Both take several steps, between commas.
pub const STOP_AT: &str = "ALB_STOP_AT";

/// With any value: a debug build attaches at TC by a filter, as before Linux 6.6.
pub const TC_FILTER: &str = "ALB_TC_FILTER";

/// Every step of a first start with two interfaces.
pub const FIRST_START: [&str; 7] = [
    "directory made",
    "half of the maps pinned",
    "all maps pinned",
    "maps exchanged",
    "link 1 made",
    "link 2 made",
    "attached",
];

/// Every step of a start that replaces the maps under two links.
pub const REPLACEMENT: [&str; 10] = [
    "directory made",
    "half of the maps pinned",
    "all maps pinned",
    "flows copied",
    "link 1 switched",
    "link 2 switched",
    "latest flows copied",
    "flows merged",
    "maps exchanged",
    "attached",
];

/// The capturing programs are loaded, and on no link yet.
pub const CAPTURE_LOADED: &str = "capture loaded";
/// Packets are captured; nobody has been told.
pub const CAPTURE_BEGUN: &str = "capture begun";

/// Notes that a step is done.
pub(in crate::datapath) fn reached(step: &str) {
    if !cfg!(debug_assertions) {
        return;
    }
    // Not to be caught, nor cleaned up after: as `kill -9` would.
    for (name, signal) in [(KILL_AT, Signal::SIGKILL), (STOP_AT, Signal::SIGSTOP)] {
        if std::env::var(name).is_ok_and(|wanted| wanted.split(',').any(|one| one == step)) {
            tracing::warn!("{name}: {step}");
            if let Err(error) = raise(signal) {
                tracing::error!(%error, "cannot send oneself a signal");
            }
        }
    }
}

/// Whether a filter is to be used where the kernel has links.
pub(super) fn wants_filter() -> bool {
    cfg!(debug_assertions) && std::env::var_os(TC_FILTER).is_some()
}
