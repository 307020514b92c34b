//! `balance::ours` and `established::open` for IPv6: segment and entry are beside the stack, on which
//! is no room for them.

use alb_common::{
    Reason,
    flow::{FlowEntry, FlowKey},
    net::{Be16, Be128},
    settings::Settings,
    target::TargetEntry,
    tcp::Direction,
};

use super::{
    balance::{self, Egress},
    copy,
    established::{self, Found, Open},
    host::Host,
    lines, maps, neighbour,
};
use crate::parse::Segment;

/// As `Tables::ours`.
#[inline(always)]
pub(super) fn ours<'a, P: Host>(packet: &P) -> Result<(&'a Segment<Be128>, u32), Reason> {
    if !P::CALLS {
        return read(packet);
    }
    let mut kind = 0;
    match read_apart(packet, &mut kind) {
        Some(reason) => Err(reason),
        None => Ok((segment_in_hand().ok_or(Reason::Internal)?, kind)),
    }
}

/// [`read`] as a call of its own, which can return a number only.
#[inline(never)]
fn read_apart<P: Host>(packet: &P, kind: &mut u32) -> Option<Reason> {
    match read(packet) {
        Ok((_, found)) => {
            *kind = found;
            None
        }
        Err(reason) => Some(reason),
    }
}

/// Reads a segment into its place; or says why there is none.
#[inline(always)]
fn read<'a, P: Host>(packet: &P) -> Result<(&'a Segment<Be128>, u32), Reason> {
    let (segment, kind) = balance::ours::<P, Be128>(packet)?;
    let place = segment_in_hand().ok_or(Reason::Internal)?;
    *place = segment;
    Ok((place, kind))
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
    if P::CALLS {
        return match look_apart(packet, segment, settings, now, &mut open.ends) {
            Found::Flow(reason @ (Reason::FlowForward | Reason::FlowReverse)) => {
                Found::Flow(go_apart(packet, segment, reason, &mut open.egress))
            }
            other @ (Found::None | Found::Over | Found::Flow(_)) => other,
        };
    }
    let Some(copy) = entry_in_hand() else { return Found::None };
    match look(packet, segment, settings, now, copy, &mut open.ends) {
        Found::Flow(reason @ (Reason::FlowForward | Reason::FlowReverse)) => {
            Found::Flow(go(packet, segment, reason, copy, &mut open.egress))
        }
        other @ (Found::None | Found::Over | Found::Flow(_)) => other,
    }
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
    let Some(copy) = entry_in_hand() else { return Found::None };
    look(packet, segment, settings, now, copy, ends)
}

/// The packet's flow, a copy of it in hand: which way the packet goes, or why it does not.
#[inline(always)]
fn look<P: Host>(
    packet: &P,
    segment: &Segment<Be128>,
    settings: &Settings,
    now: u32,
    copy: &mut FlowEntry<Be128>,
    ends: &mut bool,
) -> Found {
    let Some(seen) = lines::see(&lines::Open6, &segment.key) else { return Found::None };
    let Some(entry) = seen.copy_to(copy) else { return Found::None };
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
    let Some(copy) = entry_in_hand() else { return Reason::Internal };
    go(packet, segment, reason, copy, egress)
}

/// Writes the way of the flow in hand into the packet. `egress` is set when it goes on.
#[inline(always)]
fn go<P: Host>(
    packet: &mut P,
    segment: &Segment<Be128>,
    reason: Reason,
    copy: &FlowEntry<Be128>,
    egress: &mut Egress,
) -> Reason {
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

/// As `Tables::answers`.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
pub(super) fn answers(
    target: &TargetEntry<Be128>,
    to: &Be128,
    port: Be16,
) -> Option<&'static FlowKey<Be128>> {
    let place = maps::PACKET6.get_ptr_mut(0)?;
    // SAFETY: this CPU's element, to whose `answers` nobody has a reference that made one before.
    let key = unsafe { &mut (*place).answers };
    // SAFETY: neither is in `PACKET6`.
    unsafe { copy::words(&raw const target.addr, &raw mut key.src) };
    // SAFETY: as above.
    unsafe { copy::words(to, &raw mut key.dst) };
    key.sport = target.port;
    key.dport = port;
    Some(key)
}

/// As `Tables::peer_key`.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
pub(super) fn peer_key(entry: &FlowEntry<Be128>) -> Option<&'static FlowKey<Be128>> {
    let place = maps::PACKET6.get_ptr_mut(0)?;
    // SAFETY: this CPU's element, to whose `peer` nobody has a reference who made one before.
    let key = unsafe { &mut (*place).peer };
    // SAFETY: no entry is in `peer`.
    unsafe { copy::words(&raw const entry.dst, &raw mut key.src) };
    // SAFETY: as above.
    unsafe { copy::words(&raw const entry.src, &raw mut key.dst) };
    key.sport = entry.dport;
    key.dport = entry.sport;
    Some(key)
}

/// This CPU's place for the segment.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn segment_in_hand<'a>() -> Option<&'a mut Segment<Be128>> {
    let place = maps::PACKET6.get_ptr_mut(0)?;
    // SAFETY: this CPU's element. `read` writes it, then `ours` hands out the only reference.
    Some(unsafe { &mut (*place).segment })
}

/// This CPU's place for the entry.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn entry_in_hand() -> Option<&'static mut FlowEntry<Be128>> {
    let place = maps::PACKET6.get_ptr_mut(0)?;
    // SAFETY: this CPU's element. Only `open` takes the reference to `entry`, or the two calls that
    // it makes instead, one after the other.
    Some(unsafe { &mut (*place).entry })
}
