//! Writes a flow entry's rewrite into a packet: addresses, ports, checksums, TTL, stations.

use alb_common::{
    Reason, checksum,
    net::{Be16, Be32, Mac},
};

use crate::{
    packet::Packet,
    parse::{IPV4_LEN, Ipv4, TCP_LEN},
};

/// Where the checksum is in a TCP header.
pub(crate) const CHECKSUM: usize = 16;

/// Everything that changes in a packet.
#[derive(Clone, Copy, Debug)]
pub struct Rewrite {
    /// New source address.
    pub src: Be32,
    /// New destination address.
    pub dst: Be32,
    /// New source port.
    pub sport: Be16,
    /// New destination port.
    pub dport: Be16,
    /// What the above add to the TCP checksum's sum.
    pub check_delta: u16,
    /// Next station.
    pub next_hop: Mac,
    /// Our station on the way out.
    pub station: Mac,
}

/// What replacing a packet's addresses and ports adds to its TCP checksum's sum, the
/// pseudo-header included.
#[inline(always)]
pub fn check_delta(old: &alb_common::flow::FlowKey, new: &alb_common::flow::FlowKey) -> u16 {
    checksum::fold(
        checksum::replace32(old.src.0, new.src.0)
            + checksum::replace32(old.dst.0, new.dst.0)
            + checksum::replace16(old.sport.0, new.sport.0)
            + checksum::replace16(old.dport.0, new.dport.0),
    )
}

/// Whether a packet must go no further (RFC 1812 §5.3.1).
#[inline(always)]
pub fn expires(ip: Ipv4<'_>) -> bool {
    ip.u8::<8>() <= 1
}

/// Applies `rewrite` to the packet whose headers are at `l3` and `l4`. Decrements the TTL: the
/// balancer is a hop, and two that point at each other must not loop.
#[inline(always)]
pub fn apply<P: Packet>(
    packet: &mut P,
    l3: usize,
    l4: usize,
    rewrite: &Rewrite,
) -> Result<(), Reason> {
    // In ascending order: see `reset::write`.
    let eth = packet.window::<14>(0).ok_or(Reason::Internal)?;
    let ip = packet.window::<IPV4_LEN>(l3).ok_or(Reason::Internal)?;
    let tcp = packet.window::<TCP_LEN>(l4).ok_or(Reason::Internal)?;

    if expires(ip) {
        return Err(Reason::TtlExceeded);
    }
    let addresses = hop(ip, rewrite.src, rewrite.dst);

    if !P::OFFLOADS {
        tcp.set_u16::<16>(checksum::update(tcp.u16::<16>(), rewrite.check_delta as u64));
    }
    tcp.set_u16::<0>(rewrite.sport.0);
    tcp.set_u16::<2>(rewrite.dport.0);

    eth.set(rewrite.next_hop, rewrite.station);
    if P::OFFLOADS {
        let addresses = checksum::fold(addresses);
        let ports = checksum::fold(rewrite.check_delta as u64 + (!addresses) as u64);
        packet.correct(l4 + CHECKSUM, addresses, ports);
    }
    Ok(())
}

/// Writes the addresses into an IPv4 header that has time to live left, and takes one hop of it.
/// Returns what the addresses have added to a sum.
#[inline(always)]
pub fn hop(ip: Ipv4<'_>, src: Be32, dst: Be32) -> u64 {
    let ttl = ip.u8::<8>();
    let old_ttl_word = ip.u16::<8>();
    ip.set_u8::<8>(ttl - 1);
    let addresses =
        checksum::replace32(ip.u32::<12>(), src.0) + checksum::replace32(ip.u32::<16>(), dst.0);
    let delta = addresses + checksum::replace16(old_ttl_word, ip.u16::<8>());
    ip.set_u16::<10>(checksum::update(ip.u16::<10>(), delta));
    ip.set_u32::<12>(src.0);
    ip.set_u32::<16>(dst.0);
    addresses
}

#[cfg(test)]
mod tests;
