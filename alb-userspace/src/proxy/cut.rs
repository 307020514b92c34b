//! Targets that drain: whoever uses one is told when its time is over, however idle it is then.
//! A worker's own; single-threaded. Knows nothing of what is ended, or how.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::time::{Instant, sleep_until};

use super::plan::{Draining, SharedId, TargetShared};

/// When the targets that drain are over, and who of a worker uses which target.
#[derive(Clone, Debug, Default)]
pub struct Cuts(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    ends: RefCell<BTreeMap<SharedId, End>>,
    users: RefCell<Vec<Rc<User>>>,
    /// Those of them that nobody is.
    unused: RefCell<Vec<Rc<User>>>,
}

/// When a target is over.
#[derive(Debug)]
struct End {
    at: Instant,
    /// While it lives its id is nobody else's.
    _shared: Arc<TargetShared>,
}

#[derive(Debug, Default)]
struct User {
    target: Cell<Option<SharedId>>,
    is_cut: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// What ties a connection or a request to the target that it uses now.
#[derive(Debug)]
pub struct Bond {
    cuts: Rc<Inner>,
    user: Rc<User>,
}

impl Cuts {
    /// A bond to no target yet.
    pub fn bond(&self) -> Bond {
        let unused = self.0.unused.borrow_mut().pop();
        let user = unused.unwrap_or_else(|| {
            let user = Rc::<User>::default();
            self.0.users.borrow_mut().push(Rc::clone(&user));
            user
        });
        Bond { cuts: Rc::clone(&self.0), user }
    }

    /// These targets drain, and no others. What is over by now is cut at once; for the rest,
    /// [`run`](Self::run) is to be run.
    pub fn set(&self, draining: &[Draining]) {
        let ends = draining.iter().map(|of| {
            let shared = Arc::clone(&of.target.shared);
            (shared.id(), End { at: of.until.into(), _shared: shared })
        });
        self.0.ends.replace(ends.collect());
        self.cut();
    }

    /// Cuts what comes to its end, until nothing more does.
    pub async fn run(self) {
        while let Some(next) = self.cut() {
            sleep_until(next).await;
        }
    }

    /// Cuts what is over; the next end.
    fn cut(&self) -> Option<Instant> {
        let ends = self.0.ends.borrow();
        if ends.is_empty() {
            return None;
        }
        let now = Instant::now();
        for user in &*self.0.users.borrow() {
            if user.target.get().and_then(|id| ends.get(&id)).is_some_and(|end| end.at <= now) {
                user.is_cut.set(true);
                if let Some(waker) = user.waker.take() {
                    waker.wake();
                }
            }
        }
        ends.values().map(|end| end.at).filter(|at| *at > now).min()
    }
}

impl Bond {
    /// From now on it is to this target, which may be over already.
    pub fn to(&self, target: SharedId) {
        self.user.target.set(Some(target));
        let ends = self.cuts.ends.borrow();
        let is_over = |end: &End| end.at <= Instant::now();
        self.user.is_cut.set(!ends.is_empty() && ends.get(&target).is_some_and(is_over));
    }

    /// From now on it is to no target.
    pub fn end(&self) {
        self.user.target.set(None);
        self.user.is_cut.set(false);
    }

    /// Ready = the target is over; wakes the task when it is.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.user.is_cut.get() {
            return Poll::Ready(());
        }
        let mut waker = self.user.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Bond {
    fn drop(&mut self) {
        self.end();
        self.user.waker.take();
        self.cuts.unused.borrow_mut().push(Rc::clone(&self.user));
    }
}

#[cfg(test)]
mod tests;
