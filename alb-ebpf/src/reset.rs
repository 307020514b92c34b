//! Turns a TCP segment into the RST that answers it, in place (RFC 9293 §3.5.2).

use alb_common::{Reason, checksum, tcp::flag};

use crate::{
    packet::Packet,
    parse::{IPV4_LEN, Segment, TCP_LEN},
    rewrite::CHECKSUM,
};

const TTL: u8 = 64;
const DONT_FRAGMENT: u16 = 0x4000u16.to_be();
const VERSION_IHL: u8 = 0x45;
/// Type of service of a RST: routine.
const TOS: u8 = 0;
const IPPROTO_TCP: u16 = 6;

/// 32-bit words of a RST.
const WORDS: usize = (IPV4_LEN + TCP_LEN) / 4;

/// Writes the RST over the segment. The caller has made sure that the segment is not a RST
/// itself. VLAN tags stay as they are; IP and TCP options go.
#[inline(always)]
pub fn write<P: Packet>(packet: &mut P, segment: &Segment) -> Result<(), Reason> {
    let l3 = segment.l3;
    let before = if P::OFFLOADS { packet.sum(l3, WORDS) } else { 0 };
    // The right checksum, and the part of it that is the pseudo-header's.
    let (check, pseudo);
    {
        // In ascending order: the compiler drops a check that an earlier one further back
        // implies, and the verifier does not follow that conclusion.
        let eth = packet.window::<14>(0).ok_or(Reason::Internal)?;
        let ip = packet.window::<IPV4_LEN>(l3).ok_or(Reason::Internal)?;
        let tcp = packet.window::<TCP_LEN>(l3 + IPV4_LEN).ok_or(Reason::Internal)?;
        let old = packet.window::<TCP_LEN>(segment.l4).ok_or(Reason::Internal)?;
        let (seq, ack, flags) = if segment.flags & flag::ACK != 0 {
            (old.u32::<8>(), 0, flag::RST)
        } else {
            let next = u32::from_be(old.u32::<4>()).wrapping_add(segment.sequence_len());
            (0, next.to_be(), flag::RST | flag::ACK)
        };

        eth.set(eth.source(), eth.destination());

        let len = ((IPV4_LEN + TCP_LEN) as u16).to_be();
        let key = segment.key;
        ip.set_u16::<0>(u16::from_ne_bytes([VERSION_IHL, TOS]));
        ip.set_u16::<2>(len);
        ip.set_u16::<4>(0);
        ip.set_u16::<6>(DONT_FRAGMENT);
        ip.set_u16::<8>(u16::from_ne_bytes([TTL, IPPROTO_TCP as u8]));
        ip.set_u32::<12>(key.dst.0);
        ip.set_u32::<16>(key.src.0);
        let addresses = key.src.0 as u64 + key.dst.0 as u64;
        ip.set_u16::<10>(checksum::finish(
            addresses
                + u16::from_ne_bytes([VERSION_IHL, TOS]) as u64
                + len as u64
                + DONT_FRAGMENT as u64
                + u16::from_ne_bytes([TTL, IPPROTO_TCP as u8]) as u64,
        ));

        let offset_flags = u16::from_ne_bytes([(TCP_LEN as u8 / 4) << 4, flags]);
        tcp.set_u16::<0>(key.dport.0);
        tcp.set_u16::<2>(key.sport.0);
        tcp.set_u32::<4>(seq);
        tcp.set_u32::<8>(ack);
        tcp.set_u16::<12>(offset_flags);
        tcp.set_u16::<14>(0);
        tcp.set_u16::<18>(0);
        let sum = addresses + IPPROTO_TCP.to_be() as u64 + (TCP_LEN as u16).to_be() as u64;
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
    if !packet.truncate(l3 + IPV4_LEN + TCP_LEN) {
        return Err(Reason::Internal);
    }
    if P::OFFLOADS {
        // What the device is to complete begins as the pseudo-header's sum, and the host leaves it
        // at that; else this makes the right checksum of it.
        let delta = checksum::fold((!check) as u64 + pseudo as u64);
        packet.correct(l3 + IPV4_LEN + CHECKSUM, 0, delta);
        // A right header's sum is zero, a right segment's the pseudo-header's complement.
        packet.rewritten(checksum::fold((!before) as u64 + (!pseudo) as u64));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
