//! One client connection from its first byte to its last: heads are read and answered in order,
//! on plain TCP as on TLS. What a request is answered with is the business of `exchange`.

mod account;
mod client;
mod dispatch;
mod exchange;
mod linger;
mod patience;
mod refuse;
mod relay;
mod splice;
mod tunnel;
mod upload;

#[cfg(test)]
mod tests;

use std::{future::poll_fn, rc::Rc, task::Poll, time::Duration};

use client::Client;
use tokio::time::Instant;

use super::{
    lines::{Fields, Progress},
    request,
};
use crate::{
    model::{ListenerHttp, ListenerProtocol},
    proxy::{
        buffer::Buffer,
        drain::Begun,
        message::Scheme,
        peer::Peer,
        plan::Listener,
        refusal::Refusal,
        tcp::Side,
        worker::{Current, Slot, Worker},
    },
};

/// How long a last request is waited for when no more are wanted. It is answered, and its client told
/// that the connection ends. A connection closed without that takes along the request that is on its
/// way.
const LAST_REQUEST: Duration = Duration::from_secs(1);

/// What a client connection has to be.
pub trait Stream: Side {}
impl<S: Side> Stream for S {}

/// What becomes of a connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The next request.
    Request,
    /// It is closed. The client may still be sending: what it was answered must not get lost.
    Linger,
    /// It is closed at once.
    Close,
    /// It is closed in a way that the client cannot take for the end of a response.
    Abort,
}

/// How reading a head ended.
#[expect(clippy::large_enum_variant, reason = "one at a time, used up at once")]
enum Head {
    Request(exchange::Job),
    /// Its head cannot be read: what it is answered with before the connection ends.
    Refused(Refusal, dispatch::Asker),
    /// It is answered here.
    Own(dispatch::Own),
    /// The client closed, or nothing came for too long.
    Closed,
}

/// Serves requests until the connection ends. `abort` makes closing the stream send RST.
pub async fn serve<S: Stream>(
    stream: S,
    abort: impl FnOnce(&S),
    peer: Peer,
    slot: Rc<Slot>,
    worker: Rc<Worker>,
) {
    let mut client = Client::new(stream, peer);
    let mut drained = slot.drain.begun();
    let mut before = None;
    loop {
        let next = match head(&mut client, &slot, &worker, before, &mut drained).await {
            Head::Closed => Next::Close,
            Head::Refused(refusal, asker) => {
                client.account.misread(client.input.data());
                refuse::answer(&mut client, &slot.get(), &asker, refusal, false).await
            }
            Head::Own(own) => refuse::send(&mut client, &own).await,
            Head::Request(job) => exchange::run(&mut client, job, &slot, &worker).await,
        };
        before = Some(client.account.settle(&client.peer));
        match next {
            Next::Request => {}
            Next::Linger => return linger::close(&mut client).await,
            Next::Close => return linger::shut(&mut client).await,
            Next::Abort => return abort(&client.stream),
        }
    }
}

/// Answers a client that does not speak what its listener does, and closes.
pub async fn refuse<S: Stream>(stream: S, peer: Peer, listener: &Listener, refusal: Refusal) {
    let mut client = Client::new(stream, peer);
    let asker = dispatch::Asker::default();
    match refuse::answer(&mut client, listener, &asker, refusal, false).await {
        Next::Linger => linger::close(&mut client).await,
        Next::Request | Next::Close | Next::Abort => {}
    }
}

