//! ICMP for IPv4 (RFC 792): what a message says, errors about our flows' packets translated, and the two
//! messages that the balancer sends itself. Knows nothing of tables.

use alb_common::{Reason, checksum, flow::FlowKey, net::Be32};

use crate::{
    family::Family as _,
    ipv4::{FRAGMENT, IPPROTO_ICMP, IPV4_LEN},
    packet::Packet,
    parse::{IPPROTO_TCP, Segment},
    rewrite::{CHECKSUM, Rewrite},
};

/// Length of an ICMP header, bytes.
pub const ICMP_LEN: usize = 8;
/// Of a quoted TCP segment every router returns this much (RFC 792): ports and sequence number.
pub(crate) const QUOTED: usize = 8;
/// Offset of a fragment, without its flags (RFC 791 §3.1).
const FRAGMENT_OFFSET: u16 = 0x1fffu16.to_be();
const TTL: u8 = 64;

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
const ECHO: u8 = 8;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;

/// What an ICMP message for us is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<A = Be32> {
    /// A ping.
    Echo,
    /// An error about a TCP packet.
    Error(Quote<A>),
    /// Anything else.
    Other,
}

/// An ICMP error and the TCP packet it quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote<A = Be32> {
    /// Offset of the outer IP header.
    pub l3: usize,
    /// Offset of the ICMP header.
    pub icmp: usize,
    /// Offset of the quoted TCP header.
    pub l4: usize,
    /// Length of the whole message with its IP header, bytes.
    pub ip_len: u32,
    /// Addresses and ports of the answers to the quoted packet.
    pub key: FlowKey<A>,
}

impl<A> Quote<A> {
    /// Where the quoted IP header is.
    #[inline(always)]
    pub(crate) fn ip(&self) -> usize {
        self.icmp + ICMP_LEN
    }

    /// Whether the quote reaches behind the TCP checksum.
    #[inline(always)]
    pub(crate) fn has_checksum(&self) -> bool {
        self.l4 + CHECKSUM + 2 <= self.l3 + self.ip_len as usize
    }
}

/// Parses an ICMP message whose destination is ours. Checksums are not verified: wrong ones stay
/// wrong.
#[inline(always)]
pub fn message<P: Packet>(packet: &P, l3: usize) -> Result<Message, Reason> {
    let ip = packet.window::<IPV4_LEN>(l3).ok_or(Reason::Truncated)?;
    let header_len = ((ip.u8::<0>() & 0x0f) as usize) << 2;
    let ip_len = u16::from_be(ip.u16::<2>()) as usize;
    if ip.u16::<6>() & FRAGMENT != 0 {
        return Err(Reason::Fragment);
    }
    if ip_len < header_len + ICMP_LEN {
        return Err(Reason::BadIcmp);
    }
    let icmp = l3 + header_len;
    let head = packet.window::<ICMP_LEN>(icmp).ok_or(Reason::Truncated)?;
    match (head.u8::<0>(), head.u8::<1>()) {
        (ECHO, 0) => return Ok(Message::Echo),
        (UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM, _) => {}
        _ => return Ok(Message::Other),
    }
    let inner = packet.window::<IPV4_LEN>(icmp + ICMP_LEN).ok_or(Reason::BadIcmp)?;
    let version_ihl = inner.u8::<0>();
    let inner_len = ((version_ihl & 0x0f) as usize) << 2;
    if version_ihl >> 4 != 4 || inner_len < IPV4_LEN || inner.u16::<6>() & FRAGMENT_OFFSET != 0 {
        return Err(Reason::BadIcmp);
    }
    if header_len + ICMP_LEN + inner_len + QUOTED > ip_len {
        return Err(Reason::BadIcmp);
    }
    if inner.u8::<9>() != IPPROTO_TCP {
        return Ok(Message::Other);
    }
    let l4 = icmp + ICMP_LEN + inner_len;
    let tcp = packet.window::<QUOTED>(l4).ok_or(Reason::BadIcmp)?;
    let key = FlowKey {
        src: inner.be32::<16>(),
        dst: inner.be32::<12>(),
        sport: tcp.be16::<2>(),
        dport: tcp.be16::<0>(),
    };
    Ok(Message::Error(Quote { l3, icmp, l4, ip_len: ip_len as u32, key }))
}

/// As in [`crate::family::Family::translate`].
#[inline(always)]
pub fn translate<P: Packet>(packet: &P, quote: &Quote, rewrite: &Rewrite) -> Result<(), Reason> {
    // In ascending order: see `reset::write`.
    let eth = packet.window::<14>(0).ok_or(Reason::Internal)?;
    let ip = packet.window::<IPV4_LEN>(quote.l3).ok_or(Reason::Internal)?;
    let icmp = packet.window::<ICMP_LEN>(quote.icmp).ok_or(Reason::Internal)?;
    let inner = packet.window::<IPV4_LEN>(quote.ip()).ok_or(Reason::Internal)?;
    let tcp = packet.window::<QUOTED>(quote.l4).ok_or(Reason::Internal)?;
    if Be32::expires(ip) {
        return Err(Reason::TtlExceeded);
    }
    let addresses = checksum::replace32(inner.u32::<12>(), rewrite.dst.0)
        + checksum::replace32(inner.u32::<16>(), rewrite.src.0);
    let ports = checksum::replace16(tcp.u16::<0>(), rewrite.dport.0)
        + checksum::replace16(tcp.u16::<2>(), rewrite.sport.0);
    // The checksum of the message covers the quote with the checksums in it.
    let old = inner.u16::<10>();
    let new = checksum::update(old, addresses);
    let mut delta = addresses + ports + checksum::replace16(old, new);
    inner.set_u16::<10>(new);
    inner.set_u32::<12>(rewrite.dst.0);
    inner.set_u32::<16>(rewrite.src.0);
    tcp.set_u16::<0>(rewrite.dport.0);
    tcp.set_u16::<2>(rewrite.sport.0);
    if quote.has_checksum()
        && let Some(check) = packet.window::<2>(quote.l4 + CHECKSUM)
    {
        let old = check.u16::<0>();
        let new = checksum::update(old, addresses + ports);
        delta += checksum::replace16(old, new);
        check.set_u16::<0>(new);
    }
    icmp.set_u16::<2>(checksum::update(icmp.u16::<2>(), delta));
    Be32::hop(ip, rewrite.src, rewrite.dst);
    eth.set(rewrite.next_hop, rewrite.station);
    Ok(())
}

