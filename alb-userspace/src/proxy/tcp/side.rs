//! One end of a connection: a plain socket, or TLS on one.

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::proxy::{plain::Plain, tls};

/// What bytes are read from and written to.
pub trait Side: AsyncRead + AsyncWrite + Unpin + Sized {
    /// What is written is what goes out: the kernel may move it (`splice`), nothing needs a flush.
    const PLAIN: bool;

    /// The socket under it.
    fn socket(&self) -> &TcpStream;

    /// The side as a plain socket, if it is one, for an engine that knows no other.
    fn into_plain(self) -> Result<Plain, Self>;

    /// Back again; `None` if it was none.
    fn of_plain(plain: Plain) -> Option<Self>;
}

impl Side for Plain {
    const PLAIN: bool = true;

    fn socket(&self) -> &TcpStream {
        self
    }

    fn into_plain(self) -> Result<Plain, Self> {
        Ok(self)
    }

    fn of_plain(plain: Plain) -> Option<Self> {
        Some(plain)
    }
}

impl Side for tls::Stream {
    const PLAIN: bool = false;

    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }

    fn into_plain(self) -> Result<Plain, Self> {
        Err(self)
    }

    fn of_plain(_plain: Plain) -> Option<Self> {
        None
    }
}
