//! A request on its way to a target: its head, and the body from the client's stream as it comes,
//! framed for HTTP/1.1. What a client may send is bounded by what the target took.

use std::{
    io::{self, IoSlice, Write as _},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use smallvec::SmallVec;
use tokio::io::AsyncWrite as _;

use super::{
    account::{self, Account},
    request,
};
use crate::proxy::{
    http1::chunked,
    message::BodyKind,
    mirror::Tap,
    plain::Plain,
    refusal::{Malformed, Refusal},
};

/// Bytes of a body that are kept, so that the request can be sent again.
const KEPT: usize = 16_384;

/// A request as a target gets it.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one body")]
pub(super) struct Upload {
    head: Vec<u8>,
    /// `None` = there is no body.
    body: Option<RecvStream>,
    /// Data to come; `None` = sent in chunks.
    left: Option<u64>,
    /// Bytes of data taken so far, against the listener's limit.
    taken: u64,
    limit: u64,
    /// Everything came, trailers too.
    complete: bool,
    /// Trailer lines for the target.
    trailers: Vec<u8>,
    /// Data that came so far, unless that is more than is kept.
    kept: Option<SmallVec<[Bytes; 1]>>,
    piece: Piece,
    /// The whole request is in `piece` or written.
    ended: bool,
    /// Chunks in `kept` that were sent on this connection.
    replayed: usize,
    /// Bytes were written on this connection.
    touched: bool,
    /// The target takes no more; what it answered may be there to be read.
    broken: bool,
    /// It waits for the client, not for the target.
    pub(super) starved: bool,
    /// Bytes moved since this was asked.
    moved: bool,
    /// What comes is written here too, once.
    copy: Option<Tap>,
}

/// What is written next: the parts in their order.
#[derive(Debug, Default)]
struct Piece {
    with_head: bool,
    /// A chunk's size.
    line: Vec<u8>,
    data: Bytes,
    /// What ends a chunk, and the body.
    after: SmallVec<[u8; 8]>,
    written: usize,
    /// Window that the client gets back once it is written.
    release: usize,
}

impl Piece {
    fn has_body(&self) -> bool {
        !self.line.is_empty() || !self.data.is_empty() || !self.after.is_empty()
    }
}

impl Upload {
    /// A request with a body of this kind. `limit` in bytes, 0 = none.
    pub(super) fn new(head: Vec<u8>, body: Option<RecvStream>, kind: BodyKind, limit: u64) -> Self {
        let (body, left) = match kind {
            BodyKind::None => (None, Some(0)),
            BodyKind::Length(length) => (body, Some(length)),
            BodyKind::Stream | BodyKind::Chunked | BodyKind::Close => (body, None),
        };
        Self {
            head,
            complete: body.is_none(),
            ended: body.is_none(),
            body,
            left,
            taken: 0,
            limit: if limit == 0 { u64::MAX } else { limit },
            trailers: Vec::new(),
            kept: Some(SmallVec::new()),
            piece: Piece { with_head: true, ..Piece::default() },
            replayed: 0,
            touched: false,
            broken: false,
            starved: false,
            moved: false,
            copy: None,
        }
    }

    /// The same, written a second time as it comes.
    pub(super) fn copied_to(mut self, tap: Option<Tap>) -> Self {
        if let Some(tap) = &tap {
            tap.push(&self.head);
        }
        self.copy = tap;
        self.copied();
        self
    }

    /// The piece that was made is copied.
    fn copied(&mut self) {
        let Some(tap) = &self.copy else { return };
        let Piece { line, data, after, .. } = &self.piece;
        for part in [&line[..], data, after] {
            tap.push(part);
        }
        if self.ended
            && let Some(tap) = self.copy.take()
        {
            tap.end();
        }
    }

    /// The body, if not all of it came.
    pub(super) fn into_rest(self) -> Option<RecvStream> {
        self.body.filter(|_| !self.complete)
    }

    /// Whether everything was written.
    pub(super) fn is_done(&self) -> bool {
        self.ended && !self.piece.with_head && !self.piece.has_body()
    }

    /// Whether the target got any of it.
    pub(super) fn is_untouched(&self) -> bool {
        !self.touched
    }

    /// Whether any of the body came.
    pub(super) fn has_begun(&self) -> bool {
        self.taken > 0 || self.complete
    }

    /// Whether all that came can be sent again.
    pub(super) fn is_repeatable(&self) -> bool {
        self.kept.is_some()
    }

    /// Whether something moved since this was asked.
    pub(super) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Begins anew, on another connection.
    pub(super) fn rewind(&mut self) {
        self.give_back();
        self.piece = Piece { with_head: true, ..Piece::default() };
        self.replayed = 0;
        self.ended = self.body.is_none();
        (self.touched, self.broken, self.starved) = (false, false, false);
    }

    /// Moves it on as far as it goes. Ready = everything was written, or why the request is not
    /// to go on.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        target: &mut Plain,
        account: &Account,
    ) -> Poll<Result<(), Refusal>> {
        self.starved = false;
        loop {
            if !self.piece.has_body() && !self.ended {
                match self.take(cx, account) {
                    Poll::Ready(taken) => taken?,
                    // The head does not wait for the body.
                    Poll::Pending if self.piece.with_head => {}
                    Poll::Pending => {
                        self.starved = true;
                        return Poll::Pending;
                    }
                }
            }
            if self.is_done() {
                return Poll::Ready(Ok(()));
            }
            if self.broken {
                return Poll::Pending;
            }
            if !self.piece.with_head && !self.piece.has_body() {
                // A DATA frame without data.
                continue;
            }
            if let Ok(len @ 1..) = ready!(self.write(cx, target)) {
                account.to_target(len);
                self.advance(len);
            } else {
                self.broken = true;
                return Poll::Pending;
            }
        }
    }

    fn write(&self, cx: &mut Context<'_>, target: &mut Plain) -> Poll<io::Result<usize>> {
        let Piece { with_head, line, data, after, written, .. } = &self.piece;
        let head = if *with_head { &self.head[..] } else { &[] };
        if !self.piece.has_body() {
            return Pin::new(target).poll_write(cx, &head[*written..]);
        }
        let mut skip = *written;
        let mut slices: SmallVec<[IoSlice<'_>; 4]> = SmallVec::new();
        for part in [head, line, data, after] {
            let skipped = skip.min(part.len());
            skip -= skipped;
            if skipped < part.len() {
                slices.push(IoSlice::new(&part[skipped..]));
            }
        }
        Pin::new(target).poll_write_vectored(cx, &slices)
    }

    fn advance(&mut self, len: usize) {
        self.touched = true;
        self.moved = true;
        let Piece { with_head, line, data, after, written, .. } = &mut self.piece;
        *written += len;
        let head = if *with_head { self.head.len() } else { 0 };
        if *written == head + line.len() + data.len() + after.len() {
            self.give_back();
            self.piece = Piece::default();
        }
    }

    /// Lets the client send as much again as was written.
    fn give_back(&mut self) {
        let len = std::mem::take(&mut self.piece.release);
        if let (1.., Some(body)) = (len, &mut self.body) {
            // It fails when the stream has ended: nobody waits for the window then.
            let given = body.flow_control().release_capacity(len);
            debug_assert!(given.is_ok(), "no more is given back than was taken");
        }
    }

    /// The next part of the body into `piece`.
    fn take(&mut self, cx: &mut Context<'_>, account: &Account) -> Poll<Result<(), Refusal>> {
        if let Some(kept) = &self.kept
            && let Some(data) = kept.get(self.replayed)
        {
            let (data, last) = (data.clone(), self.replayed + 1 == kept.len());
            self.replayed += 1;
            self.frame(data, 0, last && self.complete);
            return Poll::Ready(Ok(()));
        }
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
        if self.complete {
            self.frame(Bytes::new(), 0, true);
            return Poll::Ready(Ok(()));
        }
        match ready!(body.poll_data(cx)) {
            Some(Ok(data)) => {
                let ends = body.is_end_stream();
                account.received(data.len() as u64);
                self.data(data, ends).into()
            }
            Some(Err(error)) => Poll::Ready(Err(broken(&error))),
            None => {
                let trailers = match ready!(body.poll_trailers(cx)) {
                    Ok(trailers) => trailers,
                    Err(error) => return Poll::Ready(Err(broken(&error))),
                };
                if let Some(trailers) = &trailers {
                    account.received(account::size(trailers));
                }
                self.complete = true;
                if self.left.is_some_and(|left| left > 0) {
                    return Poll::Ready(Err(Refusal::Malformed(Malformed::BodyLength)));
                }
                if let (Some(trailers), None) = (trailers, self.left) {
                    write_trailers(&trailers, &mut self.trailers)?;
                }
                self.frame(Bytes::new(), 0, true);
                self.copied();
                Poll::Ready(Ok(()))
            }
        }
    }

    fn data(&mut self, data: Bytes, ends: bool) -> Result<(), Refusal> {
        let len = data.len();
        self.taken += len as u64;
        if self.taken > self.limit {
            return Err(Refusal::BodyTooLarge);
        }
        if let Some(left) = &mut self.left {
            *left =
                left.checked_sub(len as u64).ok_or(Refusal::Malformed(Malformed::BodyLength))?;
            if ends && *left > 0 {
                return Err(Refusal::Malformed(Malformed::BodyLength));
            }
        }
        self.complete = ends;
        self.moved = true;
        if self.taken > KEPT as u64 {
            self.kept = None;
        }
        if let Some(kept) = &mut self.kept
            && len > 0
        {
            kept.push(data.clone());
            self.replayed = kept.len();
        }
        self.frame(data, len, ends);
        self.copied();
        Ok(())
    }

    /// What goes on the wire for a part of the body; `ends` = it is the last.
    fn frame(&mut self, data: Bytes, release: usize, ends: bool) {
        self.ended = ends;
        let piece = &mut self.piece;
        piece.release += release;
        if self.left.is_none() {
            if !data.is_empty() {
                let written = write!(piece.line, "{:x}\r\n", data.len());
                debug_assert!(written.is_ok(), "a vector takes everything");
                piece.after.extend_from_slice(b"\r\n");
            }
            if ends {
                piece.after.extend_from_slice(b"0\r\n");
                piece.after.extend_from_slice(&self.trailers);
                piece.after.extend_from_slice(b"\r\n");
            }
        }
        piece.data = data;
    }
}

/// Why a stream ended before its end: by the client, or by the crate for what the client sent,
/// which has been told then.
fn broken(error: &h2::Error) -> Refusal {
    if error.is_library() && error.is_reset() {
        Refusal::Malformed(Malformed::BodyLength)
    } else {
        Refusal::ClientGone
    }
}

/// The same fields may stand in a trailer as in HTTP/1.
fn write_trailers(trailers: &HeaderMap, out: &mut Vec<u8>) -> Result<(), Refusal> {
    for (name, value) in trailers {
        let (name, value) = (name.as_str(), value.as_bytes());
        if chunked::is_forbidden(name) || request::check_value(value).is_err() {
            return Err(Refusal::Malformed(Malformed::Trailer));
        }
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    Ok(())
}