/// Turns a ping, found to be one, into its answer, in place.
#[inline(always)]
pub fn echo<P: Packet>(packet: &P, l3: usize) -> Result<(), Reason> {
    let eth = packet.window::<14>(0).ok_or(Reason::Internal)?;
    let ip = packet.window::<IPV4_LEN>(l3).ok_or(Reason::Internal)?;
    let header_len = ((ip.u8::<0>() & 0x0f) as usize) << 2;
    let head = packet.window::<ICMP_LEN>(l3 + header_len).ok_or(Reason::Internal)?;
    eth.set(eth.source(), eth.destination());
    let (src, dst) = (ip.u32::<12>(), ip.u32::<16>());
    let life = ip.u16::<8>();
    ip.set_u8::<8>(TTL);
    let delta = checksum::replace16(life, ip.u16::<8>());
    ip.set_u16::<10>(checksum::update(ip.u16::<10>(), delta));
    ip.set_u32::<12>(dst);
    ip.set_u32::<16>(src);
    let kind = head.u16::<0>();
    head.set_u8::<0>(ECHO_REPLY);
    let delta = checksum::replace16(kind, head.u16::<0>());
    head.set_u16::<2>(checksum::update(head.u16::<2>(), delta));
    Ok(())
}

/// Words of the longest IPv4 header and what is quoted behind it.
const MOST_QUOTED: usize = (60 + QUOTED) / 4;

/// Writes "fragmentation needed" with this MTU (RFC 1191 §4) over a segment that is longer: its
/// IPv4 header and eight bytes are moved behind the new headers. Sent whether or not the packet
/// may be fragmented, because nobody here fragments it.
///
/// Where the host keeps a checksum for the device to complete, this leaves it so: such a packet
/// comes from a virtual link of this machine, and the answer goes back over it as it is.
#[inline(always)]
pub fn too_big<P: Packet>(packet: &mut P, segment: &Segment, mtu: u16) -> Result<(), Reason> {
    let l3 = segment.l3;
    let quoted = (((segment.l4 - l3) >> 2) & 15) + QUOTED / 4;
    let len = IPV4_LEN + ICMP_LEN + quoted * 4;
    if segment.ip_len < len as u32 || !packet.truncate(l3 + len) {
        return Err(Reason::Internal);
    }
    let before = if P::OFFLOADS { packet.sum(l3, len / 4) } else { 0 };
    let moved = shift(packet, l3, quoted, IPV4_LEN + ICMP_LEN);
    // In ascending order: see `reset::write`.
    let eth = packet.window::<14>(0).ok_or(Reason::Internal)?;
    let ip = packet.window::<IPV4_LEN>(l3).ok_or(Reason::Internal)?;
    let head = packet.window::<ICMP_LEN>(l3 + IPV4_LEN).ok_or(Reason::Internal)?;
    eth.set(eth.source(), eth.destination());
    let payload = (len - IPV4_LEN) as u16;
    Be32::write(ip, IPPROTO_ICMP, payload, segment.key.dst, segment.key.src);
    let kind = u16::from_ne_bytes([UNREACHABLE, FRAGMENTATION_NEEDED]);
    let sum = kind as u64 + mtu.to_be() as u64 + moved as u64;
    head.set_u16::<0>(kind);
    head.set_u16::<2>(checksum::finish(sum));
    head.set_u16::<4>(0);
    head.set_u16::<6>(mtu.to_be());
    if P::OFFLOADS {
        // What is there now sums up to nothing.
        packet.rewritten(!before);
    }
    Ok(())
}

/// Moves `words` 32-bit words from `offset` further back `by` so many bytes, where headers are to
/// be written in front of them; their sum.
#[inline(never)]
pub(crate) fn shift<P: Packet>(packet: &P, offset: usize, words: usize, by: usize) -> u16 {
    let mut sum = 0u64;
    let mut step = 0;
    while step < MOST_QUOTED {
        step += 1;
        // From the last: the places overlap. The compiler is not to know the number, or it counts
        // an offset down that the verifier finds no bounds for.
        let word = core::hint::black_box(MOST_QUOTED - step) & 31;
        if word >= words {
            continue;
        }
        let (Some(from), Some(to)) =
            (packet.window::<4>(offset + word * 4), packet.window::<4>(offset + by + word * 4))
        else {
            break;
        };
        let value = from.u32::<0>();
        to.set_u32::<0>(value);
        sum += value as u64;
    }
    checksum::fold(sum)
}

#[cfg(test)]
mod tests;
