//! The end of a listener's work, or of the whole proxy's: told once, seen by every connection
//! of a worker. Single-threaded.

use std::{
    cell::Cell,
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use tokio::sync::watch;

/// Tells connections to end when it suits them: one with a request in work after the response, an
/// idle one soon.
#[derive(Clone, Debug)]
pub struct Drain(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    has_begun: Cell<bool>,
    told: watch::Sender<()>,
}

impl Default for Drain {
    fn default() -> Self {
        Self(Rc::new(Inner { has_begun: Cell::new(false), told: watch::Sender::new(()) }))
    }
}

impl Drain {
    /// From now on.
    pub fn begin(&self) {
        self.0.has_begun.set(true);
        self.0.told.send_replace(());
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.0.has_begun.get()
    }

    /// To be made once a connection, not once a request.
    pub fn begun(&self) -> Begun {
        let mut receiver = self.0.told.subscribe();
        let told = Box::pin(async move {
            // The sender stays as long as this does.
            let _told = receiver.changed().await.is_ok();
        });
        Begun(Box::new(Waiting { drain: self.clone(), told, waker: None }))
    }
}

/// What a connection waits for the beginning with.
#[derive(Debug)]
pub struct Begun(Box<Waiting>);

struct Waiting {
    drain: Drain,
    told: Pin<Box<dyn Future<Output = ()>>>,
    /// Who is woken already.
    waker: Option<Waker>,
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").finish_non_exhaustive()
    }
}

impl Begun {
    /// Whether it has begun; wakes the task when it does. Costs next to nothing when it is asked
    /// again by the same task.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Waiting { drain, told, waker: woken } = &mut *self.0;
        if drain.has_begun() {
            return Poll::Ready(());
        }
        if woken.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        *woken = Some(cx.waker().clone());
        told.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::proxy::wakes::Count;

    #[test]
    fn whoever_asked_last_is_woken_and_told() {
        let counts = [Arc::<Count>::default(), Arc::<Count>::default()];
        let [first, second] = counts.clone().map(Waker::from);
        let drain = Drain::default();
        let mut begun = drain.begun();
        for waker in [&first, &first, &second, &second] {
            assert!(begun.poll(&mut Context::from_waker(waker)).is_pending());
        }
        drain.clone().begin();
        assert_eq!(counts.map(|count| count.so_far()), [0, 1]);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(begun.poll(&mut cx).is_ready() && begun.poll(&mut cx).is_ready());
        assert!(drain.begun().poll(&mut cx).is_ready(), "it was over before");
        assert!(drain.has_begun());
    }
}
