//! FIN and RST, and the removal of flows.

use alb_common::{
    expiry,
    flow::{FlowEntry, FlowKey, Scratch},
    net::{Be16, Be32, Be128},
    tcp::{Direction, FlowFlags, flag},
};

use super::{count, established, flow_log, host::Host, tables::Tables};
use crate::{
    packet::Packet,
    parse::{Segment, TCP_LEN},
};

/// Writes the state after a packet with FIN or RST into both entries. When it ends the flow,
/// its counters are folded into the totals, and `true` says that it is to be queued for collection:
/// `ring::push_closed` finds it in the scratch entries.
#[inline(never)]
#[expect(unsafe_code, reason = "map value access")]
pub(super) fn note<P: Host, A: Tables>(
    packet: &P,
    segment: &Segment<A>,
    entry: *mut FlowEntry<A>,
) -> bool {
    let Some(Scratch { forward, reverse }) = A::scratch() else { return false };
    // SAFETY: `entry` is a live element of the flow table.
    let direction = unsafe { (*entry).flags }.direction();
    let (own, other) = match direction {
        Direction::Forward => (&mut *forward, &mut *reverse),
        Direction::Reverse => (&mut *reverse, &mut *forward),
    };
    if !established::copy_to(own, entry, &segment.key) {
        return false;
    }
    let mut room = FlowKey::default();
    let Some(peer_key) = A::peer_key(own, &mut room) else { return false };
    let Some(peer) = A::flow(peer_key) else { return false };
    if !established::copy_to(other, peer, peer_key) {
        return false;
    }
    let before = own.flags.joined(other.flags);
    let mut next = before.after(direction, segment.flags);
    if next.awaits_last_ack()
        && before.closed()
        && matches!(direction, Direction::Forward)
        && acknowledges(packet, segment, other.packets)
    {
        next = next.with(FlowFlags::DONE);
    }
    // SAFETY: `entry` and `peer` are live elements of the flow table, found to be this flow's.
    unsafe { (*entry).flags = next }
    // SAFETY: as above.
    unsafe { (*peer).flags = next.copied_to(other.flags) }
    if next.closed() == before.closed() {
        return false;
    }
    let (forward_entry, reverse_entry) = match direction {
        Direction::Forward => (entry, peer),
        Direction::Reverse => (peer, entry),
    };
    // What the entries count from here on, or the reverse one holds instead.
    let (sent, answered) = if next.closed() {
        count::fold(forward, reverse);
        count::active(forward, -1);
        A::log(forward, reverse, next);
        last_sent(packet, segment, direction)
    } else {
        count::active(forward, 1);
        (0, 0)
    };
    // SAFETY: as above.
    unsafe { (*forward_entry).packets = 0 }
    // SAFETY: as above.
    unsafe { (*forward_entry).bytes = 0 }
    // SAFETY: as above.
    unsafe { (*reverse_entry).packets = answered }
    // SAFETY: as above.
    unsafe { (*reverse_entry).bytes = sent }
    next.closed()
}

/// What is kept of the packet that closes a flow: the client's next sequence number above its last
/// timestamp, which a target in TIME-WAIT compares a new SYN with, and the target's next
/// sequence number, which the client's last ACK will name.
#[inline(always)]
fn last_sent<P: Host, A: Tables>(
    packet: &P,
    segment: &Segment<A>,
    direction: Direction,
) -> (u64, u32) {
    let Some(tcp) = packet.window::<TCP_LEN>(segment.l4()) else { return (0, 0) };
    let next = u32::from_be(tcp.u32::<4>()).wrapping_add(segment.sequence_len());
    let acknowledged = u32::from_be(tcp.u32::<8>());
    match direction {
        Direction::Forward => {
            let timestamp = packet.timestamp(segment.l4() as u32, segment.tcp_header_len);
            ((next as u64) << 32 | timestamp, acknowledged)
        }
        // Only a client's FIN leaves a target in TIME-WAIT, so no timestamp is asked for.
        Direction::Reverse => ((acknowledged as u64) << 32, next),
    }
}

/// Whether a plain ACK of the client covers all that the target has sent.
#[inline(always)]
fn acknowledges<P: Packet, A: Tables>(packet: &P, segment: &Segment<A>, sent: u32) -> bool {
    let Some(tcp) = packet.window::<TCP_LEN>(segment.l4()) else { return false };
    segment.flags & flag::ACK != 0 && !after(sent, u32::from_be(tcp.u32::<8>()))
}

/// Whether a target that holds a closed flow in TIME-WAIT takes this SYN for a new
/// connection: sequence number and, if both have one, timestamp are beyond the last
/// (RFC 6191 §2; Linux `tcp_timewait_state_process`). `syn` has the two in `packets` and `bytes`;
/// `reverse` is the old flow's.
#[inline(always)]
pub(super) fn beyond_last<A>(syn: &FlowEntry<A>, reverse: &FlowEntry<A>) -> bool {
    if !reverse.flags.leaves_time_wait() || !after(syn.packets, (reverse.bytes >> 32) as u32) {
        return false;
    }
    let (new, last) = (syn.bytes as u32, reverse.bytes as u32);
    new == 0 || last == 0 || after(new, last)
}

/// Whether `a` comes after `b` in sequence space (RFC 9293 §3.4).
#[inline(always)]
fn after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b).cast_signed()) > 0
}

