//! Answers the balancer gives itself: refusals and redirects, with a small clear body.

use std::time::SystemTime;

use super::Refusal;
use crate::proxy::{
    forward::{Returning, set_fields},
    message::Version,
    route::Redirection,
};

/// Methods that are served, for `Allow` (a 405 must have it, RFC 9110 §15.5.6).
const ALLOW: &[u8] = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// What an answer of our own is given with.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Stands in the body and in `X-Request-Id`.
    pub request_id: &'a [u8],
    /// Value of `Strict-Transport-Security`, on https.
    pub hsts: Option<&'a [u8]>,
    /// For `Date`.
    pub now: SystemTime,
    /// It answers HEAD: there is no body.
    pub is_head: bool,
    /// What the client speaks.
    pub version: Version,
    /// The connection ends after it (HTTP/1).
    pub close: bool,
}

/// An answer of our own.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    status: u16,
    sentence: &'static str,
    location: Option<&'a [u8]>,
    /// What a rule sets on it.
    returning: Option<&'a Returning<'a>>,
}

impl Refusal {
    /// What the client gets.
    pub fn answer(self) -> Answer<'static> {
        Answer { status: self.status(), sentence: self.sentence(), location: None, returning: None }
    }
}

impl<'a> Answer<'a> {
    /// A redirect to `location`. `returning` has the request and the rule's edits
    /// (`Redirection::edits`); its `hsts` and `set_cookie` are not looked at.
    pub fn redirect(
        to: &Redirection<'_>,
        location: &'a [u8],
        returning: &'a Returning<'a>,
    ) -> Self {
        Self {
            status: to.status(),
            sentence: "What was asked for is found elsewhere.",
            location: Some(location),
            returning: Some(returning),
        }
    }

    /// Status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// `502 Bad Gateway`, a sentence, and the id the logs have.
    pub fn body(&self, request_id: &[u8]) -> Vec<u8> {
        let mut body = Vec::with_capacity(160);
        body.extend_from_slice(self.status.to_string().as_bytes());
        body.push(b' ');
        body.extend_from_slice(reason(self.status).as_bytes());
        body.push(b'\n');
        body.extend_from_slice(self.sentence.as_bytes());
        body.extend_from_slice(b"\nRequest id: ");
        body.extend_from_slice(request_id);
        body.push(b'\n');
        body
    }

    /// Hands every field to `emit`, as name and value; `length` is the body's.
    pub fn fields(&self, context: &Context<'_>, length: usize, mut emit: impl FnMut(&[u8], &[u8])) {
        let edits = self.returning.and_then(|returning| returning.edits);
        let date = httpdate::fmt_http_date(context.now);
        // No rule touches the length.
        let length = length.to_string();
        let fields: [(&[u8], Option<&[u8]>); 8] = [
            (b"Date", Some(date.as_bytes())),
            (b"Location", self.location),
            (b"Content-Type", Some(&b"text/plain; charset=utf-8"[..])),
            (b"Content-Length", Some(length.as_bytes())),
            (b"Cache-Control", self.location.is_none().then_some(&b"no-store"[..])),
            (b"Allow", (self.status == 405).then_some(ALLOW)),
            (b"Retry-After", (self.status == 429).then_some(&b"1"[..])),
            (b"X-Request-Id", Some(context.request_id)),
        ];
        for (name, value) in fields {
            if let Some(value) = value.filter(|_| !edits.is_some_and(|edits| edits.drops(name))) {
                emit(name, value);
            }
        }
        if let Some(returning) = self.returning {
            let returning = Returning { hsts: context.hsts, set_cookie: None, ..*returning };
            set_fields(&returning, emit);
        } else if let Some(hsts) = context.hsts {
            emit(b"Strict-Transport-Security", hsts);
        }
    }

    /// Appends the whole HTTP/1.1 answer.
    pub fn write(&self, context: &Context<'_>, out: &mut Vec<u8>) {
        let mut body = self.body(context.request_id);
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(self.status.to_string().as_bytes());
        out.push(b' ');
        out.extend_from_slice(reason(self.status).as_bytes());
        out.extend_from_slice(b"\r\n");
        self.fields(context, body.len(), |name, value| line(name, value, out));
        match (context.close, context.version) {
            (true, _) => line(b"Connection", b"close", out),
            (false, Version::Http10) => line(b"Connection", b"keep-alive", out),
            (false, Version::Http11 | Version::H2) => {}
        }
        out.extend_from_slice(b"\r\n");
        if !context.is_head {
            out.append(&mut body);
        }
    }
}

fn line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Reason phrases of the codes used here; codes outside of the table have none.
fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason()).unwrap_or("")
}

#[cfg(test)]
mod tests;
