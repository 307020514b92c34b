//! Bytes → addresses, ports and flags, or the reason why not. Knows nothing of tables.

use alb_common::{Reason, flow::FlowKey, net::Be32, tcp};

use crate::packet::{Packet, Window};

const ETH_P_IP: u16 = 0x0800u16.to_be();
const ETH_P_8021Q: u16 = 0x8100u16.to_be();
const ETH_P_8021AD: u16 = 0x88a8u16.to_be();
pub(crate) const IPPROTO_ICMP: u8 = 1;
pub(crate) const IPPROTO_TCP: u8 = 6;
/// More-fragments flag and offset (RFC 791 §3.1).
pub(crate) const FRAGMENT: u16 = 0x3fffu16.to_be();

/// Length of an IPv4 header without options.
pub const IPV4_LEN: usize = network_types::ip::Ipv4Hdr::LEN;
/// Length of a TCP header without options.
pub const TCP_LEN: usize = network_types::tcp::TcpHdr::LEN;

/// An IPv4 header without options.
pub type Ipv4<'a> = Window<'a, IPV4_LEN>;
/// A TCP header without options.
pub type Tcp<'a> = Window<'a, TCP_LEN>;

/// Where the IPv4 header is, behind up to two VLAN tags, those that the host keeps aside
/// included. Longer stacks are not IPv4 to us.
#[inline(always)]
pub fn ipv4_offset<P: Packet>(packet: &P) -> Result<usize, Reason> {
    let eth = packet.window::<14>(0).ok_or(Reason::Truncated)?;
    let ethertype = eth.u16::<12>();
    if ethertype == ETH_P_IP {
        return Ok(14);
    }
    if ethertype != ETH_P_8021Q && ethertype != ETH_P_8021AD {
        return Err(Reason::NotIpv4);
    }
    let tag = packet.window::<4>(14).ok_or(Reason::Truncated)?;
    match tag.u16::<2>() {
        ETH_P_IP => Ok(18),
        ETH_P_8021Q if packet.tags_aside() == 0 => {
            let tag = packet.window::<4>(18).ok_or(Reason::Truncated)?;
            if tag.u16::<2>() == ETH_P_IP { Ok(22) } else { Err(Reason::NotIpv4) }
        }
        _ => Err(Reason::NotIpv4),
    }
}

/// The destination address: all that a packet that is not ours is looked at for.
#[inline(always)]
pub fn destination<P: Packet>(packet: &P, l3: usize) -> Result<Be32, Reason> {
    Ok(packet.window::<IPV4_LEN>(l3).ok_or(Reason::Truncated)?.be32::<16>())
}

/// What a TCP segment for us says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Offset of the IPv4 header.
    pub l3: usize,
    /// Offset of the TCP header.
    pub l4: usize,
    /// IPv4 total length, bytes.
    pub ip_len: u32,
    /// Length of TCP header and options, bytes.
    pub tcp_header_len: u32,
    /// Addresses and ports.
    pub key: FlowKey,
    /// TCP flags.
    pub flags: u8,
}

impl Segment {
    /// Whether it asks for a connection.
    #[inline(always)]
    pub fn opens(&self) -> bool {
        self.flags & (tcp::flag::SYN | tcp::flag::ACK) == tcp::flag::SYN
    }

    /// Length of the sequence space it takes: data, and one each for SYN and FIN
    /// (RFC 9293 §3.4).
    #[inline(always)]
    pub fn sequence_len(&self) -> u32 {
        let data = self.ip_len - (self.l4 - self.l3) as u32 - self.tcp_header_len;
        data + ((self.flags >> 1) & 1) as u32 + (self.flags & 1) as u32
    }
}

/// Parses a packet whose destination is ours. Every length in the headers is held against the
/// frame and against each other; checksums are not verified, because the rewrite keeps a wrong
/// one wrong and the target discards it.
#[inline(always)]
pub fn segment<P: Packet>(packet: &P, l3: usize) -> Result<Segment, Reason> {
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
    let l4 = l3 + header_len;
    let tcp = packet.window::<TCP_LEN>(l4).ok_or(Reason::Truncated)?;
    let tcp_header_len = ((tcp.u8::<12>() >> 4) as usize) << 2;
    if tcp_header_len < TCP_LEN || header_len + tcp_header_len > ip_len {
        return Err(Reason::BadTcpHeader);
    }
    let key = FlowKey {
        src: ip.be32::<12>(),
        dst: ip.be32::<16>(),
        sport: tcp.be16::<0>(),
        dport: tcp.be16::<2>(),
    };
    if key.sport.0 == 0 || key.dport.0 == 0 {
        return Err(Reason::BadTcpHeader);
    }
    let flags = tcp.u8::<13>();
    if !tcp::plausible(flags) {
        return Err(Reason::BadTcpFlags);
    }
    Ok(Segment { l3, l4, ip_len: ip_len as u32, tcp_header_len: tcp_header_len as u32, key, flags })
}

/// Whether an address can be a client's: not zero, loopback, multicast, reserved or broadcast
/// (RFC 6890).
#[inline(always)]
pub fn is_client(addr: Be32) -> bool {
    let first = u32::from_be(addr.0) >> 24;
    first != 0 && first != 127 && first < 224
}

/// The timestamp value among the options of the TCP header of this length at `l4` (RFC 7323 §3),
/// host order.
#[inline(always)]
pub fn timestamp<P: Packet>(packet: &P, l4: usize, header_len: u32) -> Option<u32> {
    const END: u8 = 0;
    const NOP: u8 = 1;
    const TIMESTAMP: u8 = 8;
    const TIMESTAMP_LEN: usize = 10;
    /// Options looked at, padding included: stacks put the timestamp among the first few.
    const MOST: usize = 12;

    let end = (header_len as usize).min(60);
    let mut offset = TCP_LEN;
    let mut seen = 0;
    while seen < MOST {
        seen += 1;
        if offset + 2 > end {
            return None;
        }
        let head = packet.window::<2>(l4 + offset)?;
        match head.u8::<0>() {
            END => return None,
            NOP => offset += 1,
            TIMESTAMP => {
                if offset + TIMESTAMP_LEN > end {
                    return None;
                }
                let option = packet.window::<TIMESTAMP_LEN>(l4 + offset)?;
                return Some(u32::from_be(option.u32::<2>()));
            }
            _ => {
                let len = head.u8::<1>() as usize;
                if len < 2 {
                    return None;
                }
                offset += len;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
