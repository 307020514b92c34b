//! Answers of our own, written to the client.

use std::{future::poll_fn, task::Poll, time::Duration};

use tokio::time::Instant;

use super::{
    Next, Stream,
    client::{Client, poll_write_all},
    dispatch::{self, Asker, Own},
};
use crate::proxy::{plan::Listener, refusal::Refusal};

/// How long a client may take to read an answer of ours.
const TIME: Duration = Duration::from_secs(5);

/// Refuses a request. `keep` = the connection could go on as far as the request is concerned.
pub(super) async fn answer<S: Stream>(
    client: &mut Client<S>,
    listener: &Listener,
    asker: &Asker,
    refusal: Refusal,
    keep: bool,
) -> Next {
    let own = dispatch::refusal(refusal, asker, listener, &client.peer, !keep);
    send(client, &own).await
}

/// Sends an answer.
pub(super) async fn send<S: Stream>(client: &mut Client<S>, own: &Own) -> Next {
    client.account.answered_by_us(own.status, own.refusal);
    client.account.named(&own.id);
    if own.bytes.is_empty() {
        return Next::Abort;
    }
    client.deadline.set(Instant::now(), TIME);
    let mut written = 0;
    let sent = poll_fn(|cx| {
        match poll_write_all(&mut client.stream, cx, [&own.bytes, &[]], &mut written) {
            Poll::Ready(done) => Poll::Ready(done.is_ok()),
            Poll::Pending => client.deadline.poll(cx).map(|()| false),
        }
    });
    let sent = sent.await;
    client.account.sent(written);
    match (sent, own.close) {
        (true, false) => Next::Request,
        (true, true) => Next::Linger,
        (false, _) => Next::Close,
    }
}
