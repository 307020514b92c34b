//! Where a request goes and which bytes go there; which bytes of a response go to the client.
//! Brings together what `forward` writes and what the loop knows of its connections.

use std::{cell::RefCell, sync::Arc, time::SystemTime};

use smallvec::SmallVec;

use crate::proxy::{
    forward::{self, Outgoing, RequestIds, Returning},
    http1::{request::Request, response::Response},
    message::{BodyKind, Field, RequestHead, Scheme, Version},
    peer::Peer,
    plan::{Backend, Listener},
    refusal::{Answer, Context, Refusal},
    route::Redirection,
    sticky::Keys,
    way::{self, Verdict, Way},
};

thread_local! {
    static IDS: RefCell<RequestIds> = RefCell::default();
}

/// `X-Request-Id` of one request.
pub(super) type Id = SmallVec<[u8; 36]>;

/// What of a request its answer depends on.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) version: Version,
    pub(super) is_head: bool,
    pub(super) id: Id,
    /// Only kept if a rule's changes to the answer may name it.
    authority: Vec<u8>,
}

impl Default for Asker {
    /// Whose head could not be read.
    fn default() -> Self {
        let id = IDS.with_borrow_mut(|ids| Id::from_slice(&ids.make()));
        Self { version: Version::Http11, is_head: false, id, authority: Vec::new() }
    }
}

impl Asker {
    pub(super) fn new(head: &RequestHead<'_>) -> Self {
        let id = IDS.with_borrow_mut(|ids| Id::from_slice(ids.of(head.fields).as_bytes()));
        let is_head = head.method == b"HEAD";
        Self { version: head.version, is_head, id, authority: Vec::new() }
    }

    /// Whose head is refused. What is malformed is not believed in other things either.
    pub(super) fn refused(refusal: Refusal, fields: &[Field<'_>]) -> Self {
        let mut asker = Self::default();
        if !matches!(refusal, Refusal::Malformed(_)) {
            asker.id = IDS.with_borrow_mut(|ids| Id::from_slice(ids.of(fields).as_bytes()));
        }
        asker
    }

    /// The request, as far as its answer is concerned.
    fn request(&self, peer: &Peer) -> RequestHead<'_> {
        RequestHead {
            method: if self.is_head { b"HEAD" } else { b"GET" },
            scheme: if peer.tls.is_some() { Scheme::Https } else { Scheme::Http },
            authority: &self.authority,
            target: b"/",
            version: self.version,
            fields: &[],
            body: BodyKind::None,
        }
    }
}

/// Where a request goes, beside the bytes.
#[derive(Debug)]
pub(super) struct Going {
    pub(super) backend: Arc<Backend>,
    /// Position of the rule that matched.
    pub(super) rule: Option<usize>,
    /// The target that the client is bound to.
    pub(super) bound: Option<usize>,
    /// Gets a copy.
    pub(super) mirror: Option<Arc<Backend>>,
}

/// What becomes of a request. The head for the targets is appended to `out`; an answer of our
/// own, made for a connection that ends after it or not (`close`), is the error.
pub(super) fn request(
    request: &Request<'_>,
    listener: &Listener,
    peer: &Peer,
    asker: &mut Asker,
    close: bool,
    out: &mut Vec<u8>,
) -> Result<Going, Own> {
    let head = &request.head;
    let Way { backend, rule, mirror, bound } = match way::find(head, listener, peer) {
        Verdict::Forward(way) => way,
        Verdict::Redirect(to) => return Err(redirect(&to, head, asker, listener, peer, close)),
        Verdict::Refuse(refusal) => {
            return Err(self::refusal(refusal, asker, listener, peer, close));
        }
    };
    if rule.is_some_and(|rule| !rule.edits.response.inserts().is_empty()) {
        asker.authority = head.authority.to_vec();
    }
    let upgrade = upgrade(request);
    let to = Outgoing {
        peer,
        forwarded: backend.forwarded,
        edits: rule.map(|rule| &rule.edits),
        request_id: &asker.id,
        cookie: backend.sticky.as_ref().map(Keys::name),
        upgrade,
        expect: request.expect_continue,
    };
    forward::write_request(head, &to, out);
    let rule = rule.map(|rule| rule.position);
    // What follows an upgrade is no request, and cannot be answered to nobody.
    let mirror = mirror.filter(|_| upgrade.is_none()).cloned();
    Ok(Going { backend: Arc::clone(backend), rule, bound, mirror })
}

