//! Connecting to a target.

use std::{io, net::SocketAddr, time::Duration};

use socket2::SockRef;
use tokio::{net::TcpSocket, time::timeout};

use crate::proxy::plain::Plain;

/// Why a target was not reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It refused, or there is no way to it.
    #[error(transparent)]
    Failed(#[from] io::Error),
    /// It did not answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

pub(super) async fn connect(to: SocketAddr, patience: Duration) -> Result<Plain, ConnectError> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    super::prepare(&SockRef::from(&socket))?;
    match timeout(patience, socket.connect(to)).await {
        Ok(outcome) => Ok(outcome?.into()),
        Err(_elapsed) => Err(ConnectError::Timeout(patience)),
    }
}
