//! A worker's ring with the connections that talk through it, and the task that drives it.

use std::{
    cell::RefCell,
    io,
    net::TcpStream,
    os::fd::OwnedFd,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    io::unix::AsyncFd,
    task::yield_now,
    time::{MissedTickBehavior, interval},
};

use super::{
    Rest,
    exchange::{Came, Exchange, Op, Piece as _, Way},
    kernel::{Completion, Piece, Ring},
};

/// How often those who follow a connection hear what it moved.
const TELL: Duration = Duration::from_millis(250);
/// Looks for completions before others have their turn.
const ROUNDS: u32 = 8;

/// What a request was, in its tag: with its way, and above both the place of its connection.
#[derive(Clone, Copy)]
enum Kind {
    Read = 0,
    Send = 1,
    Cancel = 2,
}

fn tag(place: usize, kind: Kind, way: Way) -> u64 {
    (place as u64) << 3 | (kind as u64) << 1 | way as u64
}

/// A connection. It has its place, and its sockets are open, until the kernel has no request of
/// it: what is queued with a descriptor's number never meets another file.
#[derive(Debug)]
struct Seat {
    /// As a way has its source.
    sockets: [TcpStream; 2],
    exchange: Exchange<Piece>,
    waker: Option<Waker>,
    /// Nobody waits for it.
    orphan: bool,
    /// Listed as one that has moved bytes.
    listed: bool,
}

#[derive(Debug)]
struct Inner {
    ring: Ring,
    seats: Vec<Option<Seat>>,
    free: Vec<usize>,
    /// Those whose followers have something to hear.
    listed: Vec<usize>,
    done: Vec<Completion>,
    ops: Vec<Op<Piece>>,
}

/// The ring of a worker.
#[derive(Debug)]
pub(in crate::proxy::tcp) struct Engine(RefCell<Inner>);

impl Engine {
    /// With what `drive` waits on.
    pub(super) fn new() -> io::Result<(Self, AsyncFd<OwnedFd>)> {
        let ring = Ring::new()?;
        let watched = ring.watched()?;
        let engine = Self(RefCell::new(Inner {
            ring,
            seats: Vec::new(),
            free: Vec::new(),
            listed: Vec::new(),
            done: Vec::new(),
            ops: Vec::new(),
        }));
        Ok((engine, watched))
    }

    /// Does what completions call for. Ends with the runtime alone.
    pub(super) async fn drive(&self, watched: AsyncFd<OwnedFd>) {
        let mut tell = interval(TELL);
        tell.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                ready = watched.readable() => {
                    if let Ok(mut ready) = ready {
                        // Before it is looked at: what comes later is another event.
                        ready.clear_ready();
                    }
                    while self.0.borrow_mut().turn() {
                        yield_now().await;
                    }
                }
                _ = tell.tick(), if self.is_used() => self.0.borrow_mut().tell(),
            }
        }
    }

    fn is_used(&self) -> bool {
        let inner = self.0.borrow();
        inner.free.len() < inner.seats.len()
    }

    pub(super) fn enter(&self, sockets: [TcpStream; 2]) -> usize {
        let inner = &mut *self.0.borrow_mut();
        let exchange = Exchange::begin(&mut inner.ops);
        let seat = Seat { sockets, exchange, waker: None, orphan: false, listed: false };
        let place = inner.free.pop().unwrap_or_else(|| {
            inner.seats.push(None);
            inner.seats.len() - 1
        });
        inner.seats[place] = Some(seat);
        inner.carry_out(place);
        inner.ring.submit();
        place
    }

    pub(super) fn poll_over(&self, place: usize, cx: &Context<'_>) -> Poll<()> {
        let inner = &mut *self.0.borrow_mut();
        let Some(seat) = inner.seat(place) else { return Poll::Ready(()) };
        if seat.exchange.is_over() {
            return Poll::Ready(());
        }
        if !seat.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            seat.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    pub(super) fn take_counts(&self, place: usize, way: Way) -> (u64, u64) {
        self.0.borrow_mut().seat(place).map_or((0, 0), |seat| seat.exchange.take_counts(way))
    }

    pub(super) fn leave(&self, place: usize) {
        self.0.borrow_mut().leave(place);
    }

    pub(super) fn abandon(&self, place: usize) {
        let inner = &mut *self.0.borrow_mut();
        if let Some(seat) = inner.seat(place) {
            seat.orphan = true;
        }
        inner.leave(place);
    }

    /// Takes out one that is over.
    pub(super) fn remove(&self, place: usize) -> Option<([TcpStream; 2], [Rest; 2])> {
        self.0.borrow_mut().remove(place)
    }
}

impl Inner {
    fn seat(&mut self, place: usize) -> Option<&mut Seat> {
        self.seats.get_mut(place)?.as_mut()
    }

