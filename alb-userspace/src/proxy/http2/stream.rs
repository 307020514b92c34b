//! One request of a connection: checked, sent where it belongs, answered, accounted for.

use std::{cell::RefCell, future::poll_fn, rc::Rc, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{Method, Request, request::Parts};
use smallvec::SmallVec;

use super::{
    account::Account,
    answer,
    clock::{Clock, Timer},
    exchange, relay, request,
    upload::Upload,
};
use crate::{
    model::ListenerHttp,
    proxy::{
        cut::Bond,
        forward::{self, Outgoing, RequestIds},
        http1::{Fields, request::Limits},
        message::{BodyKind, Field, RequestHead, Scheme},
        mirror,
        peer::Peer,
        plan::Backend,
        refusal::Refusal,
        route::Redirection,
        stats::WorkerId,
        sticky::Keys,
        way::{self, Verdict, Way},
        worker::{Slot, Worker},
    },
};

/// How long the rest of a body is thrown away after the answer, and how many bytes of it.
const LINGER: Duration = Duration::from_secs(2);
const THROWN: usize = 4 << 20;

thread_local! {
    static IDS: RefCell<RequestIds> = RefCell::default();
}

/// `X-Request-Id` of one request.
pub(super) type Id = SmallVec<[u8; 36]>;

/// What the streams of one connection share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) peer: Peer,
    pub(super) slot: Rc<Slot>,
    pub(super) worker: Rc<Worker>,
    pub(super) clock: Rc<Clock>,
}

impl Shared {
    pub(super) fn worker_id(&self) -> WorkerId {
        self.worker.id
    }

    pub(super) fn scheme(&self) -> Scheme {
        if self.peer.tls.is_some() { Scheme::Https } else { Scheme::Http }
    }
}

/// A request that goes to a backend.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) backend: Arc<Backend>,
    /// Position of the rule that matched.
    pub(super) rule: Option<usize>,
    /// The target that the client is bound to, then the one that was asked last.
    pub(super) target: Option<usize>,
    pub(super) id: Id,
    /// To the target that is asked.
    pub(super) bond: Bond,
    pub(super) upload: Upload,
    pub(super) http: ListenerHttp,
    /// The client waits for 100 before it sends the body.
    pub(super) expects: bool,
    /// Sending it twice does what sending it once does (RFC 9110 §9.2.2).
    pub(super) idempotent: bool,
}

impl Job {
    /// Whether it is the client that is waited for: for more of the body, and not because it waits
    /// for 100 itself.
    pub(super) fn owes_body(&self) -> bool {
        self.upload.starved && (!self.expects || self.upload.has_begun())
    }
}

/// Serves a request to its end. The future is moved to where it stays: what is large in it has a
/// place of its own.
pub(super) fn run(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    shared: Rc<Shared>,
) -> impl Future<Output = ()> {
    let timer = shared.clock.timer();
    let (parts, body) = request.into_parts();
    let listener = shared.slot.get();
    let account = Box::new(Account::new(shared, listener, parts));
    async move {
        if let Some(body) = serve(account, body, &mut respond, &timer).await {
            linger(body, &timer).await;
        }
    }
}

/// Throws away for a while what a client that was answered goes on sending, as in HTTP/1: the
/// reset that ends the stream could make it lose the answer.
async fn linger(mut body: RecvStream, timer: &Timer) {
    timer.set(LINGER);
    let mut thrown = 0;
    poll_fn(|cx| {
        while let Poll::Ready(data) = body.poll_data(cx) {
            let Some(Ok(data)) = data else { return Poll::Ready(()) };
            thrown += data.len();
            if thrown > THROWN || body.flow_control().release_capacity(data.len()).is_err() {
                return Poll::Ready(());
            }
        }
        timer.poll(cx)
    })
    .await;
}

