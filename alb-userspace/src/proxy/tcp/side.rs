//! One end of a connection: a plain socket, or TLS on one.

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::proxy::{plain::Plain, tls};

/// What bytes are read from and written to.
pub trait Side: AsyncRead + AsyncWrite + Unpin {
    /// What is written is what goes out: the kernel may move it (`splice`), nothing needs a flush.
    const PLAIN: bool;

    /// The socket under it.
    fn socket(&self) -> &TcpStream;
}

impl Side for Plain {
    const PLAIN: bool = true;

    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Side for tls::Stream {
    const PLAIN: bool = false;

    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}
