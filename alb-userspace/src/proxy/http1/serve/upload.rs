//! A request's body on its way from the client to the target, and what is read from a client
//! that has none to send.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{io::AsyncWrite as _, time::Instant};

use super::{Stream, client::Client};
use crate::proxy::{http1::body::Body, mirror::Tap, plain::Plain, refusal::Refusal};

/// Where the body is.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one body")]
pub(super) struct Upload {
    body: Body,
    /// What of the head, and of a body that goes with it, was not written when the target began
    /// to answer. Goes before anything else.
    rest: Vec<u8>,
    /// Bytes at the beginning of the client's buffer that are to be written.
    ready: usize,
    /// Nothing of the body is to be read any more.
    ended: bool,
    /// Bytes that were written.
    pub(super) sent: u64,
    /// Bytes of data so far, against the listener's limit.
    data: u64,
    limit: u64,
    /// Bytes were taken from the client's buffer: the request cannot be sent again.
    pub(super) begun: bool,
    /// The target takes no more; what comes is not sent.
    refused: bool,
    /// The last time it moved, until asked.
    moved: Option<Instant>,
    /// It waits for the client, not for the target.
    pub(super) starved: bool,
    /// What is written is written here too.
    copy: Option<Tap>,
}

impl Upload {
    /// A body of which nothing was read; `limit` in bytes, 0 = none.
    pub(super) fn new(body: Body, limit: u64) -> Self {
        Self {
            ended: body.is_done(),
            body,
            rest: Vec::new(),
            ready: 0,
            sent: 0,
            data: 0,
            limit: if limit == 0 { u64::MAX } else { limit },
            begun: false,
            refused: false,
            moved: None,
            starved: false,
            copy: None,
        }
    }

    /// From now on it is copied; `begun` was written already, or is about to be.
    pub(super) fn copy_to(&mut self, tap: Option<Tap>, begun: &[u8]) {
        self.copy = tap;
        if let Some(tap) = &self.copy {
            tap.push(begun);
        }
        if self.is_done() {
            self.end_copy();
        }
    }

    fn end_copy(&mut self) {
        if let Some(tap) = self.copy.take() {
            tap.end();
        }
    }

    /// Whether the whole request was written.
    pub(super) fn is_done(&self) -> bool {
        self.ended && self.ready == 0 && self.rest.is_empty()
    }

    /// The target answers already; this is not written yet.
    pub(super) fn keep_rest(&mut self, rest: &[u8]) {
        self.rest = rest.to_vec();
    }

    /// The target's last word was said to a part of the head: nothing more of it is sent.
    pub(super) fn cut_rest(&mut self) {
        self.refused |= !self.rest.is_empty();
    }

    /// What it is when nothing moves after the response has begun. `expects` = the client waits for
    /// 100 before it sends the body.
    pub(super) fn late(&self, expects: bool) -> Refusal {
        // The target may be waiting for the rest of the request as we are.
        let owed = self.starved && (self.begun || !expects);
        if owed { Refusal::SlowBody } else { Refusal::ResponseTimeout }
    }

    /// When it last moved since this was asked.
    pub(super) fn take_moved(&mut self) -> Option<Instant> {
        self.moved.take()
    }

    /// The whole body, if it has a length, is there, and is no longer than `most`: to be sent
    /// with the head, and again if need be.
    pub(super) fn take_whole<'c, S>(
        &mut self,
        client: &'c Client<S>,
        most: usize,
    ) -> Option<&'c [u8]> {
        let Body::Length(length) = self.body else { return None };
        let length = usize::try_from(length).ok().filter(|length| *length <= most)?;
        let bytes = client.input.data().get(..length)?;
        self.data += length as u64;
        (self.body, self.ended) = (Body::Length(0), true);
        Some(bytes)
    }

    fn take_more<S: Stream>(&mut self, client: &mut Client<S>) -> Result<(), Refusal> {
        let span = self.body.take(client.input.data_mut()).map_err(Refusal::Malformed)?;
        if span.removed > 0 {
            client.input.shorten(span.removed);
        }
        self.data += span.data;
        if self.data > self.limit {
            return Err(Refusal::BodyTooLarge);
        }
        self.ready = span.len;
        self.ended = span.ended;
        Ok(())
    }

    /// Moves the body on as far as it goes; without one, watches the client. Ready = the request
    /// is not to go on.
    pub(super) fn poll<S: Stream>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<S>,
        target: &mut Plain,
    ) -> Poll<Refusal> {
        if self.is_done() || self.refused {
            return client.poll_gone(cx).map(|()| Refusal::ClientGone);
        }
        self.starved = false;
        while !self.rest.is_empty() {
            let Ok(len @ 1..) = ready!(Pin::new(&mut *target).poll_write(cx, &self.rest)) else {
                self.refused = true;
                return client.poll_gone(cx).map(|()| Refusal::ClientGone);
            };
            self.rest.drain(..len);
            self.moved = Some(Instant::now());
        }
        loop {
            while self.ready > 0 {
                self.begun = true;
                let bytes = &client.input.data()[..self.ready];
                let polled = ready!(Pin::new(&mut *target).poll_write(cx, bytes));
                let Ok(len @ 1..) = polled else {
                    // Its answer may have come before it closed; reading tells.
                    self.refused = true;
                    return Poll::Pending;
                };
                if let Some(tap) = &self.copy {
                    tap.push(&bytes[..len]);
                }
                client.input.consume(len);
                client.account.received(len);
                self.sent += len as u64;
                self.ready -= len;
                self.moved = Some(Instant::now());
            }
            if self.ended {
                self.end_copy();
                return client.poll_gone(cx).map(|()| Refusal::ClientGone);
            }
            if !client.input.is_empty() {
                if let Err(refusal) = self.take_more(client) {
                    return Poll::Ready(refusal);
                }
                if self.ready > 0 || self.ended {
                    continue;
                }
            }
            self.starved = true;
            match ready!(client.input.poll_fill(&mut client.stream, cx)) {
                Ok(1..) => {
                    self.moved = Some(Instant::now());
                    self.starved = false;
                }
                Ok(0) | Err(_) => return Poll::Ready(Refusal::ClientGone),
            }
        }
    }
}
