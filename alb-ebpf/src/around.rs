//! What is seen of a packet before and after the packet path's program has it, and under what it was
//! counted meanwhile.
//!
//! That program is reached by a tail call from a function, from which it returns to the caller of the
//! function: it is the very one that runs when nobody captures, with a stack of its own. Functions named
//! `alb_…` are global in the sense of BPF (see `kernel`), and what one tells another is in
//! [`CAPTURE_PACKET`]: the program runs on one CPU from its beginning to its end, and is not re-entered.

mod hosts;

use core::ffi::c_void;

use alb_common::{
    capture::{CaptureRecord, CaptureSettings, HEAD, MOST_BYTES, RING_BYTES},
    reason::{COUNTERS as COUNTER_COUNT, Reason},
};
use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    btf_maps::{Array, PerCpuArray, ProgramArray, RingBuf},
    helpers::bpf_ktime_get_ns,
    macros::btf_map,
};

/// The packet path's own: the programs are loaded with it.
#[btf_map]
static COUNTERS: PerCpuArray<u64, { COUNTER_COUNT }> = PerCpuArray::new();

#[btf_map]
static CAPTURE: Array<CaptureSettings, 1> = Array::new();

#[btf_map]
static CAPTURED_XDP: ProgramArray<1> = ProgramArray::new();

#[btf_map]
static CAPTURED_TC: ProgramArray<1> = ProgramArray::new();

#[btf_map]
static CAPTURE_PACKET: PerCpuArray<InHand, 1> = PerCpuArray::new();

/// libbpf refuses the definition of a ring that says what its elements are.
#[btf_map]
static CAPTURE_RING: RingBuf<(), { RING_BYTES }> = RingBuf::new();

#[btf_map]
static CAPTURE_LOST: PerCpuArray<u64, 1> = PerCpuArray::new();

/// Bytes of an Ethernet header, which every frame has.
const ETHERNET: u32 = 14;

/// The packet that a CPU is at. Record and bytes are written to the ring in one piece.
#[repr(C)]
struct InHand {
    /// Not 0: there is one.
    is_there: u64,
    counters: [u64; COUNTER_COUNT],
    record: CaptureRecord,
    bytes: [u8; 2 * MOST_BYTES as usize],
}

/// A packet as its hook has it.
trait Host {
    const HOOK: u32;

    /// Bytes of the whole packet.
    fn len(&self) -> u32;

    /// [`take`] in a global function of this host's, in which nothing else needs a register: the
    /// verifier of Linux 6.1 forgets what it knows of numbers that are on the stack for a while.
    fn take(&self, at: u32, size: u32) -> u32;

    /// Copies so many bytes from its beginning.
    fn copy(&self, to: *mut c_void, len: u32) -> bool;

    /// Its tag, if that is not in the bytes; as in [`CaptureRecord`].
    fn tag(&self) -> u32;

    fn ifindex(&self) -> u32;

    /// Whether a packet with this action goes out.
    fn is_sent(action: u32) -> bool;
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn settings() -> Option<&'static CaptureSettings> {
    // SAFETY: written before a program is attached; then only its `until` changes, a whole word.
    CAPTURE.get_ptr(0).map(|settings| unsafe { &*settings })
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn hand() -> Option<&'static mut InHand> {
    // SAFETY: this CPU's element; every function here takes the reference once, and holds it over no
    // call of another.
    CAPTURE_PACKET.get_ptr_mut(0).map(|hand| unsafe { &mut *hand })
}

#[inline(always)]
#[expect(unsafe_code, reason = "a helper call")]
fn now() -> u64 {
    // SAFETY: takes nothing.
    unsafe { bpf_ktime_get_ns() }
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn counter(index: usize) -> u64 {
    // SAFETY: this CPU's element, and its only writer is not at work.
    COUNTERS.get_ptr(index as u32).map_or(0, |counter| unsafe { *counter })
}

/// Takes so many bytes of a packet to this place of those in hand; how many, 0 = none.
#[inline(always)]
#[expect(
    clippy::manual_range_contains,
    reason = "it becomes one comparison of a difference, of which Linux 6.1's verifier learns nothing"
)]
fn take<H: Host>(host: &H, at: u32, size: u32) -> u32 {
    // Nor does it learn from a comparison with 0 that there is one.
    if size < ETHERNET || size > MOST_BYTES || at > MOST_BYTES {
        return 0;
    }
    let Some(hand) = hand() else { return 0 };
    let place = hand.bytes.as_mut_ptr().wrapping_add(at as usize);
    if host.copy(place.cast(), size) { size } else { 0 }
}

