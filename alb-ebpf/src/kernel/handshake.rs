//! Packets of half-open flows: repeated SYNs, the SYN-ACK, and the ACK that promotes the flow
//! to the established table.

use alb_common::{
    Reason,
    flow::{FlowEntry, FlowKey, Scratch},
    tcp::{Direction, FlowFlags, flag},
};

use super::{
    balance::{self, Forward},
    count, established, lines, ring, syn,
    tables::Tables,
};
use crate::{
    packet::Packet,
    parse::{Segment, TCP_LEN},
};

/// How far the client's acknowledgment may be past the target's initial sequence number: what
/// a target sends with its SYN-ACK (TCP Fast Open, RFC 7413), a segment at most. A blind
/// sender hits it once in 2.8 million tries.
const ACK_SLACK: u32 = 1_500;

/// The way of a packet whose flow is half-open; `None` if it has none. A packet that would open it
/// while the table of open flows is full is an error, [`Reason::FlowTableFull`], unless it is the
/// last look for room.
#[inline(always)]
pub(super) fn find<P: Packet, A: Tables>(
    packet: &P,
    segment: &Segment<A>,
    now: u32,
    is_last: bool,
) -> Result<Option<Forward<A>>, Reason> {
    let Some(entry) = A::half_open(&segment.key) else {
        return Ok(None);
    };
    let Scratch { forward: copy, reverse } = A::scratch().ok_or(Reason::Internal)?;
    if !established::copy_to(copy, entry, &segment.key) {
        return Ok(None);
    }
    // A repeated SYN may go to a target that lives.
    if segment.opens()
        && balance::settings().is_some_and(|all| established::is_cut(all, copy.target, now))
    {
        ring::remove_half_open(&segment.key, copy);
        return Ok(None);
    }
    let tcp = packet.window::<TCP_LEN>(segment.l4()).ok_or(Reason::Internal)?;
    let sequence = u32::from_be(tcp.u32::<4>());
    let acknowledgment = u32::from_be(tcp.u32::<8>());
    let is_reset = segment.flags & flag::RST != 0;
    let reason = match copy.flags.direction() {
        Direction::Forward if segment.opens() => {
            note(segment, entry, copy, sequence, copy.flags, now);
            Reason::HandshakeForward
        }
        Direction::Forward if !is_reset => {
            promote(segment, entry, copy, reverse, acknowledgment, (now, is_last))?
        }
        Direction::Forward => Reason::HandshakeForward,
        Direction::Reverse => {
            if segment.flags & flag::SYN != 0 {
                let flags = copy.flags.with(FlowFlags::SYN_ACK);
                note(segment, entry, copy, sequence, flags, now);
            }
            if copy.flags.has(FlowFlags::DONE) {
                renew(entry, now);
            }
            Reason::HandshakeReverse
        }
    };
    // A forged RST of the client's does not know the sequence number; the target judges it.
    let is_forged =
        copy.flags.direction() == Direction::Forward && sequence.wrapping_sub(copy.packets) > 1;
    if is_reset && !is_forged {
        ring::remove_half_open(&segment.key, copy);
    }
    established::way(copy, reason).map(Some)
}

/// Writes what a packet of the handshake tells into its entry.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn note<A>(
    segment: &Segment<A>,
    entry: *mut FlowEntry<A>,
    copy: &FlowEntry<A>,
    sequence: u32,
    flags: FlowFlags,
    now: u32,
) {
    // SAFETY: `entry` is a live element of the half-open table, which the caller found to be
    // this flow's; lost races with another CPU are repaired by the next packet.
    unsafe { (*entry).last = now }
    // SAFETY: as above.
    unsafe { (*entry).flags = flags }
    // SAFETY: as above.
    unsafe { (*entry).packets = sequence }
    // SAFETY: as above.
    unsafe { (*entry).bytes = copy.bytes.wrapping_add(segment.ip_len as u64) }
}

/// Keeps a half-open flow whose handshake is complete, while its packets pass.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn renew<A>(entry: *mut FlowEntry<A>, now: u32) {
    // SAFETY: as in `note`.
    unsafe { (*entry).flags.0 |= FlowFlags::DONE }
    // SAFETY: as in `note`.
    unsafe { (*entry).last = now }
}

/// Moves a flow to the established table if this packet acknowledges the target's SYN. A
/// sender who has not seen the SYN-ACK cannot know its sequence number, so spoofed sources
/// stay half-open.
///
/// Inserted before deleted, so that at every instant the flow and its port are in a table.
#[inline(always)]
fn promote<A: Tables>(
    segment: &Segment<A>,
    forward_entry: *mut FlowEntry<A>,
    forward: &mut FlowEntry<A>,
    reverse: &mut FlowEntry<A>,
    acknowledgment: u32,
    (now, is_last): (u32, bool),
) -> Result<Reason, Reason> {
    let mut room = FlowKey::default();
    let reverse_key = A::peer_key(forward, &mut room).ok_or(Reason::Internal)?;
    let reverse_entry = A::half_open(reverse_key).ok_or(Reason::UnknownFlow)?;
    if !established::copy_to(reverse, reverse_entry, reverse_key) {
        return Err(Reason::UnknownFlow);
    }
    let past = acknowledgment.wrapping_sub(reverse.packets).wrapping_sub(1);
    let complete = reverse.flags.has(FlowFlags::SYN_ACK) && past <= ACK_SLACK;
    if !complete && !forward.flags.has(FlowFlags::DONE) {
        return Err(Reason::UnknownFlow);
    }
    reverse.flags = FlowFlags(FlowFlags::REVERSE);
    reverse.packets = 1;
    reverse.last = now;
    forward.begin(now);
    forward.flags = FlowFlags(0);
    forward.packets = 2;
    forward.bytes = forward.bytes.wrapping_add(segment.ip_len as u64);
    forward.last = now;
    if !insert(segment, reverse_key, forward, reverse) {
        if !is_last {
            return Err(Reason::FlowTableFull);
        }
        renew(forward_entry, now);
        renew(reverse_entry, now);
        return Ok(Reason::FlowTableFull);
    }
    if A::remove_half_open(&segment.key).is_err() {
        // Whoever removed it counted a flow less; it lives on.
        count::active(forward, 1);
    }
    _ = A::remove_half_open(reverse_key);
    syn::completed(forward.target);
    Ok(Reason::Promoted)
}

#[inline(always)]
fn insert<A: Tables>(
    segment: &Segment<A>,
    reverse_key: &FlowKey<A>,
    forward: &FlowEntry<A>,
    reverse: &FlowEntry<A>,
) -> bool {
    if A::put_flow(reverse_key, reverse).is_err() {
        return false;
    }
    match A::put_flow(&segment.key, forward) {
        Ok(()) => true,
        Err(lines::E2BIG) => {
            // Back to where it was: only in the half-open table.
            _ = A::remove_flow(reverse_key);
            false
        }
        // Another CPU is at it, and the other entry may be its own.
        Err(_) => false,
    }
}
