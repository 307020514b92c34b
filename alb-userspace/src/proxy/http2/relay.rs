//! A response on its way from the target to the client: interim heads, the head, the body as it
//! comes and as the client takes it. The request's body may still be going the other way.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use h2::{Reason, SendStream, server::SendResponse};
use http::{Method, Response};

use super::{
    account::{self, Account},
    answer,
    clock::Timer,
    download::Download,
    exchange::Reply,
    stream::Job,
};
use crate::proxy::{
    buffer::Buffer,
    forward::Returning,
    http1::{Fields, Progress, response},
    message::BodyKind,
    refusal::Refusal,
    stats::{StatusClass, UpstreamError},
    upstream::Upstream,
};

/// Bytes of one DATA frame's worth of work.
const PIECE: usize = 32_768;

/// Bytes read at a time for a client that kept us waiting for room for the last ones.
const SLOWLY: usize = 8 * 1024;
/// A wait for room that is no longer is none: what there is is being sent.
const SHORT: Duration = Duration::from_millis(10);

/// A response head, made for the client.
struct Begun {
    response: Response<()>,
    body: Download,
    /// The target's connection goes on.
    reusable: bool,
}

/// Relays a response of which the first bytes are there. An error is still to be answered;
/// what fails later ends the stream here.
pub(super) async fn run(
    job: &mut Job,
    mut reply: Reply,
    respond: &mut SendResponse<Bytes>,
    timer: &Timer,
    account: &Account,
) -> Result<(), Refusal> {
    let begun = match head(job, &mut reply.upstream, respond, timer, account).await {
        Ok(begun) => begun,
        Err(refusal) => {
            reply.upstream.reset();
            if let Some(error) = UpstreamError::of(refusal) {
                job.backend.fails(&reply.target, account.shared.worker_id(), error);
            }
            return Err(refusal);
        }
    };
    let mut body = begun.body;
    let status = begun.response.status().as_u16();
    account.status(status);
    account.answered(status);
    let backend = Arc::clone(&job.backend);
    let counts = backend.shared.stats.at(account.shared.worker_id());
    counts.responses.count(StatusClass::of(status));
    let fields = account::size(begun.response.headers());
    let Ok(mut stream) = respond.send_response(begun.response, body.is_done()) else {
        reply.upstream.reset();
        return Err(Refusal::ClientGone);
    };
    account.sent_head(fields);
    let sent = if body.is_done() {
        Ok(())
    } else {
        relay(job, &mut reply.upstream, &mut body, &mut stream, timer, account).await
    };
    let Reply { upstream, target, .. } = reply;
    if let Err(refusal) = sent {
        upstream.reset();
        let error = UpstreamError::of_body(refusal);
        if let Some(error) = error {
            backend.fails(&target, account.shared.worker_id(), error);
        }
        let ours = error.is_some() || refusal == Refusal::TargetDrained;
        stream.send_reset(if ours { Reason::INTERNAL_ERROR } else { Reason::CANCEL });
        account.ends(Some(refusal));
        return Ok(());
    }
    account.ends(None);
    if !job.upload.is_done() {
        // It was answered early, and wants no more of the body.
        upstream.reset();
    } else if begun.reusable && upstream.input.is_empty() {
        let now = account.shared.clock.now();
        let keep = (&backend.shared, backend.pool_idle);
        account.shared.worker.pool.put(target.address, upstream.stream, now, keep);
    }
    Ok(())
}

