//! Waiting for a condition with a deadline, never for time to pass.

use std::{
    env,
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Longer than anything takes that comes at all, on a slow and busy machine too.
pub const LONG: Duration = Duration::from_mins(1);

/// How many times as long as elsewhere a wait may take here: set for machines that emulate their
/// processor.
static PATIENCE: LazyLock<u32> = LazyLock::new(|| {
    let times = env::var("ALB_TEST_PATIENCE").unwrap_or_else(|_| "1".to_owned());
    times.parse().expect("ALB_TEST_PATIENCE is a whole number of times")
});

/// Sets a flag that ends threads when it goes: while a failed test unwinds too, whose scope would
/// wait for them for ever.
#[derive(Debug)]
pub struct Ends<'a>(pub &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks every 10 ms until there is an answer; panics with `what` when `limit` has passed.
pub fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    match within(limit, &mut ask) {
        Some(answer) => answer,
        None => panic!("waited {:?} for {what}", limit * *PATIENCE),
    }
}

/// Asks every 10 ms until there is an answer, for at most `limit`, or as many times that as the
/// machine is slow.
pub fn within<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit * *PATIENCE;
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
