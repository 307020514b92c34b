//! A response on its way from the target to the client: interim heads, the head, the body as it
//! comes, each piece at once. The request's body may still be going the other way.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Next, Stream,
    client::{Client, poll_write_all},
    dispatch::{self, Giving},
    exchange::{Job, Reply},
    patience::Patience,
    refuse, splice, tunnel,
    upload::Upload,
};
use crate::proxy::{
    buffer::Buffer,
    deadline::Deadline,
    http1::{
        body::Body,
        lines::{Fields, Progress},
        response,
    },
    message::{BodyKind, Version},
    peer::Peer,
    refusal::Refusal,
    stats::{StatusClass, UpstreamError},
    upstream::Upstream,
    worker::{Slot, Worker},
};

/// A client that keeps us waiting for so long for a piece is slow: the next one, of which TLS
/// holds all that its socket does not take, is smaller.
const SLOW: Duration = Duration::from_millis(100);
/// Bytes of a piece for a slow client.
const SLOWLY: usize = 8 * 1024;

/// What is known of a response once its head was written to `Job::out`.
struct Begun {
    /// Bytes of its head.
    len: usize,
    status: u16,
    body: BodyKind,
    /// The body, of which nothing was read.
    rest: Body,
    /// The target's connection goes on.
    reusable: bool,
    /// The client's connection goes on.
    keep: bool,
    /// The body goes without its chunks.
    bare: bool,
}

/// Relays a response of which the first bytes are there.
pub(super) async fn run<S: Stream>(
    client: &mut Client<S>,
    mut job: Job,
    mut reply: Reply,
    slot: &Slot,
    worker: &Worker,
) -> Next {
    let mut begun = match head(client, &mut job, &mut reply.upstream, slot).await {
        Ok(begun) => begun,
        Err(refusal) => {
            reply.upstream.reset();
            if let Some(error) = UpstreamError::of(refusal) {
                job.backend.fails(&reply.target, worker.id, error);
            }
            let keep = job.keep_alive && job.upload.is_done() && !slot.drain.has_begun();
            return refuse::answer(client, &job.listener, &job.asker, refusal, keep).await;
        }
    };
    client.account.answered(begun.status);
    let stats = job.backend.shared.stats.at(worker.id);
    stats.responses.count(StatusClass::of(begun.status));
    stats.bytes_in.add(begun.len as u64);
    let Begun { rest, bare, .. } = &mut begun;
    let relayed = relay(client, &mut job, &mut reply.upstream, rest, *bare, worker).await;
    job.backend.shared.stats.at(worker.id).bytes_out.add(job.upload.sent);
    let Reply { upstream, target, .. } = reply;
    match relayed {
        Ok(()) => {}
        Err(refusal) => {
            client.account.refused(refusal);
            if let Some(error) = UpstreamError::of_body(refusal) {
                job.backend.fails(&target, worker.id, error);
            }
        }
    }
    match relayed {
        Ok(()) if begun.status == 101 => {
            let idle = job.listener.idle_timeout;
            // A tunnel may outlive many a reload: it keeps nothing of what was served before.
            let backend = Arc::clone(&job.backend.shared);
            drop(job);
            client.account.outlives();
            return tunnel::run(client, upstream, idle, backend.stats.at(worker.id)).await;
        }
        Ok(()) => {}
        Err(refusal) => {
            upstream.reset();
            // Whoever reads a body until the close must not take this for its end.
            let unframed = begun.body == BodyKind::Close || begun.bare;
            let gone = matches!(refusal, Refusal::ClientGone | Refusal::SlowReader);
            return if gone || unframed { Next::Abort } else { Next::Close };
        }
    }
    let uploaded = job.upload.is_done();
    if begun.reusable && uploaded && upstream.input.is_empty() {
        let keep = (&job.backend.shared, job.backend.pool_idle);
        worker.pool.put(target.address, upstream.stream, Instant::now(), keep);
    } else if !uploaded {
        upstream.reset();
    }
    match (begun.keep && uploaded, uploaded && client.input.is_empty()) {
        (true, _) => Next::Request,
        (false, true) => Next::Close,
        (false, false) => Next::Linger,
    }
}

