//! Which way the kernel would send to an address.

use std::net::IpAddr;

use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType, RouteVia,
};

use super::netlink::{Error, Netlink, Refusal, host_prefix};

/// A resolved route to one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Index of the interface to send on.
    pub(super) interface: u32,
    /// `None` = the address itself is on the link.
    pub(super) gateway: Option<IpAddr>,
    /// Address of the node towards it.
    pub(super) source: IpAddr,
    /// It is an address of this host.
    pub(super) is_here: bool,
}

impl Netlink {
    /// Asks the kernel. `None` = no route, or not one over a link (blackhole, …).
    pub(super) async fn route(&self, to: IpAddr) -> Result<Option<Route>, Error> {
        use futures_util::TryStreamExt;
        let mut request = RouteMessage::default();
        request.header = RouteHeader {
            address_family: if to.is_ipv4() {
                rtnetlink::packet_route::AddressFamily::Inet
            } else {
                rtnetlink::packet_route::AddressFamily::Inet6
            },
            destination_prefix_length: host_prefix(to),
            ..RouteHeader::default()
        };
        request.attributes.push(RouteAttribute::Destination(to.into()));
        let mut answers = Box::pin(self.0.route().get(request).execute());
        match answers.try_next().await.doing(|| format!("find the route to {to}")) {
            Ok(answer) => Ok(answer.as_ref().and_then(route)),
            Err(error)
                if matches!(
                    error.errno(),
                    Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL)
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn route(message: &RouteMessage) -> Option<Route> {
    let is_here = message.header.kind == RouteType::Local;
    if message.header.kind != RouteType::Unicast && !is_here {
        return None;
    }
    let (mut interface, mut gateway, mut source) = (None, None, None);
    for attribute in &message.attributes {
        if let RouteAttribute::Oif(index) = attribute {
            interface = Some(*index);
        } else if let RouteAttribute::Gateway(address) = attribute {
            gateway = ip(address);
        } else if let RouteAttribute::Via(RouteVia::Inet6(address)) = attribute {
            gateway = Some(IpAddr::V6(*address));
        } else if let RouteAttribute::PrefSource(address) = attribute {
            source = ip(address);
        }
    }
    Some(Route { interface: interface?, gateway, source: source?, is_here })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    if let RouteAddress::Inet(address) = address {
        Some(IpAddr::V4(*address))
    } else if let RouteAddress::Inet6(address) = address {
        Some(IpAddr::V6(*address))
    } else {
        None
    }
}
