//! Every map of the packet path. Sizes of the flow tables and rings are defaults that the
//! loader replaces from `node.flows`. What holds addresses is there once for each family, so that
//! neither pays for the other's; [`super::tables`] puts the two behind one face.

use alb_common::{
    filter::FilterEntry,
    flow::{FlowEntry, FlowKey, RingSlot, Scratch, Totals, ring},
    flow_log::RING_BYTES,
    flow_table::{FlowLine, lines_for},
    interface::{HopEntry, InterfaceEntry},
    limits::{
        DEFAULT_CLOSED_RING, DEFAULT_FLOWS, DEFAULT_HALF_OPEN, LEAST_CLOSED_RING, LEAST_FLOWS,
        LEAST_HALF_OPEN, MAX_INTERFACES, MAX_LISTENERS, MAX_LOCALS, MAX_PREFIXES, MAX_SLOTS,
        MAX_TARGETS, half_open_entries,
    },
    local::{self, Held6},
    net::{Be32, Be128},
    reason::COUNTERS as COUNTER_COUNT,
    service::{ListenerEntry, ListenerKey, ListenerState},
    settings::{RstBudget, Settings, budget},
    syn::{self, SynRate},
    target::{TargetActive, TargetEntry, TargetTimes},
};
use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, HashMap, LpmTrie, PerCpuArray, ProgramArray, RingBuf},
    macros::btf_map,
};

use super::lines6::Search;
use crate::parse::Segment;

/// Node-wide settings: one element.
#[btf_map]
pub(super) static SETTINGS: Array<Settings, 1> = Array::new();

/// The time: one [`alb_common::clock::keep`].
#[btf_map]
pub(super) static CLOCK: Array<u64, 1> = Array::new();

/// Packets by reason, then events.
#[btf_map]
pub(super) static COUNTERS: PerCpuArray<u64, { COUNTER_COUNT }> = PerCpuArray::new();

/// RSTs and ICMP messages sent in the current window.
#[btf_map]
pub(super) static RST_BUDGET: PerCpuArray<RstBudget, { budget::COUNT }> = PerCpuArray::new();

pub(super) type Scratches<A> = PerCpuArray<Scratch<A>, 2>;

/// Entries under construction, and entries under removal: see [`super::tables::Tables::scratch`] and
/// [`super::tables::Tables::spare`].
#[btf_map]
pub(super) static SCRATCH: Scratches<Be32> = Scratches::new();

/// Our addresses: VIPs and SNAT sources. Small, so that a packet that is not ours costs the
/// same however many flows there are.
#[btf_map]
pub(super) static LOCALS: Locals<Be32> = Locals::new();

pub(super) type Locals<A> = HashMap<A, u32, { MAX_LOCALS }>;

/// [`LOCALS`] by [`alb_common::local::place`]: words of [`alb_common::local::word`], 0 = empty.
#[btf_map]
pub(super) static LOCAL_CACHE: Array<u64, { local::PLACES }> = Array::new();

/// VIP and port → selection table.
#[btf_map]
pub(super) static LISTENERS: Listeners<Be32> = Listeners::new();

pub(super) type Listeners<A> = HashMap<ListenerKey<A>, ListenerEntry, { MAX_LISTENERS }>;

/// Security groups: id of the filter and client's address → open ports.
#[btf_map]
pub(super) static FILTERS: LpmTrie<[u32; 2], FilterEntry, { MAX_PREFIXES }> = LpmTrie::new();

/// Turn and idle timeout, by listener index.
#[btf_map]
pub(super) static LISTENER_STATES: Array<ListenerState, { MAX_LISTENERS }> = Array::new();

/// Open flows, by listener index. Mapped by the daemon as `TARGET_ACTIVE` is.
#[btf_map]
pub(super) static LISTENER_ACTIVE: Array<u64, { MAX_LISTENERS }, { BPF_F_MMAPABLE as usize }> =
    Array::new();

/// Selection tables as extents of target indices, and lists of ports.
#[btf_map]
pub(super) static SLOTS: Array<u32, { MAX_SLOTS }> = Array::new();

/// Address of each target, by index.
#[btf_map]
pub(super) static TARGETS: Targets<Be32> = Targets::new();

pub(super) type Targets<A> = Array<TargetEntry<A>, { MAX_TARGETS }>;

/// Next hop of each target, by index.
#[btf_map]
pub(super) static HOPS: Array<HopEntry, { MAX_TARGETS }> = Array::new();

/// When each target's flows end, by index.
#[btf_map]
pub(super) static TARGET_TIMES: Array<TargetTimes, { MAX_TARGETS }> = Array::new();

/// Active flows of all targets: one element. Mapped by the daemon, which can only so correct a counter
/// while packets change it.
#[btf_map]
pub(super) static TARGET_ACTIVE: Array<TargetActive, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

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

