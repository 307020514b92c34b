//! A request and its targets: one is chosen, asked, and asked again or another one in its place
//! when that is safe. Ends when the first byte of a response is there.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use h2::server::SendResponse;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{account::Account, clock::Timer, stream::Job};
use crate::proxy::{
    http1::response,
    plan::{InFlight, Target},
    refusal::Refusal,
    stats::UpstreamError::{self, Closed, SendFailed},
    upstream::{self, ConnectError, Upstream},
};

/// A connection on which a response has begun.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) upstream: Upstream,
    pub(super) target: Arc<Target>,
    _counted: InFlight,
}

/// Why a target gave no response.
enum Failure {
    /// The request is not to go on.
    Stop(Refusal),
    /// The target closed or reset the connection before the first byte.
    Closed,
    /// The target drained, and its time was over before the first byte.
    Over,
}

/// Asks targets until one answers.
pub(super) async fn ask(
    job: &mut Job,
    respond: &mut SendResponse<Bytes>,
    timer: &Timer,
    account: &Account,
) -> Result<Reply, Refusal> {
    let shared = &account.shared;
    let backend = Arc::clone(&job.backend);
    let worker = shared.worker_id();
    let stats = backend.shared.stats.at(worker);
    let mut tried = SmallVec::<[usize; 4]>::new();
    let mut again = false;
    let mut last = if backend.targets.is_empty() { Refusal::NoGroup } else { Refusal::NoTarget };
    while tried.len() <= usize::from(backend.retries) {
        let client = shared.peer.client.ip();
        let Some(at) = backend.pick(client, job.target, &tried) else { break };
        let target = &backend.targets[at];
        job.target = Some(at);
        let counted = target.enter();
        job.bond.to(counted.id());
        let mut pooled = shared.worker.pool.take_for_event(target.address);
        last = loop {
            account.tries(target.address);
            stats.retries.add(u64::from(again));
            again = true;
            let mut upstream = match pooled.take() {
                Some(upstream) => {
                    stats.reuses.add(1);
                    upstream
                }
                None => match connect(job, target, respond, account).await {
                    Ok(upstream) => upstream,
                    Err(Refusal::ClientGone) => return Err(Refusal::ClientGone),
                    // Nothing was sent: another target may be asked whatever the method.
                    Err(refusal) => break refusal,
                },
            };
            match send(job, &mut upstream, respond, timer, account).await {
                Ok(took) => {
                    account.waited(took);
                    stats.response_time.observe(took);
                    let target = Arc::clone(target);
                    return Ok(Reply { upstream, target, _counted: counted });
                }
                Err(Failure::Stop(refusal)) => {
                    upstream.reset();
                    if let Some(error) = UpstreamError::of(refusal) {
                        backend.fails(target, worker, error);
                    }
                    return Err(refusal);
                }
                Err(Failure::Over) => {
                    upstream.reset();
                    let untouched = job.upload.is_untouched();
                    if !job.upload.is_repeatable() || !(untouched || job.idempotent) {
                        return Err(Refusal::TargetDrained);
                    }
                    job.upload.rewind();
                    break Refusal::TargetDrained;
                }
                Err(Failure::Closed) => {
                    let untouched = job.upload.is_untouched();
                    let error = if untouched { SendFailed } else { Closed };
                    if !job.upload.is_repeatable() || !(untouched || job.idempotent) {
                        backend.fails(target, worker, error);
                        return Err(Refusal::TargetClosed);
                    }
                    job.upload.rewind();
                    // A pooled connection may just have grown too old for the target: once more,
                    // on a new one.
                    if !upstream.reused {
                        backend.fails(target, worker, error);
                        break Refusal::TargetClosed;
                    }
                }
            }
        };
        tried.push(at);
    }
    if last == Refusal::NoTarget || last == Refusal::NoGroup {
        stats.no_target.add(1);
    }
    Err(last)
}

/// Connects, unless the client gives up first.
async fn connect(
    job: &Job,
    target: &Target,
    respond: &mut SendResponse<Bytes>,
    account: &Account,
) -> Result<Upstream, Refusal> {
    let begun = Instant::now();
    let worker = account.shared.worker_id();
    let backend = &job.backend;
    let stats = backend.shared.stats.at(worker);
    let passive = &account.shared.worker.passive;
    let mut connecting = Box::pin(upstream::connect(target.address, backend.connect_timeout));
    let connected = poll_fn(|cx| match connecting.as_mut().poll(cx) {
        Poll::Ready(connected) => Poll::Ready(Some(connected)),
        Poll::Pending => respond.poll_reset(cx).map(|_| None),
    });
    match connected.await {
        Some(Ok(upstream)) => {
            let took = begun.elapsed();
            stats.connects.add(1);
            stats.connect_time.observe(took);
            account.connected(took);
            Ok(upstream)
        }
        Some(Err(ConnectError::Timeout)) => {
            backend.fails(target, worker, UpstreamError::ConnectTimeout);
            passive.connect_timed_out(backend.named(target), target.address.ip());
            Err(Refusal::ConnectTimeout)
        }
        Some(Err(ConnectError::Failed(error))) => {
            tracing::debug!(%error, target = %target.address, "cannot connect");
            backend.fails(target, worker, UpstreamError::ConnectFailed);
            passive.connect_failed(backend.named(target), target.address.ip(), &error);
            Err(Refusal::ConnectFailed)
        }
        None => Err(Refusal::ClientGone),
    }
}

/// Sends the request and waits for the first bytes of the response, while the body goes on. The
/// result is how long that took.
async fn send(
    job: &mut Job,
    upstream: &mut Upstream,
    respond: &mut SendResponse<Bytes>,
    timer: &Timer,
    account: &Account,
) -> Result<Duration, Failure> {
    let Job { upload, backend, http, expects, idempotent, bond, .. } = job;
    let Upstream { stream, input, reused } = upstream;
    let clock = &account.shared.clock;
    let begun = clock.now();
    let mut starved = false;
    timer.set(backend.response_timeout);
    poll_fn(|cx| {
        if bond.poll(cx).is_ready() {
            return Poll::Ready(Err(Failure::Over));
        }
        if let Poll::Ready(Err(refusal)) = upload.poll(cx, stream, account) {
            return Poll::Ready(Err(Failure::Stop(refusal)));
        }
        match input.poll_fill(stream, cx) {
            Poll::Ready(Ok(len @ 1..)) => {
                account.got_from_target(len);
                // The target was about to close an idle connection when the request came.
                let is_late = *reused && response::is_timeout(input.data());
                if is_late && *idempotent && upload.is_repeatable() {
                    return Poll::Ready(Err(Failure::Closed));
                }
                return Poll::Ready(Ok(clock.now().saturating_duration_since(begun)));
            }
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Failure::Closed)),
            Poll::Pending => {}
        }
        if respond.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Failure::Stop(Refusal::ClientGone)));
        }
        // Who is waited for can change with every byte of the body. Whoever waits for 100 is
        // not late.
        let moved = upload.take_moved();
        let waits_for_client = upload.starved && (!*expects || upload.has_begun());
        if moved || waits_for_client != starved {
            starved = waits_for_client;
            timer.set(if starved { http.body_idle_timeout } else { backend.response_timeout });
        }
        timer.poll(cx).map(|()| {
            let refusal = if starved { Refusal::SlowBody } else { Refusal::ResponseTimeout };
            Err(Failure::Stop(refusal))
        })
    })
    .await
}