/// Answers a request; what is left of its body is the result.
async fn serve(
    account: Box<Account>,
    body: RecvStream,
    respond: &mut SendResponse<Bytes>,
    timer: &Timer,
) -> Option<RecvStream> {
    let http = account.listener.http?;
    let mut body = Some(body);
    let mut job = match prepare(&account, &mut body, http) {
        Ok(job) => job,
        Err((declined, id)) => {
            account.is_called(&id);
            match declined {
                Declined::Refused(refusal) => answer::refuse(respond, refusal, &id, &account),
                Declined::Redirected(to, location) => {
                    answer::redirect(respond, &to, &location, &id, &account);
                }
            }
            return body;
        }
    };
    account.is_called(&job.id);
    let reply = exchange::ask(&mut job, respond, timer, &account).await;
    let outcome = match reply {
        Ok(reply) => relay::run(&mut job, reply, respond, timer, &account).await,
        Err(refusal) => Err(refusal),
    };
    if let Err(refusal) = outcome {
        answer::refuse(respond, refusal, &job.id, &account);
    }
    job.upload.into_rest()
}

/// Why a request goes to no backend.
enum Declined<'l> {
    Refused(Refusal),
    /// With the value of `Location`.
    Redirected(Redirection<'l>, Vec<u8>),
}

/// What becomes of a request.
fn prepare<'l>(
    account: &'l Account,
    body: &mut Option<RecvStream>,
    http: ListenerHttp,
) -> Result<Box<Job>, (Declined<'l>, Id)> {
    let Account { shared, listener, parts, .. } = account;
    let limits = Limits {
        request_line: http.request_line_bytes as usize,
        header_bytes: http.header_bytes as usize,
        headers: http.headers as usize,
    };
    let mut fields = Fields::new();
    let scheme = shared.scheme();
    let ended = body.as_ref().is_none_or(RecvStream::is_end_stream);
    let checked = request::check(parts, ended, &limits, scheme, &mut fields);
    let checked =
        checked.map_err(|refusal| (Declined::Refused(refusal), refused_id(refusal, parts)))?;
    let head = &checked.head;
    let id = IDS.with_borrow_mut(|ids| Id::from_slice(ids.of(head.fields).as_bytes()));
    let refused = |refusal| (Declined::Refused(refusal), id.clone());
    if !listener.admits_request() {
        return Err(refused(Refusal::RateLimited));
    }
    let limit = http.body_bytes;
    if matches!(head.body, BodyKind::Length(length) if limit > 0 && length > limit) {
        return Err(refused(Refusal::BodyTooLarge));
    }
    let way = match way::find(head, listener, &shared.peer) {
        Verdict::Forward(way) => way,
        Verdict::Refuse(refusal) => return Err(refused(refusal)),
        Verdict::Redirect(to) => {
            let mut location = Vec::with_capacity(128);
            to.location(head, shared.peer.local, &mut location);
            return Err((Declined::Redirected(to, location), id));
        }
    };
    account.chose(way.backend);
    let mut out = Vec::with_capacity(1024);
    write(head, &way, &id, checked.expects, account, &mut out);
    let is_head = parts.method == Method::HEAD;
    let copy = way
        .mirror
        .and_then(|mirror| mirror::begin(mirror, shared.peer.client.ip(), is_head, &shared.worker));
    Ok(Box::new(Job {
        backend: Arc::clone(way.backend),
        rule: way.rule.map(|rule| rule.position),
        target: way.bound,
        bond: shared.worker.cuts.bond(),
        upload: Upload::new(out, body.take(), head.body, limit).copied_to(copy),
        http,
        expects: checked.expects,
        idempotent: is_idempotent(&parts.method),
        id,
    }))
}

fn write(
    head: &RequestHead<'_>,
    way: &Way<'_>,
    id: &[u8],
    expect: bool,
    account: &Account,
    out: &mut Vec<u8>,
) {
    let to = Outgoing {
        peer: &account.shared.peer,
        forwarded: way.backend.forwarded,
        edits: way.rule.map(|rule| &rule.edits),
        request_id: id,
        cookie: way.backend.sticky.as_ref().map(Keys::name),
        upgrade: None,
        expect,
    };
    forward::write_request(head, &to, out);
}

/// Of a request that is refused. What is malformed is not believed in its id either.
fn refused_id(refusal: Refusal, parts: &Parts) -> Id {
    const NAME: &str = "x-request-id";
    let mut fields = Fields::new();
    if !matches!(refusal, Refusal::Malformed(_)) {
        let values = parts.headers.get_all(NAME).iter();
        fields.extend(values.map(|value| Field { name: NAME.as_bytes(), value: value.as_bytes() }));
    }
    IDS.with_borrow_mut(|ids| Id::from_slice(ids.of(&fields).as_bytes()))
}

fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE].contains(method)
}