    /// Looks for completions and does what they call for; whether it has to be called again.
    fn turn(&mut self) -> bool {
        for _ in 0..ROUNDS {
            let mut done = std::mem::take(&mut self.done);
            self.ring.take(&mut done);
            let is_empty = done.is_empty();
            for completion in done.drain(..) {
                self.complete(completion);
            }
            self.done = done;
            let is_left = self.ring.submit();
            if is_empty {
                return is_left;
            }
        }
        true
    }

    fn complete(&mut self, completion: Completion) {
        let Completion { tag, result, more, mut piece } = completion;
        let way = Way::BOTH[usize::from(tag & 1 == 1)];
        let place = usize::try_from(tag >> 3).unwrap_or(usize::MAX);
        let Self { seats, ops, listed, .. } = self;
        let Some(seat) = seats.get_mut(place).and_then(Option::as_mut) else { return };
        let exchange = &mut seat.exchange;
        if tag >> 1 & 3 == Kind::Read as u64 {
            let came = match (result, piece.take_if(|piece| piece.len() > 0)) {
                (_, Some(piece)) => Came::Bytes(piece),
                (failed, None) => without_bytes(-failed),
            };
            exchange.came(way, came, more, ops);
        } else if tag >> 1 & 3 == Kind::Send as u64 {
            exchange.sent(way, u32::try_from(result).unwrap_or(0), ops);
        } else {
            exchange.cancelled(way);
        }
        if !seat.listed {
            seat.listed = true;
            listed.push(place);
        }
        // A buffer with nothing in it.
        ops.extend(piece.map(Op::Return));
        self.carry_out(place);
        self.settle(place);
    }

    /// Puts what a connection wants done into the ring.
    fn carry_out(&mut self, place: usize) {
        let Self { ring, seats, ops, .. } = self;
        for op in ops.drain(..) {
            let Some(seat) = seats.get(place).and_then(Option::as_ref) else { continue };
            match op {
                Op::Read(way) => {
                    ring.read(&seat.sockets[way as usize], tag(place, Kind::Read, way));
                }
                Op::Send(way) => {
                    let Some(piece) = seat.exchange.sending(way) else { continue };
                    let to = &seat.sockets[way.back() as usize];
                    ring.send(to, piece, tag(place, Kind::Send, way));
                }
                Op::Cancel(way) => {
                    let read = tag(place, Kind::Read, way);
                    ring.cancel(read, tag(place, Kind::Cancel, way));
                }
                Op::Return(piece) => ring.give_back(piece),
            }
        }
    }

    /// Lets those know who wait for a connection that is over.
    fn settle(&mut self, place: usize) {
        let Some(seat) = self.seat(place).filter(|seat| seat.exchange.is_over()) else { return };
        if seat.orphan {
            drop(self.remove(place));
        } else if let Some(waker) = seat.waker.take() {
            waker.wake();
        }
    }

    fn leave(&mut self, place: usize) {
        let Self { seats, ops, .. } = self;
        let Some(seat) = seats.get_mut(place).and_then(Option::as_mut) else { return };
        seat.exchange.leave(ops);
        self.carry_out(place);
        self.ring.submit();
        self.settle(place);
    }

    fn remove(&mut self, place: usize) -> Option<([TcpStream; 2], [Rest; 2])> {
        let seat = self.seats.get_mut(place)?.take_if(|seat| seat.exchange.is_over())?;
        self.free.push(place);
        let Seat { sockets, mut exchange, .. } = seat;
        let rests = Way::BOTH.map(|way| {
            let mut unsent = Vec::new();
            for piece in exchange.take_unsent(way) {
                unsent.extend_from_slice(self.ring.bytes(&piece));
                self.ring.give_back(piece);
            }
            Rest { unsent, failed: exchange.has_failed(way) }
        });
        Some((sockets, rests))
    }

    /// Wakes those who tell what was moved, and asks again for the end of what does not end.
    fn tell(&mut self) {
        for place in std::mem::take(&mut self.listed) {
            let Some(seat) = self.seat(place) else { continue };
            seat.listed = false;
            if let Some(waker) = &seat.waker {
                waker.wake_by_ref();
            }
            if seat.exchange.is_leaving() {
                self.leave(place);
            }
        }
    }
}

/// What a read came to that brought nothing; 0 is no error.
fn without_bytes(error: i32) -> Came<Piece> {
    match error {
        libc::ENOBUFS | libc::ECANCELED | libc::EINTR => Came::Nothing,
        // Not an end, but the other engine will find that out.
        0 | libc::EAGAIN | libc::ENOMEM | libc::EINVAL => Came::End,
        _ => Came::Failed,
    }
}
