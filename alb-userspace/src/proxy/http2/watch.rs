//! How long a connection may stay as it is: idle, in the middle of a header block, unread by its
//! client, silent under streams. Decides; the connection acts.

use std::{task::Context, time::Duration};

use h2::{Ping, PingPong};
use tokio::time::Instant;

use super::meter::Meter;

/// Time for a PONG.
const PONG: Duration = Duration::from_secs(10);
/// Time for a client to close after GOAWAY, once it has no streams.
const LEAVE: Duration = Duration::from_secs(5);

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing, until then.
    Wait(Instant),
    /// Streams that are open end, new ones are not taken.
    Drain,
    /// GOAWAY, and out.
    End(&'static str),
    /// Closed as it is.
    Close(Option<&'static str>),
}

/// What is known of a connection over time.
#[derive(Debug)]
pub(super) struct Watch {
    pings: Option<PingPong>,
    /// Bytes had come, and when the last of them did.
    received: (u64, Instant),
    /// Bytes were taken, and since when no more.
    sent: Option<(u64, Instant)>,
    block: Option<Instant>,
    /// A PING that waits for any sign of life.
    pinged: Option<Instant>,
    draining: Option<Instant>,
    /// When the last stream ended.
    idle: Option<Instant>,
    refilled: Instant,
    /// No stream has a deadline before this.
    streams: Option<Instant>,
}

impl Watch {
    pub(super) fn new(pings: Option<PingPong>, now: Instant) -> Self {
        Self {
            pings,
            received: (0, now),
            sent: None,
            block: None,
            pinged: None,
            draining: None,
            idle: None,
            refilled: now,
            streams: None,
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// It drains from now on.
    pub(super) fn drain(&mut self, now: Instant) {
        self.draining = Some(now);
    }

    /// The deadline of the connection with that of a stream that was just set.
    pub(super) fn with_streams(&mut self, set: Option<Instant>, next: Instant) -> Instant {
        if let Some(set) = set {
            self.streams = Some(self.streams.map_or(set, |streams| streams.min(set)));
        }
        self.streams.map_or(next, |streams| streams.min(next))
    }

    /// The earliest deadline of all streams.
    pub(super) fn set_streams(&mut self, earliest: Option<Instant>) {
        self.streams = earliest;
    }

    /// `active` = there are streams. `times` are those without a byte, for a header block, and
    /// for a client to take something.
    pub(super) fn look(
        &mut self,
        now: Instant,
        meter: &Meter,
        active: bool,
        (idle, header, write): (Duration, Duration, Duration),
        cx: &mut Context<'_>,
    ) -> Verdict {
        self.refill(now, meter);
        let mut next = now + idle;
        let mut until = |at: Instant| {
            next = next.min(at);
            at <= now
        };
        if meter.received() != self.received.0 {
            self.received = (meter.received(), now);
            self.pinged = None;
        }
        self.block = meter.in_header_block().then(|| self.block.unwrap_or(now));
        if self.block.is_some_and(|since| until(since + header)) {
            return Verdict::End("slow_request");
        }
        self.sent = meter.is_blocked().then(|| match self.sent {
            Some((sent, since)) if sent == meter.sent() => (sent, since),
            _ => (meter.sent(), now),
        });
        if self.sent.is_some_and(|(_, since)| until(since + write)) {
            return Verdict::Close(Some("slow_reader"));
        }
        if active {
            self.idle = None;
            return self.look_active(now, idle, next, cx);
        }
        // The end of a stream is a sign of life as good as a byte.
        let since = (*self.idle.get_or_insert(now)).max(self.received.1);
        match self.draining {
            Some(draining) if until(since.max(draining) + LEAVE) => return Verdict::Close(None),
            None if until(since + idle) => return Verdict::Drain,
            Some(_) | None => {}
        }
        Verdict::Wait(next)
    }

    /// A client that is silent under streams is asked whether it is there.
    fn look_active(
        &mut self,
        now: Instant,
        idle: Duration,
        next: Instant,
        cx: &mut Context<'_>,
    ) -> Verdict {
        let ask = self.received.1 + idle;
        if let Some(pinged) = self.pinged {
            let lost = pinged + PONG;
            return if lost <= now {
                Verdict::Close(Some("h2_ping_timeout"))
            } else {
                Verdict::Wait(next.min(lost))
            };
        }
        if ask > now {
            return Verdict::Wait(next.min(ask));
        }
        if let Some(pings) = &mut self.pings {
            // The one before was answered, or there was another sign of life in its place.
            let _answered = pings.poll_pong(cx).is_ready();
            if pings.send_ping(Ping::opaque()).is_ok() {
                cx.waker().wake_by_ref();
            }
        }
        self.pinged = Some(now);
        Verdict::Wait(next.min(now + PONG))
    }

    fn refill(&mut self, now: Instant, meter: &Meter) {
        let passed = now.saturating_duration_since(self.refilled);
        if passed >= Duration::from_secs(1) {
            meter.refill(passed);
            self.refilled = now;
        }
    }
}
