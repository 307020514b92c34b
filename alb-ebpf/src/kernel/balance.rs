//! The decision, from a packet to what becomes of it.

use alb_common::{
    Reason, Verdict,
    interface::{InterfaceEntry, interface_flag},
    net::{Be32, Be128},
    reason::Event,
    service::local,
    settings::{Settings, budget::RST},
    tcp::flag,
};
use aya_ebpf::helpers::generated::bpf_redirect;

use super::{
    budget, clock, control, count, established, filter, handshake, host::Host, maps, neighbour,
    open, ring, snat, syn, tables::Tables,
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
    /// Nothing yet: it is not of this family.
    Other,
}

/// A packet that goes on: its rewrite, the way out, and what to count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forward<A = Be32> {
    pub(super) rewrite: Rewrite<A>,
    pub(super) egress: Egress,
    /// Largest IP packet that fits through it.
    pub(super) mtu: u16,
    pub(super) reason: Reason,
}

/// Takes an IPv4 packet through the whole path; any other is [`Outcome::Other`].
#[inline(always)]
pub fn process<P: Host>(packet: &mut P) -> Outcome {
    path::<P, Be32>(packet)
}

/// Takes an IPv6 packet through the whole path. A program of its own, to which that of IPv4 leaves
/// what it does not know: so neither's stack nor verification is larger for the other.
#[inline(always)]
pub fn process6<P: Host>(packet: &mut P) -> Outcome {
    match path::<P, Be128>(packet) {
        Outcome::Other => unknown(),
        outcome @ (Outcome::Pass | Outcome::Drop | Outcome::Reflect | Outcome::Redirect) => outcome,
    }
}

/// What becomes of a packet of neither family.
#[inline(always)]
pub fn unknown() -> Outcome {
    refuse(Reason::NotIp)
}

#[inline(always)]
fn path<P: Host, A: Tables>(packet: &mut P) -> Outcome {
    let mut room = None;
    match A::ours(packet, &mut room) {
        Err(Reason::NotIp) => Outcome::Other,
        Err(Reason::Icmp) => {
            let mut egress = Egress::NONE;
            let mut reason = control::message::<P, A>(packet, &mut egress);
            if matches!(reason, Reason::IcmpEcho) {
                reason = control::echo::<P, A>(packet, &mut egress);
            } else if !egress.is_none() {
                let found = reason;
                reason = control::translate::<P, A>(packet, found);
                if reason != found {
                    return refuse(reason);
                }
            }
            conclude(packet, reason, egress)
        }
        Err(reason) => refuse(reason),
        Ok((segment, kind)) => match decide(packet, segment, kind) {
            Ok((reason, egress)) => {
                count::reason(reason);
                send(packet, egress)
            }
            Err(Reason::MtuExceeded) => {
                let mut egress = Egress::NONE;
                let reason = control::too_big(packet, segment, &mut egress);
                conclude(packet, reason, egress)
            }
            Err(Reason::SynChallenged) => match syn::acknowledgment(packet, segment) {
                Some(cookie) => answer(packet, Reason::SynChallenged, segment, Some(cookie)),
                None => refuse(Reason::Internal),
            },
            Err(reason) if matches!(reason.verdict(), Verdict::Reset) => {
                answer(packet, reason, segment, None)
            }
            Err(reason) => refuse(reason),
        },
    }
}