/// Reads the head, writes those of interim responses, and makes the client's.
async fn head<S: Stream>(
    client: &mut Client<S>,
    job: &mut Job,
    upstream: &mut Upstream,
    slot: &Slot,
) -> Result<Begun, Refusal> {
    job.out.clear();
    let mut progress = Progress::default();
    let mut patience = Patience::begin(job, &mut client.deadline);
    loop {
        if progress.is_ready(upstream.input.data())
            && let Some((len, begun)) = parse(job, &client.peer, &upstream.input, slot)?
        {
            upstream.input.consume(len);
            if begun.status >= 200 || begun.status == 101 {
                job.upload.cut_rest();
                return Ok(begun);
            }
            job.expects &= begun.status != 100;
            write(client, job, upstream, 0).await?;
            job.out.clear();
            progress = Progress::default();
            patience = Patience::begin(job, &mut client.deadline);
            if !upstream.input.is_empty() {
                continue;
            }
        }
        if upstream.input.is_full() && !upstream.input.grow(response::MAX_HEAD) {
            return Err(Refusal::ResponseTooLarge);
        }
        match fill(client, job, upstream, &mut patience, usize::MAX).await {
            Ok(1..) => {}
            Ok(0) => return Err(Refusal::TargetClosed),
            Err(refusal) => return Err(refusal),
        }
    }
}

/// The head at the beginning of the buffer: its bytes, and what it says. The head for the client
/// is in `Job::out` then.
fn parse(
    job: &mut Job,
    peer: &Peer,
    input: &Buffer,
    slot: &Slot,
) -> Result<Option<(usize, Begun)>, Refusal> {
    let mut fields = Fields::new();
    let found = match response::parse(input.data(), job.asked, &mut fields) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        Err(response::Bad::TooLarge) => return Err(Refusal::ResponseTooLarge),
        Err(bad) => {
            tracing::debug!(?bad, "a target's response is no good");
            return Err(Refusal::BadResponse);
        }
    };
    let (status, body) = (found.head.status, found.head.body);
    let upgraded = status == 101;
    if upgraded && !job.upload.is_done() {
        tracing::debug!("a target switched protocols in the middle of a request");
        return Err(Refusal::BadResponse);
    }
    let old = job.asker.version == Version::Http10;
    let bare = body == BodyKind::Chunked && old;
    let keep = job.keep_alive
        && job.upload.is_done()
        && body != BodyKind::Close
        && !bare
        && !slot.drain.has_begun();
    if status >= 200 || upgraded || dispatch::takes_interim(job.asker.version) {
        let sent = if bare { BodyKind::Close } else { body };
        let Job { asker, listener, backend, rule, target, out, .. } = job;
        let from = (&**backend, target.unwrap_or_default());
        let (rule, close) = (*rule, !keep);
        let giving = Giving { asker, listener, peer, rule, from, close, body: sent };
        dispatch::response(&found, &giving, out);
    }
    let reusable = found.keep_alive && !upgraded;
    let rest = Body::of(body, found.head.fields);
    Ok(Some((found.len, Begun { len: found.len, status, body, rest, reusable, keep, bare })))
}

/// Writes the head and the body as it comes.
async fn relay<S: Stream>(
    client: &mut Client<S>,
    job: &mut Job,
    upstream: &mut Upstream,
    body: &mut Body,
    bare: bool,
    worker: &Worker,
) -> Result<(), Refusal> {
    let idle = job.listener.idle_timeout;
    if S::PLAIN {
        splice::complete(upstream, body).await;
    }
    loop {
        let bytes = upstream.input.data_mut();
        let span = if bare { body.take_data(bytes) } else { body.take(bytes) };
        let span = span.map_err(|reason| {
            tracing::debug!(reason = reason.word(), "a target's body is no good");
            Refusal::BadResponse
        })?;
        if span.removed > 0 {
            upstream.input.shorten(span.removed);
        }
        let took = write(client, job, upstream, span.len).await?;
        let most = if took < SLOW { usize::MAX } else { SLOWLY };
        job.backend.shared.stats.at(worker.id).bytes_in.add(span.len as u64);
        job.out.clear();
        if span.ended || body.is_done() {
            return Ok(());
        }
        if let Some((pipe, left)) = splice::worth::<S>(body) {
            return splice::run(client, job, upstream, pipe, left, worker).await;
        }
        let mut limit = Idle::new(idle, job.expects);
        match fill(client, job, upstream, &mut limit, most).await {
            Ok(1..) => {}
            Ok(0) if matches!(body, Body::Close) => return Ok(()),
            Ok(0) => return Err(Refusal::TargetClosed),
            Err(refusal) => return Err(refusal),
        }
    }
}

