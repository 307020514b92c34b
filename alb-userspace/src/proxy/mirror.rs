//! Copies of requests for mirror backends. A copy goes its own way beside the request: it is fed
//! with what the request's target took, and never waited for. Its answer is thrown away.

mod exchange;

use std::{
    cell::{Cell, RefCell},
    io,
    net::IpAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf as _, BytesMut};
use tokio::{io::AsyncWrite, task::spawn_local};

use super::{plan::Backend, stats::Mirrored, worker::Worker};

/// Bytes of one copy that may wait for its target. One that falls further behind the request is
/// cut.
pub const WAITING: usize = 256 * 1024;
/// Copies of one worker at once; beyond, requests are not copied.
pub const AT_ONCE: usize = 256;

/// How many copies a worker has in work.
#[derive(Clone, Debug, Default)]
pub struct Mirrors(Rc<Cell<usize>>);

/// One copy in work; counted off when dropped.
#[derive(Debug)]
struct Counted(Mirrors);

impl Mirrors {
    fn enter(&self) -> Option<Counted> {
        let count = self.0.get();
        (count < AT_ONCE).then(|| {
            self.0.set(count + 1);
            Counted(self.clone())
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Self(Mirrors(count)) = self;
        count.set(count.get() - 1);
    }
}

/// Where a request's bytes are written a second time. Dropped before its end, it cuts the copy.
#[derive(Debug)]
pub struct Tap(Rc<Line>);

/// Begins a copy of a request for a mirror backend; `None` = there are too many already.
/// `is_head` = the method is HEAD.
pub fn begin(
    backend: &Arc<Backend>,
    client: IpAddr,
    is_head: bool,
    worker: &Rc<Worker>,
) -> Option<Tap> {
    let Some(counted) = worker.mirrors.enter() else {
        backend.shared.stats.at(worker.id).mirrored.count(Mirrored::Dropped);
        return None;
    };
    let line = Rc::new(Line::default());
    let (backend, worker) = (Arc::clone(backend), Rc::clone(worker));
    let copy = Rc::clone(&line);
    spawn_local(async move {
        let outcome = exchange::run(&copy, &backend, client, is_head, &worker).await;
        backend.shared.stats.at(worker.id).mirrored.count(outcome);
        drop(counted);
    });
    Some(Tap(line))
}

impl Tap {
    /// These bytes follow.
    pub fn push(&self, bytes: &[u8]) {
        self.0.change(|state| {
            if state.bytes.len() + bytes.len() > WAITING {
                state.cut = true;
            }
            if state.cut {
                state.bytes = BytesMut::new();
            } else {
                state.bytes.extend_from_slice(bytes);
            }
        });
    }

    /// The request is whole.
    pub fn end(self) {
        self.0.change(|state| state.ended = true);
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.0.change(|state| state.cut |= !state.ended);
    }
}

/// What is between a request and its copy.
#[derive(Debug, Default)]
struct Line(RefCell<State>);

#[derive(Debug, Default)]
struct State {
    bytes: BytesMut,
    /// Nothing follows.
    ended: bool,
    /// It does not come to its end.
    cut: bool,
    waker: Option<Waker>,
}

impl Line {
    fn change(&self, change: impl FnOnce(&mut State)) {
        let waker = {
            let mut state = self.0.borrow_mut();
            change(&mut state);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn is_cut(&self) -> bool {
        self.0.borrow().cut
    }

    fn has_ended(&self) -> bool {
        self.0.borrow().ended
    }

    /// Writes what is there. Ready = everything was written, or it cannot be.
    fn poll_write<W: AsyncWrite + Unpin>(
        &self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        while !state.bytes.is_empty() {
            match ready!(Pin::new(&mut *to).poll_write(cx, &state.bytes))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                len => state.bytes.advance(len),
            }
        }
        if state.ended { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// To be woken by whoever changes it.
    fn register(&self, cx: &Context<'_>) {
        self.0.borrow_mut().waker = Some(cx.waker().clone());
    }
}
