//! How far a body goes in a stream of bytes, whatever its framing. Pure; bodies stay where they
//! are in their buffer, and a chunked one keeps its framing unless it has extensions.

use super::chunked::{Chunked, Piece};
use crate::proxy::{
    message::{BodyKind, Field},
    refusal::Malformed,
};

/// Reads one body, in order, from bytes that come in pieces.
#[derive(Clone, Debug)]
pub enum Body {
    /// So many bytes to come; none = ended.
    Length(u64),
    /// Chunks to come.
    Chunked(Chunked),
    /// Everything until the connection ends.
    Close,
}

/// What a buffer holds of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Bytes from the beginning of the buffer that are to be sent on.
    pub len: usize,
    /// Bytes of data among them.
    pub data: u64,
    /// Bytes that were taken out of the buffer; it got shorter by so many.
    pub removed: usize,
    /// Whether the body ends with the span.
    pub ended: bool,
}

impl Body {
    /// The body of a message with these fields.
    pub fn of(kind: BodyKind, fields: &[Field<'_>]) -> Self {
        if kind == BodyKind::Chunked { Self::Chunked(Chunked::of(fields)) } else { Self::new(kind) }
    }

    /// The body of a message that nominates no fields.
    pub fn new(kind: BodyKind) -> Self {
        match kind {
            BodyKind::None => Self::Length(0),
            BodyKind::Length(length) => Self::Length(length),
            BodyKind::Chunked => Self::Chunked(Chunked::default()),
            BodyKind::Close | BodyKind::Stream => Self::Close,
        }
    }

    /// Whether all of it was taken. A body that is ended by the end of the connection never is.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.is_done(),
            Self::Close => false,
        }
    }

    /// Takes as much of the body as `buf` begins with, as it came, without chunk extensions.
    pub fn take(&mut self, buf: &mut [u8]) -> Result<Span, Malformed> {
        self.walk(buf, false)
    }

    /// Like [`take`](Self::take), with the framing of chunks and trailers removed.
    pub fn take_data(&mut self, buf: &mut [u8]) -> Result<Span, Malformed> {
        self.walk(buf, true)
    }

    fn walk(&mut self, buf: &mut [u8], bare: bool) -> Result<Span, Malformed> {
        let chunked = match self {
            Self::Length(left) => {
                let len = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
                *left -= len as u64;
                return Ok(Span { len, data: len as u64, removed: 0, ended: *left == 0 });
            }
            Self::Close => {
                let len = buf.len();
                return Ok(Span { len, data: len as u64, removed: 0, ended: false });
            }
            Self::Chunked(chunked) => chunked,
        };
        // Bytes are read at `from` and kept at `at`; they differ once something was cut out.
        let (mut from, mut at, mut data) = (0, 0, 0);
        let ended = loop {
            let (skip, extension, len, ends) = match chunked.next(&buf[from..])? {
                Piece::More => break chunked.is_done(),
                Piece::Data { skip, extension, len } => (skip, extension, len, false),
                Piece::End { skip, extension, trailers } => {
                    (skip - trailers, extension, trailers, true)
                }
            };
            // Framing, without the extension that lies before its last two bytes.
            let mut keep = |start: usize, len: usize| {
                if start != at {
                    buf.copy_within(start..start + len, at);
                }
                at += len;
            };
            if !bare {
                let line_end = skip.min(2);
                keep(from, skip - extension - line_end);
                keep(from + skip - line_end, line_end);
            }
            from += skip;
            if !(bare && ends) {
                keep(from, len);
            }
            from += len;
            if ends {
                break true;
            }
            data += len as u64;
        };
        if from != at {
            buf.copy_within(from.., at);
        }
        Ok(Span { len: at, data, removed: from - at, ended })
    }
}

#[cfg(test)]
mod tests;
