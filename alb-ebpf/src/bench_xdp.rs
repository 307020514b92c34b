//! The bench's programs: one that makes each packet and goes on to the program under test, and
//! the primitives that the packet path is compared with. Not part of the shipped object.

#![no_std]
#![no_main]
#![allow(clippy::cast_possible_truncation, clippy::cast_lossless, reason = "BPF")]

mod object;

use alb_common::{
    flow::{FlowEntry, FlowKey},
    flow_table::{FlowLine, Shape},
};
use alb_ebpf::{
    bench::{FRAME, FRAME6, LOADS, Plan},
    packet::{Packet, Window},
};
use aya_ebpf::{
    bindings::{
        BPF_ANY, BPF_F_MMAPABLE,
        xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX},
    },
    btf_maps::{Array, HashMap, ProgramArray},
    macros::{btf_map, xdp},
    programs::XdpContext,
};

/// The row under way.
#[btf_map]
static PLAN: Array<Plan, 1> = Array::new();

/// The programs to go on to.
#[btf_map]
static PROGRAMS: ProgramArray<8> = ProgramArray::new();

/// A hash table of the kernel's with the same flows: the bench sets its size.
#[btf_map]
static TABLE: HashMap<FlowKey, FlowEntry, 2> = HashMap::new();

/// The packet path's `FLOWS`: the bench loads this program with it.
#[btf_map]
static LINES: Array<FlowLine, 8, { BPF_F_MMAPABLE as usize }> = Array::new();

struct Frame(XdpContext);

impl Packet for Frame {
    #[inline(always)]
    fn start(&self) -> usize {
        self.0.data()
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.0.data_end()
    }

    #[inline(always)]
    fn len(&self) -> usize {
        FRAME
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn truncate(&mut self, _: usize) -> bool {
        false
    }
}

/// Makes the next packet and goes on.
#[expect(unreachable_pub, reason = "the macro wants it")]
#[xdp(frags)]
pub fn bench_packet(ctx: XdpContext) -> u32 {
    let frame = Frame(ctx);
    let (Some(bytes), Some((plan, flow))) = (frame.window::<FRAME>(0), next()) else {
        return XDP_ABORTED;
    };
    write(bytes, plan, flow);
    go_on(&frame, plan)
}

/// The same of IPv6.
#[expect(unreachable_pub, reason = "the macro wants it")]
#[xdp(frags)]
pub fn bench_packet6(ctx: XdpContext) -> u32 {
    let frame = Frame(ctx);
    let (Some(bytes), Some((plan, flow))) = (frame.window::<FRAME6>(0), next()) else {
        return XDP_ABORTED;
    };
    write6(bytes, plan, flow);
    go_on(&frame, plan)
}

/// The plan, and the next packet's flow.
#[inline(always)]
fn next() -> Option<(&'static Plan, u32)> {
    let plan = PLAN.get_ptr_mut(0)?;
    // SAFETY: the bench runs on one CPU and leaves the element alone meanwhile.
    #[expect(unsafe_code, reason = "map value access")]
    let plan = unsafe { &mut *plan };
    let flow = plan.next.wrapping_mul(plan.multiplier) & plan.mask;
    plan.next = plan.next.wrapping_add(1);
    Some((plan, flow))
}

#[inline(always)]
fn go_on(frame: &Frame, plan: &Plan) -> u32 {
    // SAFETY: nothing is held over the call.
    #[expect(unsafe_code, reason = "a helper call")]
    unsafe {
        PROGRAMS.tail_call(&frame.0, plan.slot);
    }
    XDP_ABORTED
}

#[inline(always)]
fn write6(bytes: Window<'_, FRAME6>, plan: &Plan, flow: u32) {
    macro_rules! words {
        ($($word:literal)+) => { $(bytes.set_u32::<{ $word * 4 }>(plan.template[$word]);)+ };
    }
    words!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19);
    bytes.set_u32::<34>(plan.src.of(flow).to_be());
    bytes.set_u32::<50>(plan.dst.of(flow).to_be());
    bytes.set_u16::<54>((plan.sport.of(flow) as u16).to_be());
    bytes.set_u16::<56>((plan.dport.of(flow) as u16).to_be());
}

