//! What keeps packets small enough and endpoints informed: ICMP for us, packets too large for the
//! way out, and the segment size that a handshake announces.
//!
//! Calls of their own, none of which happens to data packets that fit.

use alb_common::{
    Reason,
    flow::{FlowEntry, FlowKey, Scratch},
    service::local,
    settings::budget,
    tcp::Direction,
};

use super::{
    balance::{self, Egress, Forward},
    budget as limit, established, filter,
    host::Host,
    neighbour,
    tables::Tables,
};
use crate::{
    icmp::{Message, Quote},
    packet::Packet,
    parse::{self, Segment, TCP_LEN},
};

/// What an ICMP message to one of our addresses is. `egress` is set when it goes on, and then it is
/// left to [`translate`]; a ping to [`echo`].
#[inline(never)]
pub(super) fn message<P: Packet, A: Tables>(packet: &P, egress: &mut Egress) -> Reason {
    match decide::<P, A>(packet, egress) {
        Ok(reason) | Err(reason) => reason,
    }
}

#[inline(always)]
fn decide<P: Packet, A: Tables>(packet: &P, egress: &mut Egress) -> Result<Reason, Reason> {
    let (l3, addr, kind) = address::<P, A>(packet)?;
    if arrival(packet).is_none() {
        return Err(Reason::OtherStation);
    }
    match A::icmp(packet, l3) {
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

/// Rewrites an ICMP error by the flow that [`message`] has found; why not, if that is so. Reads it
/// once more: the stack has no room for what it says while the flow is looked for.
#[inline(never)]
pub(super) fn translate<P: Packet, A: Tables>(packet: &mut P, found: Reason) -> Reason {
    match rewrite::<P, A>(packet, found) {
        Ok(reason) | Err(reason) => reason,
    }
}

#[inline(always)]
fn rewrite<P: Packet, A: Tables>(packet: &mut P, found: Reason) -> Result<Reason, Reason> {
    let l3 = parse::ip_offset::<P, A>(packet)?;
    let Message::Error(quote) = A::icmp(packet, l3)? else { return Err(Reason::Internal) };
    let Scratch { forward: copy, .. } = A::scratch().ok_or(Reason::Internal)?;
    let forward = established::way(copy, found)?;
    A::translate(packet, &quote, &forward.rewrite)?;
    Ok(found)
}

/// Answers a ping. `egress` is set when the answer goes out.
#[inline(never)]
pub(super) fn echo<P: Packet, A: Tables>(packet: &mut P, egress: &mut Egress) -> Reason {
    match answer::<P, A>(packet) {
        Ok(here) => {
            *egress = here;
            Reason::IcmpEcho
        }
        Err(reason) => reason,
    }
}

#[inline(always)]
fn answer<P: Packet, A: Tables>(packet: &mut P) -> Result<Egress, Reason> {
    let (l3, addr, kind) = address::<P, A>(packet)?;
    let here = arrival(packet).ok_or(Reason::Internal)?;
    let client = A::source(A::header(packet, l3).ok_or(Reason::Internal)?);
    if !client.is_client() || client == addr && !here.is_loopback() {
        return Err(Reason::BadSource);
    }
    if filter::denies_ping(kind, client) {
        return Err(Reason::SecurityGroup);
    }
    if !limit::allows(budget::ICMP) {
        return Err(Reason::IcmpLimited);
    }
    A::echo(packet, l3)?;
    Ok(here)
}

/// Where the IP header is, the destination address, and what that is.
#[inline(always)]
fn address<P: Packet, A: Tables>(packet: &P) -> Result<(usize, A, u32), Reason> {
    let l3 = parse::ip_offset::<P, A>(packet)?;
    let addr: A = parse::destination(packet, l3)?;
    Ok((l3, addr, addr.local_kind().ok_or(Reason::NotOurs)?))
}

/// The way of the packets that answer the one quoted.
#[inline(always)]
fn flow<A: Tables>(quote: &Quote<A>) -> Option<(Forward<A>, Reason)> {
    let copy = entry(&quote.key)?;
    let reason = match copy.flags.direction() {
        Direction::Forward => Reason::IcmpForward,
        Direction::Reverse => Reason::IcmpReverse,
    };
    established::way(copy, reason).ok().map(|forward| (forward, reason))
}

/// A copy of the entry of a flow, established or half-open.
#[inline(always)]
fn entry<A: Tables>(key: &FlowKey<A>) -> Option<&'static FlowEntry<A>> {
    let entry = match A::flow(key) {
        Some(entry) => entry,
        None => A::half_open(key)?,
    };
    let Scratch { forward: copy, .. } = A::scratch()?;
    (established::copy_to(copy, entry, key) && !copy.flags.is_held()).then_some(copy)
}

/// Answers a packet that does not fit through its way out. A packet without a flow gets no
/// answer: only SYNs can be, and those are small.
#[inline(never)]
pub(super) fn too_big<P: Packet, A: Tables>(
    packet: &mut P,
    segment: &Segment<A>,
    egress: &mut Egress,
) -> Reason {
    let Some(here) = arrival(packet) else { return Reason::MtuExceeded };
    let Some(copy) = entry(&segment.key) else { return Reason::MtuExceeded };
    let Ok(forward) = established::way(copy, Reason::FragNeeded) else {
        return Reason::MtuExceeded;
    };
    if !limit::allows(budget::ICMP) {
        return Reason::IcmpLimited;
    }
    if let Err(reason) = A::too_big(packet, segment, forward.mtu) {
        return reason;
    }
    *egress = here;
    Reason::FragNeeded
}

/// Lowers the segment size that a SYN or SYN-ACK announces to what both its way out and the way
/// back, by which it came in, can carry.
#[inline(never)]
pub(super) fn clamp<P: Host, A: Tables>(packet: &mut P, segment: &Segment<A>, egress: Egress) {
    let back = neighbour::slot_of(packet.ifindex()).and_then(balance::interface);
    let mtu = back.map_or(egress.mtu(), |interface| interface.mtu.min(egress.mtu()));
    let most = mtu.saturating_sub((A::IP_LEN + TCP_LEN) as u16);
    packet.clamp(segment.l4() as u32, segment.tcp_header_len, most as u32);
}

/// The way back over the interface a frame came in by; `None` if it is for another station.
#[inline(always)]
fn arrival<P: Packet>(packet: &P) -> Option<Egress> {
    let interface = balance::interface(neighbour::slot_of(packet.ifindex())?)?;
    let eth = packet.window::<14>(0)?;
    (eth.destination() == interface.mac).then(|| Egress::of(interface))
}
