//! A response's body out of a target's bytes, without its framing: as much at a time as the client
//! takes. Pure but for the buffer.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::answer;
use crate::proxy::{
    buffer::Buffer,
    http1::chunked::{Chunked, Piece},
    message::{BodyKind, Field},
    refusal::Malformed,
};

/// Where a body is.
#[derive(Debug)]
pub(super) struct Download {
    kind: Kind,
    /// Bytes of data at the beginning of the buffer.
    ready: usize,
    trailers: Option<HeaderMap>,
}

#[derive(Debug)]
enum Kind {
    /// So many bytes that are not yet `ready`.
    Length(u64),
    Chunked(Chunked),
    Close,
}

impl Download {
    /// The body of a response with these fields.
    pub(super) fn new(kind: BodyKind, fields: &[Field<'_>]) -> Self {
        let kind = match kind {
            BodyKind::None => Kind::Length(0),
            BodyKind::Length(length) => Kind::Length(length),
            BodyKind::Chunked => Kind::Chunked(Chunked::of(fields)),
            BodyKind::Close | BodyKind::Stream => Kind::Close,
        };
        Self { kind, ready: 0, trailers: None }
    }

    /// Whether all of it was taken. What ends with the connection never is.
    pub(super) fn is_done(&self) -> bool {
        self.ready == 0
            && match &self.kind {
                Kind::Length(left) => *left == 0,
                Kind::Chunked(chunked) => chunked.is_done(),
                Kind::Close => false,
            }
    }

    /// Whether the end of the connection is the end of the body.
    pub(super) fn ends_with_connection(&self) -> bool {
        matches!(self.kind, Kind::Close)
    }

    /// Whether fields came after it.
    pub(super) fn has_trailers(&self) -> bool {
        self.trailers.is_some()
    }

    /// The fields that came after it.
    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// Finds data at the beginning of the buffer, and says how much there is in the buffer for
    /// certain.
    pub(super) fn find(&mut self, input: &mut Buffer) -> Result<usize, Malformed> {
        while self.ready == 0 && !input.is_empty() {
            match &mut self.kind {
                Kind::Length(left) => {
                    self.ready = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    *left -= self.ready as u64;
                    break;
                }
                Kind::Close => self.ready = input.len(),
                Kind::Chunked(chunked) => match chunked.next(input.data())? {
                    Piece::More => break,
                    Piece::Data { skip, len, .. } => {
                        input.consume(skip);
                        self.ready = len;
                    }
                    Piece::End { skip, trailers, .. } => {
                        if trailers > 2 {
                            self.trailers = Some(parse(&input.data()[skip - trailers..skip])?);
                        }
                        input.consume(skip);
                        break;
                    }
                },
            }
        }
        Ok(self.ready)
    }

    /// Takes data, at most `most` bytes; small chunks are put together.
    pub(super) fn take(&mut self, input: &mut Buffer, most: usize) -> Result<Bytes, Malformed> {
        let first = self.ready.min(most);
        let mut data = BytesMut::with_capacity(first);
        loop {
            let len = self.ready.min(most - data.len());
            data.extend_from_slice(&input.data()[..len]);
            input.consume(len);
            self.ready -= len;
            if data.len() == most || self.find(input)? == 0 {
                return Ok(data.freeze());
            }
        }
    }
}

/// Trailer lines that the decoder took.
fn parse(section: &[u8]) -> Result<HeaderMap, Malformed> {
    let mut slots = [httparse::EMPTY_HEADER; 32];
    let mut trailers = HeaderMap::new();
    match httparse::parse_headers(section, &mut slots) {
        Ok(httparse::Status::Complete((_, fields))) => {
            for field in fields {
                answer::append(&mut trailers, field.name.as_bytes(), field.value);
            }
            Ok(trailers)
        }
        Ok(httparse::Status::Partial) => Err(Malformed::Trailer),
        Err(error) => {
            tracing::debug!(%error, "a target's trailer is no good");
            Err(Malformed::Trailer)
        }
    }
}
