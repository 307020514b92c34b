//! IPv6 (RFC 8200): the header as [`Family`] asks for it, and the extension headers behind it.

use alb_common::{
    Reason, checksum,
    net::{Address as _, Be128},
};

use crate::{
    family::{Added, Family, Found},
    icmp::{Message, Quote},
    icmp6,
    packet::{Packet, Window},
    parse::{IPPROTO_TCP, Segment},
    rewrite::Rewrite,
};

/// Length of an IPv6 header, bytes.
pub const IPV6_LEN: usize = 40;
/// Extension headers that are gone past, at most.
pub const MOST_EXTENSIONS: usize = 4;
/// Their length together, bytes, at most.
pub const MOST_EXTENSION_BYTES: usize = 128;

pub(crate) const IPPROTO_ICMPV6: u8 = 58;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
/// Version 6, traffic class and flow label 0.
const VERSION: u32 = 0x6000_0000u32.to_be();
const HOP_LIMIT: u8 = 64;

/// An IPv6 header.
pub type Ipv6<'a> = Window<'a, IPV6_LEN>;

/// What is behind the extension headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payload<'a> {
    /// The IPv6 header.
    ip: Ipv6<'a>,
    /// Its offset.
    pub(crate) at: usize,
    pub(crate) protocol: u8,
    /// Length of the IP packet, bytes.
    pub(crate) ip_len: usize,
}

/// Goes past the extension headers of a packet whose lengths hold against the frame.
#[inline(always)]
pub(crate) fn payload<P: Packet>(packet: &P, l3: usize) -> Result<Payload<'_>, Reason> {
    let ip = packet.window::<IPV6_LEN>(l3).ok_or(Reason::Truncated)?;
    let said = u16::from_be(ip.u16::<4>()) as usize;
    // A super-packet beyond 64 KiB says 0.
    let ip_len = if said == 0 { packet.ip_len(l3, 0) } else { IPV6_LEN + said };
    if ip.u8::<0>() >> 4 != 6 || ip_len < IPV6_LEN {
        return Err(Reason::BadIpHeader);
    }
    // As in IPv4.
    if l3 + ip_len > packet.end() - packet.start() && l3 + ip_len > packet.len() {
        return Err(Reason::BadIpHeader);
    }
    let mut protocol = ip.u8::<6>();
    let mut skipped = 0;
    if protocol != IPPROTO_TCP && protocol != IPPROTO_ICMPV6 {
        let behind = extensions(packet, l3);
        skipped = behind as usize >> 8;
        // The verifier is to know a bound.
        if skipped > MOST_EXTENSION_BYTES {
            return Err(Reason::ExtensionHeaders);
        }
        protocol = behind as u8;
    }
    match protocol {
        IPPROTO_TCP | IPPROTO_ICMPV6 => {}
        FRAGMENT => return Err(Reason::Fragment),
        _ => return Err(Reason::UnsupportedProtocol),
    }
    let headers = IPV6_LEN + skipped;
    if headers > ip_len {
        return Err(Reason::BadIpHeader);
    }
    Ok(Payload { ip, at: l3 + headers, protocol, ip_len })
}

/// No packet has as long ones.
const TOO_MANY: u32 = u32::MAX;

/// The length of the extension headers, above bit 8, and the protocol behind them. A routing header
/// that is not done is not for a balancer to follow (RFC 5095), nor to send on.
///
/// No call of its own: the compiler would hand over the packet's bounds instead of the packet, cut to
/// 32 bits, after which they are no packet pointers.
#[inline(always)]
fn extensions<P: Packet>(packet: &P, l3: usize) -> u32 {
    let Some(ip) = packet.window::<IPV6_LEN>(l3) else { return TOO_MANY };
    let mut next = ip.u8::<6>();
    let mut skipped = 0;
    let mut seen = 0;
    while seen < MOST_EXTENSIONS {
        // Hop-by-hop options are the first or nowhere (RFC 8200 §4.1).
        let is_extension =
            matches!(next, ROUTING | DESTINATION_OPTIONS) || next == HOP_BY_HOP && seen == 0;
        if !is_extension {
            break;
        }
        seen += 1;
        let Some(header) = packet.window::<8>(l3 + IPV6_LEN + skipped) else { return TOO_MANY };
        if next == ROUTING && header.u8::<3>() != 0 {
            return TOO_MANY;
        }
        next = header.u8::<0>();
        skipped += (header.u8::<1>() as usize + 1) * 8;
        if skipped > MOST_EXTENSION_BYTES {
            return TOO_MANY;
        }
    }
    if matches!(next, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS) {
        return TOO_MANY;
    }
    (skipped as u32) << 8 | next as u32
}

