//! One direction of a connection: read, write, and pass the end on. Bytes are copied through a
//! buffer; once much has come at a time they are moved through a pipe instead.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{io::ReadBuf, task::coop::has_budget_remaining};

use super::{Side, buffer::Buffer, ring::Rest};
use crate::proxy::{pipe::Pipe, plain::Plain};

/// A transfer of at least this much speaks for moving, a smaller one for copying, bytes.
const LARGE: u64 = 16 * 1024;
/// Where moving begins and where it ends, in the weight of recent transfers, bytes. A pipe costs
/// a system call more for each message, and saves a copy both ways.
const BEGIN: u64 = 48 * 1024;
const END: u64 = 8 * 1024;
/// What is more than a small message, bytes.
const SMALL: u64 = 2048;
/// The most that the weight grows to, so that a change is noticed soon.
const MOST: u64 = 256 * 1024;
/// Most that one call moves into a pipe.
const PIECE: usize = 256 * 1024;

/// Which side of the direction failed, and how.
#[derive(Debug)]
pub(super) enum Fault {
    /// The source reset the connection.
    Read,
    /// The destination takes no more.
    Write,
}

/// State of one direction.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one direction")]
pub(super) struct Direction {
    buffer: Option<Buffer>,
    pipe: Option<Pipe>,
    weight: u64,
    moving: bool,
    unflushed: bool,
    stage: Stage,
    /// It waits for its source alone, and the task is woken when that has something.
    waits: bool,
    abandoned: bool,
    /// What had been read when a write to the source failed. That takes the error off its socket:
    /// a read then finds an end that is none.
    failed_at: Option<u64>,
    /// The source reset the connection while the direction was in the ring.
    is_reset: bool,
    /// Reads, and those of them that brought more than a small message.
    pub(super) reads: u64,
    pub(super) large: u64,
    /// Bytes that came from the source.
    pub(super) moved: u64,
    /// Bytes that the destination took.
    pub(super) written: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// The source ended; the destination is to be told.
    Ending,
    /// The destination was told, or is gone.
    Done,
}

impl Direction {
    /// A direction that sends something of ours before anything else.
    pub(super) fn beginning_with(first: &[u8]) -> Self {
        let mut direction = Self::default();
        if !first.is_empty() {
            let mut buffer = Buffer::take();
            buffer.room()[..first.len()].copy_from_slice(first);
            buffer.add(first.len());
            direction.buffer = Some(buffer);
        }
        direction
    }

    pub(super) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Gives up: what is left to write has nobody to go to.
    pub(super) fn abandon(&mut self) {
        self.waits = false;
        self.abandoned = self.stage != Stage::Done;
        self.stage = Stage::Done;
        self.buffer = None;
        self.pipe = None;
    }

    /// Grows with every byte that is read or written.
    pub(super) fn progress(&self) -> u64 {
        self.moved + self.written
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    /// The source takes nothing any more.
    pub(super) fn source_failed(&mut self) {
        self.waits = false;
        self.failed_at = Some(self.moved);
    }

    /// Whether all that came was sent, and more may come.
    pub(super) fn is_at_rest(&self) -> bool {
        let is_empty = self.buffer.as_ref().is_none_or(|buffer| buffer.filled().is_empty());
        let holds = !is_empty || self.pipe.as_ref().is_some_and(|pipe| pipe.held() > 0);
        self.stage == Stage::Open && self.failed_at.is_none() && !holds && !self.unflushed
    }

    /// So many bytes came and were sent through the ring.
    pub(super) fn advance(&mut self, (came, sent): (u64, u64)) {
        self.moved += came;
        self.written += sent;
    }

    /// Takes over from the ring.
    pub(super) fn resume(&mut self, rest: Rest) {
        let Rest { unsent, failed } = rest;
        self.waits = false;
        self.is_reset = failed;
        self.buffer = (!unsent.is_empty()).then(|| Buffer::of(unsent));
    }

    /// Another task is to be woken.
    pub(super) fn changes_task(&mut self) {
        self.waits = false;
    }

    /// Takes what comes along with what is to be sent first, if it is there already: one
    /// segment instead of two. Never waits for it.
    pub(super) fn join<S: Side>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut S,
    ) -> Result<(), Fault> {
        let Some(mut buffer) = self.buffer.take() else { return Ok(()) };
        let read = read(cx, from, &mut buffer);
        self.buffer = Some(buffer);
        if let Poll::Ready(read) = read {
            self.took(read.map_err(|_error| Fault::Read)?);
        }
        Ok(())
    }