/// Waits for a request and reads its head. The one before ended at `before`.
async fn head<S: Stream>(
    client: &mut Client<S>,
    slot: &Slot,
    worker: &Rc<Worker>,
    before: Option<Instant>,
    drained: &mut Begun,
) -> Head {
    let mut skipped = false;
    let mut paused = false;
    if !has_begun(&mut client.input, &mut skipped) {
        let mut is_ending = false;
        client.deadline.set(before.unwrap_or_else(Instant::now), slot.get().idle_timeout);
        let begun = poll_fn(|cx| {
            while let Poll::Ready(read) = client.input.poll_fill(&mut client.stream, cx) {
                if !matches!(read, Ok(1..)) {
                    return Poll::Ready(false);
                }
                if has_begun(&mut client.input, &mut skipped) {
                    return Poll::Ready(true);
                }
            }
            let is_draining = drained.poll(cx).is_ready();
            if is_draining && !is_ending {
                is_ending = true;
                client.deadline.set(Instant::now(), LAST_REQUEST.min(slot.get().idle_timeout));
            }
            paused = true;
            client.deadline.poll(cx).map(|()| false)
        });
        if !begun.await {
            return Head::Closed;
        }
    }
    client.was_heard_of = paused;
    let begun = Instant::now();
    let listener = slot.get();
    client.account.begin(worker, &listener, begun);
    let Some(http) = listener.http else { return Head::Closed };
    let scheme = if client.peer.tls.is_some() { Scheme::Https } else { Scheme::Http };
    let wanted = match listener.protocol {
        ListenerProtocol::Https | ListenerProtocol::Tls => Scheme::Https,
        ListenerProtocol::Http | ListenerProtocol::Tcp => Scheme::Http,
    };
    // The listener became another one: what it allows is not meant for this connection.
    if scheme != wanted {
        return Head::Closed;
    }
    let limits = limits(&http);
    client.deadline.set(begun, http.header_timeout);
    let mut progress = Progress::default();
    loop {
        if progress.is_ready(client.input.data()) {
            match parse(client, &limits, scheme, &listener, http.body_bytes) {
                Ok(None) => {}
                Ok(Some((len, job))) => {
                    client.input.consume(len);
                    client.account.received(len);
                    return match job {
                        Ok(job) => Head::Request(job),
                        Err(own) => Head::Own(own),
                    };
                }
                Err((refusal, asker)) => return Head::Refused(refusal, asker),
            }
        } else if let Err(refusal) = request::within(client.input.data(), &limits) {
            return Head::Refused(refusal, dispatch::Asker::default());
        }
        if client.input.is_full()
            && !client.input.grow(limits.request_line + limits.header_bytes + 8)
        {
            return Head::Refused(Refusal::HeadersTooLarge, dispatch::Asker::default());
        }
        let read = poll_fn(|cx| {
            if let Poll::Ready(read) = client.input.poll_fill(&mut client.stream, cx) {
                return Poll::Ready(Some(matches!(read, Ok(1..))));
            }
            client.deadline.poll(cx).map(|()| None)
        });
        match read.await {
            Some(true) => {}
            Some(false) => {
                client.account.misread(client.input.data());
                return Head::Closed;
            }
            None => return Head::Refused(Refusal::SlowRequest, dispatch::Asker::default()),
        }
    }
}

/// Whether a request is in the buffer. Some clients send an empty line after a body (RFC 9112
/// §2.2): one is thrown away, and begins nothing.
fn has_begun(input: &mut Buffer, skipped: &mut bool) -> bool {
    if !*skipped && input.data().starts_with(b"\r\n") {
        input.consume(2);
        *skipped = true;
    }
    !matches!(input.data(), b"" | b"\r")
}

/// What a request becomes, or what it is answered with.
type Made = Result<exchange::Job, dispatch::Own>;

/// The request at the beginning of the buffer, with the bytes of its head; or why it is none, and
/// what of it could be read.
fn parse<S>(
    client: &mut Client<S>,
    limits: &request::Limits,
    scheme: Scheme,
    listener: &Rc<Current>,
    body_limit: u64,
) -> Result<Option<(usize, Made)>, (Refusal, dispatch::Asker)> {
    let mut fields = Fields::new();
    let Client { input, account, peer, .. } = client;
    let request = match request::parse(input.data(), limits, scheme, &mut fields) {
        Ok(request) => request,
        Err(refusal) => return Err((refusal, dispatch::Asker::refused(refusal, &fields))),
    };
    Ok(request.map(|request| {
        account.asks(&request);
        (request.len, exchange::Job::new(&request, listener, peer, body_limit))
    }))
}

fn limits(http: &ListenerHttp) -> request::Limits {
    request::Limits {
        request_line: http.request_line_bytes as usize,
        header_bytes: http.header_bytes as usize,
        headers: http.headers as usize,
    }
}