impl Family for Be128 {
    const ETHERTYPE: u16 = 0x86ddu16.to_be();
    const AF: u8 = 10;
    const IP_LEN: usize = IPV6_LEN;

    type Header<'a> = Ipv6<'a>;

    #[inline(always)]
    fn header<P: Packet>(packet: &P, l3: usize) -> Option<Ipv6<'_>> {
        packet.window::<IPV6_LEN>(l3)
    }

    #[inline(always)]
    fn source(ip: Ipv6<'_>) -> Self {
        ip.be128::<8>()
    }

    #[inline(always)]
    fn destination(ip: Ipv6<'_>) -> Self {
        ip.be128::<24>()
    }

    #[inline(always)]
    fn tcp<P: Packet>(packet: &P, l3: usize) -> Result<Found<Ipv6<'_>>, Reason> {
        let Payload { ip, at: l4, protocol, ip_len } = payload(packet, l3)?;
        if protocol == IPPROTO_TCP { Ok(Found { ip, l4, ip_len }) } else { Err(Reason::Icmp) }
    }

    #[inline(always)]
    fn bounded(offset: usize) -> usize {
        const { assert!(22 + IPV6_LEN + MOST_EXTENSION_BYTES < 256) };
        offset & 0xff
    }

    /// Not unspecified, loopback, mapped IPv4 (`::/32`), link-local or multicast. What is
    /// link-local stays on its link (RFC 4291 §2.5.6).
    #[inline(always)]
    fn is_client(self) -> bool {
        let first = u32::from_be(self.0[0]);
        first != 0 && first >> 24 != 0xff && first >> 22 != 0xfe80 >> 6
    }

    /// RFC 8200 §3.
    #[inline(always)]
    fn expires(ip: Ipv6<'_>) -> bool {
        ip.u8::<7>() <= 1
    }

    #[inline(always)]
    fn hop(ip: Ipv6<'_>, src: Self, dst: Self) -> Added {
        let old = ip.u16::<6>();
        ip.set_u8::<7>(ip.u8::<7>() - 1);
        let hop = checksum::replace16(old, ip.u16::<6>());
        let before = ip.be128::<8>().sum() + ip.be128::<24>().sum();
        let after = src.sum() + dst.sum();
        // The sum of eight words is less than 2³⁵.
        let addresses = (!checksum::fold(before)) as u64 + checksum::fold(after) as u64;
        ip.set_be128::<8>(src);
        ip.set_be128::<24>(dst);
        Added { addresses, header: addresses + hop }
    }

    #[inline(always)]
    fn write(ip: Ipv6<'_>, protocol: u8, payload: u16, src: Self, dst: Self) -> u64 {
        let len = payload.to_be();
        let life = u16::from_ne_bytes([protocol, HOP_LIMIT]);
        ip.set_u32::<0>(VERSION);
        ip.set_u16::<4>(len);
        ip.set_u16::<6>(life);
        ip.set_be128::<8>(src);
        ip.set_be128::<24>(dst);
        VERSION as u64 + len as u64 + life as u64 + src.sum() + dst.sum()
    }

    #[inline(always)]
    fn icmp<P: Packet>(packet: &P, l3: usize) -> Result<Message<Self>, Reason> {
        icmp6::message(packet, l3)
    }

    #[inline(always)]
    fn translate<P: Packet>(
        packet: &mut P,
        quote: &Quote<Self>,
        rewrite: &Rewrite<Self>,
    ) -> Result<(), Reason> {
        icmp6::translate(packet, quote, rewrite)
    }

    #[inline(always)]
    fn echo<P: Packet>(packet: &mut P, l3: usize) -> Result<(), Reason> {
        icmp6::echo(packet, l3)
    }

    #[inline(always)]
    fn too_big<P: Packet>(packet: &mut P, segment: &Segment<Self>, mtu: u16) -> Result<(), Reason> {
        icmp6::too_big(packet, segment, mtu)
    }
}

#[cfg(test)]
mod tests;
