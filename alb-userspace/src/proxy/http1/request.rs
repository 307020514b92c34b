//! Request heads: bytes in, a checked head or the reason for a refusal out. Pure. Tokens are
//! httparse's; everything on which two parsers could disagree is refused here (RFC 9112 §3, §6).

use std::mem::MaybeUninit;

use httparse::{ParserConfig, Status};

use super::{
    framing::Framing,
    lines::{self, Fields, SLOTS},
    target,
};
use crate::proxy::{
    message::{BodyKind, Field, RequestHead, Scheme, Version},
    refusal::{Malformed, Refusal},
};

/// What a listener takes (`limits` of a listener).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Request line, bytes without its end.
    pub request_line: usize,
    /// All header fields together, bytes with line ends.
    pub header_bytes: usize,
    /// Number of header fields.
    pub headers: usize,
}

/// A head that passed, with what it says about its connection.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The head; borrows the buffer.
    pub head: RequestHead<'a>,
    /// Bytes of it in the buffer; the body begins there.
    pub len: usize,
    /// Bytes of the request line, without its end and what was before it.
    pub line: usize,
    /// Whether the client wants the connection to go on.
    pub keep_alive: bool,
    /// Asks for another protocol (`Connection: upgrade` and an Upgrade field).
    pub upgrade: bool,
    /// `Expect: 100-continue` of a 1.1 client.
    pub expect_continue: bool,
}

/// Reads one head from the beginning of `buf`; `None` = more bytes are needed.
pub fn parse<'s, 'b: 's>(
    buf: &'b [u8],
    limits: &Limits,
    scheme: Scheme,
    fields: &'s mut Fields<'b>,
) -> Result<Option<Request<'s>>, Refusal> {
    // RFC 9112 §2.2: one empty line before a request line is let pass.
    let skipped = if buf.starts_with(b"\r\n") { 2 } else { 0 };
    let text = &buf[skipped..];
    let mut few = [const { MaybeUninit::uninit() }; SLOTS];
    let mut many = Vec::new();
    let mut request = httparse::Request::new(&mut []);
    let parsed = ParserConfig::default().parse_request_with_uninit_headers(
        &mut request,
        text,
        lines::slots(&mut few, &mut many, limits.headers),
    );
    let len = match parsed {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) => return within(text, limits).map(|()| None),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HeadersTooLarge),
        Err(error) => {
            within(text, limits)?;
            return Err(reason(text, error));
        }
    };
    let head = &text[..len];
    let (Some(method), Some(path), Some(minor)) = (request.method, request.path, request.version)
    else {
        return Err(Refusal::Malformed(Malformed::RequestLine));
    };
    // httparse skips any number of empty lines, also bare ones.
    if method.as_ptr() != head.as_ptr() {
        return Err(Refusal::Malformed(Malformed::LineEnding));
    }
    let line = lines::collect(head, request.headers, fields).map_err(Refusal::Malformed)?;
    check_sizes(line + 1, len - line, limits)?;

    if method == "CONNECT" || method == "TRACE" {
        return Err(Refusal::MethodRefused);
    }
    let http11 = minor == 1;
    let framing = Framing::of(fields, http11).map_err(Refusal::Malformed)?;
    if framing.expects_else {
        return Err(Refusal::ExpectationRefused);
    }
    let target =
        target::parse(path.as_bytes(), method.as_bytes(), scheme).map_err(Refusal::Malformed)?;
    let authority =
        authority(&framing, target.authority, http11, scheme).map_err(Refusal::Malformed)?;
    let fields: &'s [Field<'b>] = fields;
    Ok(Some(Request {
        head: RequestHead {
            method: method.as_bytes(),
            scheme,
            authority,
            target: target.origin,
            version: if http11 { Version::Http11 } else { Version::Http10 },
            fields,
            body: body(&framing),
        },
        len: skipped + len,
        line,
        keep_alive: framing.keeps_alive(http11),
        upgrade: http11 && framing.upgrade && framing.connection.upgrade,
        expect_continue: http11 && framing.expect_continue,
    }))
}

fn body(framing: &Framing<'_>) -> BodyKind {
    match (framing.chunked, framing.length) {
        (true, _) => BodyKind::Chunked,
        (false, Some(length)) => BodyKind::Length(length),
        (false, None) => BodyKind::None,
    }
}

/// The authority that is asked for: Host, which must be there in 1.1 and may not contradict an
/// absolute-form.
fn authority<'a>(
    framing: &Framing<'a>,
    absolute: Option<&'a [u8]>,
    http11: bool,
    scheme: Scheme,
) -> Result<&'a [u8], Malformed> {
    let Some(host) = framing.host else {
        return if http11 { Err(Malformed::HostMissing) } else { Ok(absolute.unwrap_or_default()) };
    };
    target::check_authority(host)?;
    match absolute {
        Some(other) if !target::same_authority(host, other, scheme) => {
            Err(Malformed::HostContradicts)
        }
        _ => Ok(host),
    }
}

/// Limits of a head whose end has not come yet, or never will.
pub(super) fn within(text: &[u8], limits: &Limits) -> Result<(), Refusal> {
    let line = lines::start_line(text);
    check_sizes(line, text.len() - line, limits)
}

fn check_sizes(line: usize, fields: usize, limits: &Limits) -> Result<(), Refusal> {
    // The ends of the request line and of the head are nobody's bytes.
    const ENDS: usize = 4;
    // Counted with its CR.
    if line > limits.request_line + 1 {
        Err(Refusal::RequestLineTooLong)
    } else if fields > limits.header_bytes + ENDS {
        Err(Refusal::HeadersTooLarge)
    } else {
        Ok(())
    }
}

/// A better word than httparse's, where the reader can use one.
fn reason(text: &[u8], error: httparse::Error) -> Refusal {
    let in_fields = lines::start_line(text) < text.len();
    let malformed = match &error {
        // Also the preface of HTTP/2 with prior knowledge, `PRI * HTTP/2.0` (RFC 9113 §3.4).
        httparse::Error::Version if names_a_version(text) => return Refusal::VersionRefused,
        // A byte that no target holds, or a line without a version (HTTP/0.9).
        httparse::Error::Token if in_fields && text.contains(&b' ') => Malformed::Target,
        httparse::Error::Version
        | httparse::Error::Token
        | httparse::Error::HeaderName
        | httparse::Error::HeaderValue
        | httparse::Error::NewLine
        | httparse::Error::Status
        | httparse::Error::TooManyHeaders => lines::reason(text, error),
    };
    Refusal::Malformed(malformed)
}

/// Whether the request line has three words, the last an HTTP version.
fn names_a_version(text: &[u8]) -> bool {
    let line = text[..lines::start_line(text)].trim_ascii_end();
    let mut words = line.split(|byte| *byte == b' ').skip(2);
    let (Some(version), None) = (words.next(), words.next()) else { return false };
    let number = version.strip_prefix(b"HTTP/");
    matches!(number, Some([b'0'..=b'9'] | [b'0'..=b'9', b'.', b'0'..=b'9']))
}

#[cfg(test)]
mod tests;
