//! Writes a flow entry's rewrite into a packet: addresses, ports, checksums, TTL, stations.

use alb_common::{
    Reason, checksum,
    flow::FlowKey,
    net::{Address, Be16, Be32, Mac},
};

use crate::{
    family::{Added, Family},
    packet::Packet,
    parse::TCP_LEN,
};

/// Where the checksum is in a TCP header.
pub(crate) const CHECKSUM: usize = 16;

/// Everything that changes in a packet.
#[derive(Clone, Copy, Debug)]
pub struct Rewrite<A = Be32> {
    /// New source address.
    pub src: A,
    /// New destination address.
    pub dst: A,
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
pub fn check_delta<A: Address>(old: &FlowKey<A>, new: &FlowKey<A>) -> u16 {
    checksum::fold(
        old.src.taken()
            + new.src.sum()
            + old.dst.taken()
            + new.dst.sum()
            + checksum::replace16(old.sport.0, new.sport.0)
            + checksum::replace16(old.dport.0, new.dport.0),
    )
}

/// Applies `rewrite` to the packet whose headers are at `l3` and `l4`. Decrements the time to live:
/// the balancer is a hop, and two that point at each other must not loop. The flow label of IPv6
/// stays as its sender chose it (RFC 6437 §2): it is the same for all packets of a flow, which is
/// all that routers use it for.
#[inline(always)]
pub fn apply<P: Packet, A: Family>(
    packet: &mut P,
    l3: usize,
    l4: usize,
    rewrite: &Rewrite<A>,
) -> Result<(), Reason> {
    // In ascending order: see `reset::write`.
    let eth = packet.window::<14>(0).ok_or(Reason::Internal)?;
    let ip = A::header(packet, l3).ok_or(Reason::Internal)?;
    let tcp = packet.window::<TCP_LEN>(l4).ok_or(Reason::Internal)?;

    if A::expires(ip) {
        return Err(Reason::TtlExceeded);
    }
    let Added { addresses, header } = A::hop(ip, rewrite.src, rewrite.dst);

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
        if header != 0 {
            packet.rewritten(checksum::fold(header));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
