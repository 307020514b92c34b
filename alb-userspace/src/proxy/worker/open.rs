//! How many connections a worker serves, and the moment when there are none.

use std::{cell::Cell, rc::Rc};

use tokio::sync::Notify;

/// Counts the connections of a worker.
#[derive(Clone, Debug, Default)]
pub struct Open(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    count: Cell<usize>,
    none: Notify,
}

/// One connection; counted off when dropped.
#[derive(Debug)]
pub(super) struct Counted(Rc<Inner>);

impl Open {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.count.get()
    }

    /// Counts one more.
    pub(super) fn enter(&self) -> Counted {
        self.0.count.set(self.0.count.get() + 1);
        Counted(Rc::clone(&self.0))
    }

    /// Waits until there are none.
    pub(super) async fn none(&self) {
        while self.count() > 0 {
            self.0.none.notified().await;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Self(inner) = self;
        inner.count.set(inner.count.get() - 1);
        if inner.count.get() == 0 {
            inner.none.notify_one();
        }
    }
}
