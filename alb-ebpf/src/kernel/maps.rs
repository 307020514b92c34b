//! Every map of the packet path. Sizes of the flow tables and rings are defaults that the
//! loader replaces from `node.flows`.

use alb_common::{
    filter::FilterEntry,
    flow::{FlowEntry, FlowKey, RingSlot, Scratch, Totals, ring},
    interface::{HopEntry, InterfaceEntry},
    limits::{
        DEFAULT_CLOSED_RING, DEFAULT_FLOWS, DEFAULT_HALF_OPEN, MAX_INTERFACES, MAX_LISTENERS,
        MAX_LOCALS, MAX_PREFIXES, MAX_SLOTS, MAX_TARGETS, half_open_entries,
    },
    local,
    net::Be32,
    reason::COUNTERS as COUNTER_COUNT,
    service::{ListenerEntry, ListenerKey, ListenerState},
    settings::{RstBudget, Settings, budget},
    target::{TargetEntry, TargetState, TargetTimes},
};
use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, HashMap, LpmTrie, PerCpuArray, lpm_trie::Key},
    macros::btf_map,
};

/// Node-wide settings: one element.
#[btf_map]
pub(super) static SETTINGS: Array<Settings, 1> = Array::new();

/// Packets by reason, then events.
#[btf_map]
pub(super) static COUNTERS: PerCpuArray<u64, { COUNTER_COUNT }> = PerCpuArray::new();

/// RSTs and ICMP messages sent in the current window.
#[btf_map]
pub(super) static RST_BUDGET: PerCpuArray<RstBudget, { budget::COUNT }> = PerCpuArray::new();

/// Entries under construction, and entries under removal: see [`scratch`] and [`spare`].
#[btf_map]
pub(super) static SCRATCH: PerCpuArray<Scratch, 2> = PerCpuArray::new();

/// Our addresses: VIPs and SNAT sources. Small, so that a packet that is not ours costs the
/// same however many flows there are.
#[btf_map]
pub(super) static LOCALS: HashMap<Be32, u32, { MAX_LOCALS }> = HashMap::new();

/// [`LOCALS`] by [`alb_common::local::place`]: words of [`alb_common::local::word`], 0 = empty.
#[btf_map]
pub(super) static LOCAL_CACHE: Array<u64, { local::PLACES }> = Array::new();

/// VIP and port → selection table.
#[btf_map]
pub(super) static LISTENERS: HashMap<ListenerKey, ListenerEntry, { MAX_LISTENERS }> =
    HashMap::new();

/// [`alb_common::filter::FilterKey`] as the trie takes it: what follows the length.
pub(super) type TrieKey = Key<[u32; 2]>;

/// Security groups: id of the filter and client's address → open ports.
#[btf_map]
pub(super) static FILTERS: LpmTrie<[u32; 2], FilterEntry, { MAX_PREFIXES }> = LpmTrie::new();

/// Turn and idle timeout, by listener index.
#[btf_map]
pub(super) static LISTENER_STATES: Array<ListenerState, { MAX_LISTENERS }> = Array::new();

/// Open flows, by listener index. Mapped by the daemon as `TARGET_STATES` is.
#[btf_map]
pub(super) static LISTENER_ACTIVE: Array<u64, { MAX_LISTENERS }, { BPF_F_MMAPABLE as usize }> =
    Array::new();

/// Selection tables as extents of target indices, and lists of ports.
#[btf_map]
pub(super) static SLOTS: Array<u32, { MAX_SLOTS }> = Array::new();

/// Address of each target, by index.
#[btf_map]
pub(super) static TARGETS: Array<TargetEntry, { MAX_TARGETS }> = Array::new();

/// Next hop of each target, by index.
#[btf_map]
pub(super) static HOPS: Array<HopEntry, { MAX_TARGETS }> = Array::new();

/// When each target's flows end, by index.
#[btf_map]
pub(super) static TARGET_TIMES: Array<TargetTimes, { MAX_TARGETS }> = Array::new();

/// Active flows of each target, by index. Mapped by the daemon, which can only so correct a
/// counter while packets change it.
#[btf_map]
pub(super) static TARGET_STATES: Array<TargetState, { MAX_TARGETS }, { BPF_F_MMAPABLE as usize }> =
    Array::new();

/// Ended flows' counters, by target index.
#[btf_map]
pub(super) static TARGET_TOTALS: PerCpuArray<Totals, { MAX_TARGETS }> = PerCpuArray::new();

/// Ended flows' counters, by listener index.
#[btf_map]
pub(super) static LISTENER_TOTALS: PerCpuArray<Totals, { MAX_LISTENERS }> = PerCpuArray::new();

/// Interfaces to send through, by slot.
#[btf_map]
pub(super) static INTERFACES: Array<InterfaceEntry, { MAX_INTERFACES }> = Array::new();

/// Interface index → slot.
#[btf_map]
pub(super) static INTERFACE_SLOTS: HashMap<u32, u32, { MAX_INTERFACES }> = HashMap::new();

/// Established flows: two entries each.
#[btf_map]
pub(super) static FLOWS: HashMap<FlowKey, FlowEntry, { DEFAULT_FLOWS as usize * 2 }> =
    HashMap::new();

/// Half-open flows: two entries each. Apart from `FLOWS`, so that a SYN flood evicts none.
#[btf_map]
pub(super) static HALF_OPEN: HashMap<
    FlowKey,
    FlowEntry,
    { half_open_entries(DEFAULT_HALF_OPEN) as usize },
> = HashMap::new();

/// Half-open flows by age: what a new one overwrites here is the oldest, and gives way.
#[btf_map]
pub(super) static HALF_OPEN_RING: Array<RingSlot, { DEFAULT_HALF_OPEN as usize }> = Array::new();

/// Closed flows by age, so that they are collected without a daemon.
#[btf_map]
pub(super) static CLOSED_RING: Array<RingSlot, { DEFAULT_CLOSED_RING as usize }> = Array::new();

/// Positions in the rings.
#[btf_map]
pub(super) static RING_HEADS: Array<u64, { ring::COUNT }> = Array::new();

/// This CPU's working space.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
pub(super) fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: this CPU's element. The program is not re-entered on one CPU, and each packet
    // takes the reference once: `handshake`, `open` and `control` are asked one after the
    // other, and none keeps it.
    SCRATCH.get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch })
}

/// As [`scratch`], for copies of flows that are in the way of the one under construction.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
pub(super) fn spare() -> Option<&'static mut Scratch> {
    // SAFETY: this CPU's element, another one than that of `scratch`. `snat::state` and
    // `close::remove` take the reference, neither calls the other nor keeps it.
    SCRATCH.get_ptr_mut(1).map(|spare| unsafe { &mut *spare })
}
