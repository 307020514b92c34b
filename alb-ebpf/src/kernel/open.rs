//! SYNs that open a flow, and packets of no flow at all.
//!
//! Two steps that hand the flow on in the scratch entries, with `snat::claim` between them, each
//! a call of its own: together they would outgrow the BPF stack.

use alb_common::{
    Reason,
    flow::{FlowEntry, FlowKey, Scratch, stamp},
    interface::interface_flag,
    service::{ListenerEntry, ListenerKey, algorithm},
    tcp::{FlowFlags, flag},
};

use super::{
    balance::{self, Forward},
    count, established,
    host::Host,
    maps, neighbour, select, syn,
    tables::Tables,
};
use crate::{
    parse::{Segment, TCP_LEN},
    rewrite,
};

/// Whether a segment that is of no flow is the host's: to a port that the proxy serves, or of a
/// connection to one that it served before. A SYN to another port is not: it must not reach a
/// socket that the host has there for itself.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
pub(super) fn is_proxied<A: Tables>(segment: &Segment<A>) -> bool {
    let key = ListenerKey { addr: segment.key.dst, port: segment.key.dport, reserved: 0 };
    match A::listener(&key) {
        // SAFETY: read at once; userspace replaces the element and never changes it.
        Some(listener) => (unsafe { (*listener).algorithm }) == algorithm::PROXY,
        None => !segment.opens(),
    }
}

/// Whether the port is one of ours.
#[inline(always)]
pub(super) fn is_listener<A: Tables>(segment: &Segment<A>) -> bool {
    let key = ListenerKey { addr: segment.key.dst, port: segment.key.dport, reserved: 0 };
    A::listener(&key).is_some()
}

/// Chooses the target and begins the entries; or says why not.
#[inline(never)]
#[expect(unsafe_code, reason = "map value access")]
pub(super) fn prepare<P: Host, A: Tables>(
    packet: &P,
    segment: &Segment<A>,
    now: u32,
) -> Option<Reason> {
    let (Some(eth), Some(slot)) = (packet.window::<14>(0), neighbour::slot_of(packet.ifindex()))
    else {
        return Some(Reason::Internal);
    };
    // A bridge floods, and a capture listens to everything: what is for another station must
    // neither open a flow nor be answered.
    let Some(interface) =
        maps::INTERFACES.get(slot).filter(|interface| interface.mac == eth.destination())
    else {
        return Some(Reason::OtherStation);
    };
    if segment.flags & flag::RST != 0 {
        let Some(tcp) = packet.window::<TCP_LEN>(segment.l4()) else {
            return Some(Reason::Internal);
        };
        return Some(syn::judge(segment, u32::from_be(tcp.u32::<4>()), now));
    }
    // Who connects to an address of its own host has that address.
    let is_forged =
        segment.key.src == segment.key.dst && interface.flags & interface_flag::LOOPBACK == 0;
    if !segment.key.src.is_client() || is_forged {
        return Some(Reason::BadSource);
    }
    let key = ListenerKey { addr: segment.key.dst, port: segment.key.dport, reserved: 0 };
    let Some(listener) = A::listener(&key) else {
        return Some(Reason::NoListener);
    };
    // SAFETY: read at once; userspace replaces the element and never changes it.
    let listener = unsafe { &*listener };
    if !segment.opens() {
        return Some(Reason::UnknownFlow);
    }
    if syn::holds(segment, now) {
        return Some(Reason::SynChallenged);
    }
    let index = listener.index;
    // As many too many as there are CPUs that open one at this moment, at most.
    if listener.max != 0 && is_full(listener) {
        return Some(Reason::ListenerFull);
    }
    let Some(target) = select::target(listener, segment.key.src, now) else {
        return Some(Reason::NoHealthyTarget);
    };
    if syn::holds_from(segment, target, now) {
        return Some(Reason::SynChallenged);
    }
    // Everything that could stop the packet on its way out, before anything is written: a SYN
    // that does not leave must not hold a port, nor push a flow out of the ring.
    let Some(hop) = maps::HOPS.get(target).filter(|hop| hop.is_resolved()) else {
        return Some(Reason::NoNextHop);
    };
    let Some(egress) = balance::interface(hop.interface as u32) else {
        return Some(Reason::NoNextHop);
    };
    if segment.ip_len > egress.mtu as u32 {
        return Some(Reason::MtuExceeded);
    }
    let (Some(settings), Some(eth), Some(ip), Some(tcp), Some(scratch)) = (
        balance::settings(),
        packet.window::<14>(0),
        A::header(packet, segment.l3()),
        packet.window::<TCP_LEN>(segment.l4()),
        A::scratch(),
    ) else {
        return Some(Reason::Internal);
    };
    if A::expires(ip) {
        return Some(Reason::TtlExceeded);
    }
    scratch.reverse = FlowEntry {
        // Until its own is known: for `snat::begin`.
        tag: segment.key.tag(),
        route_generation: settings.route_generation,
        src: segment.key.dst,
        dst: segment.key.src,
        sport: segment.key.dport,
        dport: segment.key.sport,
        check_delta: 0,
        listener: index,
        interface: slot as u8,
        flags: FlowFlags(FlowFlags::REVERSE),
        mac: eth.source(),
        target,
        last: now,
        packets: 0,
        bytes: 0,
    };
    scratch.forward.packets = u32::from_be(tcp.u32::<4>());
    scratch.forward.bytes = packet.timestamp(segment.l4() as u32, segment.tcp_header_len);
    None
}

/// Whether a listener has all the flows that it may have.
#[inline(always)]
fn is_full(listener: &ListenerEntry) -> bool {
    let ListenerEntry { index, sibling, max, .. } = *listener;
    let other = if sibling == index { 0 } else { count::open_flows(sibling) };
    count::open_flows(index) + other >= max as i64
}

/// Files the flow under the client's key too, now that its port is claimed.
#[inline(always)]
pub(super) fn commit<A: Tables>(segment: &Segment<A>, place: u32) -> Result<Forward<A>, Reason> {
    let Scratch { forward, reverse } = A::scratch().ok_or(Reason::Internal)?;
    let after =
        FlowKey { src: forward.src, dst: forward.dst, sport: forward.sport, dport: forward.dport };
    forward.check_delta = rewrite::check_delta(&segment.key, &after);
    // Field by field: those that stay are not to be on the stack between.
    forward.tag = segment.key.tag();
    forward.route_generation = stamp(place);
    forward.listener = reverse.listener;
    forward.interface = 0;
    forward.flags = FlowFlags(0);
    forward.mac = reverse.mac;
    forward.target = reverse.target;
    forward.last = reverse.last;
    forward.bytes = segment.ip_len as u64;
    if A::insert_half_open(&segment.key, forward).is_err() {
        // The same SYN on another CPU was faster, or the table is full; the client repeats it.
        A::give_back();
        return Err(Reason::HalfOpenFull);
    }
    count::new_flow(forward);
    established::way(forward, Reason::NewFlow)
}
