//! Closing a connection whose client may still be sending. Bytes that arrive after a close make
//! the kernel send RST, which can destroy an answer that the client has not read yet; so the
//! sending side is closed first and what comes is thrown away for a while (RFC 9112 §9.6).

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use tokio::time::Instant;

use super::{Stream, client::Client};

/// How long at most.
const TIME: Duration = Duration::from_secs(5);
/// How many bytes at most.
const BYTES: usize = 1 << 26;

/// Says that nothing more comes (also in TLS) and closes. A client that still has to read before
/// that can be sent is waited for: without it, what it got looks cut off.
pub(super) async fn shut<S: Stream>(client: &mut Client<S>) {
    client.deadline.set(Instant::now(), TIME);
    poll_fn(|cx| match Pin::new(&mut client.stream).poll_shutdown(cx) {
        Poll::Ready(_) => Poll::Ready(()),
        Poll::Pending => client.deadline.poll(cx),
    })
    .await;
}

/// Closes so that what was sent can be read.
pub(super) async fn close<S: Stream>(client: &mut Client<S>) {
    client.deadline.set(Instant::now(), TIME);
    let mut thrown = 0;
    let mut shut = false;
    poll_fn(|cx| {
        if !shut {
            match Pin::new(&mut client.stream).poll_shutdown(cx) {
                Poll::Ready(Ok(())) => shut = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        loop {
            let len = client.input.len();
            client.input.consume(len);
            match client.input.poll_fill(&mut client.stream, cx) {
                Poll::Ready(Ok(len @ 1..)) if thrown < BYTES => thrown += len,
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        client.deadline.poll(cx)
    })
    .await;
}
