//! Response heads from targets, as strict as request heads: what two parsers could read in two
//! ways is a bad response (502). Pure.

use std::mem::MaybeUninit;

use httparse::{ParserConfig, Status};

use super::{
    framing::Framing,
    lines::{self, Fields, SLOTS},
};
use crate::proxy::{
    message::{BodyKind, Field, ResponseHead, Version},
    refusal::Malformed,
};

/// Why a head is a bad response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// No status line, or a status outside of 100–599.
    StatusLine,
    /// 101 that nobody asked for.
    Upgrade,
    /// A length on a status that has no body.
    Body,
    /// Longer than [`MAX_HEAD`], or more than 256 fields.
    TooLarge,
    /// What would be refused in a request too.
    Malformed(Malformed),
}

/// Bytes of a response head that are taken at most: start line and fields.
pub const MAX_HEAD: usize = 262_144;
/// Header fields of a response that are taken at most.
const MAX_FIELDS: usize = 256;

/// What the request was that a response answers, as far as it decides about the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The method was HEAD.
    pub head: bool,
    /// Another protocol was asked for.
    pub upgrade: bool,
}

/// A head that passed, with what it says about its connection.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The head; borrows the buffer.
    pub head: ResponseHead<'a>,
    /// Bytes of it in the buffer; the body begins there.
    pub len: usize,
    /// Whether the connection can be used again: the target keeps it open after the body, and
    /// nothing that it might still send could be taken for the next response.
    pub keep_alive: bool,
}

/// Reads one head from the beginning of `buf`; `None` = more bytes are needed.
pub fn parse<'s, 'b: 's>(
    buf: &'b [u8],
    asked: Asked,
    fields: &'s mut Fields<'b>,
) -> Result<Option<Response<'s>>, Bad> {
    let mut few = [const { MaybeUninit::uninit() }; SLOTS];
    let mut many = Vec::new();
    let mut response = httparse::Response::new(&mut []);
    let config = ParserConfig::default();
    let slots = lines::slots(&mut few, &mut many, SLOTS);
    let parsed = match config.parse_response_with_uninit_headers(&mut response, buf, slots) {
        // Rare enough to be parsed twice.
        Err(httparse::Error::TooManyHeaders) => {
            few = [const { MaybeUninit::uninit() }; SLOTS];
            response = httparse::Response::new(&mut []);
            let slots = lines::slots(&mut few, &mut many, MAX_FIELDS);
            config.parse_response_with_uninit_headers(&mut response, buf, slots)
        }
        other => other,
    };
    let len = match parsed {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) if buf.len() < MAX_HEAD => return Ok(None),
        Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => return Err(Bad::TooLarge),
        Err(httparse::Error::Token | httparse::Error::Version | httparse::Error::Status) => {
            return Err(Bad::StatusLine);
        }
        Err(error) => return Err(Bad::Malformed(lines::reason(buf, error))),
    };
    let head = &buf[..len];
    let (Some(status), Some(minor)) = (response.code, response.version) else {
        return Err(Bad::StatusLine);
    };
    // httparse skips empty lines.
    if !head.starts_with(b"HTTP/1.") {
        return Err(Bad::StatusLine);
    }
    lines::collect(head, response.headers, fields).map_err(Bad::Malformed)?;
    if !(100..=599).contains(&status) {
        return Err(Bad::StatusLine);
    }
    let http11 = minor == 1;
    let framing = Framing::of(fields, http11).map_err(Bad::Malformed)?;
    let body = body(status, &framing, asked)?;
    // Targets exist that send the body to HEAD too, and it may come later than the head.
    let stray = asked.head && framing.length != Some(0);
    let fields: &'s [Field<'b>] = fields;
    Ok(Some(Response {
        head: ResponseHead {
            status,
            reason: response.reason.unwrap_or_default().as_bytes(),
            fields,
            version: if http11 { Version::Http11 } else { Version::Http10 },
            body,
        },
        len,
        keep_alive: framing.keeps_alive(http11) && body != BodyKind::Close && !stray,
    }))
}

/// RFC 9112 §6.3, in its order.
fn body(status: u16, framing: &Framing<'_>, asked: Asked) -> Result<BodyKind, Bad> {
    let length = framing.length.unwrap_or(0);
    match status {
        101 if !(asked.upgrade && framing.upgrade) => Err(Bad::Upgrade),
        100..=199 | 204 if framing.chunked || length > 0 => Err(Bad::Body),
        100..=199 | 204 | 304 => Ok(BodyKind::None),
        _ if asked.head => Ok(BodyKind::None),
        _ if framing.chunked => Ok(BodyKind::Chunked),
        _ => Ok(match framing.length {
            Some(length) => BodyKind::Length(length),
            None => BodyKind::Close,
        }),
    }
}

/// Whether a response begins as a 408 (Request Timeout) does: what targets may say on a connection
/// that was idle for too long, without having seen the request.
pub(in crate::proxy) fn is_timeout(response: &[u8]) -> bool {
    response.starts_with(b"HTTP/1.") && response.get(8..12) == Some(b" 408")
}

#[cfg(test)]
mod tests;
