//! The rest of a large body of known length, moved from the target's socket to the client's by
//! the kernel. A client that reads slowly costs a pipe instead of a buffer.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
};

use tokio::{net::TcpStream, time::Instant};

use super::{Stream, client::Client, exchange::Job};
use crate::proxy::{
    http1::body::Body, pipe::Pipe, refusal::Refusal, upstream::Upstream, worker::Worker,
};

/// What is read first of a response whose body may be moved: enough for a head and a small body.
const FIRST: usize = 8 * 1024;
/// A rest of fewer bytes is copied: a pipe costs system calls of its own.
const LEAST: u64 = 24 * 1024;
/// Most that is in the pipe; what a client does not take is held up to here.
const PIECE: usize = 64 * 1024;

/// How many bytes to read at the beginning of a response.
pub(super) fn first<S: Stream>() -> usize {
    if S::PLAIN { FIRST } else { usize::MAX }
}

/// Takes in what is there of a body of which the first read cut off a rest that is not worth a
/// pipe, so that it goes out in one piece.
pub(super) async fn complete(upstream: &mut Upstream, body: &Body) {
    let left = left(body).map(|left| left.saturating_sub(upstream.input.len() as u64));
    if left.is_some_and(|left| left == 0 || left >= LEAST) || upstream.input.is_empty() {
        return;
    }
    let Upstream { stream, input, .. } = upstream;
    poll_fn(|cx| {
        // An end or an error is found again by the next read.
        let _read = input.poll_fill(stream, cx);
        Poll::Ready(())
    })
    .await;
}

/// A pipe for the rest of the body, of so many bytes, if it pays.
pub(super) fn worth<S: Stream>(body: &Body) -> Option<(Pipe, u64)> {
    let left = left(body).filter(|left| S::PLAIN && *left >= LEAST)?;
    // Without files to spare, copying does it.
    Some((Pipe::take().ok()?, left))
}

fn left(body: &Body) -> Option<u64> {
    match body {
        Body::Length(left) => Some(*left),
        Body::Chunked(_) | Body::Close => None,
    }
}

/// Moves the last `left` bytes of a response; nothing of them is in a buffer.
pub(super) async fn run<S: Stream>(
    client: &mut Client<S>,
    job: &mut Job,
    upstream: &mut Upstream,
    mut pipe: Pipe,
    mut left: u64,
    worker: &Worker,
) -> Result<(), Refusal> {
    upstream.input.release();
    let Job { upload, listener, backend, expects, .. } = job;
    let stats = backend.shared.stats.at(worker.id);
    let write_idle = listener.http.map(|http| http.write_idle_timeout).unwrap_or_default();
    let mut waiting = Waiting::default();
    poll_fn(|cx| {
        let for_client = loop {
            if pipe.held() > 0 {
                let before = pipe.held();
                let drained = poll_drain(&mut pipe, client.stream.socket(), cx);
                client.account.sent(before - pipe.held());
                match drained {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Refusal::ClientGone)),
                    Poll::Pending => break true,
                }
            }
            if left == 0 {
                return Poll::Ready(Ok(()));
            }
            if client.poll_over(cx).is_ready() {
                return Poll::Ready(Err(Refusal::TargetDrained));
            }
            let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            match poll_fill(&mut pipe, &upstream.stream, cx, most) {
                Poll::Ready(Ok(len @ 1..)) => {
                    left -= len as u64;
                    stats.bytes_in.add(len as u64);
                }
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Refusal::TargetClosed)),
                Poll::Pending => break false,
            }
        };
        if let Poll::Ready(refusal) = upload.poll(cx, client, &mut upstream.stream) {
            return Poll::Ready(Err(refusal));
        }
        let uploaded = upload.take_moved().is_some();
        // The request's body counts only while the target is waited for.
        if waiting.changed(for_client, left, pipe.held()) || (uploaded && !for_client) {
            let idle = if for_client { write_idle } else { listener.idle_timeout };
            client.deadline.set(Instant::now(), idle);
        }
        client
            .deadline
            .poll(cx)
            .map(|()| Err(if for_client { Refusal::SlowReader } else { upload.late(*expects) }))
    })
    .await
}

/// Where a body stood when it was last waited for, and for whom.
#[derive(Debug, Default)]
struct Waiting(Option<(bool, u64, usize)>);

impl Waiting {
    fn changed(&mut self, for_client: bool, left: u64, held: usize) -> bool {
        let now = Some((for_client, left, held));
        std::mem::replace(&mut self.0, now) != now
    }
}

fn poll_fill(
    pipe: &mut Pipe,
    from: &TcpStream,
    cx: &mut Context<'_>,
    most: usize,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(from.poll_read_ready(cx))?;
        match pipe.fill(from, most) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            outcome => return Poll::Ready(outcome),
        }
    }
}

fn poll_drain(pipe: &mut Pipe, to: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    while pipe.held() > 0 {
        ready!(to.poll_write_ready(cx))?;
        match pipe.drain(to) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
    Poll::Ready(Ok(()))
}
