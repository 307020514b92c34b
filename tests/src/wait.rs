//! Waiting for a condition with a deadline, never for time to pass.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Longer than anything takes that comes at all, on a slow and busy machine too.
pub const LONG: Duration = Duration::from_mins(1);

/// Asks every 10 ms until there is an answer; panics with `what` when `limit` has passed.
pub fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    match within(limit, &mut ask) {
        Some(answer) => answer,
        None => panic!("waited {limit:?} for {what}"),
    }
}

/// Asks every 10 ms until there is an answer, for at most `limit`.
pub fn within<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(10));
    }
}
