//! Answers of our own, written to the client.

use std::{future::poll_fn, io::Write as _, task::Poll, time::Duration};

use tokio::time::Instant;

use super::{
    Next, Stream,
    client::{Client, poll_write_all},
};
use crate::proxy::refusal::Refusal;

/// How long a client may take to read an answer of ours.
const TIME: Duration = Duration::from_secs(5);

/// Sends the answer. `keep` = the connection could go on as far as the request is concerned.
pub(super) async fn answer<S: Stream>(
    client: &mut Client<S>,
    refusal: Refusal,
    keep: bool,
) -> Next {
    if !refusal.is_sent() {
        return Next::Abort;
    }
    let keep = keep && !refusal.closes();
    let mut out = Vec::with_capacity(256);
    write(refusal, keep, &mut out);
    client.deadline.set(Instant::now(), TIME);
    let mut written = 0;
    let sent =
        poll_fn(|cx| match poll_write_all(&mut client.stream, cx, [&out, &[]], &mut written) {
            Poll::Ready(done) => Poll::Ready(done.is_ok()),
            Poll::Pending => client.deadline.poll(cx).map(|()| false),
        });
    match (sent.await, keep) {
        (true, true) => Next::Request,
        (true, false) => Next::Linger,
        (false, _) => Next::Close,
    }
}

fn write(refusal: Refusal, keep: bool, out: &mut Vec<u8>) {
    let status = refusal.status();
    let reason = http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or_default();
    let body = refusal.sentence();
    let connection = if keep { "" } else { "Connection: close\r\n" };
    let written = write!(
        out,
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\n{connection}\r\n{body}\n",
        body.len() + 1
    );
    debug_assert!(written.is_ok(), "a vector takes everything");
}
