//! Where a request goes and which bytes go there; which bytes of a response go to the client.
//! Everything that happens to heads between the two parsers.

use std::{io::Write as _, sync::Arc};

use crate::proxy::{
    http1::{request::Request, response::Response},
    message::{Field, Version},
    peer::Peer,
    plan::{Backend, Listener},
};

/// Fields that belong to one connection (RFC 9110 §7.6.1).
const HOP_BY_HOP: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "upgrade",
    "proxy-authenticate",
    "http2-settings",
];

/// The backend that a request goes to, with the head for its targets written to `out`.
pub(super) fn request<'l>(
    request: &Request<'_>,
    listener: &'l Listener,
    peer: &Peer,
    out: &mut Vec<u8>,
) -> &'l Arc<Backend> {
    let head = &request.head;
    let upgrade = upgrades(request);
    out.extend_from_slice(head.method);
    out.push(b' ');
    out.extend_from_slice(head.target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if !head.fields.iter().any(|field| field.is("host")) {
        out.extend_from_slice(b"Host: ");
        out.extend_from_slice(head.authority);
        out.extend_from_slice(b"\r\n");
    }
    let mut forwarded: Option<&[u8]> = None;
    for field in head.fields {
        if is_end_to_end(*field, head.fields) && !field.is("x-forwarded-for") {
            line(*field, out);
        } else if field.is("x-forwarded-for") {
            forwarded = Some(field.value);
        }
    }
    out.extend_from_slice(b"X-Forwarded-For: ");
    if let Some(before) = forwarded {
        out.extend_from_slice(before);
        out.extend_from_slice(b", ");
    }
    let written = write!(out, "{}\r\n", peer.client.ip());
    debug_assert!(written.is_ok(), "a vector takes everything");
    if upgrade {
        out.extend_from_slice(b"Connection: Upgrade\r\n");
        for field in head.fields.iter().filter(|field| field.is("upgrade")) {
            line(*field, out);
        }
    }
    out.extend_from_slice(b"\r\n");
    &listener.backend
}

/// Whether another protocol is asked for that targets are asked for too: not h2c, which would
/// carry requests past everything that is checked here.
pub(super) fn upgrades(request: &Request<'_>) -> bool {
    let h2c = |field: &Field<'_>| {
        field.is("upgrade")
            && field.value.split(|byte| *byte == b',').any(|protocol| {
                protocol.trim_ascii().get(..2).is_some_and(|two| two.eq_ignore_ascii_case(b"h2"))
            })
    };
    request.upgrade && !request.head.fields.iter().any(h2c)
}

/// Writes the head of a response for the client. `keep` = its connection goes on; `old` = it
/// speaks HTTP/1.0; `bare` = the body goes without chunks.
pub(super) fn response(
    response: &Response<'_>,
    keep: bool,
    old: bool,
    bare: bool,
    out: &mut Vec<u8>,
) {
    let head = &response.head;
    let written = write!(out, "HTTP/1.1 {:03} ", head.status);
    debug_assert!(written.is_ok(), "a vector takes everything");
    out.extend_from_slice(head.reason);
    out.extend_from_slice(b"\r\n");
    let upgraded = head.status == 101;
    for field in head.fields {
        let kept = is_end_to_end(*field, head.fields) && !(bare && field.is("transfer-encoding"));
        if kept || (upgraded && field.is("upgrade")) {
            line(*field, out);
        }
    }
    let connection: &[u8] = match (upgraded, keep, old) {
        (true, ..) => b"Connection: Upgrade\r\n",
        (false, false, _) => b"Connection: close\r\n",
        (false, true, true) => b"Connection: keep-alive\r\n",
        (false, true, false) => b"",
    };
    if head.status >= 200 || upgraded {
        out.extend_from_slice(connection);
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether a client of this version gets interim responses.
pub(super) fn takes_interim(version: Version) -> bool {
    version != Version::Http10
}

fn line(field: Field<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(field.name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(field.value);
    out.extend_from_slice(b"\r\n");
}

/// Not hop-by-hop, neither by itself nor because Connection names it.
fn is_end_to_end(field: Field<'_>, all: &[Field<'_>]) -> bool {
    let named = |connection: &Field<'_>| {
        connection.is("connection")
            && connection
                .value
                .split(|byte| *byte == b',')
                .any(|option| option.trim_ascii().eq_ignore_ascii_case(field.name))
    };
    !HOP_BY_HOP.iter().any(|name| field.is(name)) && !all.iter().any(named)
}
