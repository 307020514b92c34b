//! A source address and port towards a target that no live flow uses.

use alb_common::{
    Reason, checksum, expiry,
    flow::{FlowEntry, FlowKey, Scratch},
    hash,
    limits::{MAX_SNAT_ADDRESSES, SNAT_PROBES},
    net::{Be16, Be32, Be128},
    reason::Event,
    target::TargetEntry,
};

use super::{balance, close, count, established, lines, maps, ring, tables::Tables};
use crate::parse::Segment;

/// Claims a port by inserting the scratch's reverse entry into the half-open table under the
/// key that the target's answers will have, and writes the addresses and ports to use into
/// the scratch's forward entry; or says why it cannot.
///
/// Half-open and established are two tables, so the order matters: the claim first, the look
/// into the established table after. A flow that is promoted meanwhile was either claimed in
/// the half-open table, and the insert fails, or is in the established one by then, and the
/// look finds it: promotion inserts there before it deletes here.
#[inline(always)]
pub(super) fn claim<A: Tables>(segment: &Segment<A>, now: u32) -> Option<Reason> {
    let Some(from) = begin(segment) else { return Some(Reason::SnatExhausted) };
    let mut claimed = A::claim_port(from, now);
    if claimed == claimed::NONE_LEFT {
        claimed = A::claim_oldest(now);
    }
    match claimed {
        claimed::YES => None,
        claimed::OF_A_DONE_FLOW => {
            A::take_over();
            None
        }
        claimed::NONE_LEFT => Some(Reason::SnatExhausted),
        claimed::TABLE_FULL => Some(Reason::HalfOpenFull),
        _ => Some(Reason::Internal),
    }
}

/// What [`claim_port`] and [`claim_oldest`] return, beside 0 for a defect.
mod claimed {
    pub(super) const YES: u32 = 1;
    pub(super) const NONE_LEFT: u32 = 2;
    pub(super) const TABLE_FULL: u32 = 3;
    /// Yes, and a flow that is over has to be removed.
    pub(super) const OF_A_DONE_FLOW: u32 = 4;
}

/// [`claim_port`] of IPv4, a global function: see the module `kernel`.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
pub(super) extern "C" fn alb_claim_port(from: u32, now: u32) -> u32 {
    claim_port::<Be32>(from, now)
}

/// The same of IPv6.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
pub(super) extern "C" fn alb_claim_port6(from: u32, now: u32) -> u32 {
    claim_port::<Be128>(from, now)
}

#[inline(always)]
fn claim_port<A: Tables>(from: u32, now: u32) -> u32 {
    let Some(settings) = balance::settings() else { return 0 };
    let Some(scratch) = A::scratch() else { return 0 };
    let reverse = &scratch.reverse;
    let Some(target) = A::target(reverse.target) else { return 0 };
    let count = settings.port_count as u32;
    let addresses = target.snat_count as u32;
    // As a new configuration may have them.
    if count == 0 || addresses == 0 {
        return claimed::NONE_LEFT;
    }
    let fixed = fixed(reverse, target);
    // What `note` looks at.
    scratch.forward.last = 0;

    // The first try is most flows' only one: apart from the others, it divides nothing.
    let (first, start) = (from >> 16, from & 0xffff);
    let mut room = FlowKey::default();
    let address = |of: u32| &target.snat[of as usize & (MAX_SNAT_ADDRESSES - 1)];
    let port = |of: u32| Be16::new(settings.port_first + of as u16);
    let Some(key) = A::answers(target, address(first), port(start), &mut room) else { return 0 };
    let mut tried = attempt(key, fixed, scratch, now, false);
    let mut probe = 1;
    while probe < SNAT_PROBES {
        match tried {
            Try::Claimed => return claimed::YES,
            Try::OfADoneFlow => return claimed::OF_A_DONE_FLOW,
            Try::NoRoom => return claimed::TABLE_FULL,
            Try::Taken => {}
        }
        let port = port((start + (probe / addresses) * settings.port_stride as u32) % count);
        let address = address((first + probe) % addresses);
        let Some(key) = A::answers(target, address, port, &mut room) else { return 0 };
        tried = attempt(key, fixed, scratch, now, false);
        probe += 1;
    }
    match tried {
        Try::Claimed => claimed::YES,
        Try::OfADoneFlow => claimed::OF_A_DONE_FLOW,
        Try::NoRoom => claimed::TABLE_FULL,
        Try::Taken => claimed::NONE_LEFT,
    }
}

