//! A connection after 101: bytes both ways until both sides have closed. An end is passed on as
//! an end, a reset as a reset.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use super::{Next, Stream, client::Client};
use crate::proxy::{buffer::Buffer, refusal::Refusal, stats::BackendStats, upstream::Upstream};

/// One direction.
#[derive(Debug, Default)]
struct Way {
    /// Nothing more is read.
    ended: bool,
    /// The end was passed on.
    shut: bool,
    /// Bytes that were copied, until asked.
    copied: usize,
}

/// Copies until both directions have ended, one fails, the target's time is over, or nothing moves
/// for `idle`.
pub(super) async fn run<S: Stream>(
    client: &mut Client<S>,
    mut upstream: Upstream,
    idle: Duration,
    stats: &BackendStats,
) -> Next {
    let (mut up, mut down) = (Way::default(), Way::default());
    client.deadline.set(Instant::now(), idle);
    let ended = poll_fn(|cx| {
        let mut moved = false;
        let Client { stream, input, .. } = &mut *client;
        let there = up.poll(cx, stream, input, &mut upstream.stream, &mut moved);
        let Client { stream, .. } = &mut *client;
        let Upstream { stream: target, input, .. } = &mut upstream;
        let back = down.poll(cx, target, input, stream, &mut moved);
        let (received, sent) = (std::mem::take(&mut up.copied), std::mem::take(&mut down.copied));
        client.account.received(received);
        client.account.sent(sent);
        stats.bytes_out.add(received as u64);
        stats.bytes_in.add(sent as u64);
        match (there, back) {
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => {
                return Poll::Ready(Err(error));
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Ok(())),
            _ => {}
        }
        if client.poll_over(cx).is_ready() {
            client.account.refused(Refusal::TargetDrained);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if moved {
            client.deadline.set(Instant::now(), idle);
        }
        client.deadline.poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    })
    .await;
    match ended {
        Ok(()) => Next::Close,
        Err(error) => {
            tracing::trace!(%error, "a tunnel ended");
            upstream.reset();
            Next::Abort
        }
    }
}

impl Way {
    /// Moves what can be moved; ready = the end was passed on.
    fn poll<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        buffer: &mut Buffer,
        to: &mut W,
        moved: &mut bool,
    ) -> Poll<io::Result<()>> {
        if self.shut {
            return Poll::Ready(Ok(()));
        }
        loop {
            while !buffer.is_empty() {
                match ready!(Pin::new(&mut *to).poll_write(cx, buffer.data()))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    len => {
                        buffer.consume(len);
                        self.copied += len;
                    }
                }
                *moved = true;
            }
            if self.ended {
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.shut = true;
                return Poll::Ready(Ok(()));
            }
            match buffer.poll_fill(from, cx) {
                Poll::Ready(Ok(0)) => self.ended = true,
                Poll::Ready(Ok(_)) => {}
                // TLS that ends without `close_notify`: many clients close that way, and what
                // is spoken here knows its own ends.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.ended = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    // What a TLS stream holds back must go out before waiting for more.
                    return match Pin::new(&mut *to).poll_flush(cx)? {
                        Poll::Ready(()) | Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }
}
