//! Answers of the balancer itself, and heads of responses, as the `h2` crate sends them.

use std::time::SystemTime;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::account::{self, Account};
use crate::proxy::{
    forward::{Returning, response_fields},
    message::{BodyKind, RequestHead, ResponseHead, Version},
    refusal::{Answer, Context, Malformed, Refusal},
    route::Redirection,
};

/// gRPC's code for what a server does not do at all.
const UNIMPLEMENTED: &str = "12";

/// A request, as far as its answer is concerned.
pub(super) fn request(account: &Account) -> RequestHead<'_> {
    let parts = &account.parts;
    RequestHead {
        method: parts.method.as_str().as_bytes(),
        scheme: account.shared.scheme(),
        authority: parts.uri.authority().map_or("", |authority| authority.as_str()).as_bytes(),
        target: b"/",
        version: Version::H2,
        fields: &[],
        body: BodyKind::None,
    }
}

/// Sends the client elsewhere.
pub(super) fn redirect(
    respond: &mut SendResponse<Bytes>,
    to: &Redirection<'_>,
    location: &[u8],
    id: &[u8],
    account: &Account,
) {
    // Nothing more is to come of it.
    account.ends(None);
    let request = request(account);
    let returning = Returning {
        request: &request,
        peer: &account.shared.peer,
        edits: to.edits(),
        set_cookie: None,
        hsts: None,
        body: BodyKind::None,
    };
    own(respond, &Answer::redirect(to, location, &returning), id, account);
}

/// Says why a request is not served.
pub(super) fn refuse(
    respond: &mut SendResponse<Bytes>,
    refusal: Refusal,
    id: &[u8],
    account: &Account,
) {
    account.ends(Some(refusal));
    if !refusal.is_sent() {
        return respond.send_reset(h2::Reason::CANCEL);
    }
    if refusal == Refusal::Malformed(Malformed::BodyLength) {
        // The crate found it, and has reset the stream.
        return account.status(refusal.status());
    }
    if refusal == Refusal::GrpcRefused {
        return refuse_grpc(respond, refusal, id, account);
    }
    own(respond, &refusal.answer(), id, account);
}

/// Sends an answer of our own.
pub(super) fn own(
    respond: &mut SendResponse<Bytes>,
    answer: &Answer<'_>,
    id: &[u8],
    account: &Account,
) {
    let is_head = account.parts.method == http::Method::HEAD;
    let context = Context {
        request_id: id,
        hsts: account.listener.hsts.as_deref().filter(|_| account.shared.peer.tls.is_some()),
        now: SystemTime::now(),
        is_head,
        version: Version::H2,
        close: false,
    };
    let body = answer.body(id);
    let mut headers = HeaderMap::with_capacity(16);
    answer.fields(&context, body.len(), |name, value| append(&mut headers, name, value));
    account.status(answer.status());
    let body = if is_head { Bytes::new() } else { Bytes::from(body) };
    send(respond, answer.status(), headers, body, account);
}

/// What gRPC clients show as it is meant: a status of their own, in a head that is trailer too
/// ("Trailers-Only" of its protocol). The plain 501 would be "unknown" to them.
fn refuse_grpc(respond: &mut SendResponse<Bytes>, refusal: Refusal, id: &[u8], account: &Account) {
    let mut headers = HeaderMap::with_capacity(8);
    for (name, value) in [
        (&b"content-type"[..], &b"application/grpc"[..]),
        (b"grpc-status", UNIMPLEMENTED.as_bytes()),
        (b"grpc-message", refusal.sentence().as_bytes()),
        (b"x-request-id", id),
    ] {
        append(&mut headers, name, value);
    }
    if let Some(hsts) = &account.listener.hsts {
        append(&mut headers, b"strict-transport-security", hsts);
    }
    account.status(200);
    send(respond, 200, headers, Bytes::new(), account);
}

fn send(
    respond: &mut SendResponse<Bytes>,
    status: u16,
    headers: HeaderMap,
    body: Bytes,
    account: &Account,
) {
    let (fields, length) = (account::size(&headers), body.len() as u64);
    let sent =
        respond.send_response(response(status, headers), body.is_empty()).and_then(|mut stream| {
            if body.is_empty() { Ok(()) } else { stream.send_data(body, true) }
        });
    match sent {
        Ok(()) => {
            account.sent_head(fields);
            account.sent(length);
        }
        Err(error) => {
            tracing::trace!(%error, "a client went before it was answered");
            account.ends(Some(Refusal::ClientGone));
        }
    }
}

/// The head of a target's response for the client.
pub(super) fn head(head: &ResponseHead<'_>, to: &Returning<'_>) -> Response<()> {
    let mut headers = HeaderMap::with_capacity(head.fields.len() + 2);
    response_fields(head, to, |name, value| append(&mut headers, name, value));
    response(head.status, headers)
}

fn response(status: u16, headers: HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    // 100-599 always is a code.
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = headers;
    response
}

/// Fields were checked where they came from: what the crate still refuses is not sent.
pub(super) fn append(headers: &mut HeaderMap, name: &[u8], value: &[u8]) {
    match (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
        (Ok(name), Ok(value)) => {
            headers.append(name, value);
        }
        (Err(_), _) | (_, Err(_)) => {
            let name = String::from_utf8_lossy(name);
            tracing::debug!(%name, "a field cannot be sent in HTTP/2");
        }
    }
}
