//! Turns a TCP segment into the RST that answers it (RFC 9293 §3.5.2), or into a SYN-ACK, in place.

use alb_common::{Reason, checksum, tcp::flag};

use crate::{
    family::Family,
    packet::Packet,
    parse::{IPPROTO_TCP, Segment, TCP_LEN},
    rewrite::CHECKSUM,
};

/// Writes the RST over the segment, or a SYN-ACK with this acknowledgment. The caller has made sure
/// that the segment is not a RST itself. VLAN tags stay as they are; IP options, extension headers
/// and TCP options go.
#[inline(always)]
pub fn write<P: Packet, A: Family>(
    packet: &mut P,
    segment: &Segment<A>,
    cookie: Option<u32>,
) -> Result<(), Reason> {
    let l3 = segment.l3();
    let l4 = l3 + A::IP_LEN;
    let before = if P::OFFLOADS { packet.sum(l3, (A::IP_LEN + TCP_LEN) / 4) } else { 0 };
    // The right checksum, the part of it that is the pseudo-header's, and the IP header's sum.
    let (check, pseudo, header);
    {
        // In ascending order: the compiler drops a check that an earlier one further back
        // implies, and the verifier does not follow that conclusion.
        let eth = packet.window::<14>(0).ok_or(Reason::Internal)?;
        let ip = A::header(packet, l3).ok_or(Reason::Internal)?;
        let tcp = packet.window::<TCP_LEN>(l4).ok_or(Reason::Internal)?;
        let old = packet.window::<TCP_LEN>(segment.l4()).ok_or(Reason::Internal)?;
        let (seq, ack, flags) = if let Some(cookie) = cookie {
            (0, cookie.to_be(), flag::SYN | flag::ACK)
        } else if segment.flags & flag::ACK != 0 {
            (old.u32::<8>(), 0, flag::RST)
        } else {
            let next = u32::from_be(old.u32::<4>()).wrapping_add(segment.sequence_len());
            (0, next.to_be(), flag::RST | flag::ACK)
        };

        eth.set(eth.source(), eth.destination());

        let key = &segment.key;
        header = A::write(ip, IPPROTO_TCP, TCP_LEN as u16, key.dst, key.src);

        let offset_flags = u16::from_ne_bytes([(TCP_LEN as u8 / 4) << 4, flags]);
        tcp.set_u16::<0>(key.dport.0);
        tcp.set_u16::<2>(key.sport.0);
        tcp.set_u32::<4>(seq);
        tcp.set_u32::<8>(ack);
        tcp.set_u16::<12>(offset_flags);
        tcp.set_u16::<14>(0);
        tcp.set_u16::<18>(0);
        let sum = key.src.sum()
            + key.dst.sum()
            + (IPPROTO_TCP as u16).to_be() as u64
            + (TCP_LEN as u16).to_be() as u64;
        pseudo = checksum::fold(sum);
        check = checksum::finish(
            sum + key.sport.0 as u64
                + key.dport.0 as u64
                + seq as u64
                + ack as u64
                + offset_flags as u64,
        );
        tcp.set_u16::<16>(if P::OFFLOADS { pseudo } else { check });
    }
    if !packet.truncate(l4 + TCP_LEN) {
        return Err(Reason::Internal);
    }
    if P::OFFLOADS {
        // What the device is to complete begins as the pseudo-header's sum, and the host leaves it
        // at that; else this makes the right checksum of it.
        let delta = checksum::fold((!check) as u64 + pseudo as u64);
        packet.correct(l4 + CHECKSUM, 0, delta);
        // A right segment's sum is the pseudo-header's complement.
        packet.rewritten(checksum::fold((!before) as u64 + (!pseudo) as u64 + header));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