    /// Goes on until it has to wait; `Ready` when the source has ended and the destination was
    /// told.
    pub(super) fn poll<S: Side, D: Side>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut S,
        to: &mut D,
    ) -> Poll<Result<(), Fault>> {
        // It was the other direction: to ask the runtime costs more than to look.
        if self.waits && !Plain::has_come(from.socket()) {
            return Poll::Pending;
        }
        self.waits = false;
        if self.is_reset {
            return Poll::Ready(Err(Fault::Read));
        }
        loop {
            ready!(self.poll_write(cx, to)).map_err(|_error| Fault::Write)?;
            match self.stage {
                Stage::Open => {}
                Stage::Ending => {
                    // The other direction may go on for long; this one needs it no more.
                    self.pipe = None;
                    ready!(Pin::new(to).poll_shutdown(cx)).map_err(|_error| Fault::Write)?;
                    self.stage = Stage::Done;
                    return Poll::Ready(Ok(()));
                }
                Stage::Done => return Poll::Ready(Ok(())),
            }
            if self.unflushed {
                // What TLS holds goes out before more is read: a slow reader costs one buffer.
                ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(|_error| Fault::Write)?;
                self.unflushed = false;
            }
            let Poll::Ready(read) = self.poll_read::<S, D>(cx, from) else {
                // Without budget, the runtime wakes the task for that and for nothing else.
                self.waits = S::PLAIN && has_budget_remaining();
                return Poll::Pending;
            };
            let count = read.map_err(|_error| Fault::Read)?;
            if count == 0 && self.failed_at == Some(self.moved) {
                return Poll::Ready(Err(Fault::Read));
            }
            self.took(count);
        }
    }

    /// Writes all that was read.
    fn poll_write<D: Side>(&mut self, cx: &mut Context<'_>, to: &mut D) -> Poll<io::Result<()>> {
        while let Some(buffer) = self.buffer.as_mut() {
            if buffer.filled().is_empty() {
                self.buffer = None;
                break;
            }
            let count = ready!(Pin::new(&mut *to).poll_write(cx, buffer.filled()))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            buffer.consume(count);
            self.written += count as u64;
            self.unflushed = !D::PLAIN;
        }
        while let Some(pipe) = self.pipe.as_mut().filter(|pipe| pipe.held() > 0) {
            ready!(to.socket().poll_write_ready(cx))?;
            match pipe.drain(to.socket()) {
                Ok(count) => self.written += count as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once; nothing that was read is unwritten. 0 = the source has ended.
    fn poll_read<S: Side, D: Side>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut S,
    ) -> Poll<io::Result<usize>> {
        if S::PLAIN && D::PLAIN && self.moving && self.pipe.is_none() {
            self.pipe = Pipe::take().ok();
        }
        if let Some(pipe) = self.pipe.as_mut().filter(|_| self.moving) {
            loop {
                let Poll::Ready(ready) = from.socket().poll_read_ready(cx) else {
                    self.pipe = None;
                    return Poll::Pending;
                };
                ready?;
                match pipe.fill(from.socket(), PIECE) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    outcome => return Poll::Ready(outcome),
                }
            }
        }
        self.pipe = None;
        // Mostly there is nothing more: a buffer is not even taken then.
        if S::PLAIN && !Plain::has_come(from.socket()) {
            ready!(from.socket().poll_read_ready(cx))?;
        }
        let mut buffer = Buffer::take();
        let read = read(cx, from, &mut buffer);
        if matches!(read, Poll::Ready(Ok(1..))) {
            self.buffer = Some(buffer);
        }
        read
    }

    /// Notes a read.
    fn took(&mut self, count: usize) {
        if count == 0 {
            self.stage = Stage::Ending;
            return;
        }
        let count = count as u64;
        self.moved += count;
        self.reads += 1;
        self.large += u64::from(count > SMALL);
        self.weight = if count < LARGE {
            self.weight.midpoint(count)
        } else {
            (self.weight + count).min(MOST)
        };
        self.moving = if self.moving { self.weight > END } else { self.weight > BEGIN };
    }
}

/// Reads into the room of a buffer. TLS that ends without `close_notify` is an end as well:
/// many clients close that way, and what they sent is not to be lost.
fn read<S: Side>(
    cx: &mut Context<'_>,
    from: &mut S,
    buffer: &mut Buffer,
) -> Poll<io::Result<usize>> {
    let mut room = ReadBuf::new(buffer.room());
    let outcome = ready!(Pin::new(from).poll_read(cx, &mut room));
    let count = room.filled().len();
    match outcome {
        Ok(()) => {}
        Err(error) if !S::PLAIN && error.kind() == io::ErrorKind::UnexpectedEof => {}
        Err(error) => return Poll::Ready(Err(error)),
    }
    buffer.add(count);
    Poll::Ready(Ok(count))
}

#[cfg(test)]
mod tests;
