//! A packet socket that sends frames and receives those of one kind on one interface.

use std::{
    io::{self, Read, Write},
    mem::size_of,
};

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockFilter, Socket, Type};
use tokio::io::unix::AsyncFd;

use crate::net::{Error, Interface};

/// What a socket receives.
#[derive(Clone, Copy, Debug)]
pub(super) enum Heard {
    /// ARP.
    Arp,
    /// Neighbour advertisements.
    Advertisements,
}

pub(super) struct LinkSocket {
    socket: AsyncFd<Socket>,
    interface: String,
}

impl LinkSocket {
    /// Needs `CAP_NET_RAW`.
    pub(super) fn open(interface: &Interface, heard: Heard) -> Result<Self, Error> {
        let name = interface.name.clone();
        let socket = bound(interface.index, heard).and_then(watched);
        let socket = socket.map_err(|source| Error::Arp { interface: name.clone(), source })?;
        Ok(Self { socket, interface: name })
    }

    pub(super) async fn send(&self, frame: &[u8]) -> Result<(), Error> {
        let sending = self
            .socket
            .async_io(tokio::io::Interest::WRITABLE, |mut socket| socket.write_all(frame));
        sending.await.map_err(|source| self.error(source))
    }

    /// The next frame, cut to the room that there is.
    pub(super) async fn receive<'a>(&self, room: &'a mut [u8]) -> Result<&'a [u8], Error> {
        let receiving =
            self.socket.async_io(tokio::io::Interest::READABLE, |mut socket| socket.read(room));
        let length = receiving.await.map_err(|source| self.error(source))?;
        Ok(&room[..length])
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

fn bound(index: u32, heard: Heard) -> io::Result<Socket> {
    // Protocol 0 = nothing is received until it is bound to the interface.
    let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(Protocol::from(0)))?;
    let ether_type = match heard {
        Heard::Arp => libc::ETH_P_ARP,
        Heard::Advertisements => {
            // Else all of the interface's IPv6 would come.
            socket.attach_filter(&advertisements())?;
            libc::ETH_P_IPV6
        }
    };
    socket.bind(&link_address(index, ether_type)?)?;
    Ok(socket)
}

/// Classic BPF: the protocol behind the IPv6 header is `ICMPv6`, its type 136.
#[expect(clippy::cast_possible_truncation, reason = "instructions are of 16 bits")]
const fn advertisements() -> [SockFilter; 6] {
    const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, 20),
        SockFilter::new(JUMP_EQUAL, 0, 3, 58),
        SockFilter::new(LOAD_BYTE, 0, 0, 54),
        SockFilter::new(JUMP_EQUAL, 0, 1, 136),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

#[expect(unsafe_code, reason = "socket2 has no constructor for link-layer addresses")]
fn link_address(index: u32, ether_type: libc::c_int) -> io::Result<SockAddr> {
    let ether_type = u16::try_from(ether_type).map_err(io::Error::other)?;
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