/// Established flows: two entries each. Mapped by the daemon, which takes part.
#[btf_map]
pub(super) static FLOWS: Lines<Be32, { lines_for(DEFAULT_FLOWS * 2) as usize }> = Lines::new();

type Lines<A, const LINES: usize> = Array<FlowLine<A>, LINES, { BPF_F_MMAPABLE as usize }>;

/// Half-open flows: two entries each. Apart from `FLOWS`, so that a SYN flood evicts none.
#[btf_map]
pub(super) static HALF_OPEN: Lines<
    Be32,
    { lines_for(half_open_entries(DEFAULT_HALF_OPEN)) as usize },
> = Lines::new();

/// Half-open flows by age: what a new one overwrites here is the oldest, and gives way.
#[btf_map]
pub(super) static HALF_OPEN_RING: Array<RingSlot, { DEFAULT_HALF_OPEN as usize }> = Array::new();

/// Closed flows by age, so that they are collected without a daemon.
#[btf_map]
pub(super) static CLOSED_RING: Array<RingSlot, { DEFAULT_CLOSED_RING as usize }> = Array::new();

/// Positions in the rings.
#[btf_map]
pub(super) static RING_HEADS: Array<u64, { ring::COUNT }> = Array::new();

/// Flows that ended, for the access log: [`alb_common::flow_log::FlowRecord`]s. libbpf refuses the
/// definition of a ring that says what its elements are.
#[btf_map]
pub(super) static FLOW_LOG: RingBuf<(), { RING_BYTES }> = RingBuf::new();

/// SYNs that nothing has come of: one element.
#[btf_map]
pub(super) static SYN_RATE: PerCpuArray<SynRate, 1> = PerCpuArray::new();

/// The same by target index.
#[btf_map]
pub(super) static TARGET_SYN_RATES: PerCpuArray<SynRate, { MAX_TARGETS }> = PerCpuArray::new();

/// Clients that have proven themselves: [`syn::proof`]s.
#[btf_map]
pub(super) static PROVEN: Array<u64, { syn::PLACES }> = Array::new();

/// The IPv6 program of this host, if there is one: its place is 0.
#[btf_map]
pub(super) static XDP_PARTS: ProgramArray<1> = ProgramArray::new();

/// The same of TC.
#[btf_map]
pub(super) static TC_PARTS: ProgramArray<1> = ProgramArray::new();

/// [`SCRATCH`] of IPv6.
#[btf_map]
pub(super) static SCRATCH6: Scratches<Be128> = Scratches::new();

/// What the path of IPv4 has on its stack.
pub(super) struct InHand {
    pub(super) segment: Segment<Be128>,
    pub(super) entry: FlowEntry<Be128>,
    pub(super) search: Search,
    pub(super) answers: FlowKey<Be128>,
    pub(super) peer: FlowKey<Be128>,
}

/// The packet that the IPv6 program is at, its flow's entry, and what is looked for.
#[btf_map]
pub(super) static PACKET6: PerCpuArray<InHand, 1> = PerCpuArray::new();

/// [`LOCALS`] of IPv6.
#[btf_map]
pub(super) static LOCALS6: Locals<Be128> = Locals::new();

/// [`LOCAL_CACHE`] of IPv6, by [`alb_common::local::place6`].
#[btf_map]
pub(super) static LOCAL_CACHE6: Array<Held6, { local::PLACES }> = Array::new();

/// [`LISTENERS`] of IPv6.
#[btf_map]
pub(super) static LISTENERS6: Listeners<Be128> = Listeners::new();

/// [`FILTERS`] of IPv6.
#[btf_map]
pub(super) static FILTERS6: LpmTrie<[u32; 5], FilterEntry, { MAX_PREFIXES }> = LpmTrie::new();

/// [`TARGETS`] of IPv6, by the same indices.
#[btf_map]
pub(super) static TARGETS6: Targets<Be128> = Targets::new();

/// [`FLOWS`] of IPv6. Small until the loader enlarges it, as what follows: a node without an IPv6
/// address to serve needs no memory for it.
#[btf_map]
pub(super) static FLOWS6: Lines<Be128, { lines_for(LEAST_FLOWS * 2) as usize }> = Lines::new();

/// [`HALF_OPEN`] of IPv6.
#[btf_map]
pub(super) static HALF_OPEN6: Lines<
    Be128,
    { lines_for(half_open_entries(LEAST_HALF_OPEN)) as usize },
> = Lines::new();

/// [`HALF_OPEN_RING`] of IPv6.
#[btf_map]
pub(super) static HALF_OPEN_RING6: Array<RingSlot<Be128>, { LEAST_HALF_OPEN as usize }> =
    Array::new();

/// [`CLOSED_RING`] of IPv6.
#[btf_map]
pub(super) static CLOSED_RING6: Array<RingSlot<Be128>, { LEAST_CLOSED_RING as usize }> =
    Array::new();
