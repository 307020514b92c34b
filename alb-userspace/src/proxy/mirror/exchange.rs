//! One copy and its target: connected, sent as it comes, answered to nobody.

use std::{
    future::poll_fn,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep, sleep};

use super::Line;
use crate::proxy::{
    buffer::Buffer,
    http1::{
        Fields,
        body::Body,
        response::{self, Asked},
    },
    message::BodyKind,
    plan::{Backend, Target},
    stats::{Mirrored, StatusClass, UpstreamError},
    upstream::{self, ConnectError, Upstream},
    worker::Worker,
};

/// Sends a copy; what became of it.
pub(super) async fn run(
    line: &Line,
    backend: &Arc<Backend>,
    client: IpAddr,
    is_head: bool,
    worker: &Worker,
) -> Mirrored {
    let stats = backend.shared.stats.at(worker.id);
    let Some(target) = backend.pick(client, None, &[]).and_then(|at| backend.targets.get(at))
    else {
        stats.no_target.add(1);
        return Mirrored::Failed;
    };
    let _counted = target.enter();
    let upstream = match worker.pool.take(target.address) {
        Some(upstream) => {
            stats.reuses.add(1);
            upstream
        }
        None => match connect(backend, target, worker).await {
            Some(upstream) => upstream,
            None => return Mirrored::Failed,
        },
    };
    let asked = Asked { head: is_head, upgrade: false };
    let answer = Answer { asked, body: None, keeps: false };
    let mut exchange = Exchange { line, upstream, answer, sent: false, limit: None };
    let ended = poll_fn(|cx| exchange.poll(cx, backend)).await;
    let Exchange { upstream, answer, sent, .. } = exchange;
    if let Some(status) = answer.status() {
        stats.responses.count(StatusClass::of(status));
    }
    match ended {
        Ok(()) if sent && answer.keeps && upstream.input.is_empty() => {
            let keep = (&backend.shared, backend.pool_idle);
            worker.pool.put(target.address, upstream.stream, Instant::now(), keep);
            Mirrored::Sent
        }
        Ok(()) => {
            if !sent {
                // It was answered early, and wants no more.
                upstream.reset();
            }
            Mirrored::Sent
        }
        Err(fault) => {
            upstream.reset();
            if let Some(error) = fault {
                backend.fails(target, worker.id, error);
            }
            if fault.is_some() { Mirrored::Failed } else { Mirrored::Dropped }
        }
    }
}

async fn connect(backend: &Arc<Backend>, target: &Target, worker: &Worker) -> Option<Upstream> {
    let begun = Instant::now();
    match upstream::connect(target.address, backend.connect_timeout).await {
        Ok(upstream) => {
            let stats = backend.shared.stats.at(worker.id);
            stats.connects.add(1);
            stats.connect_time.observe(begun.elapsed());
            Some(upstream)
        }
        Err(ConnectError::Timeout) => {
            backend.fails(target, worker.id, UpstreamError::ConnectTimeout);
            worker.passive.connect_timed_out(backend.named(target), target.address.ip());
            None
        }
        Err(ConnectError::Failed(error)) => {
            tracing::debug!(%error, target = %target.address, "cannot connect to a mirror");
            backend.fails(target, worker.id, UpstreamError::ConnectFailed);
            worker.passive.connect_failed(backend.named(target), target.address.ip(), &error);
            None
        }
    }
}

struct Exchange<'l> {
    line: &'l Line,
    upstream: Upstream,
    answer: Answer,
    /// The whole request was written.
    sent: bool,
    /// By when the answer must have ended; set once the request is whole.
    limit: Option<Pin<Box<Sleep>>>,
}

impl Exchange<'_> {
    /// Ready = it was answered, or the target's fault; `None` = it was cut.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        backend: &Backend,
    ) -> Poll<Result<(), Option<UpstreamError>>> {
        if self.line.is_cut() {
            return Poll::Ready(Err(None));
        }
        self.line.register(cx);
        let Upstream { stream, input, .. } = &mut self.upstream;
        if !self.sent {
            match self.line.poll_write(cx, stream) {
                Poll::Ready(Ok(())) => self.sent = true,
                // What it answered before it closed does not matter.
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Some(UpstreamError::SendFailed))),
                Poll::Pending => {}
            }
        }
        loop {
            match input.poll_fill(stream, cx) {
                Poll::Ready(Ok(1..)) => match self.answer.take(input) {
                    Ok(true) => return Poll::Ready(Ok(())),
                    Ok(false) => {}
                    Err(Bad) => return Poll::Ready(Err(Some(UpstreamError::BadResponse))),
                },
                Poll::Ready(Ok(0) | Err(_)) => {
                    let ended = self.answer.ends_with_connection();
                    return Poll::Ready(if ended {
                        Ok(())
                    } else {
                        Err(Some(UpstreamError::Closed))
                    });
                }
                Poll::Pending => break,
            }
        }
        if self.line.has_ended() {
            let limit = self.limit.get_or_insert_with(|| Box::pin(sleep(backend.response_timeout)));
            return limit.as_mut().poll(cx).map(|()| Err(Some(UpstreamError::ResponseTimeout)));
        }
        Poll::Pending
    }
}

/// An answer on its way to nobody.
struct Answer {
    asked: Asked,
    /// Its status and where its body is; `None` = its head has not come.
    body: Option<(u16, Body)>,
    /// The connection goes on after it.
    keeps: bool,
}

/// It is no answer.
struct Bad;

impl Answer {
    fn status(&self) -> Option<u16> {
        self.body.as_ref().map(|(status, _)| *status)
    }

    fn ends_with_connection(&self) -> bool {
        matches!(self.body, Some((_, Body::Close)))
    }

    /// The head at the beginning: its bytes, status, body, and whether the connection goes on.
    fn head(&self, bytes: &[u8]) -> Result<Option<(usize, u16, BodyKind, bool)>, Bad> {
        let mut fields = Fields::new();
        match response::parse(bytes, self.asked, &mut fields) {
            Ok(found) => Ok(found
                .map(|found| (found.len, found.head.status, found.head.body, found.keep_alive))),
            Err(_bad) => Err(Bad),
        }
    }

    /// Throws away what is there; whether the answer has ended.
    fn take(&mut self, input: &mut Buffer) -> Result<bool, Bad> {
        while self.body.is_none() {
            let Some((len, status, body, keeps)) = self.head(input.data())? else {
                let fits = !input.is_full() || input.grow(response::MAX_HEAD);
                return if fits { Ok(false) } else { Err(Bad) };
            };
            if status >= 200 {
                self.body = Some((status, Body::new(body)));
                self.keeps = keeps;
            }
            input.consume(len);
        }
        let Some((_, body)) = &mut self.body else { return Ok(false) };
        let Ok(span) = body.take_data(input.data_mut()) else { return Err(Bad) };
        input.shorten(span.removed);
        input.consume(span.len);
        Ok(span.ended || body.is_done())
    }
}
