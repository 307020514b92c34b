//! The decision, from a packet to what becomes of it.

use alb_common::{
    Reason, Verdict,
    interface::{InterfaceEntry, interface_flag},
    local::{self as local_cache, Said},
    net::Be32,
    reason::Event,
    service::local,
    settings::{Settings, budget::RST},
    tcp::flag,
};
use aya_ebpf::helpers::generated::bpf_redirect;

use super::{
    budget, clock, control, count, established, filter, handshake, host::Host, maps, neighbour,
    open, ring, snat,
};
use crate::{
    packet::Packet,
    parse::{self, Segment},
    reset,
    rewrite::{self, Rewrite},
};

/// What the host program returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// To the host's stack.
    Pass,
    /// Discard.
    Drop,
    /// Back out of the interface it came in by.
    Reflect,
    /// Out of the interface that `bpf_redirect` was told.
    Redirect,
}

/// A packet that goes on: its rewrite, the way out, and what to count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forward {
    pub(super) rewrite: Rewrite,
    pub(super) egress: Egress,
    /// Largest IP packet that fits through it.
    pub(super) mtu: u16,
    pub(super) reason: Reason,
}

/// Takes a packet through the whole path.
#[inline(always)]
pub fn process<P: Host>(packet: &mut P) -> Outcome {
    match ours(packet) {
        Err(Reason::Icmp) => {
            let mut egress = Egress::NONE;
            let mut reason = control::message(packet, &mut egress);
            if matches!(reason, Reason::IcmpEcho) {
                reason = control::echo(packet, &mut egress);
            }
            conclude(packet, reason, egress)
        }
        Err(reason) => refuse(reason),
        Ok((segment, kind)) => match decide(packet, &segment, kind) {
            Ok((reason, egress)) => {
                count::reason(reason);
                send(packet, egress)
            }
            Err(Reason::MtuExceeded) => {
                let mut egress = Egress::NONE;
                let reason = control::too_big(packet, &segment, &mut egress);
                conclude(packet, reason, egress)
            }
            Err(reason) if matches!(reason.verdict(), Verdict::Reset) => {
                answer(packet, reason, &segment)
            }
            Err(reason) => refuse(reason),
        },
    }
}

/// Sends what has a way out, and refuses the rest.
#[inline(always)]
fn conclude<P: Packet>(packet: &P, reason: Reason, egress: Egress) -> Outcome {
    if egress.ifindex == 0 {
        return refuse(reason);
    }
    count::reason(reason);
    send(packet, egress)
}

/// Counts a packet that ends here or is left to the host.
#[inline(always)]
fn refuse(reason: Reason) -> Outcome {
    count::reason(reason);
    if matches!(reason.verdict(), Verdict::Pass) { Outcome::Pass } else { Outcome::Drop }
}

/// The segment of a packet to one of our addresses, and what that address is.
#[inline(always)]
fn ours<P: Packet>(packet: &P) -> Result<(Segment, u32), Reason> {
    let l3 = parse::ipv4_offset(packet)?;
    let addr = parse::destination(packet, l3)?;
    let kind = local_kind(addr).ok_or(Reason::NotOurs)?;
    match parse::segment(packet, l3) {
        Ok(segment) => Ok((segment, kind)),
        // What only the host's own address is asked for is the host's business.
        Err(Reason::UnsupportedProtocol | Reason::Fragment) if kind & local::SNAT != 0 => {
            Err(Reason::HostTraffic)
        }
        Err(reason) => Err(reason),
    }
}

/// Sends a segment on its way, rewritten: what to count and the way out; or why not.
#[inline(always)]
fn decide<P: Host>(
    packet: &mut P,
    segment: &Segment,
    kind: u32,
) -> Result<(Reason, Egress), Reason> {
    let settings = settings().ok_or(Reason::Internal)?;
    let snat_port = segment.key.dport.host().wrapping_sub(settings.reply_first);
    if kind & local::VIP == 0 && snat_port >= settings.reply_count {
        return Err(Reason::HostTraffic);
    }
    let now = clock::now();
    let mut egress = Egress::NONE;
    let mut looks = 0;
    let reason = loop {
        if let Some(forward) = established::find(packet, segment, settings, now)? {
            finish(packet, segment, &forward)?;
            return Ok((forward.reason, forward.egress));
        }
        if let Some(reason) = half_open(packet, segment, now, looks != 0, &mut egress) {
            if reason == Reason::FlowTableFull && egress.ifindex == 0 && looks == 0 {
                count::event(Event::TableFull);
                ring::reclaim_closed(now);
                looks = 1;
                continue;
            }
            break reason;
        }
        if kind & local::PROXY != 0 && open::is_proxied(segment) {
            // Whether other packets are of a connection that was let in knows the stack alone.
            if segment.opens() && filter::denies(kind, segment) {
                return Err(Reason::SecurityGroup);
            }
            return Err(Reason::Proxied);
        }
        looks += 1;
        if looks < 2 && !segment.opens() {
            // Promoted on another CPU between the two looks, perhaps.
            continue;
        }
        if kind & local::VIP == 0 {
            return Err(strange_answer(settings));
        }
        // The node's own address is a VIP too: other ports are the host's.
        if kind & local::SNAT != 0 && !open::is_listener(segment) {
            return Err(Reason::HostTraffic);
        }
        if filter::denies(kind, segment) {
            return Err(Reason::SecurityGroup);
        }
        break no_flow(packet, segment, now, &mut egress);
    };
    if egress.ifindex == 0 {
        return Err(reason);
    }
    if segment.flags & flag::SYN != 0 {
        control::clamp(packet, segment, egress);
    }
    if reason == Reason::Promoted && segment.flags & flag::FIN != 0 {
        established::close(packet, segment, now);
    }
    Ok((reason, egress))
}

