//! `balance::ours` and `established::open` for IPv6: segment and entry are beside the stack, on which
//! is no room for them.

use alb_common::{Reason, flow::FlowEntry, net::Be128, settings::Settings, tcp::Direction};

use super::{
    balance::{self, Egress},
    established::{self, Found, Open},
    host::Host,
    maps, neighbour,
    tables::Tables as _,
};
use crate::parse::Segment;

/// As `Tables::ours`.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
pub(super) fn ours<'a, P: Host>(packet: &P) -> Result<(&'a Segment<Be128>, u32), Reason> {
    let mut kind = 0;
    let read = if P::CALLS { read_apart(packet, &mut kind) } else { read(packet, &mut kind) };
    if let Some(reason) = read {
        return Err(reason);
    }
    let place = maps::PACKET6.get_ptr_mut(0).ok_or(Reason::Internal)?;
    // SAFETY: this CPU's element, whose `segment` only `read` writes.
    Ok((unsafe { &(*place).segment }, kind))
}

/// [`read`] as a call of its own.
#[inline(never)]
fn read_apart<P: Host>(packet: &P, kind: &mut u32) -> Option<Reason> {
    read(packet, kind)
}

/// Reads a segment into its place; or says why there is none.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn read<P: Host>(packet: &P, kind: &mut u32) -> Option<Reason> {
    let (segment, found) = match balance::ours::<P, Be128>(packet) {
        Ok(ours) => ours,
        Err(reason) => return Some(reason),
    };
    let Some(place) = maps::PACKET6.get_ptr_mut(0) else { return Some(Reason::Internal) };
    // SAFETY: this CPU's element, to whose `segment` there is no reference yet.
    unsafe { (*place).segment = segment }
    *kind = found;
    None
}

/// As [`established::open`].
#[inline(always)]
pub(super) fn open<P: Host>(
    packet: &mut P,
    segment: &Segment<Be128>,
    settings: &Settings,
    now: u32,
    open: &mut Open,
) -> Found {
    let found = if P::CALLS {
        look_apart(packet, segment, settings, now, &mut open.ends)
    } else {
        look(packet, segment, settings, now, &mut open.ends)
    };
    let Found::Flow(reason @ (Reason::FlowForward | Reason::FlowReverse)) = found else {
        return found;
    };
    let egress = &mut open.egress;
    Found::Flow(if P::CALLS {
        go_apart(packet, segment, reason, egress)
    } else {
        go(packet, segment, reason, egress)
    })
}

/// [`look`] as a call of its own.
#[inline(never)]
fn look_apart<P: Host>(
    packet: &P,
    segment: &Segment<Be128>,
    settings: &Settings,
    now: u32,
    ends: &mut bool,
) -> Found {
    look(packet, segment, settings, now, ends)
}

/// The packet's flow, a copy of it in hand: which way the packet goes, or why it does not.
#[inline(always)]
fn look<P: Host>(
    packet: &P,
    segment: &Segment<Be128>,
    settings: &Settings,
    now: u32,
    ends: &mut bool,
) -> Found {
    let (Some(entry), Some(copy)) = (Be128::flow(&segment.key), in_hand()) else {
        return Found::None;
    };
    if !established::copy_to(copy, entry, &segment.key) {
        return Found::None;
    }
    match established::note(segment, settings, now, entry, copy) {
        Ok(is_end) => *ends = is_end,
        Err(found) => return found,
    }
    match copy.flags.direction() {
        Direction::Forward => {
            neighbour::follow_client(packet, entry, copy);
            Found::Flow(Reason::FlowForward)
        }
        Direction::Reverse => {
            let (interface, mac) = neighbour::client(packet, settings, entry, copy);
            copy.interface = interface;
            copy.mac = mac;
            Found::Flow(Reason::FlowReverse)
        }
    }
}

/// [`go`] as a call of its own.
#[inline(never)]
fn go_apart<P: Host>(
    packet: &mut P,
    segment: &Segment<Be128>,
    reason: Reason,
    egress: &mut Egress,
) -> Reason {
    go(packet, segment, reason, egress)
}

/// Writes the way of the flow in hand into the packet. `egress` is set when it goes on.
#[inline(always)]
fn go<P: Host>(
    packet: &mut P,
    segment: &Segment<Be128>,
    reason: Reason,
    egress: &mut Egress,
) -> Reason {
    let Some(copy) = in_hand() else { return Reason::Internal };
    let forward = match established::way(copy, reason) {
        Ok(forward) => forward,
        Err(reason) => return reason,
    };
    if let Err(reason) = balance::finish(packet, segment, &forward) {
        return reason;
    }
    *egress = forward.egress;
    forward.reason
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
