//! A source address and port towards a target that no live flow uses.

use alb_common::{
    Reason, checksum, expiry,
    flow::{FlowEntry, FlowKey, Scratch},
    hash,
    limits::{MAX_SNAT_ADDRESSES, SNAT_PROBES},
    net::{Be16, Be32},
    reason::Event,
};
use aya_ebpf::bindings::BPF_NOEXIST;

use super::{balance, close, count, established, maps};
use crate::parse::Segment;

const E2BIG: i32 = -7;

/// Claims a port by inserting the scratch's reverse entry into the half-open table under the
/// key that the target's answers will have, and writes the addresses and ports to use into
/// the scratch's forward entry; or says why it cannot.
///
/// Half-open and established are two tables, so the order matters: the claim first, the look
/// into the established table after. A flow that is promoted meanwhile was either claimed in
/// the half-open table, and the insert fails, or is in the established one by then, and the
/// look finds it: promotion inserts there before it deletes here.
#[inline(never)]
pub(super) fn claim(segment: &Segment, now: u32) -> Option<Reason> {
    let Some(settings) = balance::settings() else { return Some(Reason::Internal) };
    let Some(Scratch { forward, reverse }) = maps::scratch() else { return Some(Reason::Internal) };
    let Some(target) = maps::TARGETS.get(reverse.target) else { return Some(Reason::Internal) };
    let count = settings.port_count as u32;
    let addresses = target.snat_count as u32;
    if count == 0 || addresses == 0 {
        return Some(Reason::SnatExhausted);
    }
    let client_port = segment.key.sport.host();
    let spread = hash::client(Be32(segment.key.src.0 ^ (client_port as u32) << 16));
    // The client's own port if it is in the range: then a capture on the target reads well.
    let own = client_port.wrapping_sub(settings.port_first) as u32;
    let start = if own < count { own } else { hash::slot(spread, count) };
    // The part of the answers' checksum delta that does not depend on the probe (RFC 1624).
    let fixed = reverse.src.0 as u64
        + reverse.dst.0 as u64
        + reverse.sport.0 as u64
        + reverse.dport.0 as u64
        + (!target.addr.0) as u64
        + (!target.port.0) as u64;

    let mut probe = 0;
    while probe < SNAT_PROBES {
        let port = (start + (probe / addresses) * settings.port_stride as u32) % count;
        let address = (spread + probe) % addresses;
        let key = FlowKey {
            src: target.addr,
            dst: target.snat[address as usize & (MAX_SNAT_ADDRESSES - 1)],
            sport: target.port,
            dport: Be16::new(settings.port_first + port as u16),
        };
        reverse.tag = key.tag();
        reverse.check_delta = checksum::fold(fixed + (!key.dst.0) as u64 + (!key.dport.0) as u64);
        match maps::HALF_OPEN.insert(&key, &*reverse, BPF_NOEXIST as u64) {
            Ok(()) => {
                let port = state(&key, forward, now);
                if port == Port::Done
                    && let Some(entry) = maps::FLOWS.get_ptr_mut(&key)
                {
                    close::remove(&key, entry);
                    count::event(Event::PortReclaimed);
                }
                if port != Port::Live {
                    forward.src = key.dst;
                    forward.dst = key.src;
                    forward.sport = key.dport;
                    forward.dport = key.sport;
                    return None;
                }
                // Gives back what was claimed just now; nothing can be done about a failure.
                _ = maps::HALF_OPEN.remove(&key);
            }
            Err(E2BIG) => return Some(Reason::HalfOpenFull),
            Err(_) => {}
        }
        probe += 1;
    }
    Some(Reason::SnatExhausted)
}

/// What the established table says of a port.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Port {
    /// No flow has it.
    Free,
    /// A finished or expired flow has it: it can be taken over.
    Done,
    /// A live flow has it, or one whose target is in TIME-WAIT.
    Live,
}

/// Asks the established table for a reverse key. `syn` holds the new flow's sequence number
/// and timestamp.
#[inline(never)]
fn state(key: &FlowKey, syn: &FlowEntry, now: u32) -> Port {
    let Some(entry) = maps::FLOWS.get_ptr_mut(key) else { return Port::Free };
    let Some(copy) = established::copy(entry, key) else { return Port::Free };
    let idle = maps::LISTENER_STATES.get(copy.listener as u32).map_or(u64::MAX, |state| state.idle);
    let hold = expiry::port_hold(copy.flags, idle as u32);
    if expiry::older(now, copy.last, hold) || close::beyond_last(syn, &copy) {
        Port::Done
    } else {
        Port::Live
    }
}
