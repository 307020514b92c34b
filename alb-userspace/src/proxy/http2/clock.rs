//! The deadlines of all streams of a connection behind one timer: setting one costs a store.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

/// Deadlines of the streams of one connection, and what time it is for it.
#[derive(Debug)]
pub(super) struct Clock {
    now: Cell<Instant>,
    /// The earliest deadline that was set since it was asked for.
    earliest: Cell<Option<Instant>>,
    entries: RefCell<Vec<Rc<Entry>>>,
    /// Those of them that nobody uses.
    unused: RefCell<Vec<Rc<Entry>>>,
}

#[derive(Debug, Default)]
struct Entry {
    at: Cell<Option<Instant>>,
    waker: RefCell<Option<Waker>>,
}

/// The one deadline of a stream.
#[derive(Debug)]
pub(super) struct Timer {
    clock: Rc<Clock>,
    entry: Rc<Entry>,
}

impl Clock {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            now: Cell::new(now),
            earliest: Cell::new(None),
            entries: RefCell::default(),
            unused: RefCell::default(),
        }
    }

    /// What time it is, as of the last time the connection was woken.
    pub(super) fn now(&self) -> Instant {
        self.now.get()
    }

    /// It is later now.
    pub(super) fn set_now(&self, now: Instant) {
        self.now.set(now);
    }

    /// Wakes streams whose deadline has come, and returns the next one to wait for.
    pub(super) fn fire(&self) -> Option<Instant> {
        let now = self.now.get();
        self.earliest.set(None);
        let mut next: Option<Instant> = None;
        for entry in self.entries.borrow().iter() {
            match entry.at.get() {
                Some(at) if at <= now => {
                    if let Some(waker) = entry.waker.borrow_mut().take() {
                        waker.wake();
                    }
                }
                Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
                None => {}
            }
        }
        next
    }

    /// The earliest deadline that was set since this or `fire` was called.
    pub(super) fn take_earliest(&self) -> Option<Instant> {
        self.earliest.take()
    }

    /// A timer, at rest.
    pub(super) fn timer(self: &Rc<Self>) -> Timer {
        let unused = self.unused.borrow_mut().pop();
        let entry = unused.unwrap_or_else(|| {
            let entry = Rc::<Entry>::default();
            self.entries.borrow_mut().push(Rc::clone(&entry));
            entry
        });
        Timer { clock: Rc::clone(self), entry }
    }
}

impl Timer {
    /// It goes off `after` from now.
    pub(super) fn set(&self, after: Duration) {
        let at = self.clock.now() + after;
        self.entry.at.set(Some(at));
        if self.clock.earliest.get().is_none_or(|earliest| at < earliest) {
            self.clock.earliest.set(Some(at));
        }
    }

    /// Whether it has gone off; wakes the task when it does.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.entry.at.get().is_some_and(|at| at <= self.clock.now()) {
            return Poll::Ready(());
        }
        let mut waker = self.entry.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.entry.at.set(None);
        self.entry.waker.borrow_mut().take();
        self.clock.unused.borrow_mut().push(Rc::clone(&self.entry));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_earliest_goes_off_first_and_entries_are_used_again() {
        let cx = Context::from_waker(Waker::noop());
        let start = Instant::now();
        let clock = Rc::new(Clock::new(start));
        let (one, other) = (clock.timer(), clock.timer());
        assert!(one.poll(&cx).is_pending(), "at rest");
        one.set(5 * SECOND);
        other.set(3 * SECOND);
        assert_eq!(clock.take_earliest(), Some(start + 3 * SECOND));
        clock.set_now(start + 3 * SECOND);
        assert_eq!(clock.fire(), Some(start + 5 * SECOND));
        assert!(other.poll(&cx).is_ready() && one.poll(&cx).is_pending());
        one.set(SECOND);
        assert_eq!(clock.take_earliest(), Some(start + 4 * SECOND));
        drop((one, other));
        assert_eq!(clock.fire(), None, "nobody waits");
        let _again = clock.timer();
        assert_eq!(clock.entries.borrow().len(), 2);
    }
}