#[inline(always)]
fn write(bytes: Window<'_, FRAME>, plan: &Plan, flow: u32) {
    macro_rules! words {
        ($($word:literal)+) => { $(bytes.set_u32::<{ $word * 4 }>(plan.template[$word]);)+ };
    }
    words!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    bytes.set_u32::<26>(plan.src.of(flow).to_be());
    bytes.set_u32::<30>(plan.dst.of(flow).to_be());
    bytes.set_u16::<34>((plan.sport.of(flow) as u16).to_be());
    bytes.set_u16::<36>((plan.dport.of(flow) as u16).to_be());
}

#[inline(always)]
fn key(frame: &Frame) -> Option<FlowKey> {
    let bytes = frame.window::<38>(0)?;
    let (src, dst) = (bytes.be32::<26>(), bytes.be32::<30>());
    Some(FlowKey { src, dst, sport: bytes.be16::<34>(), dport: bytes.be16::<36>() })
}

/// What costs nothing: subtracted from every row.
#[expect(unreachable_pub, reason = "the macro wants it")]
#[xdp(frags)]
pub fn bench_empty(_: XdpContext) -> u32 {
    XDP_PASS
}

/// A lookup in the hash table, key from the packet and value read.
#[expect(unreachable_pub, reason = "the macro wants it")]
#[xdp(frags)]
pub fn bench_lookup(ctx: XdpContext) -> u32 {
    let Some(key) = key(&Frame(ctx)) else { return XDP_ABORTED };
    let Some(entry) = TABLE.get_ptr_mut(&key) else { return XDP_DROP };
    // SAFETY: a live element; every bit pattern is a valid entry.
    #[expect(unsafe_code, reason = "map value access")]
    let entry = unsafe { entry.read_volatile() };
    let sum = entry.bytes as u32 ^ entry.src.0 ^ entry.target ^ entry.last;
    if sum == 0x5a5a_5a5a { XDP_PASS } else { XDP_TX }
}

/// Random loads, of the lines that are the homes of the next packets' keys. Each waits for the one
/// before, whose word is in its key: nothing else is left to do meanwhile, which would seem to make the
/// load faster.
#[expect(unreachable_pub, reason = "the macro wants it")]
#[xdp(frags)]
pub fn bench_load(_: XdpContext) -> u32 {
    let (Some(shape), Some(plan)) = (LINES.get_ptr(0), PLAN.get_ptr_mut(0)) else {
        return XDP_ABORTED;
    };
    // SAFETY: the first line is the table's shape.
    #[expect(unsafe_code, reason = "map value access")]
    let shape = unsafe { &*shape.cast::<Shape>() };
    // SAFETY: the bench runs on one CPU and leaves the element alone meanwhile.
    #[expect(unsafe_code, reason = "map value access")]
    let plan = unsafe { &mut *plan };
    let mut word = Some(0);
    for _ in 0..LOADS {
        let Some(before) = word else { return XDP_ABORTED };
        let number = plan.next.wrapping_add(before & plan.zero);
        plan.next = plan.next.wrapping_add(1);
        let key = plan.key(number.wrapping_mul(plan.multiplier) & plan.mask);
        word = load(shape.places(&key)[0] & plan.reach);
    }
    verdict(word)
}

#[inline(always)]
fn load(line: u32) -> Option<u32> {
    let line = LINES.get_ptr(line)?;
    // SAFETY: a live element.
    #[expect(unsafe_code, reason = "map value access")]
    Some(unsafe { (&raw const (*line).state).read_volatile() })
}

#[inline(always)]
const fn verdict(word: Option<u32>) -> u32 {
    match word {
        None => XDP_ABORTED,
        Some(0x5a5a_5a5a) => XDP_PASS,
        Some(_) => XDP_TX,
    }
}

/// A new element of the hash table.
#[expect(unreachable_pub, reason = "the macro wants it")]
#[xdp(frags)]
pub fn bench_insert(ctx: XdpContext) -> u32 {
    let Some(key) = key(&Frame(ctx)) else { return XDP_ABORTED };
    let entry = FlowEntry { src: key.src, ..FlowEntry::default() };
    if TABLE.insert(&key, &entry, BPF_ANY as u64).is_ok() { XDP_PASS } else { XDP_DROP }
}

/// Its removal.
#[expect(unreachable_pub, reason = "the macro wants it")]
#[xdp(frags)]
pub fn bench_remove(ctx: XdpContext) -> u32 {
    let Some(key) = key(&Frame(ctx)) else { return XDP_ABORTED };
    if TABLE.remove(&key).is_ok() { XDP_PASS } else { XDP_DROP }
}