/// The protocol that targets are asked to switch to: what the client asks for, but not h2c,
/// which would carry requests past everything that is checked here.
pub(super) fn upgrade<'a>(request: &Request<'a>) -> Option<&'a [u8]> {
    let mut asked =
        request.head.fields.iter().filter(|field| request.upgrade && field.is("upgrade"));
    let h2 = |protocol: &[u8]| {
        protocol.trim_ascii().get(..2).is_some_and(|two| two.eq_ignore_ascii_case(b"h2"))
    };
    match (asked.next(), asked.next()) {
        (Some(one), None) if !one.value.split(|byte| *byte == b',').any(h2) => Some(one.value),
        _ => None,
    }
}

/// How a response is given to a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Giving<'a> {
    pub(super) asker: &'a Asker,
    pub(super) listener: &'a Listener,
    pub(super) peer: &'a Peer,
    /// Position of the rule that matched.
    pub(super) rule: Option<usize>,
    /// Where it comes from: the backend and the position of the target.
    pub(super) from: (&'a Backend, usize),
    /// The client's connection ends after it.
    pub(super) close: bool,
    /// How the body goes to the client.
    pub(super) body: BodyKind,
}

/// Writes the head of a response for the client.
pub(super) fn response(response: &Response<'_>, giving: &Giving<'_>, out: &mut Vec<u8>) {
    let Giving { asker, listener, peer, rule, from: (backend, target), close, body } = *giving;
    let head = &response.head;
    let request = asker.request(peer);
    let mut cookie = Vec::new();
    let is_final = head.status >= 200 || head.status == 101;
    if let Some(keys) = backend.sticky.as_ref().filter(|_| is_final) {
        keys.write(target, request.scheme, SystemTime::now(), &mut cookie);
    }
    let to = Returning {
        request: &request,
        peer,
        edits: rule.and_then(|at| listener.routes.rule(at)).map(|rule| &rule.edits.response),
        set_cookie: (!cookie.is_empty()).then_some(&cookie[..]),
        hsts: listener.hsts.as_deref(),
        body,
    };
    // 426 says which protocol is needed (RFC 9110 §15.5.22).
    let named = |field: &&Field<'_>| matches!(head.status, 101 | 426) && field.is("upgrade");
    let upgrade = head.fields.iter().find(named).map(|field| field.value);
    forward::write_response(head, &to, close, upgrade, out);
}

/// An answer of our own.
#[derive(Debug)]
pub(super) struct Own {
    /// Head and body.
    pub(super) bytes: Vec<u8>,
    /// The connection ends after it.
    pub(super) close: bool,
    /// Its status.
    pub(super) status: u16,
    /// Why it is not served; `None` = a redirect.
    pub(super) refusal: Option<Refusal>,
    /// `X-Request-Id` of the request.
    pub(super) id: Id,
}

/// The answer to a request that is not served. `close` = the connection could not go on anyway.
pub(super) fn refusal(
    refusal: Refusal,
    asker: &Asker,
    listener: &Listener,
    peer: &Peer,
    close: bool,
) -> Own {
    let close = close || refusal.closes();
    let bytes = if refusal.is_sent() {
        own(&refusal.answer(), asker, listener, peer, close)
    } else {
        Vec::new()
    };
    Own { bytes, close, status: refusal.status(), refusal: Some(refusal), id: asker.id.clone() }
}

fn redirect(
    to: &Redirection<'_>,
    head: &RequestHead<'_>,
    asker: &Asker,
    listener: &Listener,
    peer: &Peer,
    close: bool,
) -> Own {
    let mut location = Vec::with_capacity(128);
    to.location(head, peer.local, &mut location);
    let returning = Returning {
        request: head,
        peer,
        edits: to.edits(),
        set_cookie: None,
        hsts: None,
        body: BodyKind::None,
    };
    let answer = Answer::redirect(to, &location, &returning);
    let bytes = own(&answer, asker, listener, peer, close);
    Own { bytes, close, status: to.status(), refusal: None, id: asker.id.clone() }
}

fn own(
    answer: &Answer<'_>,
    asker: &Asker,
    listener: &Listener,
    peer: &Peer,
    close: bool,
) -> Vec<u8> {
    let context = Context {
        request_id: &asker.id,
        // Never over plain HTTP (RFC 6797 §7.2).
        hsts: listener.hsts.as_deref().filter(|_| peer.tls.is_some()),
        now: SystemTime::now(),
        is_head: asker.is_head,
        version: asker.version,
        close,
    };
    let mut bytes = Vec::with_capacity(512);
    answer.write(&context, &mut bytes);
    bytes
}

/// Whether a client of this version gets interim responses.
pub(super) fn takes_interim(version: Version) -> bool {
    version != Version::Http10
}
