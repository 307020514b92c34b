//! One connection: frames in, streams driven, frames out, all in one task; and its end, by the
//! client, by a deadline, by a budget, or because the listener drains.

use std::{
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::Request;
use tokio::time::{Instant, timeout};

use super::{
    clock::Clock,
    echo::Echo,
    meter::{Meter, Metered},
    settings,
    stream::{self, Shared},
    streams::Streams,
    watch::{Verdict, Watch},
};
use crate::proxy::{
    deadline::Deadline,
    drain::Begun,
    http1::Stream,
    peer::Peer,
    worker::{Slot, Worker},
};

/// How long what was said last may take to be sent.
const LINGER: Duration = Duration::from_secs(2);

/// Serves requests until the connection ends.
pub async fn serve<S: Stream>(stream: S, peer: Peer, slot: Rc<Slot>, worker: Rc<Worker>) {
    // Not the listener: it may be another one long before the connection ends.
    let Some(http) = slot.get().http else { return };
    let meter = Rc::<Meter>::default();
    let metered = Metered { stream, meter: Rc::clone(&meter) };
    let handshake = settings::builder(&http).handshake::<_, Bytes>(metered);
    let clock = Rc::new(Clock::new(Instant::now()));
    let shared = Rc::new(Shared { peer, slot, worker, clock });
    let ended = match timeout(http.header_timeout, handshake).await {
        Ok(Ok(h2)) => {
            let connection = Connection::new(h2, Rc::clone(&shared), Rc::clone(&meter));
            let run = |request, respond| stream::run(request, respond, Rc::clone(&shared));
            drive(connection, run).await
        }
        Ok(Err(error)) => word(&error),
        Err(_elapsed) => Some("slow_request"),
    };
    let listener = shared.slot.get();
    let stats = listener.shared.stats.at(shared.worker_id());
    meter.fold(stats);
    if let Some(word) = ended {
        tracing::debug!(client = %shared.peer.client, word, "an HTTP/2 connection was ended");
        stats.refusals.count(word);
    }
}

/// A connection after its handshake.
struct Connection<S> {
    h2: h2::server::Connection<Metered<S>, Bytes>,
    shared: Rc<Shared>,
    meter: Rc<Meter>,
    watch: Watch,
    deadline: Deadline,
    drained: Begun,
    echo: Echo,
    /// It is being ended: nothing more is served.
    ending: Option<Ending>,
}

/// An end that was begun by us.
struct Ending {
    word: &'static str,
    by: Instant,
}

/// Drives a connection and its streams to the end; the word for it, if there is one.
async fn drive<S, F>(
    mut connection: Connection<S>,
    run: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F,
) -> Option<&'static str>
where
    S: Stream,
    F: Future<Output = ()>,
{
    let mut streams = Streams::new(connection.echo.waker());
    let ended = std::future::poll_fn(|cx| connection.poll(cx, &mut streams, &run)).await;
    // What still waits for its client learns that it is gone; what waits for anything else is
    // given up. Both are accounted for.
    drop(connection);
    streams.poll();
    ended
}

impl<S: Stream> Connection<S> {
    fn new(
        mut h2: h2::server::Connection<Metered<S>, Bytes>,
        shared: Rc<Shared>,
        meter: Rc<Meter>,
    ) -> Self {
        let watch = Watch::new(h2.ping_pong(), shared.clock.now());
        let drained = shared.slot.drain.begun();
        Self {
            h2,
            shared,
            meter,
            watch,
            deadline: Deadline::default(),
            drained,
            echo: Echo::default(),
            ending: None,
        }
    }

    fn poll<F: Future<Output = ()>>(
        &mut self,
        cx: &mut Context<'_>,
        streams: &mut Streams<F>,
        run: &impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F,
    ) -> Poll<Option<&'static str>> {
        let inside = self.echo.enter(cx);
        let waker = self.echo.waker();
        let cx = &mut Context::from_waker(&waker);
        let now = Instant::now();
        self.shared.clock.set_now(now);
        self.meter.turn();
        // Streams first: what targets answered at the same time goes out in one write.
        streams.poll();
        // Streams are polled once more below, and what they have to send is sent here.
        inside.forget();
        loop {
            match self.h2.poll_accept(cx) {
                // What came before the end was begun is not worth serving.
                Poll::Ready(Some(Ok(_))) if self.ending.is_some() => {}
                Poll::Ready(Some(Ok((request, respond)))) => streams.push(run(request, respond)),
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(self.ending.as_ref().map(|end| end.word).or(word(&error)));
                }
                Poll::Ready(None) => return Poll::Ready(self.ending.as_ref().map(|end| end.word)),
                Poll::Pending => break,
            }
        }
        // What they have to send wakes this task again.
        streams.poll();
        self.look_after(cx, now, !streams.is_empty())
    }

    /// Everything that is not frames: floods, deadlines, the drain.
    fn look_after(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        active: bool,
    ) -> Poll<Option<&'static str>> {
        if let Some(Ending { word, by }) = &self.ending {
            self.deadline.set(*by, Duration::ZERO);
            return self.deadline.poll(cx).map(|()| Some(*word));
        }
        if let Some(flood) = self.meter.flood() {
            return self.end(cx, now, flood.word());
        }
        if !self.watch.is_draining() && self.drained.poll(cx).is_ready() {
            self.watch.drain(now);
            self.h2.graceful_shutdown();
            cx.waker().wake_by_ref();
        }
        let listener = self.shared.slot.get();
        self.meter.fold(listener.shared.stats.at(self.shared.worker_id()));
        let Some(http) = listener.http else { return Poll::Ready(None) };
        let times = (listener.idle_timeout, http.header_timeout, http.write_idle_timeout);
        loop {
            let next = match self.watch.look(now, &self.meter, active, times, cx) {
                Verdict::Wait(next) => next,
                Verdict::Drain => {
                    self.watch.drain(now);
                    self.h2.graceful_shutdown();
                    cx.waker().wake_by_ref();
                    continue;
                }
                Verdict::End(word) => return self.end(cx, now, word),
                Verdict::Close(word) => return Poll::Ready(word),
            };
            let next = self.watch.with_streams(self.shared.clock.take_earliest(), next);
            self.deadline.set(next, Duration::ZERO);
            if self.deadline.poll(cx).is_pending() {
                return Poll::Pending;
            }
            let streams = self.shared.clock.fire();
            self.watch.set_streams(streams);
        }
    }

    /// Ends it for what the client does: GOAWAY and no more.
    fn end(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        word: &'static str,
    ) -> Poll<Option<&'static str>> {
        self.h2.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        self.ending = Some(Ending { word, by: now + LINGER });
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The word for an error that the `h2` crate found in what the client sent; the client's own end
/// has none.
fn word(error: &h2::Error) -> Option<&'static str> {
    if !error.is_library() {
        return None;
    }
    Some(match error.reason()? {
        Reason::NO_ERROR | Reason::CANCEL => return None,
        Reason::PROTOCOL_ERROR => "h2_protocol_error",
        Reason::FLOW_CONTROL_ERROR => "h2_flow_control_error",
        Reason::STREAM_CLOSED => "h2_stream_closed",
        Reason::FRAME_SIZE_ERROR => "h2_frame_size_error",
        Reason::COMPRESSION_ERROR => "h2_compression_error",
        Reason::ENHANCE_YOUR_CALM => "h2_enhance_your_calm",
        _ => "h2_error",
    })
}
