//! Tells the wakes that a task causes itself, while it is polled, from those that come from
//! elsewhere. Streams are polled by the task of their connection: what they send, and what the
//! client sends them, wakes it each time, though it looks at both in the same turn.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Wake, Waker},
};

/// The task is not being polled: wakes are passed on.
const OUTSIDE: u8 = 0;
/// It is being polled.
const INSIDE: u8 = 1;
/// It was woken while it is being polled.
const HEARD: u8 = 2;

/// A waker for everything that one task polls.
#[derive(Debug)]
pub(super) struct Echo {
    task: Arc<Task>,
    waker: Waker,
}

#[derive(Debug)]
struct Task {
    waker: Mutex<Waker>,
    state: AtomicU8,
}

/// Passes on what was heard when it is dropped.
#[derive(Debug)]
pub(super) struct Inside(Arc<Task>);

impl Default for Echo {
    fn default() -> Self {
        let waker = Mutex::new(Waker::noop().clone());
        let task = Arc::new(Task { waker, state: AtomicU8::new(OUTSIDE) });
        let waker = Waker::from(Arc::clone(&task));
        Self { task, waker }
    }
}

impl Echo {
    /// The waker, which stays the same.
    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// The task is polled from now on, with that waker in its own one's place.
    pub(super) fn enter(&self, cx: &Context<'_>) -> Inside {
        self.task.lock().clone_from(cx.waker());
        self.task.state.store(INSIDE, Ordering::SeqCst);
        Inside(Arc::clone(&self.task))
    }
}

impl Task {
    /// A waker is whole whatever panicked.
    fn lock(&self) -> MutexGuard<'_, Waker> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    /// Everything that may have woken the task until now is looked at after this.
    pub(super) fn forget(&self) {
        self.0.state.store(INSIDE, Ordering::SeqCst);
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if self.0.state.swap(OUTSIDE, Ordering::SeqCst) == HEARD {
            self.0.lock().wake_by_ref();
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Never lost, also from another thread: what is not passed on here is when it leaves.
        let before = self.state.compare_exchange(INSIDE, HEARD, Ordering::SeqCst, Ordering::SeqCst);
        if before == Err(OUTSIDE) {
            self.lock().wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::proxy::wakes::Count;

    #[test]
    fn wakes_in_a_turn_are_one_after_it_unless_they_are_forgotten() {
        let count = Arc::<Count>::default();
        let task = Waker::from(Arc::clone(&count));
        let echo = Echo::default();
        let waker = echo.waker();
        let inside = echo.enter(&Context::from_waker(&task));
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(count.take(), 0);
        drop(inside);
        assert_eq!(count.take(), 1);
        waker.wake_by_ref();
        assert_eq!(count.take(), 1, "it comes from elsewhere");
        let inside = echo.enter(&Context::from_waker(&task));
        waker.wake_by_ref();
        inside.forget();
        drop(inside);
        assert_eq!(count.take(), 0);
        let inside = echo.enter(&Context::from_waker(&task));
        inside.forget();
        waker.wake_by_ref();
        drop(inside);
        assert_eq!(count.take(), 1, "what comes after that is not forgotten");
    }

    #[test]
    fn the_task_that_polled_last_is_woken() {
        let (old, new) = (Arc::<Count>::default(), Arc::<Count>::default());
        let echo = Echo::default();
        for count in [&old, &new] {
            drop(echo.enter(&Context::from_waker(&Waker::from(Arc::clone(count)))));
        }
        echo.waker().wake();
        assert_eq!((old.take(), new.take()), (0, 1));
    }

    #[test]
    fn no_wake_of_another_thread_is_lost() {
        let count = Arc::<Count>::default();
        let task = Waker::from(Arc::clone(&count));
        let echo = Echo::default();
        for _ in 0..1_000 {
            let inside = echo.enter(&Context::from_waker(&task));
            let waker = echo.waker();
            let other = thread::spawn(move || waker.wake());
            drop(inside);
            other.join().unwrap();
            assert_eq!(count.take(), 1);
        }
    }
}
