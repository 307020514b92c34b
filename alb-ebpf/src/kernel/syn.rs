//! SYN cookies: while too many SYNs come to nothing, one of a client that has not proven itself is
//! answered instead of opening a flow. How is told in `alb_common::syn`.

use alb_common::{
    Reason,
    net::Be128,
    syn::{self, SynRate},
};

use super::{balance, clock, maps, tables::Tables};
use crate::{
    packet::Packet,
    parse::{Segment, TCP_LEN},
};

/// Towards one target, a quarter of the limit.
const TARGET_SHIFT: u32 = 2;

/// Sets hashes of clients apart from cookies, whose last word has an epoch there.
const CLIENT: u64 = u32::MAX as u64;

/// Whether the client of a SYN has to prove itself, by how many SYNs there are in all.
#[inline(always)]
pub(super) fn holds<A: Tables>(segment: &Segment<A>, now: u32) -> bool {
    asks(maps::SYN_RATE.get_ptr_mut(0), 0, now) && !is_proven(segment.key.src, now)
}

/// The same by how many there are towards the target that would have it.
#[inline(always)]
pub(super) fn holds_from<A: Tables>(segment: &Segment<A>, target: u32, now: u32) -> bool {
    let rate = maps::TARGET_SYN_RATES.get_ptr_mut(target);
    asks(rate, TARGET_SHIFT, now) && !is_proven(segment.key.src, now)
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn asks(rate: Option<*mut SynRate>, shift: u32, now: u32) -> bool {
    let (Some(rate), Some(settings)) = (rate, balance::settings()) else { return false };
    // SAFETY: this CPU's element, to which there is no other reference.
    settings.syn_limit != 0 && unsafe { &mut *rate }.begun(now, settings.syn_limit >> shift)
}

/// Counts a handshake with a target that was completed.
#[inline(always)]
pub(super) fn completed(target: u32) {
    done(maps::SYN_RATE.get_ptr_mut(0));
    done(maps::TARGET_SYN_RATES.get_ptr_mut(target));
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn done(rate: Option<*mut SynRate>) {
    if let Some(rate) = rate {
        // SAFETY: as in `asks`.
        unsafe { &mut *rate }.done();
    }
}

/// The acknowledgment that a SYN is answered with.
#[inline(always)]
pub(super) fn acknowledgment<P: Packet, A: Tables>(
    packet: &P,
    segment: &Segment<A>,
) -> Option<u32> {
    let tcp = packet.window::<TCP_LEN>(segment.l4())?;
    let cookie = cookie(segment, syn::epoch(clock::now()));
    Some(syn::acknowledgment(cookie, u32::from_be(tcp.u32::<4>())))
}

/// What a RST of no flow is: the answer to a cookie, whose client has proven itself with it, or
/// nothing that anybody waits for.
#[inline(never)]
#[expect(unsafe_code, reason = "map value access")]
pub(super) fn judge<A: Tables>(segment: &Segment<A>, sequence: u32, now: u32) -> Reason {
    if balance::settings().is_none_or(|settings| settings.syn_limit == 0) {
        return Reason::UnexpectedRst;
    }
    let epoch = syn::epoch(now);
    let shows = |epoch| syn::shows(sequence, cookie(segment, epoch));
    if !shows(epoch) && !shows(epoch.wrapping_sub(1)) {
        return Reason::UnexpectedRst;
    }
    // Counted once, or whoever owns one address could hide a flood by repeating its proof.
    if is_proven(segment.key.src, now) {
        return Reason::SynProven;
    }
    let hash = client(segment.key.src);
    if let Some(place) = maps::PROVEN.get_ptr_mut(syn::place(hash)) {
        // SAFETY: an aligned word of an array: whoever reads it sees this client or another whole.
        unsafe { place.write_volatile(syn::proof(hash, now)) }
    }
    done(maps::SYN_RATE.get_ptr_mut(0));
    Reason::SynProven
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn is_proven<A: Tables>(addr: A, now: u32) -> bool {
    let hash = client(addr);
    let Some(place) = maps::PROVEN.get_ptr(syn::place(hash)) else { return false };
    // SAFETY: an aligned word of an array.
    syn::is_proven(unsafe { place.read_volatile() }, hash, now)
}

#[inline(always)]
fn client<A: Tables>(addr: A) -> u64 {
    alb_syn_hash(addr.owner(), 0, 0, 0, CLIENT)
}

#[inline(always)]
fn cookie<A: Tables>(segment: &Segment<A>, epoch: u32) -> u32 {
    let key = &segment.key;
    let (src, dst) = (key.src.mapped(), key.dst.mapped());
    let ports = (key.sport.0 as u64) << 48 | (key.dport.0 as u64) << 32;
    let last = ports | (epoch & !(1 << 31)) as u64;
    alb_syn_hash(high(src), low(src), high(dst), low(dst), last) as u32
}

#[inline(always)]
const fn high(Be128([first, second, ..]): Be128) -> u64 {
    word(first, second)
}

#[inline(always)]
const fn low(Be128([.., third, fourth]): Be128) -> u64 {
    word(third, fourth)
}

#[inline(always)]
const fn word(high: u32, low: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

/// Keyed hash of five words; a global function, which the verifier looks at once.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
extern "C" fn alb_syn_hash(first: u64, second: u64, third: u64, fourth: u64, last: u64) -> u64 {
    let Some(settings) = balance::settings() else { return 0 };
    let [k0, k1, k2, k3] = settings.syn_key;
    syn::siphash([word(k0, k1), word(k2, k3)], [first, second, third, fourth, last])
}
