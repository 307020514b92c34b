//! Bytes → addresses, ports and flags, or the reason why not. Knows nothing of tables.

use alb_common::{Reason, flow::FlowKey, net::Be32, tcp};

use crate::{
    family::{Family, Found},
    packet::{Packet, Window},
};

const ETH_P_8021Q: u16 = 0x8100u16.to_be();
const ETH_P_8021AD: u16 = 0x88a8u16.to_be();
pub(crate) const IPPROTO_TCP: u8 = 6;

/// Length of a TCP header without options.
pub const TCP_LEN: usize = network_types::tcp::TcpHdr::LEN;

/// A TCP header without options.
pub type Tcp<'a> = Window<'a, TCP_LEN>;

/// Where the IP header of this family is, behind up to two VLAN tags, those that the host keeps
/// aside included. Longer stacks are not IP to us.
#[inline(always)]
pub fn ip_offset<P: Packet, A: Family>(packet: &P) -> Result<usize, Reason> {
    let eth = packet.window::<14>(0).ok_or(Reason::Truncated)?;
    let ethertype = eth.u16::<12>();
    if ethertype == A::ETHERTYPE {
        return Ok(14);
    }
    if ethertype != ETH_P_8021Q && ethertype != ETH_P_8021AD {
        return Err(Reason::NotIp);
    }
    let tag = packet.window::<4>(14).ok_or(Reason::Truncated)?;
    let inner = tag.u16::<2>();
    if inner == A::ETHERTYPE {
        return Ok(18);
    }
    if inner != ETH_P_8021Q || packet.tags_aside() != 0 {
        return Err(Reason::NotIp);
    }
    let tag = packet.window::<4>(18).ok_or(Reason::Truncated)?;
    if tag.u16::<2>() == A::ETHERTYPE { Ok(22) } else { Err(Reason::NotIp) }
}

/// The destination address: all that a packet that is not ours is looked at for.
#[inline(always)]
pub fn destination<P: Packet, A: Family>(packet: &P, l3: usize) -> Result<A, Reason> {
    Ok(A::destination(A::header(packet, l3).ok_or(Reason::Truncated)?))
}

/// What a TCP segment for us says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<A = Be32> {
    /// Offset of the IP header.
    pub l3: usize,
    /// Offset of the TCP header.
    pub l4: usize,
    /// Length of the IP packet, bytes.
    pub ip_len: u32,
    /// Length of TCP header and options, bytes.
    pub tcp_header_len: u32,
    /// Addresses and ports.
    pub key: FlowKey<A>,
    /// TCP flags.
    pub flags: u8,
}

impl<A: Family> Segment<A> {
    /// [`Self::l3`] within bounds that the verifier sees, wherever the family keeps a segment.
    #[inline(always)]
    pub fn l3(&self) -> usize {
        A::bounded(self.l3)
    }

    /// The same of [`Self::l4`].
    #[inline(always)]
    pub fn l4(&self) -> usize {
        A::bounded(self.l4)
    }
}

impl<A> Segment<A> {
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
pub fn segment<P: Packet, A: Family>(packet: &P, l3: usize) -> Result<Segment<A>, Reason> {
    let Found { ip, l4, ip_len } = A::tcp(packet, l3)?;
    let tcp = packet.window::<TCP_LEN>(l4).ok_or(Reason::Truncated)?;
    let tcp_header_len = ((tcp.u8::<12>() >> 4) as usize) << 2;
    if tcp_header_len < TCP_LEN || l4 - l3 + tcp_header_len > ip_len {
        return Err(Reason::BadTcpHeader);
    }
    let key = FlowKey {
        src: A::source(ip),
        dst: A::destination(ip),
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
