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
    refusal::{Context, Refusal},
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
}

impl Default for Asker {
    /// Whose head could not be read.
    fn default() -> Self {
        let id = IDS.with_borrow_mut(|ids| Id::from_slice(&ids.make()));
        Self { version: Version::Http11, is_head: false, id }
    }
}

/// The backend that a request goes to, with the head for its targets written to `out`.
pub(super) fn request<'l>(
    request: &Request<'_>,
    listener: &'l Listener,
    peer: &Peer,
    out: &mut Vec<u8>,
) -> (&'l Arc<Backend>, Asker) {
    let head = &request.head;
    let backend = &listener.backend;
    let id = IDS.with_borrow_mut(|ids| ids.of(head.fields));
    let to = Outgoing {
        peer,
        forwarded: backend.forwarded,
        edits: None,
        request_id: id.as_bytes(),
        cookie: None,
        upgrade: upgrade(request),
        expect: request.expect_continue,
    };
    forward::write_request(head, &to, out);
    let id = Id::from_slice(id.as_bytes());
    (backend, Asker { version: head.version, is_head: head.method == b"HEAD", id })
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

/// Writes the head of a response for the client. `close` = its connection ends after it; `body` =
/// how the body goes to it.
pub(super) fn response(
    response: &Response<'_>,
    asker: &Asker,
    listener: &Listener,
    peer: &Peer,
    (close, body): (bool, BodyKind),
    out: &mut Vec<u8>,
) {
    let head = &response.head;
    let request = RequestHead {
        method: if asker.is_head { b"HEAD" } else { b"GET" },
        scheme: if peer.tls.is_some() { Scheme::Https } else { Scheme::Http },
        authority: b"",
        target: b"/",
        version: asker.version,
        fields: &[],
        body: BodyKind::None,
    };
    let hsts = hsts(listener);
    let to = Returning {
        request: &request,
        peer,
        edits: None,
        set_cookie: None,
        hsts: hsts.as_deref(),
        body,
    };
    let switched = |field: &&Field<'_>| head.status == 101 && field.is("upgrade");
    let upgrade = head.fields.iter().find(switched).map(|field| field.value);
    forward::write_response(head, &to, close, upgrade, out);
}

/// Writes an answer of our own.
pub(super) fn refusal(
    refusal: Refusal,
    asker: &Asker,
    listener: &Listener,
    close: bool,
    out: &mut Vec<u8>,
) {
    let hsts = hsts(listener);
    let context = Context {
        request_id: &asker.id,
        hsts: hsts.as_deref(),
        now: SystemTime::now(),
        is_head: asker.is_head,
        version: asker.version,
        close,
    };
    refusal.answer().write(&context, out);
}

/// Whether a client of this version gets interim responses.
pub(super) fn takes_interim(version: Version) -> bool {
    version != Version::Http10
}

fn hsts(listener: &Listener) -> Option<Vec<u8>> {
    listener.hsts_max_age.map(|age| format!("max-age={}", age.as_secs()).into_bytes())
}
