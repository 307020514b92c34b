//! HTTP/1.1 for the daemon's own listeners: accepting, limits and timeouts. Knows nothing of paths;
//! load-balanced traffic never comes here.

mod open;
pub(crate) mod reply;

#[cfg(test)]
mod tests;

use std::{convert::Infallible, future::Future, io, pin::pin, time::Duration};

use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use self::open::{Busy, Open};

/// What a client may hold, and for how long. The time limits together guarantee that every
/// connection ends.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections open at once; one more replaces the one that has kept us waiting longest.
    pub connections: usize,
    /// Bytes of a request's head, at least 8192; longer ones are answered with 431.
    pub head_bytes: usize,
    /// Time to send a request's head, and to stay idle between requests.
    pub head: Duration,
    /// Time a connection may live; after it, a request in progress has `grace` to finish.
    pub lifetime: Duration,
    /// Time for requests in progress when a connection or the daemon ends.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            head_bytes: 16 * 1024,
            head: Duration::from_secs(5),
            lifetime: Duration::from_mins(2),
            grace: Duration::from_secs(5),
        }
    }
}

/// A whole answer in memory.
pub(crate) type Reply = Response<Full<Bytes>>;

/// A socket that hands out connections.
pub(crate) trait Accept {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Accept for TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn accept(&self) -> io::Result<Self::Stream> {
        Self::accept(self).await.map(|(stream, _)| stream)
    }
}

impl Accept for UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn accept(&self) -> io::Result<Self::Stream> {
        Self::accept(self).await.map(|(stream, _)| stream)
    }
}

/// How long accepting pauses when the process or the host is out of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves connections until `shutdown` resolves, then lets requests in progress finish within the
/// grace time.
pub(crate) async fn serve<L, H, F>(
    listener: &L,
    limits: Limits,
    handler: H,
    shutdown: impl Future<Output = ()>,
) where
    L: Accept,
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let (closing, closed) = watch::channel(());
    let mut open = Open::new(limits.connections);
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        tokio::select! {
            () = &mut shutdown => break,
            () = open.make_room() => {}
        }
        let (handler, closed) = (handler.clone(), closed.clone());
        open.serve(|busy| connection(stream, limits, handler, busy, closed));
    }
    drop(closing);
    if timeout(limits.grace, open.ended()).await.is_err() {
        debug!("connections cut at the end of the grace time");
    }
}

/// Serves one connection until either side ends it, its time is up or `closed` is dropped.
async fn connection<S, H, F>(
    stream: S,
    limits: Limits,
    handler: H,
    busy: Busy,
    mut closed: watch::Receiver<()>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F + Send,
    F: Future<Output = Reply> + Send,
{
    let service = service_fn(move |request| {
        let reply = busy.clone().during(handler(request));
        async { Ok::<_, Infallible>(reply.await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .max_buf_size(limits.head_bytes)
            .serve_connection(TokioIo::new(stream), service)
    );
    let served = tokio::select! {
        served = connection.as_mut() => Some(served),
        _ = closed.changed() => None,
        () = sleep(limits.lifetime) => None,
    };
    let served = if let Some(served) = served {
        served
    } else {
        connection.as_mut().graceful_shutdown();
        match timeout(limits.grace, connection).await {
            Ok(served) => served,
            Err(late) => return debug!(%late, "connection cut"),
        }
    };
    if let Err(error) = served {
        debug!(%error, "connection failed");
    }
}
