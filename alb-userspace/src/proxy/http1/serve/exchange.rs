//! One request: a target is chosen, asked, and asked again or another one in its place when that
//! is safe. Ends when the first byte of a response is there; what follows is `relay`'s.

use std::{future::poll_fn, rc::Rc, sync::Arc, task::Poll, time::Duration};

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{
    Next, Stream,
    client::{Client, poll_write_all},
    dispatch::{self, Asker, Going, Own},
    patience::Patience,
    refuse, relay, splice,
    upload::Upload,
};
use crate::proxy::{
    http1::{
        body::Body,
        request::Request,
        response::{self, Asked},
    },
    message::BodyKind,
    mirror,
    peer::Peer,
    plan::{Backend, InFlight, Target},
    refusal::Refusal,
    stats::UpstreamError::{self, Closed, SendFailed},
    upstream::{self, ConnectError, Upstream},
    worker::{Current, Slot, Worker},
};

/// Largest body that is sent together with its head, and kept to be sent again.
const WHOLE: usize = 16_384;

/// A request on its way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) listener: Rc<Current>,
    pub(super) backend: Arc<Backend>,
    /// Position of the rule that matched.
    pub(super) rule: Option<usize>,
    /// Gets a copy.
    mirror: Option<Arc<Backend>>,
    /// The target that the client is bound to, then the one that was asked last.
    pub(super) target: Option<usize>,
    /// The head for the target, with the body if that is whole; later the head for the client.
    pub(super) out: Vec<u8>,
    pub(super) asked: Asked,
    pub(super) asker: Asker,
    /// The client wants its connection to go on.
    pub(super) keep_alive: bool,
    pub(super) upload: Upload,
    /// The client waits for 100 before it sends the body.
    pub(super) expects: bool,
    /// Sending it twice does what sending it once does (RFC 9110 §9.2.2).
    idempotent: bool,
}

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
    Closed {
        /// It got nothing of the request.
        unsent: bool,
    },
    /// The target drained, and its time was over before the first byte.
    Over {
        /// It got nothing of the request.
        unsent: bool,
    },
}