/// Sends what has a way out, and refuses the rest.
#[inline(always)]
fn conclude<P: Packet>(packet: &P, reason: Reason, egress: Egress) -> Outcome {
    if egress.is_none() {
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
pub(super) fn ours<P: Packet, A: Tables>(packet: &P) -> Result<(Segment<A>, u32), Reason> {
    let l3 = parse::ip_offset::<P, A>(packet)?;
    let addr: A = parse::destination(packet, l3)?;
    let kind = addr.local_kind().ok_or(Reason::NotOurs)?;
    match parse::segment(packet, l3) {
        Ok(segment) => Ok((segment, kind)),
        // What only the host's own address is asked for is the host's business.
        Err(Reason::UnsupportedProtocol | Reason::Fragment | Reason::ExtensionHeaders)
            if kind & local::SNAT != 0 =>
        {
            Err(Reason::HostTraffic)
        }
        Err(reason) => Err(reason),
    }
}

/// Sends a segment on its way, rewritten: what to count and the way out; or why not.
#[inline(always)]
fn decide<P: Host, A: Tables>(
    packet: &mut P,
    segment: &Segment<A>,
    kind: u32,
) -> Result<(Reason, Egress), Reason> {
    let settings = settings().ok_or(Reason::Internal)?;
    let snat_port = segment.key.dport.host().wrapping_sub(settings.reply_first);
    if kind & local::VIP == 0 && snat_port >= settings.reply_count {
        return Err(Reason::HostTraffic);
    }
    let now = clock::now();
    let mut egress = Egress::NONE;
    let mut ended = if A::LOOPS {
        let mut looks = 0;
        loop {
            match look(packet, segment, settings, (kind, now), looks, &mut egress)? {
                Look::Again(next) => looks = next,
                ended @ (Look::Sent(..) | Look::Ended(_) | Look::Nothing) => break ended,
            }
        }
    } else {
        look(packet, segment, settings, (kind, now), 0, &mut egress)?
    };
    if !A::LOOPS
        && let Look::Again(looks) = ended
    {
        ended = look(packet, segment, settings, (kind, now), looks, &mut egress)?;
    }
    let reason = match ended {
        Look::Sent(reason, egress) => return Ok((reason, egress)),
        Look::Ended(reason) => reason,
        // Nobody looks three times.
        Look::Again(_) => return Err(Reason::Internal),
        Look::Nothing => {
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
            no_flow(packet, segment, now, &mut egress)
        }
    };
    if egress.is_none() {
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

/// What a look at both flow tables came to.
enum Look {
    /// The packet is of an established flow and on its way.
    Sent(Reason, Egress),
    /// It is of a half-open one; a way out is set if it goes on.
    Ended(Reason),
    /// To be repeated, with this number of looks before it.
    Again(u32),
    /// It is of no flow.
    Nothing,
}

#[inline(always)]
fn look<P: Host, A: Tables>(
    packet: &mut P,
    segment: &Segment<A>,
    settings: &Settings,
    (kind, now): (u32, u32),
    looks: u32,
    egress: &mut Egress,
) -> Result<Look, Reason> {
    if segment.flags & flag::SYN != 0 {
        A::expect_half_open(&segment.key);
    }
    if let Some((reason, egress)) = established::along(packet, segment, settings, now)? {
        return Ok(Look::Sent(reason, egress));
    }
    if let Some(reason) = half_open(packet, segment, now, looks != 0, egress) {
        if reason == Reason::FlowTableFull && egress.is_none() && looks == 0 {
            count::event(Event::TableFull);
            A::reclaim_closed(now);
            return Ok(Look::Again(1));
        }
        return Ok(Look::Ended(reason));
    }
    if kind & local::PROXY != 0 && open::is_proxied(segment) {
        // Whether other packets are of a connection that was let in knows the stack alone.
        if segment.opens() && filter::denies(kind, segment) {
            return Err(Reason::SecurityGroup);
        }
        return Err(Reason::Proxied);
    }
    // Promoted on another CPU between the two looks, perhaps.
    let again = looks == 0 && !segment.opens();
    Ok(if again { Look::Again(1) } else { Look::Nothing })
}

/// Takes a packet of a half-open flow on its way; `None` if it is of none. `egress` is set
/// when the packet goes on.
///
/// This, `established::open` and the steps of [`no_flow`] are calls of their own, so that their stack frames
/// are not added to each other. They return one number, because a larger result would be returned
/// by pointer, which the verifier refuses.
#[inline(never)]
fn half_open<P: Host, A: Tables>(
    packet: &mut P,
    segment: &Segment<A>,
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
fn no_flow<P: Host, A: Tables>(
    packet: &mut P,
    segment: &Segment<A>,
    now: u32,
    egress: &mut Egress,
) -> Reason {
    if let Some(reason) = open::prepare(packet, segment, now) {
        return reason;
    }
    if let Some(reason) = snat::claim(segment, now) {
        return reason;
    }
    let (Some(settings), Some(place)) = (settings(), ring::next_half_open::<A>()) else {
        return Reason::Internal;
    };
    let reason = begin(packet, segment, place, egress);
    if !matches!(reason, Reason::HalfOpenFull | Reason::Internal)
        && ring::push_half_open(settings, &segment.key, place)
    {
        count::event(Event::HalfOpenEvicted);
    }
    reason
}

/// The last step of [`no_flow`] but for the ring, in which the flow has this place.
#[inline(never)]
fn begin<P: Packet, A: Tables>(
    packet: &mut P,
    segment: &Segment<A>,
    place: u32,
    egress: &mut Egress,
) -> Reason {
    let forward = match open::commit(segment, place) {
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
pub(super) fn finish<P: Packet, A: Tables>(
    packet: &mut P,
    segment: &Segment<A>,
    forward: &Forward<A>,
) -> Result<(), Reason> {
    let headers = (segment.l4() - segment.l3()) as u32 + segment.tcp_header_len;
    if packet.longest(segment.ip_len, headers) > forward.mtu as u32 {
        return Err(Reason::MtuExceeded);
    }
    rewrite::apply(packet, segment.l3(), segment.l4(), &forward.rewrite)
}

/// The way out of the host: interface index, [`interface_flag`] bits and MTU in one word. It is
/// handed on in memory, and a CPU that reads at once what was written in parts waits for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Egress(u64);

impl Egress {
    /// Not known yet.
    pub(super) const NONE: Self = Self(0);

    #[inline(always)]
    pub(super) const fn of(interface: &InterfaceEntry) -> Self {
        let InterfaceEntry { ifindex, mtu, flags, .. } = *interface;
        Self(ifindex as u64 | (flags as u16 as u64) << 32 | (mtu as u64) << 48)
    }

    /// Whether it is [`Self::NONE`]: there is no interface 0.
    #[inline(always)]
    pub(super) const fn is_none(self) -> bool {
        self.ifindex() == 0
    }

    #[inline(always)]
    const fn ifindex(self) -> u32 {
        self.0 as u32
    }

    /// Largest IP packet that fits through it.
    #[inline(always)]
    pub(super) const fn mtu(self) -> u16 {
        (self.0 >> 48) as u16
    }

    #[inline(always)]
    const fn has(self, flag: u32) -> bool {
        self.0 >> 32 & flag as u64 != 0
    }

    #[inline(always)]
    pub(super) const fn is_loopback(self) -> bool {
        self.has(interface_flag::LOOPBACK)
    }
}

const _: () = assert!(interface_flag::LOOPBACK | interface_flag::REDIRECT <= u16::MAX as u32);

#[inline(always)]
fn send<P: Packet>(packet: &P, egress: Egress) -> Outcome {
    let ifindex = egress.ifindex();
    if egress.is_loopback() {
        packet.mark();
    }
    if ifindex == packet.ifindex() && !egress.has(interface_flag::REDIRECT) {
        return Outcome::Reflect;
    }
    // SAFETY: takes an index and flags; a wrong index is found out when the frame is sent.
    #[expect(unsafe_code, reason = "a helper call")]
    unsafe {
        bpf_redirect(ifindex, 0);
    }
    Outcome::Redirect
}

/// Answers with a RST, within the budget and never a RST with a RST; or a SYN with this cookie.
#[inline(always)]
fn answer<P: Packet, A: Tables>(
    packet: &mut P,
    reason: Reason,
    segment: &Segment<A>,
    cookie: Option<u32>,
) -> Outcome {
    if cookie.is_none() && !budget::allows(RST) {
        count::reason(Reason::RstLimited);
        return Outcome::Drop;
    }
    if let Err(reason) = reset::write(packet, segment, cookie) {
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
