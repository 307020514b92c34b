//! The head of a request as the target gets it, in HTTP/1.1.

use smallvec::SmallVec;

use super::{
    name::{self, Listed, Name},
    value,
};
use crate::{
    model::Forwarded,
    proxy::{
        message::{BodyKind, RequestHead, Version},
        peer::Peer,
        route::{Edits, InsertValue, SystemValue},
        sticky,
    },
};

/// What a request is sent with, beside its own head.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The client's connection.
    pub peer: &'a Peer,
    /// Which of the `X-Forwarded-*` fields the backend wants.
    pub forwarded: Forwarded,
    /// Changes of the rule that matched.
    pub edits: Option<&'a Edits>,
    /// Replaces the client's, if that is another.
    pub request_id: &'a [u8],
    /// Name of the balancer's own cookie, which is none of the target's business.
    pub cookie: Option<&'a [u8]>,
    /// The protocol the connection is to be upgraded to; `None` = what the client asked for
    /// in `Upgrade` is ignored.
    pub upgrade: Option<&'a [u8]>,
    /// Pass `Expect` on, so that the target says when the body is wanted.
    pub expect: bool,
}

/// Appends the whole head, with the empty line. The target is byte for byte what came, unless
/// the rule rewrites it; names keep their case and fields their order, what is set anew
/// stands behind them. The body is to be framed as `head.body` says, a `Stream` in chunks.
pub fn write_request(head: &RequestHead<'_>, to: &Outgoing<'_>, out: &mut Vec<u8>) {
    let rewrite = to.edits.and_then(|edits| edits.rewrite.as_ref());
    out.extend_from_slice(head.method);
    out.push(b' ');
    match rewrite {
        Some(rewrite) => rewrite.write(head.path(), head.query(), out),
        None => out.extend_from_slice(head.target),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let mut writer = Writer {
        head,
        to,
        listed: name::listed(head.fields),
        host: rewrite.and_then(|rewrite| rewrite.host()),
        has_host: false,
        has_length: false,
        trailers: false,
        chain: SmallVec::new(),
        out,
    };
    if head.version == Version::H2 {
        writer.host(b"Host");
    }
    writer.fields();
    writer.end();
}

struct Writer<'a, 'h> {
    head: &'a RequestHead<'h>,
    to: &'a Outgoing<'a>,
    listed: Listed<'h>,
    /// Replaces the client's.
    host: Option<&'a [u8]>,
    has_host: bool,
    has_length: bool,
    /// The client takes trailers.
    trailers: bool,
    /// Values of `X-Forwarded-For` that came.
    chain: SmallVec<[&'h [u8]; 4]>,
    out: &'a mut Vec<u8>,
}

impl Writer<'_, '_> {
    fn fields(&mut self) {
        let on = self.to.forwarded;
        for field in self.head.fields {
            match Name::of(field.name) {
                Name::Connection
                | Name::HopByHop
                | Name::TransferEncoding
                | Name::Upgrade
                | Name::XRequestId
                | Name::Proxy => continue,
                Name::Te => {
                    self.trailers |=
                        name::tokens(field.value).any(|coding| name::is(coding, b"trailers"));
                    continue;
                }
                // The last occurrence is as good as the first: they were checked to agree.
                Name::Host => {
                    self.host(field.name);
                    continue;
                }
                Name::ContentLength => {
                    if let (BodyKind::Length(length), false) = (self.head.body, self.has_length) {
                        self.length(field.name, length);
                    }
                    continue;
                }
                Name::Cookie if self.head.version == Version::H2 => continue,
                Name::Cookie => {
                    self.cookie(field.name, field.value);
                    continue;
                }
                Name::XForwardedFor => {
                    if !field.name.contains(&b'_') && !field.value.is_empty() {
                        self.chain.push(field.value);
                    }
                    continue;
                }
                Name::Trailer if !self.is_chunked() => continue,
                Name::Expect if !self.to.expect => continue,
                Name::XForwardedProto if on.protocol => continue,
                Name::XForwardedPort if on.port => continue,
                Name::XForwardedLbIp if on.vip => continue,
                Name::XForwardedHost if on.host => continue,
                Name::XForwardedClientPort if on.client_port => continue,
                Name::Trailer
                | Name::Expect
                | Name::XForwardedProto
                | Name::XForwardedPort
                | Name::XForwardedLbIp
                | Name::XForwardedHost
                | Name::XForwardedClientPort
                | Name::StrictTransportSecurity
                | Name::Other => {}
            }
            let is_listed = || self.listed.iter().any(|name| name.eq_ignore_ascii_case(field.name));
            if (!self.listed.is_empty() && is_listed()) || self.is_edited(field.name) {
                continue;
            }
            self.line(field.name, field.value);
        }
    }

    fn end(&mut self) {
        if !self.has_host {
            self.host(b"Host");
        }
        self.cookies();
        match self.head.body {
            BodyKind::Length(length) if !self.has_length => self.length(b"Content-Length", length),
            BodyKind::Chunked | BodyKind::Stream => {
                self.line(b"Transfer-Encoding", b"chunked");
            }
            // h2 ends a stream where HTTP/1 has a length; without one some servers answer 411.
            BodyKind::None
                if self.head.version == Version::H2
                    && matches!(self.head.method, b"POST" | b"PUT" | b"PATCH") =>
            {
                self.line(b"Content-Length", b"0");
            }
            BodyKind::None | BodyKind::Length(_) | BodyKind::Close => {}
        }
        self.connection();
        let on = self.to.forwarded;
        for (name, value, is_on) in [
            (&b"X-Forwarded-For"[..], SystemValue::For, true),
            (b"X-Forwarded-Proto", SystemValue::Proto, on.protocol),
            (b"X-Forwarded-Port", SystemValue::Port, on.port),
            (b"X-Forwarded-Host", SystemValue::Host, on.host),
            (b"X-Forwarded-LBIP", SystemValue::LbIp, on.vip),
            (b"X-Forwarded-Client-Port", SystemValue::ClientPort, on.client_port),
        ] {
            if is_on {
                self.system(name, value);
            }
        }
        if !self.is_edited(b"X-Request-Id") {
            self.line(b"X-Request-Id", self.to.request_id);
        }
        for insert in self.to.edits.map_or(&[][..], |edits| edits.request.inserts()) {
            match &insert.value {
                InsertValue::Custom(text) => self.line(&insert.name, text),
                InsertValue::System(value) => self.system(&insert.name, *value),
            }
        }
        self.out.extend_from_slice(b"\r\n");
    }

    fn is_chunked(&self) -> bool {
        matches!(self.head.body, BodyKind::Chunked | BodyKind::Stream)
    }

    fn is_edited(&self, name: &[u8]) -> bool {
        self.to.edits.is_some_and(|edits| edits.request.drops(name))
    }

    /// `Host`, once: the rule's, else what the client asked for, else (HTTP/1.0 may ask for
    /// none) the address it connected to.
    fn host(&mut self, name: &[u8]) {
        if std::mem::replace(&mut self.has_host, true) {
            return;
        }
        self.name(name);
        match self.host.unwrap_or(self.head.authority) {
            [] => value::authority(self.to.peer.local, self.out),
            host => self.out.extend_from_slice(host),
        }
        self.out.extend_from_slice(b"\r\n");
    }

    fn length(&mut self, name: &[u8], length: u64) {
        self.has_length = true;
        self.name(name);
        value::number(length, self.out);
        self.out.extend_from_slice(b"\r\n");
    }

    /// The client's cookies without ours. h2 clients may send them in crumbs, which are joined
    /// (RFC 9113 §8.2.3).
    fn cookies(&mut self) {
        if self.head.version != Version::H2 {
            return;
        }
        let start = self.out.len();
        self.name(b"Cookie");
        let value_at = self.out.len();
        for field in self.head.fields {
            if Name::of(field.name) != Name::Cookie {
                continue;
            }
            let before = self.out.len();
            if before > value_at {
                self.out.extend_from_slice(b"; ");
            }
            let crumb_at = self.out.len();
            sticky::strip(field.value, self.to.cookie, self.out);
            if self.out.len() == crumb_at {
                self.out.truncate(before);
            }
        }
        if self.out.len() == value_at {
            self.out.truncate(start);
        } else {
            self.out.extend_from_slice(b"\r\n");
        }
    }

    fn cookie(&mut self, name: &[u8], value: &[u8]) {
        let start = self.out.len();
        self.name(name);
        let value_at = self.out.len();
        sticky::strip(value, self.to.cookie, self.out);
        if self.out.len() == value_at && !value.is_empty() {
            self.out.truncate(start);
        } else {
            self.out.extend_from_slice(b"\r\n");
        }
    }

    fn connection(&mut self) {
        let value: &[u8] = match (self.to.upgrade, self.trailers) {
            (None, false) => return,
            (None, true) => b"TE",
            (Some(_), false) => b"Upgrade",
            (Some(_), true) => b"Upgrade, TE",
        };
        self.line(b"Connection", value);
        if let Some(protocol) = self.to.upgrade {
            self.line(b"Upgrade", protocol);
        }
        if self.trailers {
            self.line(b"TE", b"trailers");
        }
    }

    fn system(&mut self, name: &[u8], value: SystemValue) {
        self.name(name);
        if value == SystemValue::For {
            for link in &self.chain {
                self.out.extend_from_slice(link);
                self.out.extend_from_slice(b", ");
            }
        }
        value::write(value, self.head, self.to.peer, self.out);
        self.out.extend_from_slice(b"\r\n");
    }

    fn name(&mut self, name: &[u8]) {
        self.out.extend_from_slice(name);
        self.out.extend_from_slice(b": ");
    }

    fn line(&mut self, name: &[u8], value: &[u8]) {
        self.name(name);
        self.out.extend_from_slice(value);
        self.out.extend_from_slice(b"\r\n");
    }
}
