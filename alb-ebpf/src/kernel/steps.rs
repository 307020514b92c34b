//! What `balance::open` does, for IPv6: in steps that are calls of their own, because together they
//! would outgrow the BPF stack. They hand the flow's entry on beside it, with the way out in it.

use alb_common::{
    Reason,
    flow::FlowEntry,
    net::Be128,
    settings::Settings,
    tcp::{Direction, FlowFlags, flag},
};

use super::{
    balance::{self, Egress},
    established,
    host::Host,
    maps, neighbour,
    tables::Tables as _,
};
use crate::parse::Segment;

/// What [`look`] has found.
mod found {
    /// No flow.
    pub(super) const NONE: u32 = 0;
    /// One that is over.
    pub(super) const CUT: u32 = 1;
    /// One whose state changes with this packet.
    pub(super) const ENDING: u32 = 2;
    /// Any other.
    pub(super) const OPEN: u32 = 3;
}

/// As `Tables::along`.
#[inline(always)]
pub(super) fn along<P: Host>(
    packet: &mut P,
    segment: &Segment<Be128>,
    settings: &Settings,
    now: u32,
) -> Result<Option<(Reason, Egress)>, Reason> {
    match look(packet, segment, settings, now) {
        found::NONE => return Ok(None),
        found::CUT => return Err(Reason::FlowCut),
        found::ENDING => established::close(packet, segment, now),
        _ => {}
    }
    let mut egress = Egress::NONE;
    let reason = go(packet, segment, &mut egress);
    if egress.is_none() { Err(reason) } else { Ok(Some((reason, egress))) }
}

/// The packet's flow, a copy of it in hand.
#[inline(never)]
fn look<P: Host>(packet: &P, segment: &Segment<Be128>, settings: &Settings, now: u32) -> u32 {
    let Some(entry) = Be128::flow(&segment.key) else { return found::NONE };
    let Some(copy) = in_hand() else { return found::NONE };
    if !established::copy_to(copy, entry, &segment.key) {
        return found::NONE;
    }
    // As in `established::find`.
    if segment.opens() && copy.flags.closed() && !copy.flags.has(FlowFlags::RST_CLIENT) {
        Be128::remove(&segment.key, entry);
        return found::NONE;
    }
    let mut what = found::OPEN;
    if established::is_cut(settings, copy.target, now) {
        if segment.opens() {
            // So that its record says why it ended.
            established::mark_told(entry);
            Be128::remove(&segment.key, entry);
            return found::NONE;
        }
        if segment.flags & flag::RST == 0 {
            return found::CUT;
        }
        established::mark_told(entry);
    } else {
        established::touch(segment, entry, copy, now);
        if copy.flags.concerns(copy.flags.direction(), segment.flags) {
            what = found::ENDING;
        }
    }
    match copy.flags.direction() {
        Direction::Forward => neighbour::follow_client(packet, entry, copy),
        Direction::Reverse => {
            let (interface, mac) = neighbour::client(packet, settings, entry, copy);
            copy.interface = interface;
            copy.mac = mac;
        }
    }
    what
}

/// Writes the way of the flow in hand into the packet. `egress` is set when it goes on.
#[inline(never)]
fn go<P: Host>(packet: &mut P, segment: &Segment<Be128>, egress: &mut Egress) -> Reason {
    let Some(copy) = in_hand() else { return Reason::Internal };
    let reason = match copy.flags.direction() {
        Direction::Forward => Reason::FlowForward,
        Direction::Reverse => Reason::FlowReverse,
    };
    let forward = match established::way(copy, reason) {
        Ok(forward) => forward,
        Err(reason) => return reason,
    };
    if let Err(reason) = balance::finish(packet, segment, &forward) {
        return reason;
    }
    *egress = forward.egress;
    reason
}

/// This CPU's place for the entry.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn in_hand() -> Option<&'static mut FlowEntry<Be128>> {
    let place = maps::PACKET6.get_ptr_mut(0)?;
    // SAFETY: this CPU's element. Only `look` and `go` take the reference to `entry`, one after the
    // other, and neither keeps it.
    Some(unsafe { &mut (*place).entry })
}