impl Job {
    /// What becomes of a request; an error is what it is answered with.
    pub(super) fn new(
        request: &Request<'_>,
        listener: &Rc<Current>,
        peer: &Peer,
        body_limit: u64,
    ) -> Result<Self, Own> {
        let head = &request.head;
        let whole = matches!(head.body, BodyKind::None | BodyKind::Length(0));
        let keep = request.keep_alive && whole;
        let mut asker = Asker::new(head);
        let refuse =
            |refusal, keep: bool| Err(dispatch::refusal(refusal, &asker, listener, peer, !keep));
        if !listener.admits_request() {
            return refuse(Refusal::RateLimited, keep);
        }
        if matches!(head.body, BodyKind::Length(length) if body_limit > 0 && length > body_limit) {
            return refuse(Refusal::BodyTooLarge, false);
        }
        let mut out = Vec::with_capacity(1024);
        let going = dispatch::request(request, listener, peer, &mut asker, !keep, &mut out)?;
        let Going { backend, rule, bound, mirror } = going;
        Ok(Self {
            listener: Rc::clone(listener),
            backend,
            rule,
            mirror,
            target: bound,
            out,
            asked: Asked { head: asker.is_head, upgrade: dispatch::upgrade(request).is_some() },
            asker,
            keep_alive: request.keep_alive,
            upload: Upload::new(Body::of(head.body, head.fields), body_limit),
            expects: request.expect_continue && !whole,
            idempotent: matches!(head.method, b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE"),
        })
    }
}

/// Serves a request to its end.
pub(super) async fn run<S: Stream>(
    client: &mut Client<S>,
    mut job: Job,
    slot: &Slot,
    worker: &Rc<Worker>,
) -> Next {
    if !job.expects
        && let Some(body) = job.upload.take_whole(client, WHOLE)
    {
        job.out.extend_from_slice(body);
        let len = body.len();
        client.input.consume(len);
        client.account.received(len);
    }
    if let Some(mirror) = job.mirror.take() {
        let tap = mirror::begin(&mirror, client.peer.client.ip(), job.asker.is_head, worker);
        job.upload.copy_to(tap, &job.out);
    }
    client.input.release();
    client.begin_request();
    client.account.named(&job.asker.id);
    client.account.goes_to(&job.backend);
    let next = match reply(client, &mut job, worker).await {
        Ok(reply) => relay::run(client, job, reply, slot, worker).await,
        Err(refusal) => {
            job.backend.shared.stats.at(worker.id).bytes_out.add(job.upload.sent);
            let keep = job.keep_alive && job.upload.is_done() && !slot.drain.has_begun();
            refuse::answer(client, &job.listener, &job.asker, refusal, keep).await
        }
    };
    client.uses_none();
    next
}

/// Asks targets until one answers.
async fn reply<S: Stream>(
    client: &mut Client<S>,
    job: &mut Job,
    worker: &Worker,
) -> Result<Reply, Refusal> {
    let backend = Arc::clone(&job.backend);
    let stats = backend.shared.stats.at(worker.id);
    let mut tried = SmallVec::<[usize; 4]>::new();
    let mut again = false;
    let mut last = if backend.targets.is_empty() { Refusal::NoGroup } else { Refusal::NoTarget };
    while tried.len() <= usize::from(backend.retries) {
        let client_ip = client.peer.client.ip();
        let Some(at) = backend.pick(client_ip, job.target, &tried) else { break };
        let target = &backend.targets[at];
        job.target = Some(at);
        let counted = target.enter();
        client.uses(counted.id(), worker);
        let mut pooled = if client.was_heard_of {
            worker.pool.take_for_event(target.address)
        } else {
            worker.pool.take(target.address)
        };
        last = loop {
            client.account.tries(target.address, again);
            stats.retries.add(u64::from(again));
            again = true;
            let mut upstream = match pooled.take() {
                Some(upstream) => {
                    stats.reuses.add(1);
                    upstream
                }
                None => match connect(client, &backend, target, worker).await {
                    Ok(upstream) => upstream,
                    Err(Refusal::ClientGone) => return Err(Refusal::ClientGone),
                    // Nothing was sent: another target may be asked whatever the method.
                    Err(refusal) => break refusal,
                },
            };
            match send(client, job, &mut upstream).await {
                Ok(took) => {
                    client.account.waited(took);
                    stats.response_time.observe(took);
                    stats.bytes_out.add(job.out.len() as u64);
                    let target = Arc::clone(target);
                    return Ok(Reply { upstream, target, _counted: counted });
                }
                Err(Failure::Stop(refusal)) => {
                    upstream.reset();
                    if let Some(error) = UpstreamError::of(refusal) {
                        backend.fails(target, worker.id, error);
                    }
                    return Err(refusal);
                }
                Err(Failure::Over { unsent }) => {
                    upstream.reset();
                    if job.upload.begun || !(unsent || job.idempotent) {
                        return Err(Refusal::TargetDrained);
                    }
                    break Refusal::TargetDrained;
                }
                Err(Failure::Closed { unsent }) => {
                    let error = if unsent { SendFailed } else { Closed };
                    if job.upload.begun || !(unsent || job.idempotent) {
                        backend.fails(target, worker.id, error);
                        return Err(Refusal::TargetClosed);
                    }
                    // A pooled connection may just have grown too old for the target: once more,
                    // on a new one.
                    if !upstream.reused {
                        backend.fails(target, worker.id, error);
                        break Refusal::TargetClosed;
                    }
                }
            }
        };
        tried.push(at);
    }
    if matches!(last, Refusal::NoGroup | Refusal::NoTarget) {
        stats.no_target.add(1);
    }
    Err(last)
}

/// Connects, unless the client goes away first.
async fn connect<S: Stream>(
    client: &mut Client<S>,
    backend: &Backend,
    target: &Target,
    worker: &Worker,
) -> Result<Upstream, Refusal> {
    let begun = Instant::now();
    let mut connecting = Box::pin(upstream::connect(target.address, backend.connect_timeout));
    let connected = poll_fn(|cx| match connecting.as_mut().poll(cx) {
        Poll::Ready(connected) => Poll::Ready(Some(connected)),
        Poll::Pending => client.poll_left(cx).map(|()| None),
    });
    match connected.await {
        Some(Ok(upstream)) => {
            let took = begun.elapsed();
            client.account.connected(took);
            let stats = backend.shared.stats.at(worker.id);
            stats.connects.add(1);
            stats.connect_time.observe(took);
            Ok(upstream)
        }
        Some(Err(ConnectError::Timeout)) => {
            backend.fails(target, worker.id, UpstreamError::ConnectTimeout);
            worker.passive.connect_timed_out(backend.named(target), target.address.ip());
            Err(Refusal::ConnectTimeout)
        }
        Some(Err(ConnectError::Failed(error))) => {
            tracing::debug!(%error, target = %target.address, "cannot connect");
            backend.fails(target, worker.id, UpstreamError::ConnectFailed);
            worker.passive.connect_failed(backend.named(target), target.address.ip(), &error);
            Err(Refusal::ConnectFailed)
        }
        None => Err(Refusal::ClientGone),
    }
}

/// Sends the request and waits for the first bytes of the response, while the body goes on. The
/// result is how long that took.
async fn send<S: Stream>(
    client: &mut Client<S>,
    job: &mut Job,
    upstream: &mut Upstream,
) -> Result<Duration, Failure> {
    let mut written = 0;
    let mut broken = false;
    let begun = Instant::now();
    let mut patience = Patience::begin(job, &mut client.deadline);
    let Job { out, upload, idempotent, .. } = job;
    let Upstream { stream, input, reused } = upstream;
    poll_fn(|cx| {
        if client.poll_over(cx).is_ready() {
            return Poll::Ready(Err(Failure::Over { unsent: written == 0 }));
        }
        if written < out.len() && !broken {
            match poll_write_all(stream, cx, [out, &[]], &mut written) {
                Poll::Ready(Ok(())) | Poll::Pending => {}
                // It may have answered before it closed.
                Poll::Ready(Err(_)) => broken = true,
            }
        }
        match input.poll_fill_some(stream, cx, splice::first::<S>()) {
            // The target was about to close an idle connection when the request came.
            Poll::Ready(Ok(1..))
                if *reused
                    && *idempotent
                    && !upload.begun
                    && response::is_timeout(input.data()) =>
            {
                return Poll::Ready(Err(Failure::Closed { unsent: false }));
            }
            Poll::Ready(Ok(1..)) => {
                upload.keep_rest(&out[written..]);
                return Poll::Ready(Ok(begun.elapsed()));
            }
            Poll::Ready(Ok(0) | Err(_)) => {
                return Poll::Ready(Err(Failure::Closed { unsent: written == 0 }));
            }
            Poll::Pending => {}
        }
        if written == out.len()
            && !upload.is_done()
            && let Poll::Ready(refusal) = upload.poll(cx, client, stream)
        {
            return Poll::Ready(Err(Failure::Stop(refusal)));
        }
        // One that owes a body is waited for by `upload`, and by `patience`.
        if (upload.is_done() || written < out.len()) && client.poll_left(cx).is_ready() {
            return Poll::Ready(Err(Failure::Stop(Refusal::ClientGone)));
        }
        let late = patience.poll(cx, &mut client.deadline, upload);
        late.map(|refusal| Err(Failure::Stop(refusal)))
    })
    .await
}
