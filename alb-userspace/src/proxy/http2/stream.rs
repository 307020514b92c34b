//! One request of a connection: checked, sent where it belongs, answered, accounted for.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{Method, Request};
use smallvec::SmallVec;

use super::{account::Account, answer, clock::Clock, exchange, relay, request, upload::Upload};
use crate::{
    model::ListenerHttp,
    proxy::{
        forward::{self, Outgoing, RequestIds},
        http1::{Fields, request::Limits},
        message::{BodyKind, RequestHead, Scheme},
        peer::Peer,
        plan::Backend,
        refusal::Refusal,
        stats::WorkerId,
        worker::{Slot, Worker},
    },
};

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
    pub(super) id: Id,
    pub(super) upload: Upload,
    pub(super) http: ListenerHttp,
    /// The client waits for 100 before it sends the body.
    pub(super) expects: bool,
    /// Sending it twice does what sending it once does (RFC 9110 §9.2.2).
    pub(super) idempotent: bool,
}

/// Serves a request to its end.
pub(super) async fn run(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    shared: Rc<Shared>,
) {
    let (parts, body) = request.into_parts();
    let listener = shared.slot.get();
    let Some(http) = listener.http else { return };
    let account = Account::new(shared, listener, parts);
    let mut job = match prepare(&account, body, http) {
        Ok(job) => job,
        Err((refusal, id)) => {
            account.is_called(&id);
            return answer::refuse(&mut respond, refusal, &id, &account);
        }
    };
    account.is_called(&job.id);
    let timer = account.shared.clock.timer();
    let reply = exchange::ask(&mut job, &mut respond, &timer, &account).await;
    let outcome = match reply {
        Ok(reply) => relay::run(&mut job, reply, &mut respond, &timer, &account).await,
        Err(refusal) => Err(refusal),
    };
    if let Err(refusal) = outcome {
        answer::refuse(&mut respond, refusal, &job.id, &account);
    }
}

/// What becomes of a request.
fn prepare(account: &Account, body: RecvStream, http: ListenerHttp) -> Result<Job, (Refusal, Id)> {
    let Account { shared, listener, parts, .. } = account;
    let limits = Limits {
        request_line: http.request_line_bytes as usize,
        header_bytes: http.header_bytes as usize,
        headers: http.headers as usize,
    };
    let mut fields = Fields::new();
    let scheme = shared.scheme();
    let checked = request::check(parts, body.is_end_stream(), &limits, scheme, &mut fields);
    let checked = checked.map_err(|refusal| (refusal, made_id()))?;
    let head = &checked.head;
    let id = IDS.with_borrow_mut(|ids| Id::from_slice(ids.of(head.fields).as_bytes()));
    let refused = |refusal| (refusal, id.clone());
    if !listener.admits_request() {
        return Err(refused(Refusal::RateLimited));
    }
    let limit = http.body_bytes;
    if matches!(head.body, BodyKind::Length(length) if limit > 0 && length > limit) {
        return Err(refused(Refusal::BodyTooLarge));
    }
    let backend = &listener.backend;
    account.chose(backend);
    let mut out = Vec::with_capacity(1024);
    write(head, backend, &id, checked.expects, account, &mut out);
    Ok(Job {
        backend: Arc::clone(backend),
        upload: Upload::new(out, body, head.body, limit),
        http,
        expects: checked.expects,
        idempotent: is_idempotent(&parts.method),
        id,
    })
}

fn write(
    head: &RequestHead<'_>,
    backend: &Backend,
    id: &[u8],
    expect: bool,
    account: &Account,
    out: &mut Vec<u8>,
) {
    let to = Outgoing {
        peer: &account.shared.peer,
        forwarded: backend.forwarded,
        edits: None,
        request_id: id,
        cookie: None,
        upgrade: None,
        expect,
    };
    forward::write_request(head, &to, out);
}

/// For a request whose own cannot be trusted.
fn made_id() -> Id {
    IDS.with_borrow_mut(|ids| Id::from_slice(&ids.make()))
}

fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE].contains(method)
}