/// What becomes of a packet to a SNAT port that no flow has: the host answers it with a RST, or
/// nobody does while no RSTs are to be sent.
#[inline(always)]
const fn strange_answer(settings: &Settings) -> Reason {
    if settings.rst_per_window == 0 { Reason::RstLimited } else { Reason::HostTraffic }
}

/// Takes a packet of a half-open flow on its way; `None` if it is of none. `egress` is set
/// when the packet goes on.
///
/// This and the steps of [`no_flow`] are calls of their own, so that their stack frames are not
/// added to that of established flows nor to each other. They return one number, because a
/// larger result would be returned by pointer, which the verifier refuses.
#[inline(never)]
fn half_open<P: Host>(
    packet: &mut P,
    segment: &Segment,
    now: u32,
    is_last: bool,
    egress: &mut Egress,
) -> Option<Reason> {
    let forward = match handshake::find(packet, segment, now, is_last) {
        Ok(Some(forward)) => forward,
        Ok(None) => return None,
        Err(reason) => return Some(reason),
    };
    if let Err(reason) = finish(packet, segment, &forward) {
        return Some(reason);
    }
    *egress = forward.egress;
    Some(forward.reason)
}

/// Opens a flow for a SYN to a listener, and takes the packet on its way; every other packet
/// that gets here is of no flow. `egress` is set when it goes on.
#[inline(always)]
fn no_flow<P: Host>(packet: &mut P, segment: &Segment, now: u32, egress: &mut Egress) -> Reason {
    if let Some(reason) = open::prepare(packet, segment, now) {
        return reason;
    }
    if let Some(reason) = snat::claim(segment, now) {
        return reason;
    }
    begin(packet, segment, egress)
}

/// The last step of [`no_flow`].
#[inline(never)]
fn begin<P: Packet>(packet: &mut P, segment: &Segment, egress: &mut Egress) -> Reason {
    let forward = match open::commit(segment) {
        Ok(forward) => forward,
        Err(reason) => return reason,
    };
    if let Err(reason) = finish(packet, segment, &forward) {
        return reason;
    }
    *egress = forward.egress;
    forward.reason
}

/// Writes the way into the packet.
#[inline(always)]
fn finish<P: Packet>(packet: &mut P, segment: &Segment, forward: &Forward) -> Result<(), Reason> {
    let headers = (segment.l4 - segment.l3) as u32 + segment.tcp_header_len;
    if packet.longest(segment.ip_len, headers) > forward.mtu as u32 {
        return Err(Reason::MtuExceeded);
    }
    rewrite::apply(packet, segment.l3, segment.l4, &forward.rewrite)
}

/// The way out of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Egress {
    /// Interface index; 0 = not known yet.
    ifindex: u32,
    /// [`interface_flag`] bits.
    flags: u16,
    /// Largest IP packet that fits through it.
    pub(super) mtu: u16,
}

impl Egress {
    const NONE: Self = Self { ifindex: 0, flags: 0, mtu: 0 };

    #[inline(always)]
    pub(super) const fn is_loopback(self) -> bool {
        self.flags & interface_flag::LOOPBACK as u16 != 0
    }

    #[inline(always)]
    pub(super) const fn of(interface: &InterfaceEntry) -> Self {
        Self { ifindex: interface.ifindex, flags: interface.flags as u16, mtu: interface.mtu }
    }
}

#[inline(always)]
fn send<P: Packet>(packet: &P, egress: Egress) -> Outcome {
    let Egress { ifindex, flags, .. } = egress;
    if egress.is_loopback() {
        packet.mark();
    }
    if ifindex == packet.ifindex() && flags & interface_flag::REDIRECT as u16 == 0 {
        return Outcome::Reflect;
    }
    // SAFETY: takes an index and flags; a wrong index is found out when the frame is sent.
    #[expect(unsafe_code, reason = "a helper call")]
    unsafe {
        bpf_redirect(ifindex, 0);
    }
    Outcome::Redirect
}

/// Answers with a RST, within the budget and never a RST with a RST.
#[inline(always)]
fn answer<P: Packet>(packet: &mut P, reason: Reason, segment: &Segment) -> Outcome {
    if !budget::allows(RST) {
        count::reason(Reason::RstLimited);
        return Outcome::Drop;
    }
    if let Err(reason) = reset::write(packet, segment) {
        count::reason(reason);
        return Outcome::Drop;
    }
    count::reason(reason);
    if reason == Reason::FlowCut {
        established::told(&segment.key);
    }
    let interface = neighbour::slot_of(packet.ifindex()).and_then(interface);
    interface.map_or(Outcome::Reflect, |interface| send(packet, Egress::of(interface)))
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
pub(super) fn local_kind(addr: Be32) -> Option<u32> {
    let place = maps::LOCAL_CACHE.get_ptr(local_cache::place(addr))?;
    // SAFETY: a word of the array, aligned, that userspace replaces whole.
    match local_cache::says(unsafe { place.read_volatile() }, addr) {
        Said::Ours(kind) => Some(kind),
        Said::NotOurs => None,
        // SAFETY: the value is a word that userspace replaces whole.
        Said::Nothing => unsafe { maps::LOCALS.get(addr) }.copied(),
    }
}

/// The settings; they are always there, the element being part of the array.
#[inline(always)]
pub(super) fn settings() -> Option<&'static Settings> {
    maps::SETTINGS.get(0)
}

/// The interface in this slot.
#[inline(always)]
pub(super) fn interface(slot: u32) -> Option<&'static InterfaceEntry> {
    maps::INTERFACES.get(slot).filter(|entry| entry.ifindex != 0)
}
