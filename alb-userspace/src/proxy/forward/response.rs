//! The fields of an answer as the client gets them.

use super::{
    name::{self, Name},
    value,
};
use crate::proxy::{
    message::{BodyKind, RequestHead, ResponseHead, Version},
    peer::Peer,
    route::{HeaderEdits, InsertValue},
};

/// What an answer is returned with, beside its own head.
#[derive(Clone, Copy, Debug)]
pub struct Returning<'a> {
    /// What it answers.
    pub request: &'a RequestHead<'a>,
    /// The client's connection.
    pub peer: &'a Peer,
    /// Changes of the rule that matched.
    pub edits: Option<&'a HeaderEdits>,
    /// Value of the `Set-Cookie` of persistence.
    pub set_cookie: Option<&'a [u8]>,
    /// Value of `Strict-Transport-Security`; it replaces the target's.
    pub hsts: Option<&'a [u8]>,
    /// How the body goes to the client, which need not be how it came.
    pub body: BodyKind,
}

/// Hands every field that goes to the client to `emit`, as name and value: the target's in
/// their order and case, then what the balancer sets. Fields of the connection
/// (`Connection`, `Transfer-Encoding`) are not among them; `Content-Length` is, unless the
/// body goes another way than with a length. `X-Request-Id` is not added: an answer of a
/// target is its own, while answers of the balancer carry it.
pub fn response_fields(
    head: &ResponseHead<'_>,
    to: &Returning<'_>,
    mut emit: impl FnMut(&[u8], &[u8]),
) {
    let listed = name::listed(head.fields);
    let mut has_length = false;
    for field in head.fields {
        match Name::of(field.name) {
            Name::Connection
            | Name::HopByHop
            | Name::TransferEncoding
            | Name::Te
            | Name::Upgrade => continue,
            Name::ContentLength => {
                if keeps_length(head, to) && !std::mem::replace(&mut has_length, true) {
                    emit(field.name, field.value);
                }
                continue;
            }
            Name::Trailer if !matches!(to.body, BodyKind::Chunked | BodyKind::Stream) => continue,
            Name::StrictTransportSecurity if to.hsts.is_some() => continue,
            Name::Trailer
            | Name::StrictTransportSecurity
            | Name::Expect
            | Name::Host
            | Name::Cookie
            | Name::XRequestId
            | Name::XForwardedFor
            | Name::XForwardedProto
            | Name::XForwardedPort
            | Name::XForwardedLbIp
            | Name::XForwardedHost
            | Name::XForwardedClientPort
            | Name::Proxy
            | Name::Other => {}
        }
        let is_listed = || listed.iter().any(|name| name.eq_ignore_ascii_case(field.name));
        if (!listed.is_empty() && is_listed())
            || to.edits.is_some_and(|edits| edits.drops(field.name))
        {
            continue;
        }
        emit(field.name, field.value);
    }
    set_fields(to, emit);
}

/// What the balancer sets on any answer, its own too.
pub(in crate::proxy) fn set_fields(to: &Returning<'_>, mut emit: impl FnMut(&[u8], &[u8])) {
    for insert in to.edits.map_or(&[][..], HeaderEdits::inserts) {
        if to.hsts.is_some() && Name::of(&insert.name) == Name::StrictTransportSecurity {
            continue;
        }
        match &insert.value {
            InsertValue::Custom(text) => emit(&insert.name, text),
            InsertValue::System(value) => {
                let mut text = Vec::with_capacity(64);
                value::write(*value, to.request, to.peer, &mut text);
                emit(&insert.name, &text);
            }
        }
    }
    if let Some(hsts) = to.hsts {
        emit(b"Strict-Transport-Security", hsts);
    }
    if let Some(cookie) = to.set_cookie {
        emit(b"Set-Cookie", cookie);
    }
}

/// An answer to HEAD and a 304 have the length of a body that does not come; 1xx and 204 have
/// none at all (RFC 9110 §8.6).
fn keeps_length(head: &ResponseHead<'_>, to: &Returning<'_>) -> bool {
    match to.body {
        BodyKind::Length(_) => true,
        BodyKind::None => !matches!(head.status, 100..=199 | 204),
        BodyKind::Chunked | BodyKind::Stream | BodyKind::Close => false,
    }
}

/// Appends a whole HTTP/1.1 head, with the empty line. `close` = the connection ends after it.
/// For 101, `upgrade` is the protocol that is switched to; for 426, the one that is needed.
pub fn write_response(
    head: &ResponseHead<'_>,
    to: &Returning<'_>,
    close: bool,
    upgrade: Option<&[u8]>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    value::number(head.status.into(), out);
    out.push(b' ');
    out.extend_from_slice(head.reason);
    out.extend_from_slice(b"\r\n");
    response_fields(head, to, |name, value| line(name, value, out));
    if to.body == BodyKind::Chunked {
        line(b"Transfer-Encoding", b"chunked", out);
    }
    if let Some(protocol) = upgrade {
        let switches = head.status < 200;
        let value: &[u8] = match (close && !switches, to.request.version) {
            (true, _) => b"Upgrade, close",
            (false, Version::Http10) if !switches => b"Upgrade, keep-alive",
            (false, _) => b"Upgrade",
        };
        line(b"Connection", value, out);
        line(b"Upgrade", protocol, out);
    } else {
        connection(head.status, to.request.version, close, out);
    }
    out.extend_from_slice(b"\r\n");
}

fn connection(status: u16, client: Version, close: bool, out: &mut Vec<u8>) {
    match (close, client) {
        // An interim answer says nothing of the connection's end.
        _ if status < 200 => {}
        (true, _) => line(b"Connection", b"close", out),
        (false, Version::Http10) => line(b"Connection", b"keep-alive", out),
        (false, Version::Http11 | Version::H2) => {}
    }
}

fn line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