/// Where to begin to look for a port: from bit 16 on an address's place among the target's, below it
/// the port's place in the range. `None` = there is neither.
///
/// Where the client's flow of before had its port, if it was to the same target: a client's sequence
/// numbers and timestamps go on where those of its last connection between the same addresses and
/// ports were (RFC 6528 §3; Linux offsets timestamps by them too), so that a target in TIME-WAIT
/// takes its SYN. Else the client's own port if it is in the range: then a capture on the target
/// reads well.
#[inline(always)]
fn begin<A: Tables>(segment: &Segment<A>) -> Option<u32> {
    let settings = balance::settings()?;
    let Scratch { forward, reverse } = A::scratch()?;
    let target = A::target(reverse.target)?;
    let count = settings.port_count as u32;
    let addresses = target.snat_count as u32;
    if count == 0 || addresses == 0 {
        return None;
    }
    // Then it was the client's whose entry is there, or it is by chance a port like any.
    if forward.tag == reverse.tag {
        let former = A::former_port();
        if former != 0 {
            return Some(former - (1 << 16));
        }
    }
    let port = segment.key.sport.host() as u32;
    let spread = segment.key.src.spread(port);
    let own = (port as u16).wrapping_sub(settings.port_first) as u32;
    let start = if own < count { own } else { hash::slot(spread, count) };
    Some(hash::slot(spread.rotate_left(16), addresses) << 16 | start)
}

/// Where the flow in the scratch had its port, as [`begin`] tells it, but for one address more; 0 =
/// it was to another target, or none of these addresses and ports is for new flows now.
#[inline(always)]
fn former_port<A: Tables>() -> u32 {
    let Some(settings) = balance::settings() else { return 0 };
    let Some(Scratch { forward, reverse }) = A::scratch() else { return 0 };
    let Some(target) = A::target(reverse.target) else { return 0 };
    let port = forward.sport.host().wrapping_sub(settings.port_first) as u32;
    if forward.dport != target.port
        || forward.dst != target.addr
        || port >= settings.port_count as u32
    {
        return 0;
    }
    let mut place = 0;
    while place < MAX_SNAT_ADDRESSES {
        if place < target.snat_count as usize && target.snat[place] == forward.src {
            return (place as u32 + 1) << 16 | port;
        }
        place += 1;
    }
    0
}

/// [`former_port`] of IPv4, a global function.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
pub(super) extern "C" fn alb_former_port() -> u32 {
    former_port::<Be32>()
}

/// The same of IPv6.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
pub(super) extern "C" fn alb_former_port6() -> u32 {
    former_port::<Be128>()
}

/// Claims the port that [`note`] has noted: of a flow whose target is in TIME-WAIT, which then
/// refuses the first SYN and is out of it by the client's answer (RFC 9293 §3.10.7.3; the client
/// sends another SYN), or else of a half-open flow, which ends.
///
/// Under a flood of SYNs every port is held by flows that never open; whoever really opens one is
/// done long before it is the oldest of so many.
#[inline(always)]
fn claim_oldest<A: Tables>(now: u32) -> u32 {
    let Some(scratch) = A::scratch() else { return 0 };
    let Some(target) = A::target(scratch.reverse.target) else { return 0 };
    let noted = &scratch.forward;
    if noted.last == 0 {
        return claimed::NONE_LEFT;
    }
    let mut room = FlowKey::default();
    let Some(key) = A::answers(target, &noted.src, noted.sport, &mut room) else { return 0 };
    if end(key) {
        count::event(Event::HalfOpenEvicted);
    }
    let is_early = noted.last >= HELD;
    match attempt(key, fixed(&scratch.reverse, target), scratch, now, true) {
        Try::Claimed => claimed::YES,
        Try::OfADoneFlow => {
            if is_early {
                count::event(Event::PortTakenEarly);
            }
            claimed::OF_A_DONE_FLOW
        }
        Try::NoRoom => claimed::TABLE_FULL,
        Try::Taken => claimed::NONE_LEFT,
    }
}

/// [`claim_oldest`] of IPv4, a global function.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
pub(super) extern "C" fn alb_claim_oldest(now: u32) -> u32 {
    claim_oldest::<Be32>(now)
}

/// The same of IPv6.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
pub(super) extern "C" fn alb_claim_oldest6(now: u32) -> u32 {
    claim_oldest::<Be128>(now)
}

/// Ends the half-open flow of a reverse key: whether there was one.
#[inline(never)]
fn end<A: Tables>(key: &FlowKey<A>) -> bool {
    let Some(entry) = A::half_open(key) else { return false };
    let Some(copy) = established::copy(entry, key) else { return false };
    ring::remove_half_open(key, &copy);
    true
}

/// Ages from this on are of flows that are closed, so that their ports are taken first.
const HELD: u32 = 1 << 31;

/// Notes the port of a half-open flow: see [`note`]. Says whether it has, for the reason that
/// `ring::push_half_open` has.
#[inline(never)]
#[expect(unsafe_code, reason = "map value access")]
fn met<A: Tables>(forward: &mut FlowEntry<A>, key: &FlowKey<A>, now: u32) -> bool {
    let Some(entry) = A::half_open(key) else { return false };
    // SAFETY: a live element.
    let last = unsafe { &raw const (*entry).last };
    // SAFETY: an aligned word of it. If another flow has it by now, that is as old as it says.
    let age = now.wrapping_sub(unsafe { last.read_volatile() });
    note(forward, key, age & !HELD)
}

/// Notes a port that could be taken for want of another in the entry under construction, if its flow
/// has not been heard of for longer than that of the one noted before: `last` is for how many ticks.
/// Not in variables: the verifier would follow the loop of [`claim_port`] for each of their values.
#[inline(always)]
fn note<A: Tables>(forward: &mut FlowEntry<A>, key: &FlowKey<A>, age: u32) -> bool {
    if age <= forward.last {
        return false;
    }
    forward.last = age;
    forward.src = key.dst;
    forward.sport = key.dport;
    true
}

