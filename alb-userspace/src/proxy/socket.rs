//! Listening sockets: how they are made, and why one cannot be had, in words for people.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::tcp;

/// Connections that wait to be accepted, per socket; the kernel allows `net.core.somaxconn` at
/// most.
const BACKLOG: i32 = 65_535;

/// An address that a listener cannot have.
#[derive(Debug, thiserror::Error)]
#[error(
    "listener {listener} of load balancer {balancer}: cannot listen on {address}: {source}{}",
    advice(*address, source)
)]
pub struct BindError {
    /// Name of the listener.
    pub listener: String,
    /// Name of its load balancer.
    pub balancer: String,
    /// VIP and port.
    pub address: SocketAddr,
    /// What the kernel says.
    pub source: io::Error,
}

fn advice(address: SocketAddr, error: &io::Error) -> String {
    let port = address.port();
    if error.kind() == io::ErrorKind::AddrInUse {
        format!(
            "; another process has it (`ss -ltnp sport = :{port}` names it): stop that, make it \
             listen elsewhere, or give the listener another port"
        )
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "; ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE".to_owned()
    } else {
        String::new()
    }
}

/// One of the sockets that share an address: each worker has its own, the kernel spreads new
/// connections over those that listen. Whoever tries an address for the first time calls
/// [`probe`] before, since sharing works with strangers of the same user too.
pub(super) fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = unbound(address)?;
    socket.set_reuse_port(true)?;
    tcp::prepare_listener(&socket)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Fails if anybody listens on the address or on all addresses of its port.
pub(super) fn probe(address: SocketAddr) -> io::Result<()> {
    unbound(address)?.bind(&address.into())
}

/// Begins to take connections.
pub(super) fn listen(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn unbound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Connections of a former run that linger do not hold the port.
    socket.set_reuse_address(true)?;
    // The VIP may come later, or be another node's for now.
    if address.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests;