/// What ends waiting for more of a response.
trait Limit {
    /// To be asked after the upload was polled.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        deadline: &mut Deadline,
        upload: &mut Upload,
    ) -> Poll<Refusal>;
}

impl Limit for Patience {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        deadline: &mut Deadline,
        upload: &mut Upload,
    ) -> Poll<Refusal> {
        Self::poll(self, cx, deadline, upload)
    }
}

/// Nothing moves in either direction.
struct Idle {
    time: Duration,
    armed: bool,
    /// The client waits for 100 before it sends the body.
    expects: bool,
}

impl Idle {
    fn new(time: Duration, expects: bool) -> Self {
        Self { time, armed: false, expects }
    }
}

impl Limit for Idle {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        deadline: &mut Deadline,
        upload: &mut Upload,
    ) -> Poll<Refusal> {
        let moved = upload.take_moved();
        if moved.is_some() || !self.armed {
            self.armed = true;
            deadline.set(moved.unwrap_or_else(Instant::now), self.time);
        }
        deadline.poll(cx).map(|()| upload.late(self.expects))
    }
}

/// Reads at most `most` bytes more of the response; 0 = the target closed.
async fn fill<S: Stream>(
    client: &mut Client<S>,
    job: &mut Job,
    upstream: &mut Upstream,
    limit: &mut impl Limit,
    most: usize,
) -> Result<usize, Refusal> {
    let Job { upload, .. } = job;
    let Upstream { stream, input, .. } = upstream;
    poll_fn(|cx| {
        match input.poll_fill_some(stream, cx, most) {
            Poll::Ready(Ok(len)) => return Poll::Ready(Ok(len)),
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Refusal::TargetClosed)),
            Poll::Pending => {}
        }
        if client.poll_over(cx).is_ready() {
            return Poll::Ready(Err(Refusal::TargetDrained));
        }
        if let Poll::Ready(refusal) = upload.poll(cx, client, stream) {
            return Poll::Ready(Err(refusal));
        }
        limit.poll(cx, &mut client.deadline, upload).map(Err)
    })
    .await
}

/// Writes `Job::out` and the first `len` bytes of the target's buffer to the client, and uses the
/// latter up. The result is how long the client kept us waiting.
async fn write<S: Stream>(
    client: &mut Client<S>,
    job: &mut Job,
    upstream: &mut Upstream,
    len: usize,
) -> Result<Duration, Refusal> {
    let (mut written, mut seen) = (0, usize::MAX);
    let mut left = len;
    let mut waiting = None;
    let Job { out, upload, listener, .. } = job;
    let Upstream { stream, input, .. } = upstream;
    let done = poll_fn(|cx| {
        let parts = if left == len { [out.as_slice(), &input.data()[..len]] } else { [&[][..]; 2] };
        match poll_write_all(&mut client.stream, cx, parts, &mut written) {
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Refusal::ClientGone)),
            Poll::Pending => {}
        }
        if written == out.len() + len {
            // TLS has taken it all: it is held once.
            input.consume(std::mem::take(&mut left));
            input.release();
        }
        if let Poll::Ready(refusal) = upload.poll(cx, client, stream) {
            return Poll::Ready(Err(refusal));
        }
        if written != seen {
            seen = written;
            let now = Instant::now();
            waiting.get_or_insert(now);
            let idle = listener.http.map(|http| http.write_idle_timeout).unwrap_or_default();
            client.deadline.set(now, idle);
        }
        client.deadline.poll(cx).map(|()| Err(Refusal::SlowReader))
    })
    .await;
    client.account.sent(written);
    input.consume(left);
    done.map(|()| waiting.map(|since| since.elapsed()).unwrap_or_default())
}
