//! Both directions of a connection in one task, with one deadline.

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::{
    End, Follow, Side,
    direction::{Direction, Fault},
};
use crate::proxy::plain::Plain;

/// Looks at a connection within its idle time: what a clock would be asked for at each message.
const LOOKS: u32 = 16;

/// What was relayed.
#[derive(Debug)]
pub(super) struct Relayed {
    pub(super) end: End,
    pub(super) received: u64,
    pub(super) sent: u64,
}

/// Relays until both sides have ended, one is reset, `follow` has it end, or no byte was sent or
/// taken for `idle`, or up to a sixteenth longer: a receiver that is slow is not idle. `first`
/// goes to the target before anything else, and without waiting for the client.
pub(super) async fn relay<C: Side>(
    client: &mut C,
    target: &mut Plain,
    first: &[u8],
    idle: Duration,
    follow: &mut impl Follow,
) -> Relayed {
    let mut pair = Pair { up: Direction::beginning_with(first), down: Direction::default() };
    let mut joined = first.is_empty();
    let mut deadline = pin!(sleep_until(Instant::now() + idle / LOOKS));
    let mut moved = 0;
    let mut quiet = Quiet::default();
    let mut is_new = true;
    let mut waker: Option<Waker> = None;
    let mut told = Told::default();
    let end = poll_fn(|cx| {
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            waker = Some(cx.waker().clone());
            pair.up.changes_task();
            pair.down.changes_task();
        }
        if !joined {
            joined = true;
            if pair.up.join(cx, client).is_err() {
                return Poll::Ready(End::ClientReset);
            }
        }
        if let Poll::Ready(end) = pair.poll(cx, client, target) {
            return Poll::Ready(end);
        }
        if follow.poll_over(cx).is_ready() {
            return Poll::Ready(End::Drained);
        }
        let total = pair.up.progress() + pair.down.progress();
        if total != moved {
            moved = total;
            told.tell(&pair, follow);
        }
        // Looked at only when it fires: while bytes flow, neither it nor a clock is.
        while is_new || deadline.is_elapsed() {
            if !is_new {
                if quiet.looked(moved) >= LOOKS {
                    return Poll::Ready(End::Idle);
                }
                deadline.as_mut().reset(Instant::now() + idle / LOOKS);
            }
            is_new = false;
            if deadline.as_mut().poll(cx).is_pending() {
                break;
            }
        }
        Poll::Pending
    })
    .await;
    told.tell(&pair, follow);
    Relayed { end, received: pair.up.moved, sent: pair.down.moved }
}

/// In how many looks in a row nothing had moved.
#[derive(Debug, Default)]
struct Quiet {
    moved: u64,
    looks: u32,
}

impl Quiet {
    /// One more look, at what was moved by now.
    fn looked(&mut self, moved: u64) -> u32 {
        self.looks = if moved == self.moved { self.looks + 1 } else { 0 };
        self.moved = moved;
        self.looks
    }
}

/// What was said of the bytes that moved.
#[derive(Debug, Default)]
struct Told {
    up: u64,
    down: u64,
}

impl Told {
    fn tell(&mut self, pair: &Pair, follow: &mut impl Follow) {
        let (up, down) = (pair.up.moved, pair.down.moved);
        follow.moved(up - self.up, down - self.down);
        (self.up, self.down) = (up, down);
    }
}

/// Client to target, and back.
#[derive(Debug)]
struct Pair {
    up: Direction,
    down: Direction,
}

impl Pair {
    fn poll<C: Side>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut C,
        target: &mut Plain,
    ) -> Poll<End> {
        let Self { up, down } = self;
        // A side that takes no more may still have sent something, such as an early answer: it
        // is over when nothing more can be read from it.
        match up.poll(cx, client, target) {
            Poll::Ready(Err(Fault::Read)) => return Poll::Ready(End::ClientReset),
            Poll::Ready(Err(Fault::Write)) => {
                up.abandon();
                down.source_failed();
            }
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        match down.poll(cx, target, client) {
            Poll::Ready(Err(Fault::Read)) => return Poll::Ready(End::TargetReset),
            Poll::Ready(Err(Fault::Write)) => {
                down.abandon();
                up.source_failed();
                // Nobody may be waiting for what comes up: look again.
                cx.waker().wake_by_ref();
            }
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        if !(up.is_done() && down.is_done()) {
            return Poll::Pending;
        }
        // What the target still sent was lost.
        Poll::Ready(if down.is_abandoned() { End::ClientReset } else { End::Closed })
    }
}
