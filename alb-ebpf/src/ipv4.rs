//! IPv4 (RFC 791): the header as [`Family`] asks for it.

use alb_common::{Reason, checksum, net::Be32};

use crate::{
    family::{Added, Family, Found},
    icmp::{self, Message, Quote},
    packet::{Packet, Window},
    parse::{IPPROTO_TCP, Segment},
    rewrite::Rewrite,
};

pub(crate) const IPPROTO_ICMP: u8 = 1;
/// More-fragments flag and offset (RFC 791 §3.1).
pub(crate) const FRAGMENT: u16 = 0x3fffu16.to_be();
const DONT_FRAGMENT: u16 = 0x4000u16.to_be();
/// Version, header length without options, routine service.
const VERSION_IHL_TOS: u16 = 0x4500u16.to_be();
const TTL: u8 = 64;

/// Length of an IPv4 header without options.
pub const IPV4_LEN: usize = network_types::ip::Ipv4Hdr::LEN;

/// An IPv4 header without options.
pub type Ipv4<'a> = Window<'a, IPV4_LEN>;

impl Family for Be32 {
    const ETHERTYPE: u16 = 0x0800u16.to_be();
    const AF: u8 = 2;
    const IP_LEN: usize = IPV4_LEN;

    type Header<'a> = Ipv4<'a>;

    #[inline(always)]
    fn header<P: Packet>(packet: &P, l3: usize) -> Option<Ipv4<'_>> {
        packet.window::<IPV4_LEN>(l3)
    }

    #[inline(always)]
    fn source(ip: Ipv4<'_>) -> Self {
        ip.be32::<12>()
    }

    #[inline(always)]
    fn destination(ip: Ipv4<'_>) -> Self {
        ip.be32::<16>()
    }

    #[inline(always)]
    fn tcp<P: Packet>(packet: &P, l3: usize) -> Result<Found<Ipv4<'_>>, Reason> {
        let ip = packet.window::<IPV4_LEN>(l3).ok_or(Reason::Truncated)?;
        let version_ihl = ip.u8::<0>();
        let header_len = ((version_ihl & 0x0f) as usize) << 2;
        let ip_len = packet.ip_len(l3, u16::from_be(ip.u16::<2>()) as usize);
        if version_ihl >> 4 != 4 || header_len < IPV4_LEN || ip_len < header_len {
            return Err(Reason::BadIpHeader);
        }
        // Ethernet pads short frames, so the frame may be longer but never shorter.
        // Asking for the whole length is a call; most frames are in one piece.
        // Lengths are compared, not addresses: before Linux 6.6 the verifier knows no bounds of a
        // swapped word and lets none be added to an address.
        if l3 + ip_len > packet.end() - packet.start() && l3 + ip_len > packet.len() {
            return Err(Reason::BadIpHeader);
        }
        let protocol = ip.u8::<9>();
        if protocol == IPPROTO_ICMP {
            return Err(Reason::Icmp);
        }
        if ip.u16::<6>() & FRAGMENT != 0 {
            return Err(Reason::Fragment);
        }
        if protocol != IPPROTO_TCP {
            return Err(Reason::UnsupportedProtocol);
        }
        Ok(Found { ip, l4: l3 + header_len, ip_len })
    }

    /// It stays on the stack, where the verifier keeps what it knows of it.
    #[inline(always)]
    fn bounded(offset: usize) -> usize {
        offset
    }

    /// Not zero, loopback, multicast, reserved or broadcast (RFC 6890).
    #[inline(always)]
    fn is_client(self) -> bool {
        let first = u32::from_be(self.0) >> 24;
        first != 0 && first != 127 && first < 224
    }

    /// RFC 1812 §5.3.1.
    #[inline(always)]
    fn expires(ip: Ipv4<'_>) -> bool {
        ip.u8::<8>() <= 1
    }

    #[inline(always)]
    fn hop(ip: Ipv4<'_>, src: Self, dst: Self) -> Added {
        // As the word that the checksum is of: one read after half of it was written would wait for
        // that write.
        let old = ip.u16::<8>();
        let [ttl, protocol] = old.to_ne_bytes();
        let new = u16::from_ne_bytes([ttl - 1, protocol]);
        ip.set_u16::<8>(new);
        let addresses =
            checksum::replace32(ip.u32::<12>(), src.0) + checksum::replace32(ip.u32::<16>(), dst.0);
        let delta = addresses + checksum::replace16(old, new);
        ip.set_u16::<10>(checksum::update(ip.u16::<10>(), delta));
        ip.set_u32::<12>(src.0);
        ip.set_u32::<16>(dst.0);
        Added { addresses, header: 0 }
    }

    #[inline(always)]
    fn write(ip: Ipv4<'_>, protocol: u8, payload: u16, src: Self, dst: Self) -> u64 {
        let len = (IPV4_LEN as u16 + payload).to_be();
        let life = u16::from_ne_bytes([TTL, protocol]);
        ip.set_u16::<0>(VERSION_IHL_TOS);
        ip.set_u16::<2>(len);
        ip.set_u16::<4>(0);
        ip.set_u16::<6>(DONT_FRAGMENT);
        ip.set_u16::<8>(life);
        ip.set_u32::<12>(src.0);
        ip.set_u32::<16>(dst.0);
        ip.set_u16::<10>(checksum::finish(
            src.0 as u64
                + dst.0 as u64
                + VERSION_IHL_TOS as u64
                + len as u64
                + DONT_FRAGMENT as u64
                + life as u64,
        ));
        // A right header's sum is zero.
        0
    }

    #[inline(always)]
    fn icmp<P: Packet>(packet: &P, l3: usize) -> Result<Message, Reason> {
        icmp::message(packet, l3)
    }

    #[inline(always)]
    fn translate<P: Packet>(
        packet: &mut P,
        quote: &Quote,
        rewrite: &Rewrite,
    ) -> Result<(), Reason> {
        icmp::translate(packet, quote, rewrite)
    }

    #[inline(always)]
    fn echo<P: Packet>(packet: &mut P, l3: usize) -> Result<(), Reason> {
        icmp::echo(packet, l3)
    }

    #[inline(always)]
    fn too_big<P: Packet>(packet: &mut P, segment: &Segment, mtu: u16) -> Result<(), Reason> {
        icmp::too_big(packet, segment, mtu)
    }
}
