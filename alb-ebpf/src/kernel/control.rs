//! What keeps packets small enough and endpoints informed: ICMP for us, packets too large for the
//! way out, and the segment size that a handshake announces.
//!
//! Calls of their own, none of which happens to data packets that fit.

use alb_common::{
    Reason,
    flow::{FlowEntry, FlowKey, Scratch},
    net::Be32,
    service::local,
    settings::budget,
    tcp::Direction,
};

use super::{
    balance::{self, Egress, Forward},
    budget as limit, established, filter,
    host::Host,
    maps, neighbour,
};
use crate::{
    icmp::{self, Message, Quote},
    packet::Packet,
    parse::{self, Segment},
};

/// Takes an ICMP message to one of our addresses on its way. `egress` is set when it goes on. A
/// ping is left to [`echo`].
#[inline(never)]
pub(super) fn message<P: Packet>(packet: &mut P, egress: &mut Egress) -> Reason {
    match decide(packet, egress) {
        Ok(reason) | Err(reason) => reason,
    }
}

#[inline(always)]
fn decide<P: Packet>(packet: &mut P, egress: &mut Egress) -> Result<Reason, Reason> {
    let (l3, addr, kind) = address(packet)?;
    if arrival(packet).is_none() {
        return Err(Reason::OtherStation);
    }
    match icmp::message(packet, l3) {
        Ok(Message::Error(quote)) => {
            // An error goes to whoever sent the packet it is about.
            if quote.key.dst != addr {
                return Err(Reason::BadIcmp);
            }
            match flow(&quote) {
                Some((forward, reason)) => {
                    if quote.ip_len > forward.mtu as u32 {
                        return Err(Reason::MtuExceeded);
                    }
                    icmp::translate(packet, &quote, &forward.rewrite)?;
                    *egress = forward.egress;
                    Ok(reason)
                }
                // A connection of the host's own, or of the proxy.
                None if kind & (local::SNAT | local::PROXY) != 0 => Err(Reason::Icmp),
                None => Err(Reason::IcmpUnknownFlow),
            }
        }
        // The host's own address: it answers itself, and puts fragments together.
        Ok(_) | Err(Reason::Fragment) if kind & local::SNAT != 0 => Err(Reason::Icmp),
        Ok(Message::Echo) => Ok(Reason::IcmpEcho),
        Ok(Message::Other) => Err(Reason::IcmpUnsupported),
        Err(reason) => Err(reason),
    }
}

/// Answers a ping. `egress` is set when the answer goes out.
#[inline(never)]
pub(super) fn echo<P: Packet>(packet: &mut P, egress: &mut Egress) -> Reason {
    match answer(packet) {
        Ok(here) => {
            *egress = here;
            Reason::IcmpEcho
        }
        Err(reason) => reason,
    }
}

#[inline(always)]
fn answer<P: Packet>(packet: &mut P) -> Result<Egress, Reason> {
    let (l3, addr, kind) = address(packet)?;
    let here = arrival(packet).ok_or(Reason::Internal)?;
    let ip = packet.window::<{ parse::IPV4_LEN }>(l3).ok_or(Reason::Internal)?;
    let client = ip.be32::<12>();
    if !parse::is_client(client) || client == addr && !here.is_loopback() {
        return Err(Reason::BadSource);
    }
    if filter::denies_ping(kind, client) {
        return Err(Reason::SecurityGroup);
    }
    if !limit::allows(budget::ICMP) {
        return Err(Reason::IcmpLimited);
    }
    icmp::echo(packet, l3)?;
    Ok(here)
}

/// Where the IPv4 header is, the destination address, and what that is.
#[inline(always)]
fn address<P: Packet>(packet: &P) -> Result<(usize, Be32, u32), Reason> {
    let l3 = parse::ipv4_offset(packet)?;
    let addr = parse::destination(packet, l3)?;
    Ok((l3, addr, balance::local_kind(addr).ok_or(Reason::NotOurs)?))
}

/// The way of the packets that answer the one quoted.
#[inline(always)]
fn flow(quote: &Quote) -> Option<(Forward, Reason)> {
    let copy = entry(&quote.key)?;
    let reason = match copy.flags.direction() {
        Direction::Forward => Reason::IcmpForward,
        Direction::Reverse => Reason::IcmpReverse,
    };
    established::way(copy, reason).ok().map(|forward| (forward, reason))
}

/// A copy of the entry of a flow, established or half-open.
#[inline(always)]
fn entry(key: &FlowKey) -> Option<&'static FlowEntry> {
    let entry = match maps::FLOWS.get_ptr_mut(key) {
        Some(entry) => entry,
        None => maps::HALF_OPEN.get_ptr_mut(key)?,
    };
    let Scratch { forward: copy, .. } = maps::scratch()?;
    established::copy_to(copy, entry, key).then_some(copy)
}

/// Answers a packet that does not fit through its way out. A packet without a flow gets no
/// answer: only SYNs can be, and those are small.
#[inline(never)]
pub(super) fn too_big<P: Packet>(packet: &mut P, segment: &Segment, egress: &mut Egress) -> Reason {
    let Some(here) = arrival(packet) else { return Reason::MtuExceeded };
    let Some(copy) = entry(&segment.key) else { return Reason::MtuExceeded };
    let Ok(forward) = established::way(copy, Reason::FragNeeded) else {
        return Reason::MtuExceeded;
    };
    if !limit::allows(budget::ICMP) {
        return Reason::IcmpLimited;
    }
    if let Err(reason) = icmp::too_big(packet, segment, forward.mtu) {
        return reason;
    }
    *egress = here;
    Reason::FragNeeded
}

/// Lowers the segment size that a SYN or SYN-ACK announces to what both its way out and the way
/// back, by which it came in, can carry.
#[inline(never)]
pub(super) fn clamp<P: Host>(packet: &mut P, segment: &Segment, egress: Egress) {
    let back = neighbour::slot_of(packet.ifindex()).and_then(balance::interface);
    let mtu = back.map_or(egress.mtu, |interface| interface.mtu.min(egress.mtu));
    packet.clamp(segment.l4 as u32, segment.tcp_header_len, mtu as u32);
}

/// The way back over the interface a frame came in by; `None` if it is for another station.
#[inline(always)]
fn arrival<P: Packet>(packet: &P) -> Option<Egress> {
    let interface = balance::interface(neighbour::slot_of(packet.ifindex())?)?;
    let eth = packet.window::<14>(0)?;
    (eth.destination() == interface.mac).then(|| Egress::of(interface))
}
