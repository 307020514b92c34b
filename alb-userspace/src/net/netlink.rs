//! The connection to the kernel's routing sockets: requests on one, events on another.

use std::{io, net::IpAddr};

use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use rtnetlink::{
    Handle, MulticastGroup,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
};
use tokio::task::JoinHandle;

/// Bytes of events the kernel keeps for us; beyond it says that some were lost.
const EVENT_BUFFER: i32 = 1 << 20;

/// What can go wrong with the node's network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No socket to the kernel.
    #[error("cannot open a netlink socket: {0}")]
    Open(#[source] io::Error),
    /// The kernel refused a request.
    #[error("cannot {doing}: {source}")]
    Refused {
        /// What was asked of it.
        doing: String,
        /// Its answer.
        source: rtnetlink::Error,
    },
    /// No such interface in this network namespace.
    #[error("no interface {name:?}; there are {}", known.join(", "))]
    NoInterface {
        /// What was asked for.
        name: String,
        /// Interfaces that exist.
        known: Vec<String>,
    },
    /// Sending or receiving ARP or neighbour discovery failed.
    #[error("cannot announce addresses on {interface}, nor ask whose they are: {source}")]
    Arp {
        /// Name of the interface.
        interface: String,
        /// The operating system's error.
        source: io::Error,
    },
}

impl Error {
    /// The errno of the kernel's answer, positive; `None` if it gave none.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source: rtnetlink::Error::NetlinkError(message), .. } => {
                Some(message.raw_code().abs())
            }
            Self::Refused { .. } | Self::NoInterface { .. } => None,
            Self::Open(source) | Self::Arp { source, .. } => source.raw_os_error(),
        }
    }
}

pub(super) trait Refusal<T> {
    /// Names what was asked of the kernel.
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Refusal<T> for Result<T, rtnetlink::Error> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Refused { doing: doing(), source })
    }
}

/// Requests to the kernel about the network namespace in which it was opened. Clones share
/// the socket; it closes with the last of them.
#[derive(Clone, Debug)]
pub struct Netlink(pub(super) Handle);

impl Netlink {
    /// Opens a socket in the calling thread's network namespace; needs a tokio runtime.
    pub fn open() -> Result<Self, Error> {
        let (connection, handle, _events) = rtnetlink::new_connection().map_err(Error::Open)?;
        tokio::spawn(connection);
        Ok(Self(handle))
    }

    /// Everything a dump request answers.
    pub(super) async fn collect<T>(
        stream: impl futures_util::Stream<Item = Result<T, rtnetlink::Error>>,
        what: &str,
    ) -> Result<Vec<T>, Error> {
        stream.try_collect().await.doing(|| format!("list {what}"))
    }
}

/// A change the kernel tells of, or that it lost count of them.
pub(super) enum Event {
    Message(RouteNetlinkMessage),
    Lost,
}

/// Events of interfaces, addresses, routes and neighbours.
pub(super) struct Events {
    pub(super) stream: BoxStream<'static, Event>,
    connection: JoinHandle<()>,
    /// The connection ends when nobody can send requests any more.
    _handle: Handle,
}

impl Drop for Events {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Events {
    pub(super) fn open() -> Result<Self, Error> {
        use MulticastGroup::{
            Ipv4Ifaddr, Ipv4Route, Ipv4Rule, Ipv6Ifaddr, Ipv6Route, Ipv6Rule, Link, Neigh,
        };
        use futures_util::StreamExt;
        use rtnetlink::sys::AsyncSocket as _;

        let groups =
            [Link, Neigh, Ipv4Ifaddr, Ipv4Route, Ipv4Rule, Ipv6Ifaddr, Ipv6Route, Ipv6Rule];
        let (mut connection, handle, events) =
            rtnetlink::new_multicast_connection(&groups).map_err(Error::Open)?;
        connection.socket_mut().socket_mut().set_rx_buf_sz(EVENT_BUFFER).map_err(Error::Open)?;
        let connection = tokio::spawn(connection);
        let stream = events.filter_map(|(message, _from)| std::future::ready(event(message)));
        Ok(Self { stream: stream.boxed(), connection, _handle: handle })
    }
}

fn event(message: NetlinkMessage<RouteNetlinkMessage>) -> Option<Event> {
    if let NetlinkPayload::InnerMessage(message) = message.payload {
        Some(Event::Message(message))
    } else if let NetlinkPayload::Overrun(_) = message.payload {
        Some(Event::Lost)
    } else {
        None
    }
}

/// Prefix length of a single address.
pub(super) fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}
