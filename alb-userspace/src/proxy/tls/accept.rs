//! One handshake: first byte, hello, certificate, end. What comes out is a stream and what was
//! agreed on, or why not.

use std::{
    io::{self, Read, Write},
    sync::Arc,
    time::Duration,
};

use rustls::{
    HandshakeKind, ProtocolVersion,
    server::{Accepted as Hello, Acceptor},
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{StartHandshake, server::TlsStream};

use super::{Context, Failure, policy, table};
use crate::proxy::{peer::TlsInfo, plain::Plain};

/// Content type of the record a TLS client begins with (RFC 8446 §5.1).
const HANDSHAKE: u8 = 0x16;

/// Bytes that an h2 connection has encrypted and its client's socket did not take: a DATA frame
/// that goes out at once, with room for its header and those before it.
const H2_HOLDS: usize = 20 << 10;

/// An encrypted connection with a client.
pub type Stream = TlsStream<Plain>;

/// A handshake that succeeded.
#[derive(Debug)]
pub struct Accepted {
    /// What is spoken inside.
    pub stream: Stream,
    /// What was agreed on.
    pub info: TlsInfo,
}

/// A handshake that failed; it is counted already.
#[derive(Debug)]
pub enum Refused {
    /// The client speaks plain HTTP. Its socket, to tell it so; what it sent is partly read.
    PlainHttp(Plain),
    /// Anything else; an alert was sent where it may help.
    Failed(Failure),
}

/// The certificate a connection was given, whatever the listener serves by now.
#[derive(Clone, Debug)]
pub struct Presented {
    context: Arc<Context>,
    position: usize,
}

impl Presented {
    /// Whether a request for this authority (`host[:port]`) belongs on the connection: the same
    /// certificate would be served for it, or covers it. Otherwise 421 (RFC 9110 §15.5.20).
    pub fn is_for(&self, authority: &[u8]) -> bool {
        let Ok(authority) = std::str::from_utf8(authority) else { return false };
        let host = host_of(authority);
        // Clients name `shop.test.` without its dot in the handshake (RFC 6066 §3).
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let Self { context, position } = self;
        context.table.set_for(&host).contains(position)
            || context.table.served[*position].facts.covers(&host)
    }
}

/// `[2001:db8::1]:443` → `2001:db8::1`.
fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

/// Does a handshake within `patience`. Every outcome is counted in the context.
pub async fn accept(
    socket: Plain,
    context: &Arc<Context>,
    patience: Duration,
) -> Result<Accepted, Refused> {
    let deadline = Instant::now() + patience;
    let outcome = timeout_at(deadline, handshake(socket, context)).await;
    let outcome = outcome.unwrap_or(Err(Refused::Failed(Failure::Timeout)));
    match &outcome {
        Ok(accepted) => context.counts.succeeded(accepted.info.resumed),
        Err(Refused::PlainHttp(_)) => context.counts.failed(Failure::PlainHttp),
        Err(Refused::Failed(failure)) => context.counts.failed(*failure),
    }
    outcome
}

async fn handshake(socket: Plain, context: &Arc<Context>) -> Result<Accepted, Refused> {
    let (hello, socket) = hello(socket).await?;
    let is_slow = policy::is_without_aes(hello.client_hello().cipher_suites());
    let config = if is_slow { &context.by_client } else { &context.config };
    table::take_chosen();
    let start = StartHandshake::from_parts(hello, socket);
    let handshake = start.into_stream(Arc::clone(config));
    // The certificate is chosen by now: the call above answered the hello.
    let position = table::take_chosen();
    let mut stream = handshake.await.map_err(|error| Refused::Failed(Failure::of_io(&error)))?;
    let (_, connection) = stream.get_ref();
    let position = position.ok_or(Refused::Failed(Failure::Internal))?;
    let info = TlsInfo {
        protocol: match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        },
        cipher: connection
            .negotiated_cipher_suite()
            .map_or("", |suite| policy::openssl_name(suite.suite())),
        sni: connection.server_name().map(Into::into),
        certificate: Arc::clone(&context.table.served[position].id),
        alpn: match connection.alpn_protocol() {
            Some(b"h2") => Some("h2"),
            Some(b"http/1.1") => Some("http/1.1"),
            Some(_) | None => None,
        },
        resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        presented: Presented { context: Arc::clone(context), position },
    };
    if info.alpn == Some("h2") {
        stream.get_mut().1.set_buffer_limit(Some(H2_HOLDS));
    }
    Ok(Accepted { stream, info })
}

/// Reads the client's hello. The library's own buffer takes it in, so that a waiting connection
/// holds no other one.
async fn hello(socket: Plain) -> Result<(Hello, Plain), Refused> {
    let failed = |failure| Err(Refused::Failed(failure));
    let mut acceptor = Acceptor::default();
    let mut first = None;
    loop {
        if socket.readable().await.is_err() {
            return failed(Failure::ClientGone);
        }
        match acceptor.read_tls(&mut Sniffer { socket: &socket, first: &mut first }) {
            Ok(0) => return failed(Failure::ClientGone),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return failed(Failure::of_io(&error)),
        }
        match first {
            Some(HANDSHAKE) | None => {}
            // A method's first letter.
            Some(b'A'..=b'Z') => return Err(Refused::PlainHttp(socket)),
            Some(_) => return failed(Failure::NotTls),
        }
        match acceptor.accept() {
            Ok(Some(hello)) => return Ok((hello, socket)),
            Ok(None) => {}
            Err((error, mut alert)) => {
                // The client may be gone: there is nobody else to tell.
                let _told = alert.write_all(&mut Now(&socket)).is_ok();
                return failed(Failure::of(&error));
            }
        }
    }
}

/// Reads what is there and remembers the first byte of all.
struct Sniffer<'s> {
    socket: &'s TcpStream,
    first: &'s mut Option<u8>,
}

impl Read for Sniffer<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.socket.try_read(into)?;
        if let (None, Some(byte)) = (&*self.first, into[..count].first()) {
            *self.first = Some(*byte);
        }
        Ok(count)
    }
}

/// Writes what goes out at once: an alert is a few bytes.
struct Now<'s>(&'s TcpStream);

impl Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
