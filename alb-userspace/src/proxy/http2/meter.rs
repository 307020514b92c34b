//! The client's stream of bytes as the connection watches it: which frames come, when something
//! last moved, whether the client takes what it is sent. Changes no byte.

use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    budget::{Budgets, Flood},
    frames::Frames,
};
use crate::proxy::stats::ListenerStats;

/// What was seen. Shared by the stream below the `h2` crate and the connection above it.
#[derive(Debug, Default)]
pub(super) struct Meter {
    frames: RefCell<Frames>,
    budgets: RefCell<Budgets>,
    flood: Cell<Option<Flood>>,
    received: Cell<u64>,
    sent: Cell<u64>,
    /// What of both is counted for the listener.
    folded: Cell<(u64, u64)>,
    blocked: Cell<bool>,
    /// How often the connection was polled.
    turn: Cell<u64>,
    /// The turn in which there was nothing left to read.
    emptied: Cell<u64>,
    /// Something moved since the last flush.
    unflushed: Cell<bool>,
}

impl Meter {
    /// The connection is polled, with a waker that is the same until the next turn.
    pub(super) fn turn(&self) {
        self.turn.set(self.turn.get() + 1);
    }

    /// Bytes that came.
    pub(super) fn received(&self) -> u64 {
        self.received.get()
    }

    /// Bytes that the client's socket took.
    pub(super) fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// Counts for the listener what moved since the last time.
    pub(super) fn fold(&self, stats: &ListenerStats) {
        let moved = (self.received(), self.sent());
        let before = self.folded.replace(moved);
        if before != moved {
            stats.bytes_in.add(moved.0 - before.0);
            stats.bytes_out.add(moved.1 - before.1);
        }
    }

    /// Whether there is something to send that the socket does not take.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.get()
    }

    /// Whether a header block waits for its rest.
    pub(super) fn in_header_block(&self) -> bool {
        self.frames.borrow().in_header_block()
    }

    /// What the client does too much of. Nothing is read from it any more.
    pub(super) fn flood(&self) -> Option<Flood> {
        self.flood.get()
    }

    /// So much time went by.
    pub(super) fn refill(&self, passed: Duration) {
        self.budgets.borrow_mut().refill(passed);
    }

    fn read(&self, bytes: &[u8]) {
        self.unflushed.set(true);
        self.received.set(self.received.get() + bytes.len() as u64);
        let mut budgets = self.budgets.borrow_mut();
        self.frames.borrow_mut().feed(bytes, |kind| {
            if let Err(flood) = budgets.spend(kind) {
                self.flood.set(Some(flood));
            }
        });
    }

    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        self.unflushed.set(true);
        match written {
            Poll::Ready(Ok(len)) => {
                self.blocked.set(false);
                self.sent.set(self.sent.get() + *len as u64);
                self.budgets.borrow_mut().sent(*len as u64);
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.blocked.set(true),
        }
    }
}

/// A stream with its meter.
#[derive(Debug)]
pub(super) struct Metered<S> {
    pub(super) stream: S,
    pub(super) meter: Rc<Meter>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, meter } = self.get_mut();
        if meter.flood().is_some() {
            return Poll::Pending;
        }
        // The crate looks for more after each request that it hands over.
        let turn = meter.turn.get();
        if turn > 0 && meter.emptied.get() == turn {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let polled = Pin::new(stream).poll_read(cx, buf);
        if polled.is_pending() {
            meter.emptied.set(turn);
        }
        ready!(polled)?;
        meter.read(&buf.filled()[before..]);
        if meter.flood().is_some() {
            // What came is not worked on: the connection is ended first.
            buf.set_filled(before);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, meter } = self.get_mut();
        let written = Pin::new(stream).poll_write(cx, buf);
        meter.wrote(&written);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, meter } = self.get_mut();
        let written = Pin::new(stream).poll_write_vectored(cx, bufs);
        meter.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, meter } = self.get_mut();
        if !meter.unflushed.get() {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(stream).poll_flush(cx);
        meter.blocked.set(flushed.is_pending());
        meter.unflushed.set(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