/// [`remove`] of IPv4, a global function. The key comes as numbers because before Linux 6.2 no
/// memory but the stack's, a packet's and a map's may be one; 0 is what a global function returns at
/// least.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
pub(super) extern "C" fn alb_remove(src: u32, dst: u32, ports: u32, entry: *mut FlowEntry) -> u32 {
    // The verifier wants to be sure of it.
    if !entry.is_null() {
        remove(&key(src, dst, ports), entry);
    }
    0
}

/// [`clear`] of IPv4, whose key comes as that of [`alb_remove`].
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
pub(super) extern "C" fn alb_clear(src: u32, dst: u32, ports: u32) -> u32 {
    clear(&key(src, dst, ports));
    0
}

#[inline(always)]
const fn key(src: u32, dst: u32, ports: u32) -> FlowKey {
    FlowKey {
        src: Be32(src),
        dst: Be32(dst),
        sport: Be16(ports as u16),
        dport: Be16((ports >> 16) as u16),
    }
}

/// [`remove`] of IPv6, a global function.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own, and a pointer from its callers")]
#[unsafe(no_mangle)]
pub(super) extern "C" fn alb_remove6(
    key: *const FlowKey<Be128>,
    entry: *mut FlowEntry<Be128>,
) -> u32 {
    // SAFETY: null, or made of a reference that is alive for the call.
    let Some(key) = (unsafe { key.as_ref() }) else { return 0 };
    if !entry.is_null() {
        remove(key, entry);
    }
    0
}

/// [`clear`] of IPv6.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own, and a pointer from its callers")]
#[unsafe(no_mangle)]
pub(super) extern "C" fn alb_clear6(key: *const FlowKey<Be128>) -> u32 {
    // SAFETY: null, or made of a reference that is alive for the call.
    if let Some(key) = unsafe { key.as_ref() } {
        clear(key);
    }
    0
}

/// Removes a flow that was found to be over, unless another CPU has a new one there by now. Its
/// forward entry stays in the scratch, so that `snat` finds which port it had; if its target is in
/// TIME-WAIT, its reverse entry stays to hold that port.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn clear<A: Tables>(key: &FlowKey<A>) {
    let (Some(entry), Some(Scratch { forward, .. })) = (A::flow(key), A::scratch()) else {
        return;
    };
    if !established::copy_to(forward, entry, key) {
        return;
    }
    // What a target sends as a SYN to the port of its flow finds the reverse entry.
    let is_forward = matches!(forward.flags.direction(), Direction::Forward);
    if !forward.flags.leaves_time_wait() || !is_forward {
        if forward.flags.closed() || forward.flags.has(FlowFlags::CUT) {
            remove(key, entry);
        }
        return;
    }
    let mut room = FlowKey::default();
    // Another CPU may have been faster.
    if A::remove_flow(key).is_ok()
        && let Some(peer_key) = A::peer_key(forward, &mut room)
        && let Some(peer) = A::flow(peer_key)
    {
        // SAFETY: a live element of the flow table, the flow's other entry.
        let flags = unsafe { (*peer).flags };
        // SAFETY: as above.
        unsafe { (*peer).flags = forward.flags.copied_to(flags).held() }
    }
}

/// Removes a flow, given either of its entries: the forward one first, so that no packet finds
/// a flow whose port is already free.
#[inline(always)]
fn remove<A: Tables>(key: &FlowKey<A>, entry: *mut FlowEntry<A>) {
    let Some(Scratch { forward: own, reverse: other }) = A::spare() else { return };
    if !established::copy_to(own, entry, key) {
        return;
    }
    if own.flags.is_held() {
        // The rest of the flow is gone. A failure means that this is too.
        _ = A::remove_flow(key);
        return;
    }
    let mut room = FlowKey::default();
    let Some(peer_key) = A::peer_key(own, &mut room) else { return };
    // Null if there is none: an `Option` that is kept over calls may be kept as a register that was
    // never written, which the verifier refuses.
    let peer = A::flow(peer_key).map_or(core::ptr::null_mut(), |peer| peer);
    let is_read = !peer.is_null() && established::copy_to(other, peer, peer_key);
    if is_read && !other.answers(key) {
        // Of a daemon that died while it removed the flow: its client has another one by now.
        _ = A::remove_flow(key);
        return;
    }
    let (forward_key, reverse_key) = match own.flags.direction() {
        Direction::Forward => (key, peer_key),
        Direction::Reverse => (peer_key, key),
    };
    // Whoever removes the forward entry counts: another CPU, or userspace, may be at it too.
    let closed = own.flags.closed();
    let first = A::remove_flow(forward_key).is_ok();
    if first && !closed {
        count::active(own, -1);
        if is_read {
            let (forward, reverse) = match own.flags.direction() {
                Direction::Forward => (&*own, &*other),
                Direction::Reverse => (&*other, &*own),
            };
            count::fold(forward, reverse);
            flow_log::write(forward, reverse, forward.flags.0 | reverse.flags.0);
        }
    }
    // A failure means that it is gone already.
    _ = A::remove_flow(reverse_key);
}

/// Whether a closed flow has had its time.
#[inline(always)]
pub(super) fn done<A>(copy: &FlowEntry<A>, now: u32) -> bool {
    copy.flags.closed() && expiry::older(now, copy.last, expiry::lifetime(copy.flags, 0))
}
