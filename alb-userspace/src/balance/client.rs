//! The hash of a client's address: the kernel's, so that a client meets the same target on
//! either engine.

use std::net::IpAddr;

use alb_common::hash;

/// Hash of a client address. An IPv4 client that came through an IPv6 socket is that client.
pub(super) fn hash(client: IpAddr) -> u32 {
    match client.to_canonical() {
        IpAddr::V4(client) => hash::client(client.into()),
        IpAddr::V6(client) => hash::client6(client.into()),
    }
}

/// The slot of a table of `len`, which is at most 2³².
pub(super) fn slot(of: u32, len: usize) -> usize {
    hash::slot(of, u32::try_from(len).unwrap_or(u32::MAX)) as usize
}
