//! What one line tells.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

/// A request, or a connection of a tls or tcp listener, that has ended, whoever served it. Borrows
/// everything: making one costs nothing.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// When it ended.
    pub time: SystemTime,
    /// Id of the load balancer.
    pub load_balancer: &'a str,
    /// Id of the listener.
    pub listener: &'a str,
    /// Id of the backend; empty if none was chosen.
    pub backend: &'a str,
    /// The client.
    pub client: SocketAddr,
    /// The address the client connected to.
    pub vip: SocketAddr,
    /// The target that was used last; `None` if none was.
    pub target: Option<SocketAddr>,
    /// From the first byte of the request, or from accepting the connection, to its end.
    pub duration: Duration,
    /// How long connecting to the target took; `None` over a pooled connection or without one.
    pub connect_time: Option<Duration>,
    /// From sending the request to the first byte of the response; for connections, how long
    /// the one to the target was open. `None` if there was none.
    pub target_time: Option<Duration>,
    /// Bytes of the whole request, or from the client. In HTTP/2 those of the bodies and of all
    /// fields before compression: names and values, pseudo-fields too, and four bytes for each.
    pub bytes_received: u64,
    /// Bytes of the whole response, counted alike, or to the client.
    pub bytes_sent: u64,
    /// What the balancer itself refused it for (`Refusal::word`), or why a connection ended
    /// other than by both sides closing it; empty otherwise.
    pub error: &'a str,
    /// Targets or connections tried beyond the first.
    pub retries: u32,
    /// `Some` exactly on http and https listeners.
    pub http: Option<HttpRecord<'a>>,
    /// `Some` exactly on tls and https listeners after a handshake.
    pub tls: Option<TlsRecord<'a>>,
    /// `Some` exactly for connections that the packet path forwarded. Bytes are of IP then, headers
    /// included.
    pub kernel: Option<KernelRecord>,
}

/// What a line tells of a connection that the packet path forwarded.
#[derive(Clone, Copy, Debug)]
pub struct KernelRecord {
    /// Where the target saw it come from.
    pub snat: SocketAddr,
    /// Packets from the client.
    pub packets_received: u32,
    /// Packets to the client.
    pub packets_sent: u32,
}

/// What a line tells of a request, as far as it could be read. Byte strings are as they came:
/// any bytes at all.
#[derive(Clone, Copy, Debug)]
pub struct HttpRecord<'a> {
    /// The status the client was sent; 499 if it went before.
    pub status: u16,
    /// The status the target sent; `None` if it sent none.
    pub target_status: Option<u16>,
    /// Method.
    pub method: &'a [u8],
    /// Host as requested.
    pub host: &'a [u8],
    /// Target of the request with its query.
    pub uri: &'a [u8],
    /// `HTTP/1.1`, `HTTP/2.0`, …
    pub protocol: &'a str,
    /// `User-Agent`.
    pub user_agent: &'a [u8],
    /// `Referer`; may be left out unless [`WorkerLog::tells_referer`](super::WorkerLog).
    pub referer: &'a [u8],
    /// `X-Request-Id`, the client's or ours.
    pub request_id: &'a [u8],
}

/// What a line tells of TLS.
#[derive(Clone, Copy, Debug)]
pub struct TlsRecord<'a> {
    /// `TLSv1.3`, …
    pub protocol: &'a str,
    /// Name of the cipher suite.
    pub cipher: &'a str,
    /// Id of the certificate that was served.
    pub certificate: &'a str,
}
