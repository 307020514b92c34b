//! Chunked transfer coding (RFC 9112 §7.1), decoded in place: where the data lies in a buffer,
//! and what around it is framing. Pure; holds no bytes.

use memchr::memchr;

use super::nominated::Nominated;
use crate::proxy::{message::Field, refusal::Malformed};

/// Longest line with a chunk size and its extensions, bytes without its end.
const MAX_LINE: usize = 256;
/// Longest trailer section, bytes.
const MAX_TRAILERS: usize = 8192;
/// Most fields of a trailer section.
const MAX_FIELDS: usize = 32;

/// What comes next in a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// More bytes are needed; those that were given count for nothing yet.
    More,
    /// `skip` bytes of framing, of which `extension` (before the last two) are an extension, then
    /// `len` bytes of data, which may be none.
    Data {
        /// Bytes of framing.
        skip: usize,
        /// Bytes of the framing that are an extension; they end two bytes before the data.
        extension: usize,
        /// Bytes of data.
        len: usize,
    },
    /// `skip` bytes that end the body; the last `trailers` of them are the trailer fields with
    /// the empty line after them.
    End {
        /// Bytes of framing.
        skip: usize,
        /// Bytes of the framing that are an extension of the last chunk.
        extension: usize,
        /// Bytes of the trailer section, at least the two of the empty line.
        trailers: usize,
    },
}

/// Where the decoder is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the first chunk's size.
    #[default]
    Size,
    /// So much data to come, never zero.
    Data(u64),
    /// Before the CR LF after a chunk's data.
    AfterData,
    /// All read.
    Done,
}

/// A decoder of one body.
#[derive(Clone, Debug, Default)]
pub struct Chunked {
    state: State,
    /// Names that may not come in the trailer beside those that never may.
    nominated: Nominated,
}

impl Chunked {
    /// A decoder of the body of a message with these fields.
    pub fn of(fields: &[Field<'_>]) -> Self {
        Self { state: State::default(), nominated: Nominated::of(fields) }
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// What `input`, the bytes after those of the last piece, begins with.
    pub fn next(&mut self, input: &[u8]) -> Result<Piece, Malformed> {
        match self.state {
            State::Data(left) => Ok(self.data(input, 0, 0, left)),
            State::Size => self.size(input),
            State::AfterData => match input {
                // On its own, so that a chunk is passed on whole before the next one begins.
                [b'\r', b'\n', ..] => {
                    self.state = State::Size;
                    Ok(Piece::Data { skip: 2, extension: 0, len: 0 })
                }
                [] | [b'\r'] => Ok(Piece::More),
                _ => Err(Malformed::Chunk),
            },
            State::Done => Ok(Piece::More),
        }
    }

    fn data(&mut self, input: &[u8], skip: usize, extension: usize, left: u64) -> Piece {
        let there = input.len() - skip;
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(there);
        if len == 0 && skip == 0 {
            return Piece::More;
        }
        let left = left - len as u64;
        self.state = if left == 0 { State::AfterData } else { State::Data(left) };
        Piece::Data { skip, extension, len }
    }

    /// A chunk's size line, and what follows it.
    fn size(&mut self, input: &[u8]) -> Result<Piece, Malformed> {
        let window = &input[..input.len().min(MAX_LINE + 2)];
        let Some(end) = memchr(b'\n', window) else {
            // What can be told of an unfinished line is told at once.
            size_digits(input, true)?;
            // Its CR may be there without its LF.
            let is_over = input.len() > MAX_LINE + 1;
            return if is_over { Err(Malformed::Chunk) } else { Ok(Piece::More) };
        };
        let line = input[..end].strip_suffix(b"\r").ok_or(Malformed::LineEnding)?;
        let (size, digits) = size_digits(line, false)?;
        extension(&line[digits..])?;
        let extension = line.len() - digits;
        let skip = end + 1;
        if size > 0 {
            return Ok(self.data(input, skip, extension, size));
        }
        let Some(trailers) = trailers(&input[skip..], &self.nominated)? else {
            return Ok(Piece::More);
        };
        self.state = State::Done;
        Ok(Piece::End { skip: skip + trailers, extension, trailers })
    }
}

/// The number at the beginning of a line and how many digits it has.
fn size_digits(line: &[u8], partial: bool) -> Result<(u64, usize), Malformed> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let text = std::str::from_utf8(&line[..digits]);
    if digits == 0 && partial && line.is_empty() {
        return Ok((0, 0));
    }
    // 15 digits are below 2^60; more are leading zeros or an attack.
    if digits == 0 || digits > 15 {
        return Err(Malformed::Chunk);
    }
    let number = text.ok().and_then(|text| u64::from_str_radix(text, 16).ok());
    match line.get(digits) {
        None | Some(b';' | b'\r') => number.map(|n| (n, digits)).ok_or(Malformed::Chunk),
        Some(_) => Err(Malformed::Chunk),
    }
}

/// `;name[=value]…` without controls. White space around `;` and `=` (BWS) is refused.
fn extension(text: &[u8]) -> Result<(), Malformed> {
    let fine = match text {
        [] => true,
        [b';', rest @ ..] => {
            !rest.is_empty()
                && !matches!(rest[0], b';' | b'=')
                && rest.iter().all(|byte| matches!(byte, 0x21..=0x7e))
        }
        _ => false,
    };
    if fine { Ok(()) } else { Err(Malformed::Chunk) }
}

/// Length of a whole trailer section with its empty line; `None` = more is needed.
fn trailers(input: &[u8], nominated: &Nominated) -> Result<Option<usize>, Malformed> {
    match input {
        [b'\r', b'\n', ..] => return Ok(Some(2)),
        [] | [b'\r'] => return Ok(None),
        _ => {}
    }
    let mut slots = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let window = &input[..input.len().min(MAX_TRAILERS)];
    let parsed = httparse::parse_headers(window, &mut slots).ok();
    match parsed {
        Some(httparse::Status::Complete((len, fields))) => {
            let section = &input[..len];
            let is_refused = |name: &str| is_forbidden(name) || nominated.has(name);
            let forbidden = fields.iter().any(|field| is_refused(field.name));
            // A value holds no LF, so each LF ends a line.
            let bare =
                memchr::memchr_iter(b'\n', section).any(|at| at == 0 || section[at - 1] != b'\r');
            if forbidden || bare { Err(Malformed::Trailer) } else { Ok(Some(len)) }
        }
        Some(httparse::Status::Partial) if input.len() < MAX_TRAILERS => Ok(None),
        // Whatever the parser disliked: one reason.
        Some(httparse::Status::Partial) | None => Err(Malformed::Trailer),
    }
}

/// Fields that frame, route or authenticate a message may not come after it (RFC 9110 §6.5.1), nor
/// those of one hop, which nobody looks for there.
pub(in crate::proxy) fn is_forbidden(name: &str) -> bool {
    const NAMES: [&str; 21] = [
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-request-id",
    ];
    let plain = name.replace('_', "-").to_ascii_lowercase();
    NAMES.contains(&plain.as_str()) || plain.starts_with("x-forwarded-")
}

#[cfg(test)]
mod tests;