/// The part of the answers' checksum delta that does not depend on the port (RFC 1624).
#[inline(always)]
fn fixed<A: Tables>(reverse: &FlowEntry<A>, target: &TargetEntry<A>) -> u64 {
    reverse.src.sum()
        + reverse.dst.sum()
        + reverse.sport.0 as u64
        + reverse.dport.0 as u64
        + target.addr.taken()
        + (!target.port.0) as u64
}

/// What became of one try.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Try {
    /// The port is the new flow's.
    Claimed,
    /// The same, and a flow that had it is over.
    OfADoneFlow,
    /// Another flow has it.
    Taken,
    /// The half-open table is full.
    NoRoom,
}

/// Tries the address and port of a reverse key. `is_last`: also one that a target may hold in
/// TIME-WAIT.
#[inline(always)]
fn attempt<A: Tables>(
    key: &FlowKey<A>,
    fixed: u64,
    scratch: &mut Scratch<A>,
    now: u32,
    is_last: bool,
) -> Try {
    let Scratch { forward, reverse } = scratch;
    reverse.tag = key.tag();
    reverse.check_delta = checksum::fold(fixed + key.dst.taken() + (!key.dport.0) as u64);
    A::expect_flow(key);
    match A::insert_half_open(key, reverse) {
        Ok(()) => {}
        Err(lines::E2BIG) => return Try::NoRoom,
        Err(_) => {
            _ = met(forward, key, now);
            return Try::Taken;
        }
    }
    let port = A::flow(key).map_or(Port::Free, |entry| state(entry, key, forward, now));
    if port == Port::Live || port == Port::Held && !is_last {
        // Gives back what was claimed just now; nothing can be done about a failure.
        _ = A::remove_half_open(key);
        return Try::Taken;
    }
    forward.src = key.dst;
    forward.dst = key.src;
    forward.sport = key.dport;
    forward.dport = key.sport;
    if port == Port::Free { Try::Claimed } else { Try::OfADoneFlow }
}

/// Removes the flow that is over and whose port was claimed for the one under construction. Not at
/// once, since the stack has no room for both calls below each other.
#[inline(always)]
fn take_over<A: Tables>() -> u32 {
    let Some(scratch) = A::scratch() else { return 0 };
    let key = scratch.forward.peer_key();
    if let Some(entry) = A::flow(&key) {
        A::remove(&key, entry);
        count::event(Event::PortReclaimed);
    }
    0
}

/// Gives back the port of the flow under construction.
#[inline(always)]
fn give_back<A: Tables>() -> u32 {
    let mut room = FlowKey::default();
    if let Some(scratch) = A::scratch()
        && let Some(key) = A::peer_key(&scratch.forward, &mut room)
    {
        // It was inserted just now; nothing can be done about a failure.
        _ = A::remove_half_open(key);
    }
    0
}

/// [`give_back`] of IPv4, a global function.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
pub(super) extern "C" fn alb_give_back() -> u32 {
    give_back::<Be32>()
}

/// The same of IPv6.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
pub(super) extern "C" fn alb_give_back6() -> u32 {
    give_back::<Be128>()
}

/// [`take_over`] of IPv4, a global function.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
pub(super) extern "C" fn alb_take_over() -> u32 {
    take_over::<Be32>()
}

/// The same of IPv6.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
pub(super) extern "C" fn alb_take_over6() -> u32 {
    take_over::<Be128>()
}

/// What the established table says of a port.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Port {
    /// No flow has it.
    Free,
    /// A finished or expired flow has it: it can be taken over.
    Done,
    /// A closed flow has it that is silent, but its target is in TIME-WAIT.
    Held,
    /// A live flow has it, or one that may be.
    Live,
}

/// What an entry of the established table says of the port in its reverse key. `syn` holds the new
/// flow's sequence number and timestamp; a port that is held is noted there.
#[inline(never)]
fn state<A: Tables>(
    entry: *mut FlowEntry<A>,
    key: &FlowKey<A>,
    syn: &mut FlowEntry<A>,
    now: u32,
) -> Port {
    let Some(Scratch { reverse, .. }) = A::spare() else { return Port::Live };
    if !established::copy_to(reverse, entry, key) {
        return Port::Free;
    }
    let idle =
        maps::LISTENER_STATES.get(reverse.listener as u32).map_or(u64::MAX, |state| state.idle);
    let hold = expiry::port_hold(reverse.flags, idle as u32);
    if expiry::older(now, reverse.last, hold) || close::beyond_last(syn, reverse) {
        return Port::Done;
    }
    // What was lost may be on its way once more, and after a RST that was forged they go on.
    if !reverse.flags.leaves_time_wait() || !expiry::older(now, reverse.last, expiry::REPEAT) {
        return Port::Live;
    }
    note(syn, key, now.wrapping_sub(reverse.last) | HELD);
    Port::Held
}
