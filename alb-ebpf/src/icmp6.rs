//! ICMPv6 (RFC 4443): what a message says, errors about our flows' packets translated, and the two
//! messages that the balancer sends itself. Knows nothing of tables.

use alb_common::{
    Reason, checksum,
    flow::FlowKey,
    net::{Address as _, Be128},
};

use crate::{
    family::{Added, Family as _},
    icmp::{ICMP_LEN, Message, QUOTED, Quote, shift},
    ipv6::{self, IPPROTO_ICMPV6, IPV6_LEN, Payload},
    packet::Packet,
    parse::{IPPROTO_TCP, Segment},
    rewrite::{CHECKSUM, Rewrite},
};

const UNREACHABLE: u8 = 1;
const TOO_BIG: u8 = 2;
const PARAMETER_PROBLEM: u8 = 4;
const ECHO: u8 = 128;
const ECHO_REPLY: u8 = 129;
/// Multicast listener discovery (RFC 2710), neighbour discovery (RFC 4861) and their kin.
const HOST_FIRST: u8 = 130;
const HOST_LAST: u8 = 137;
const HOP_LIMIT: u8 = 64;

/// As in [`crate::family::Family::icmp`]. Neighbour discovery and what else is for the host's own
/// stack is [`Reason::Icmp`].
#[inline(always)]
pub fn message<P: Packet>(packet: &P, l3: usize) -> Result<Message<Be128>, Reason> {
    let Payload { at: icmp, ip_len, .. } = ipv6::payload(packet, l3)?;
    if l3 + ip_len < icmp + ICMP_LEN {
        return Err(Reason::BadIcmp);
    }
    let head = packet.window::<ICMP_LEN>(icmp).ok_or(Reason::Truncated)?;
    match (head.u8::<0>(), head.u8::<1>()) {
        (ECHO, 0) => return Ok(Message::Echo),
        (UNREACHABLE..=PARAMETER_PROBLEM, _) => {}
        (HOST_FIRST..=HOST_LAST, _) => return Err(Reason::Icmp),
        // Pings of another code too: the host would answer them, past security groups.
        _ => return Ok(Message::Other),
    }
    let inner = packet.window::<IPV6_LEN>(icmp + ICMP_LEN).ok_or(Reason::BadIcmp)?;
    if inner.u8::<0>() >> 4 != 6 || icmp + ICMP_LEN + IPV6_LEN + QUOTED > l3 + ip_len {
        return Err(Reason::BadIcmp);
    }
    // We send packets on with the extension headers that they have, but few have any: errors about
    // those are not looked into.
    if inner.u8::<6>() != IPPROTO_TCP {
        return Ok(Message::Other);
    }
    let l4 = icmp + ICMP_LEN + IPV6_LEN;
    let tcp = packet.window::<QUOTED>(l4).ok_or(Reason::BadIcmp)?;
    let key = FlowKey {
        src: inner.be128::<24>(),
        dst: inner.be128::<8>(),
        sport: tcp.be16::<2>(),
        dport: tcp.be16::<0>(),
    };
    Ok(Message::Error(Quote { l3, icmp, l4, ip_len: ip_len as u32, key }))
}

/// As in [`crate::family::Family::translate`].
#[inline(always)]
pub fn translate<P: Packet>(
    packet: &mut P,
    quote: &Quote<Be128>,
    rewrite: &Rewrite<Be128>,
) -> Result<(), Reason> {
    let Added { header, addresses: outer } = {
        // In ascending order: see `reset::write`.
        let eth = packet.window::<14>(0).ok_or(Reason::Internal)?;
        let ip = packet.window::<IPV6_LEN>(quote.l3).ok_or(Reason::Internal)?;
        if Be128::expires(ip) {
            return Err(Reason::TtlExceeded);
        }
        eth.set(rewrite.next_hop, rewrite.station);
        Be128::hop(ip, rewrite.src, rewrite.dst)
    };
    let icmp = packet.window::<ICMP_LEN>(quote.icmp).ok_or(Reason::Internal)?;
    let inner = packet.window::<IPV6_LEN>(quote.ip()).ok_or(Reason::Internal)?;
    let tcp = packet.window::<QUOTED>(quote.l4).ok_or(Reason::Internal)?;
    let before = inner.be128::<8>().sum() + inner.be128::<24>().sum();
    let after = rewrite.dst.sum() + rewrite.src.sum();
    let addresses = (!checksum::fold(before)) as u64 + checksum::fold(after) as u64;
    let ports = checksum::replace16(tcp.u16::<0>(), rewrite.dport.0)
        + checksum::replace16(tcp.u16::<2>(), rewrite.sport.0);
    inner.set_be128::<8>(rewrite.dst);
    inner.set_be128::<24>(rewrite.src);
    tcp.set_u16::<0>(rewrite.dport.0);
    tcp.set_u16::<2>(rewrite.sport.0);
    // The checksum of the message covers its own addresses, and the quote with the checksum in it.
    let mut delta = outer + addresses + ports;
    if quote.has_checksum()
        && let Some(check) = packet.window::<2>(quote.l4 + CHECKSUM)
    {
        let old = check.u16::<0>();
        let new = checksum::update(old, addresses + ports);
        delta += checksum::replace16(old, new);
        check.set_u16::<0>(new);
    }
    icmp.set_u16::<2>(checksum::update(icmp.u16::<2>(), delta));
    if P::OFFLOADS {
        // The addresses' part is what the message's checksum takes back.
        packet.rewritten(checksum::fold(header + (!checksum::fold(outer)) as u64));
    }
    Ok(())
}