/// Reads the head, and passes interim ones on.
async fn head(
    job: &mut Job,
    upstream: &mut Upstream,
    respond: &mut SendResponse<Bytes>,
    timer: &Timer,
    account: &Account,
) -> Result<Begun, Refusal> {
    let mut progress = Progress::default();
    loop {
        if progress.is_ready(upstream.input.data())
            && let Some((len, begun)) = parse(job, &upstream.input, account)?
        {
            upstream.input.consume(len);
            if !begun.response.status().is_informational() {
                return Ok(begun);
            }
            let fields = account::size(begun.response.headers());
            if respond.send_informational(begun.response).is_err() {
                return Err(Refusal::ClientGone);
            }
            account.sent_head(fields);
            progress = Progress::default();
            if !upstream.input.is_empty() {
                continue;
            }
        }
        if upstream.input.is_full() && !upstream.input.grow(response::MAX_HEAD) {
            return Err(Refusal::ResponseTooLarge);
        }
        let timeout = job.backend.response_timeout;
        let gone = |cx: &mut Context<'_>| respond.poll_reset(cx).is_ready();
        if fill(job, upstream, gone, timer, account, (timeout, usize::MAX)).await? == 0 {
            return Err(Refusal::TargetClosed);
        }
    }
}

/// The head at the beginning of the buffer: its bytes, and what becomes of it.
fn parse(job: &Job, input: &Buffer, account: &Account) -> Result<Option<(usize, Begun)>, Refusal> {
    let mut fields = Fields::new();
    let is_head = account.parts.method == Method::HEAD;
    let asked = response::Asked { head: is_head, upgrade: false };
    let found = match response::parse(input.data(), asked, &mut fields) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        Err(response::Bad::TooLarge) => return Err(Refusal::ResponseTooLarge),
        Err(bad) => {
            tracing::debug!(?bad, "a target's response is no good");
            return Err(Refusal::BadResponse);
        }
    };
    let body = match found.head.body {
        BodyKind::Chunked | BodyKind::Close | BodyKind::Stream => BodyKind::Stream,
        kind @ (BodyKind::None | BodyKind::Length(_)) => kind,
    };
    let shared = &account.shared;
    let request = answer::request(account);
    let listener = &account.listener;
    let mut cookie = Vec::new();
    if let (Some(keys), Some(target), 200..) = (&job.backend.sticky, job.target, found.head.status)
    {
        keys.write(target, request.scheme, SystemTime::now(), &mut cookie);
    }
    let rule = job.rule.and_then(|at| listener.routes.rule(at));
    let to = Returning {
        request: &request,
        peer: &shared.peer,
        edits: rule.map(|rule| &rule.edits.response),
        set_cookie: (!cookie.is_empty()).then_some(&cookie[..]),
        hsts: listener.hsts.as_deref(),
        body,
    };
    let response = answer::head(&found.head, &to);
    let body = Download::new(found.head.body, found.head.fields);
    let begun = Begun { response, body, reusable: found.keep_alive };
    Ok(Some((found.len, begun)))
}

/// Sends the body as it comes.
async fn relay(
    job: &mut Job,
    upstream: &mut Upstream,
    body: &mut Download,
    stream: &mut SendStream<Bytes>,
    timer: &Timer,
    account: &Account,
) -> Result<(), Refusal> {
    let bad = |_: crate::proxy::refusal::Malformed| Refusal::BadResponse;
    let mut most = PIECE;
    loop {
        let ready = body.find(&mut upstream.input).map_err(bad)?;
        if body.is_done() {
            return end(body, stream, account);
        }
        if ready > 0 {
            // Small chunks that came together go on together.
            let wanted = upstream.input.len().min(PIECE);
            let (room, paused) = room(job, upstream, stream, wanted, timer, account).await?;
            most = if paused { SLOWLY } else { PIECE };
            let data = body.take(&mut upstream.input, room).map_err(bad)?;
            account.sent(data.len() as u64);
            body.find(&mut upstream.input).map_err(bad)?;
            let last = body.is_done() && !body.has_trailers();
            stream.send_data(data, last).map_err(|error| gone(&error))?;
            if last {
                return Ok(());
            }
            continue;
        }
        let idle = account.listener.idle_timeout;
        let is_gone = |cx: &mut Context<'_>| stream.poll_reset(cx).is_ready();
        match fill(job, upstream, is_gone, timer, account, (idle, most)).await {
            Ok(1..) => {}
            Ok(0) if body.ends_with_connection() => return end(body, stream, account),
            Ok(0) => return Err(Refusal::TargetClosed),
            // The target may be waiting for the rest of the request as we are.
            Err(Refusal::ResponseTimeout) if job.owes_body() => return Err(Refusal::SlowBody),
            Err(refusal) => return Err(refusal),
        }
    }
}

