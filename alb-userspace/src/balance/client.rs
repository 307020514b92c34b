//! The hash of a client's address: the kernel's, so that a client meets the same target on
//! either engine.

use std::net::{IpAddr, Ipv6Addr};

use alb_common::{hash, net::Be32};

/// Hash of a client address. An IPv4 client that came through an IPv6 socket is that client.
pub(super) fn hash(client: IpAddr) -> u32 {
    match client.to_canonical() {
        IpAddr::V4(client) => hash::client(client.into()),
        IpAddr::V6(client) => v6(client),
    }
}

/// The four words one after the other, each mixed with the hash of those before it. The whole
/// address counts: clients of one site differ in the low words only.
fn v6(client: Ipv6Addr) -> u32 {
    let bits = client.to_bits();
    [96, 64, 32, 0].into_iter().fold(0, |before, shift| {
        let word = u32::try_from(bits >> shift & 0xffff_ffff).unwrap_or_default();
        hash::client(Be32((before ^ word).to_be()))
    })
}

/// The slot of a table of `len`, which is at most 2³².
pub(super) fn slot(of: u32, len: usize) -> usize {
    hash::slot(of, u32::try_from(len).unwrap_or(u32::MAX)) as usize
}