/// Turns a ping into its answer, in place: its addresses change places, so their sum stays.
#[inline(always)]
pub fn echo<P: Packet>(packet: &mut P, l3: usize) -> Result<(), Reason> {
    let icmp = ipv6::payload(packet, l3)?.at;
    let eth = packet.window::<14>(0).ok_or(Reason::Internal)?;
    let ip = packet.window::<IPV6_LEN>(l3).ok_or(Reason::Internal)?;
    let head = packet.window::<ICMP_LEN>(icmp).ok_or(Reason::Internal)?;
    eth.set(eth.source(), eth.destination());
    let (src, dst) = (ip.be128::<8>(), ip.be128::<24>());
    let life = ip.u16::<6>();
    ip.set_u8::<7>(HOP_LIMIT);
    let hop = checksum::replace16(life, ip.u16::<6>());
    ip.set_be128::<8>(dst);
    ip.set_be128::<24>(src);
    let kind = head.u16::<0>();
    head.set_u8::<0>(ECHO_REPLY);
    let delta = checksum::replace16(kind, head.u16::<0>());
    head.set_u16::<2>(checksum::update(head.u16::<2>(), delta));
    if P::OFFLOADS {
        packet.rewritten(checksum::fold(hop));
    }
    Ok(())
}

/// Writes "packet too big" with this MTU (RFC 4443 §3.2) over a segment that is longer: its IPv6
/// header and eight bytes are moved behind the new headers. One with extension headers gets no
/// answer. Checksums that the host keeps aside: as in IPv4.
#[inline(always)]
pub fn too_big<P: Packet>(
    packet: &mut P,
    segment: &Segment<Be128>,
    mtu: u16,
) -> Result<(), Reason> {
    const WORDS: usize = (IPV6_LEN + QUOTED) / 4;
    const LEN: usize = IPV6_LEN + ICMP_LEN + WORDS * 4;

    let l3 = segment.l3();
    if segment.l4() != l3 + IPV6_LEN {
        return Err(Reason::MtuExceeded);
    }
    if segment.ip_len < LEN as u32 || !packet.truncate(l3 + LEN) {
        return Err(Reason::Internal);
    }
    let before = if P::OFFLOADS { packet.sum(l3, LEN / 4) } else { 0 };
    let moved = shift(packet, l3, WORDS, IPV6_LEN + ICMP_LEN);
    // In ascending order: see `reset::write`.
    let eth = packet.window::<14>(0).ok_or(Reason::Internal)?;
    let ip = packet.window::<IPV6_LEN>(l3).ok_or(Reason::Internal)?;
    let head = packet.window::<ICMP_LEN>(l3 + IPV6_LEN).ok_or(Reason::Internal)?;
    eth.set(eth.source(), eth.destination());
    let payload = (LEN - IPV6_LEN) as u16;
    let (src, dst) = (segment.key.dst, segment.key.src);
    let header = Be128::write(ip, IPPROTO_ICMPV6, payload, src, dst);
    let pseudo = checksum::fold(
        src.sum() + dst.sum() + payload.to_be() as u64 + (IPPROTO_ICMPV6 as u16).to_be() as u64,
    );
    let kind = u16::from_ne_bytes([TOO_BIG, 0]);
    let sum = pseudo as u64 + kind as u64 + mtu.to_be() as u64 + moved as u64;
    head.set_u16::<0>(kind);
    head.set_u16::<2>(checksum::finish(sum));
    head.set_u16::<4>(0);
    head.set_u16::<6>(mtu.to_be());
    if P::OFFLOADS {
        // A right message's sum is the pseudo-header's complement.
        packet.rewritten(checksum::fold((!before) as u64 + (!pseudo) as u64 + header));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