/// Remembers a packet as it comes.
#[inline(always)]
fn before<H: Host>(host: &H) -> Option<()> {
    hand()?.is_there = 0;
    let settings = settings()?;
    let came = now();
    if came >= settings.until {
        return None;
    }
    let size = host.take(0, host.len().min(settings.snaplen));
    let hand = hand()?;
    hand.record.before = size;
    hand.record.before_len = host.len();
    hand.record.before_tag = host.tag();
    hand.record.ifindex = host.ifindex();
    hand.record.hook = H::HOOK;
    hand.record.reserved = 0;
    hand.record.came = came;
    hand.is_there = (size != 0) as u64;
    alb_count();
    None
}

/// Tells of it as it leaves, if it is wanted.
#[inline(always)]
fn after<H: Host>(host: &H, action: u32) -> Option<()> {
    let settings = settings()?;
    let record = &mut hand()?.record;
    record.left = now();
    record.action = action;
    let before = record.before;
    let reason = alb_reason();
    // What comes back over loopback is counted under none: it was here before.
    if reason >= Reason::COUNT as u32 || settings.reasons >> reason & 1 == 0 {
        return None;
    }
    let events = alb_events();
    let is_sent = H::is_sent(action);
    let after = if is_sent { host.take(before, host.len().min(settings.snaplen)) } else { 0 };
    let record = &mut hand()?.record;
    record.reason = reason;
    record.events = events;
    record.after = after;
    (record.after_len, record.after_tag) = if is_sent { (host.len(), host.tag()) } else { (0, 0) };
    if alb_is_wanted(0, before) == 0 && (after == 0 || alb_is_wanted(before, after) == 0) {
        return None;
    }
    alb_tell();
    None
}

/// Notes what is counted before the program runs.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
extern "C" fn alb_count() -> u64 {
    let Some(hand) = hand() else { return 0 };
    let mut index = 0;
    while index < COUNTER_COUNT {
        hand.counters[index] = counter(index);
        index += 1;
    }
    0
}

/// The reason that was counted since; their number if none was.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
extern "C" fn alb_reason() -> u32 {
    let Some(hand) = hand() else { return Reason::COUNT as u32 };
    let mut index = 0;
    while index < Reason::COUNT {
        if hand.counters[index] != counter(index) {
            break;
        }
        index += 1;
    }
    index as u32
}

/// The events that were counted since: a bit for each.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
extern "C" fn alb_events() -> u32 {
    let Some(hand) = hand() else { return 0 };
    let mut events = 0;
    let mut index = Reason::COUNT;
    while index < COUNTER_COUNT {
        events |= ((hand.counters[index] != counter(index)) as u32) << (index - Reason::COUNT);
        index += 1;
    }
    events
}

/// Whether the frame that is in hand at this place has an end that is asked for.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own, and map value access")]
#[unsafe(no_mangle)]
extern "C" fn alb_is_wanted(at: u32, len: u32) -> u32 {
    let (Some(settings), Some(hand)) = (settings(), hand()) else { return 0 };
    if at > MOST_BYTES {
        return 0;
    }
    let head = hand.bytes.as_ptr().wrapping_add(at as usize).cast::<[u8; HEAD]>();
    // SAFETY: within the bytes, of which there are twice as many as `at` may be.
    settings.wants(unsafe { &*head }, len) as u32
}

/// Puts what is in hand into the ring.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own, and map value access")]
#[unsafe(no_mangle)]
extern "C" fn alb_tell() -> u64 {
    let Some(hand) = hand() else { return 0 };
    let bytes = hand.record.before + hand.record.after;
    if bytes > 2 * MOST_BYTES {
        return 0;
    }
    let all = size_of::<CaptureRecord>() + bytes as usize;
    // SAFETY: the bytes are behind the record in one map element.
    let all = unsafe { core::slice::from_raw_parts((&raw const hand.record).cast::<u8>(), all) };
    // The reader looks by itself.
    if CAPTURE_RING.output_untyped::<[u8]>(all, BPF_RB_NO_WAKEUP as u64).is_err()
        && let Some(lost) = CAPTURE_LOST.get_ptr_mut(0)
    {
        // SAFETY: this CPU's element.
        unsafe { *lost += 1 }
    }
    0
}

/// Whether a packet was remembered; forgets that.
#[inline(always)]
fn is_in_hand() -> bool {
    hand().is_some_and(|hand| core::mem::take(&mut hand.is_there) != 0)
}
