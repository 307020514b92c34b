//! Every capacity in one place. Those of the flow tables are defaults: the loader sizes them
//! from `node.flows`.

/// Established flows by default. Each takes two entries, one a direction.
pub const DEFAULT_FLOWS: u32 = 1 << 20;
/// Addresses served or used as SNAT source.
pub const MAX_LOCALS: usize = 16_384;
/// Listeners, counted once per address; also the range of the listener index (16 bits).
pub const MAX_LISTENERS: usize = 16_384;
/// Targets over all listeners.
pub const MAX_TARGETS: usize = 131_072;
/// Targets of a backend with least-connection: each new flow looks at all of them.
pub const MAX_LEAST_CONN_TARGETS: usize = 1_000;
/// Slots over all selection tables.
pub const MAX_SLOTS: usize = 1 << 20;
/// Prefixes of clients over all security groups in use, each set of groups counted once.
pub const MAX_PREFIXES: usize = 131_072;
/// Interfaces of one instance.
pub const MAX_INTERFACES: usize = 64;
/// Half-open flows by default.
pub const DEFAULT_HALF_OPEN: u32 = 65_536;
/// Closed flows that wait in the ring for the packet path to collect them, by default.
pub const DEFAULT_CLOSED_RING: u32 = DEFAULT_FLOWS / 4;
/// Fewest established flows that a table is made for.
pub const LEAST_FLOWS: u32 = 1_024;
/// Half-open flows that go with them.
pub const LEAST_HALF_OPEN: u32 = half_open_for(LEAST_FLOWS);
/// Places in the ring of closed flows that goes with them.
pub const LEAST_CLOSED_RING: u32 = closed_ring_for(LEAST_FLOWS);
/// SNAT addresses towards one target.
pub const MAX_SNAT_ADDRESSES: usize = 4;
/// Ports tried for one new flow, over all SNAT addresses.
pub const SNAT_PROBES: u32 = 24;
/// First SNAT port by default: below the kernel's ephemeral range.
pub const DEFAULT_SNAT_FIRST: u16 = 10_000;
/// Last SNAT port by default.
pub const DEFAULT_SNAT_LAST: u16 = 29_999;
/// RSTs a second and CPU.
pub const RST_PER_SECOND: u32 = 1_000;

/// Half-open flows that go with this many established ones: a sixteenth, 1,024 at least.
pub const fn half_open_for(flows: u32) -> u32 {
    let share = flows.next_power_of_two() / 16;
    if share < 1_024 { 1_024 } else { share }
}

/// Places in the ring of closed flows that goes with this many flows: a quarter, 1,024 at
/// least. Flows that close while it is full of ones that still have to wait are left to the
/// daemon's sweep.
pub const fn closed_ring_for(flows: u32) -> u32 {
    let share = flows.next_power_of_two() / 4;
    if share < 1_024 { 1_024 } else { share }
}

/// Entries of the half-open map for `half_open` flows: two a flow, and room for those that
/// other CPUs are about to evict.
pub const fn half_open_entries(half_open: u32) -> u32 {
    half_open * 2 + half_open / 4
}
