//! Answers of our own, written to the client.

use std::{future::poll_fn, task::Poll, time::Duration};

use tokio::time::Instant;

use super::{
    Next, Stream,
    client::{Client, poll_write_all},
    dispatch::{self, Asker},
};
use crate::proxy::{plan::Listener, refusal::Refusal};

/// How long a client may take to read an answer of ours.
const TIME: Duration = Duration::from_secs(5);

/// Sends the answer. `keep` = the connection could go on as far as the request is concerned.
pub(super) async fn answer<S: Stream>(
    client: &mut Client<S>,
    listener: &Listener,
    asker: &Asker,
    refusal: Refusal,
    keep: bool,
) -> Next {
    if !refusal.is_sent() {
        return Next::Abort;
    }
    let keep = keep && !refusal.closes();
    let mut out = Vec::with_capacity(512);
    dispatch::refusal(refusal, asker, listener, !keep, &mut out);
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
