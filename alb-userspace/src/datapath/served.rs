//! Which listeners are the kernel's and which the proxy's, on this node.

use std::net::IpAddr;

use alb_common::net::Be16;

use super::wide::{self, ListenerKey};
use crate::model::{DatapathMode, Engine, Listener, LoadBalancer};

/// The listeners that the kernel serves.
pub(super) fn served(
    balancer: &LoadBalancer,
    datapath: DatapathMode,
) -> impl Iterator<Item = &Listener> + Clone {
    on(balancer, datapath, Engine::Kernel)
}

/// The listeners that the kernel leaves to the proxy.
pub(super) fn proxied(
    balancer: &LoadBalancer,
    datapath: DatapathMode,
) -> impl Iterator<Item = &Listener> + Clone {
    on(balancer, datapath, Engine::Proxy)
}

fn on(
    balancer: &LoadBalancer,
    datapath: DatapathMode,
    engine: Engine,
) -> impl Iterator<Item = &Listener> + Clone {
    let is_its = move |listener: &&Listener| {
        listener.enabled && balancer.engine(listener, datapath) == engine
    };
    balancer.listeners.iter().filter(is_its)
}

/// A listener on one address.
pub(super) fn key(vip: IpAddr, listener: &Listener) -> ListenerKey {
    ListenerKey { addr: wide::addr(vip), port: Be16::new(listener.port.get()), reserved: 0 }
}
