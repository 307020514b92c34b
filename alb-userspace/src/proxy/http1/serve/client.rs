//! The client's side of a connection: its socket, what was read from it, its one timer.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::AsyncWrite,
    time::{Sleep, sleep},
};

use super::{Stream, account::Account};
use crate::proxy::{
    buffer::Buffer, cut::Bond, deadline::Deadline, peer::Peer, plan::SharedId, worker::Worker,
};

/// A client connection.
#[derive(Debug)]
pub(super) struct Client<S> {
    pub(super) stream: S,
    /// What came and was not used up: a body, or the next requests.
    pub(super) input: Buffer,
    pub(super) deadline: Deadline,
    pub(super) peer: Peer,
    pub(super) account: Account,
    /// It sends nothing any more; it may still be waiting for what it asked for.
    ended: bool,
    /// The request began with an event, after a wait for it.
    pub(super) was_heard_of: bool,
    /// Until when it is taken to be waiting for the response that it asked for last.
    leaving: Option<Pin<Box<Sleep>>>,
    /// To the target that it uses; `None` = it never did.
    bond: Option<Bond>,
}

/// How long a client that has closed its sending side is taken to wait for a response to begin.
/// Those that half-close (`nc`, scripts) cannot be told from those that are gone (a closed tab, an
/// interrupted curl), whose requests should not keep a target busy.
const LEAVING: Duration = Duration::from_secs(1);

impl<S: Stream> Client<S> {
    pub(super) fn new(stream: S, peer: Peer) -> Self {
        Self {
            stream,
            input: Buffer::default(),
            deadline: Deadline::default(),
            peer,
            account: Account::default(),
            ended: false,
            was_heard_of: false,
            leaving: None,
            bond: None,
        }
    }

    /// The next request is waited for as long as the one before was.
    pub(super) fn begin_request(&mut self) {
        self.leaving = None;
    }

    /// It uses a target now.
    pub(super) fn uses(&mut self, target: SharedId, worker: &Worker) {
        self.bond.get_or_insert_with(|| worker.cuts.bond()).to(target);
    }

    /// It uses none any more.
    pub(super) fn uses_none(&self) {
        if let Some(bond) = &self.bond {
            bond.end();
        }
    }

    /// Ready = the time of the target that it uses is over.
    pub(super) fn poll_over(&self, cx: &Context<'_>) -> Poll<()> {
        self.bond.as_ref().map_or(Poll::Pending, |bond| bond.poll(cx))
    }

    /// Takes in what the client sends while it waits for its response. Ready = it went away.
    /// A full buffer is not read: then its going is noticed later.
    ///
    /// The end of what it sends is not yet its going: whoever closed its sending side after a
    /// request is answered (RFC 9112 §9.6 lets it do so), and whoever closed altogether is told
    /// from it by the first write, or by [`Client::poll_left`].
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.ended || self.input.is_full() {
                return Poll::Pending;
            }
            match ready!(self.input.poll_fill(&mut self.stream, cx)) {
                Ok(1..) => {}
                Ok(0) => self.ended = true,
                Err(_) => return Poll::Ready(()),
            }
        }
    }

    /// As `poll_gone`, while no response has begun: then one that sends nothing more is gone too,
    /// after a while.
    pub(super) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_gone(cx).is_ready() {
            return Poll::Ready(());
        }
        if !self.ended {
            return Poll::Pending;
        }
        self.leaving.get_or_insert_with(|| Box::pin(sleep(LEAVING))).as_mut().poll(cx)
    }
}

impl<S> Drop for Client<S> {
    /// A request that was in work has come to its end too.
    fn drop(&mut self) {
        let _now = self.account.settle(&self.peer);
    }
}

/// Writes both parts from `written` on, in one call where it can be, and flushes.
pub(super) fn poll_write_all<W: AsyncWrite + Unpin>(
    writer: &mut W,
    cx: &mut Context<'_>,
    [first, second]: [&[u8]; 2],
    written: &mut usize,
) -> Poll<io::Result<()>> {
    loop {
        let polled = if *written < first.len() {
            if second.is_empty() {
                Pin::new(&mut *writer).poll_write(cx, &first[*written..])
            } else {
                let slices = [IoSlice::new(&first[*written..]), IoSlice::new(second)];
                Pin::new(&mut *writer).poll_write_vectored(cx, &slices)
            }
        } else if *written < first.len() + second.len() {
            Pin::new(&mut *writer).poll_write(cx, &second[*written - first.len()..])
        } else {
            return Pin::new(writer).poll_flush(cx);
        };
        match ready!(polled)? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            len => *written += len,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::{
        io::AsyncWriteExt as _,
        net::{TcpListener, TcpStream},
        time::{advance, pause},
    };

    use super::*;
    use crate::proxy::plain::Plain;

    async fn is_left(client: &mut Client<Plain>) -> bool {
        poll_fn(|cx| Poll::Ready(client.poll_left(cx).is_ready())).await
    }

    #[tokio::test]
    async fn a_client_that_has_closed_its_sending_side_is_waited_for_with_every_request() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut other = TcpStream::connect(address).await.unwrap();
        let (stream, from) = listener.accept().await.unwrap();
        let mut client =
            Client::new(Plain::from(stream), Peer { client: from, local: address, tls: None });
        other.write_all(b"what was sent before the end").await.unwrap();
        other.shutdown().await.unwrap();
        while !client.ended {
            assert!(!is_left(&mut client).await);
            tokio::task::yield_now().await;
        }
        // Nothing here waits for the network any more.
        pause();
        for request in 0..3 {
            client.begin_request();
            assert!(!is_left(&mut client).await);
            advance(LEAVING * 99 / 100).await;
            assert!(!is_left(&mut client).await, "request {request}");
        }
        advance(LEAVING / 50).await;
        assert!(is_left(&mut client).await);
    }
}
