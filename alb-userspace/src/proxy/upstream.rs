//! Connections to http targets: made with a timeout, kept while idle, checked before they are
//! used again. One set for each worker; whoever speaks with the client is not known here.

mod pool;

use std::{io, net::SocketAddr, time::Duration};

pub use pool::Pool;
use socket2::SockRef;
use tokio::{net::TcpStream, time::timeout};

use super::{buffer::Buffer, plain::Plain};

/// A connection to a target with a request in work, or ready for one.
#[derive(Debug)]
pub struct Upstream {
    /// The socket.
    pub stream: Plain,
    /// What was read and not used up.
    pub input: Buffer,
    /// It served requests before: the target may be about to close it.
    pub reused: bool,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    /// Refused, reset or unreachable.
    Failed(io::Error),
    /// Not within the time.
    Timeout,
}

/// Connects within a time.
pub async fn connect(address: SocketAddr, within: Duration) -> Result<Upstream, ConnectError> {
    let stream = match timeout(within, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(ConnectError::Failed(error)),
        Err(_elapsed) => return Err(ConnectError::Timeout),
    };
    // A head and its body are one write; nothing is gained by waiting for more.
    stream.set_nodelay(true).map_err(ConnectError::Failed)?;
    Ok(Upstream { stream: stream.into(), input: Buffer::default(), reused: false })
}

impl Upstream {
    /// Ends the connection so that the target stops working for it: RST instead of FIN.
    pub fn reset(self) {
        reset(&self.stream);
    }
}

/// Makes closing this socket send RST.
pub fn reset(stream: &TcpStream) {
    if let Err(error) = SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "a connection is closed without RST");
    }
}