fn end(
    body: &mut Download,
    stream: &mut SendStream<Bytes>,
    account: &Account,
) -> Result<(), Refusal> {
    let sent = match body.take_trailers() {
        Some(trailers) => {
            account.sent(account::size(&trailers));
            stream.send_trailers(trailers)
        }
        None => stream.send_data(Bytes::new(), true),
    };
    sent.map_err(|error| gone(&error))
}

fn gone(error: &h2::Error) -> Refusal {
    tracing::trace!(%error, "a client went during its response");
    Refusal::ClientGone
}

/// Waits until the client takes some of `wanted` bytes; how many it takes, and whether it kept us
/// waiting.
async fn room(
    job: &mut Job,
    upstream: &mut Upstream,
    stream: &mut SendStream<Bytes>,
    wanted: usize,
    timer: &Timer,
    account: &Account,
) -> Result<(usize, bool), Refusal> {
    stream.reserve_capacity(wanted);
    let mut wait = Wait::None;
    poll_fn(|cx| {
        loop {
            let room = stream.capacity().min(wanted);
            if room > 0 {
                return Poll::Ready(Ok((room, wait == Wait::Long)));
            }
            match stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(Refusal::ClientGone)),
                Poll::Pending => break,
            }
        }
        if let Poll::Ready(Err(refusal)) = job.upload.poll(cx, &mut upstream.stream, account) {
            return Poll::Ready(Err(refusal));
        }
        if wait == Wait::None {
            wait = Wait::Short;
            timer.set(SHORT);
        }
        if timer.poll(cx).is_pending() {
            return Poll::Pending;
        }
        if wait == Wait::Long {
            return Poll::Ready(Err(Refusal::SlowReader));
        }
        wait = Wait::Long;
        upstream.input.tighten();
        timer.set(job.http.write_idle_timeout.saturating_sub(SHORT));
        timer.poll(cx).map(|()| Err(Refusal::SlowReader))
    })
    .await
}

/// For how long a client has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    None,
    /// As long as it takes to send what there is.
    Short,
    Long,
}

/// Reads more of the response, at most `most` bytes; 0 = the target closed.
async fn fill(
    job: &mut Job,
    upstream: &mut Upstream,
    mut is_gone: impl FnMut(&mut Context<'_>) -> bool,
    timer: &Timer,
    account: &Account,
    (timeout, most): (Duration, usize),
) -> Result<usize, Refusal> {
    let Job { upload, bond, .. } = job;
    let Upstream { stream, input, .. } = upstream;
    let mut armed = false;
    poll_fn(|cx| {
        match input.poll_fill_some(stream, cx, most) {
            Poll::Ready(Ok(len)) => {
                account.got_from_target(len);
                return Poll::Ready(Ok(len));
            }
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Refusal::TargetClosed)),
            Poll::Pending => {}
        }
        if let Poll::Ready(Err(refusal)) = upload.poll(cx, stream, account) {
            return Poll::Ready(Err(refusal));
        }
        if is_gone(cx) {
            return Poll::Ready(Err(Refusal::ClientGone));
        }
        if bond.poll(cx).is_ready() {
            return Poll::Ready(Err(Refusal::TargetDrained));
        }
        if upload.take_moved() || !armed {
            armed = true;
            timer.set(timeout);
        }
        timer.poll(cx).map(|()| Err(Refusal::ResponseTimeout))
    })
    .await
}
