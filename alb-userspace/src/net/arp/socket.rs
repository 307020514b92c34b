//! A packet socket that sends frames and receives ARP on one interface.

use std::{
    io::{self, Read, Write},
    mem::size_of,
};

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::frame::Arp;
use crate::net::{Error, Interface};

pub(super) struct ArpSocket {
    socket: AsyncFd<Socket>,
    interface: String,
}

impl ArpSocket {
    /// Needs `CAP_NET_RAW`.
    pub(super) fn open(interface: &Interface) -> Result<Self, Error> {
        let name = interface.name.clone();
        let socket = bound(interface.index).and_then(watched);
        let socket = socket.map_err(|source| Error::Arp { interface: name.clone(), source })?;
        Ok(Self { socket, interface: name })
    }

    pub(super) async fn send(&self, arp: &Arp) -> Result<(), Error> {
        self.send_frame(&arp.to_frame()).await
    }

    pub(super) async fn send_frame(&self, frame: &[u8]) -> Result<(), Error> {
        let sending = self
            .socket
            .async_io(tokio::io::Interest::WRITABLE, |mut socket| socket.write_all(frame));
        sending.await.map_err(|source| self.error(source))
    }

    /// The next frame; `None` = it is not one that can be read.
    pub(super) async fn receive(&self) -> Result<Option<Arp>, Error> {
        let mut frame = [0; 64];
        let receiving = self
            .socket
            .async_io(tokio::io::Interest::READABLE, |mut socket| socket.read(&mut frame));
        let length = receiving.await.map_err(|source| self.error(source))?;
        Ok(Arp::parse(&frame[..length]))
    }

    fn error(&self, source: io::Error) -> Error {
        Error::Arp { interface: self.interface.clone(), source }
    }
}

#[expect(unsafe_code, reason = "tokio asks for a promise that the descriptor is owned")]
fn watched(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: a `Socket` owns its descriptor, always returns the same one, and keeps it open
    // until it is dropped.
    Ok(unsafe { AsyncFd::register(socket) }?)
}

fn bound(index: u32) -> io::Result<Socket> {
    // Protocol 0 = nothing is received until it is bound to the interface.
    let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(Protocol::from(0)))?;
    socket.bind(&link_address(index)?)?;
    Ok(socket)
}

#[expect(unsafe_code, reason = "socket2 has no constructor for link-layer addresses")]
fn link_address(index: u32) -> io::Result<SockAddr> {
    let ether_type = u16::try_from(libc::ETH_P_ARP).map_err(io::Error::other)?;
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` is one of the platform's address types and is no larger than the
    // storage; all of its bytes are initialised and any bytes are valid for its integers.
    let address: &mut libc::sockaddr_ll = unsafe { storage.view_as() };
    address.sll_family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    address.sll_protocol = ether_type.to_be();
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    let length = u32::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
    // SAFETY: the storage holds a `sockaddr_ll` with its family set, of this length.
    Ok(unsafe { SockAddr::new(storage, length) })
}
