//! Both directions of a connection in one task, with one deadline.

use std::{
    future::{Future as _, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    End, Follow, Side,
    direction::{Direction, Fault},
    ring::{Back, Chat, Taste, Way},
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
/// goes to the target before anything else, and without waiting for the client. Both sides are there
/// afterwards too, unless the process ran out of what it takes to watch them.
pub(super) async fn relay<C: Side>(
    sides: &mut Option<(C, Plain)>,
    first: &[u8],
    idle: Duration,
    follow: &mut impl Follow,
) -> Relayed {
    let mut pair = Pair { up: Direction::beginning_with(first), down: Direction::default() };
    let mut watch = Watch {
        deadline: pin!(sleep_until(Instant::now() + idle / LOOKS)),
        idle,
        is_new: true,
        moved: 0,
        quiet: Quiet::default(),
        told: Told::default(),
    };
    let mut taste = Taste::of(C::PLAIN);
    let mut joined = first.is_empty();
    let end = loop {
        // The process ran out of descriptors or memory to watch them.
        let Some(both) = sides else { break End::ClientReset };
        let end = talk(both, &mut pair, &mut joined, &mut watch, &mut taste, follow).await;
        if let Some(end) = end {
            break end;
        }
        let Some(chat) = enter(sides, &mut taste) else { continue };
        let (end, back) = chatter(chat, &mut pair, &mut watch, follow).await;
        if let Ok(back) = back {
            pair.up.resume(back.up);
            pair.down.resume(back.down);
            taste.came_back(pair.reads());
            *sides = C::of_plain(back.client).map(|client| (client, back.target));
        }
        if let Some(end) = end {
            break end;
        }
    };
    watch.told.tell(&pair, follow);
    Relayed { end, received: pair.up.moved, sent: pair.down.moved }
}

/// Takes a connection to the ring, if there is one and it is for it.
fn enter<C: Side>(sides: &mut Option<(C, Plain)>, taste: &mut Taste) -> Option<Chat> {
    let Some(engine) = Chat::engine() else {
        taste.stays();
        return None;
    };
    let (client, target) = sides.take()?;
    match client.into_plain() {
        Ok(client) => Chat::begin(engine, client, target).ok(),
        Err(client) => {
            *sides = Some((client, target));
            taste.stays();
            None
        }
    }
}

/// Relays what comes as the runtime says that it does; `None` when the ring is to do so.
async fn talk<C: Side>(
    (client, target): &mut (C, Plain),
    pair: &mut Pair,
    joined: &mut bool,
    watch: &mut Watch<'_>,
    taste: &mut Taste,
    follow: &mut impl Follow,
) -> Option<End> {
    let mut waker: Option<Waker> = None;
    poll_fn(|cx| {
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            waker = Some(cx.waker().clone());
            pair.up.changes_task();
            pair.down.changes_task();
        }
        if !*joined {
            *joined = true;
            if pair.up.join(cx, client).is_err() {
                return Poll::Ready(Some(End::ClientReset));
            }
        }
        if let Poll::Ready(end) = pair.poll(cx, client, target) {
            return Poll::Ready(Some(end));
        }
        if let Poll::Ready(end) = watch.poll(cx, pair, follow) {
            return Poll::Ready(Some(end));
        }
        let is_for_the_ring = taste.is_for_the_ring(pair.reads(), pair.large());
        if is_for_the_ring && pair.up.is_at_rest() && pair.down.is_at_rest() {
            return Poll::Ready(None);
        }
        Poll::Pending
    })
    .await
}

/// Has the ring relay until it gives the connection back, or the connection is to end.
async fn chatter(
    chat: Chat,
    pair: &mut Pair,
    watch: &mut Watch<'_>,
    follow: &mut impl Follow,
) -> (Option<End>, io::Result<Back>) {
    let mut end = None;
    let mut left = false;
    poll_fn(|cx| {
        let over = chat.poll_over(cx);
        pair.up.advance(chat.take_counts(Way::Up));
        pair.down.advance(chat.take_counts(Way::Down));
        if over.is_ready() {
            return over;
        }
        if end.is_none()
            && let Poll::Ready(why) = watch.poll(cx, pair, follow)
        {
            end = Some(why);
        }
        if end.is_some() && !left {
            left = true;
            chat.leave();
            return chat.poll_over(cx);
        }
        Poll::Pending
    })
    .await;
    (end, chat.end())
}

/// What is looked at beside the bytes.
struct Watch<'a> {
    deadline: Pin<&'a mut Sleep>,
    idle: Duration,
    is_new: bool,
    moved: u64,
    quiet: Quiet,
    told: Told,
}

impl Watch<'_> {
    /// Tells what moved; `Ready` if the connection is to end.
    fn poll(&mut self, cx: &mut Context<'_>, pair: &Pair, follow: &mut impl Follow) -> Poll<End> {
        if follow.poll_over(cx).is_ready() {
            return Poll::Ready(End::Drained);
        }
        let total = pair.up.progress() + pair.down.progress();
        if total != self.moved {
            self.moved = total;
            self.told.tell(pair, follow);
        }
        // Looked at only when it fires: while bytes flow, neither it nor a clock is.
        while self.is_new || self.deadline.is_elapsed() {
            if !self.is_new {
                if self.quiet.looked(self.moved) >= LOOKS {
                    return Poll::Ready(End::Idle);
                }
                self.deadline.as_mut().reset(Instant::now() + self.idle / LOOKS);
            }
            self.is_new = false;
            if self.deadline.as_mut().poll(cx).is_pending() {
                break;
            }
        }
        Poll::Pending
    }
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
    fn reads(&self) -> u64 {
        self.up.reads + self.down.reads
    }

    /// Reads that were not small.
    fn large(&self) -> u64 {
        self.up.large + self.down.large
    }

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
