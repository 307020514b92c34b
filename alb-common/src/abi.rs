//! Names and version of the pinned state, and the proof that a type may be a map key or value.

/// Version of the layout of every pinned map. A daemon adopts pinned state of the same version
/// only. Raise it whenever a key, a value or its meaning changes.
pub const ABI_VERSION: u32 = 13;

/// Map names, as in the object file and under the pin directory.
pub mod map {
    /// The time, for a jiffy: [`crate::clock`].
    pub const CLOCK: &str = "CLOCK";
    /// Addresses this node answers for: `Be32` → [`crate::service::local`] bits.
    pub const LOCALS: &str = "LOCALS";
    /// The same at a place computed from the address: [`crate::local`].
    pub const LOCAL_CACHE: &str = "LOCAL_CACHE";
    /// Listeners: [`crate::service::ListenerKey`] → [`crate::service::ListenerEntry`].
    pub const LISTENERS: &str = "LISTENERS";
    /// Round-robin position and idle timeout of each listener, by listener index.
    pub const LISTENER_STATES: &str = "LISTENER_STATES";
    /// Open flows of each listener, by listener index. Userspace maps and corrects it too.
    pub const LISTENER_ACTIVE: &str = "LISTENER_ACTIVE";
    /// Selection tables: extents of target indices; lists of ports of [`FILTERS`].
    pub const SLOTS: &str = "SLOTS";
    /// Where each target is, by target index.
    pub const TARGETS: &str = "TARGETS";
    /// Link-layer next hop of each target, by target index.
    pub const HOPS: &str = "HOPS";
    /// When flows of each target end, by target index.
    pub const TARGET_TIMES: &str = "TARGET_TIMES";
    /// Active flows of all targets: one [`TargetActive`](crate::target::TargetActive). Userspace maps it
    /// and corrects it by atomic additions.
    pub const TARGET_ACTIVE: &str = "TARGET_ACTIVE";
    /// Counters of ended flows, per CPU, by target index.
    pub const TARGET_TOTALS: &str = "TARGET_TOTALS";
    /// The same by listener index.
    pub const LISTENER_TOTALS: &str = "LISTENER_TOTALS";
    /// Security groups: [`crate::filter::FilterKey`] → [`crate::filter::FilterEntry`], a trie.
    pub const FILTERS: &str = "FILTERS";
    /// Interfaces the packet path may send through, by slot.
    pub const INTERFACES: &str = "INTERFACES";
    /// Interface index → slot in `INTERFACES`.
    pub const INTERFACE_SLOTS: &str = "INTERFACE_SLOTS";
    /// Established flows, both directions.
    pub const FLOWS: &str = "FLOWS";
    /// Flows whose handshake is under way, both directions.
    pub const HALF_OPEN: &str = "HALF_OPEN";
    /// Half-open flows in order of their SYN, a ring.
    pub const HALF_OPEN_RING: &str = "HALF_OPEN_RING";
    /// Closed flows in order of their end, a ring.
    pub const CLOSED_RING: &str = "CLOSED_RING";
    /// Positions in the two rings, by [`crate::flow::ring`].
    pub const RING_HEADS: &str = "RING_HEADS";
    /// Packets by [`crate::Reason`], per CPU.
    pub const COUNTERS: &str = "COUNTERS";
    /// Budgets of RSTs and ICMP messages, per CPU, by [`crate::settings::budget`].
    pub const RST_BUDGET: &str = "RST_BUDGET";
    /// Working space, per CPU.
    pub const SCRATCH: &str = "SCRATCH";
    /// One [`crate::settings::Settings`].
    pub const SETTINGS: &str = "SETTINGS";
    /// Flows that ended, as [`crate::flow_log::FlowRecord`]s: a ring buffer.
    pub const FLOW_LOG: &str = "FLOW_LOG";
    /// SYNs that nothing has come of, per CPU: one [`crate::syn::SynRate`].
    pub const SYN_RATE: &str = "SYN_RATE";
    /// The same towards each target, by target index.
    pub const TARGET_SYN_RATES: &str = "TARGET_SYN_RATES";
    /// Clients that have proven themselves, by [`crate::syn::place`].
    pub const PROVEN: &str = "PROVEN";
    /// The IPv6 part of the XDP program, in a program array.
    pub const XDP_PARTS: &str = "XDP_PARTS";
    /// The same of the TC program.
    pub const TC_PARTS: &str = "TC_PARTS";

    /// [`LOCALS`] of IPv6.
    pub const LOCALS6: &str = "LOCALS6";
    /// [`LOCAL_CACHE`] of IPv6.
    pub const LOCAL_CACHE6: &str = "LOCAL_CACHE6";
    /// [`LISTENERS`] of IPv6.
    pub const LISTENERS6: &str = "LISTENERS6";
    /// [`FILTERS`] of IPv6.
    pub const FILTERS6: &str = "FILTERS6";
    /// [`TARGETS`] of IPv6. An index is a target's of either family.
    pub const TARGETS6: &str = "TARGETS6";
    /// [`FLOWS`] of IPv6.
    pub const FLOWS6: &str = "FLOWS6";
    /// [`HALF_OPEN`] of IPv6.
    pub const HALF_OPEN6: &str = "HALF_OPEN6";
    /// [`HALF_OPEN_RING`] of IPv6.
    pub const HALF_OPEN_RING6: &str = "HALF_OPEN_RING6";
    /// [`CLOSED_RING`] of IPv6.
    pub const CLOSED_RING6: &str = "CLOSED_RING6";
    /// [`SCRATCH`] of IPv6.
    pub const SCRATCH6: &str = "SCRATCH6";
    /// The packet in hand, per CPU; only the program of IPv6 has it in a map.
    pub const PACKET6: &str = "PACKET6";

    /// All of them, in the order they are created.
    pub const ALL: [&str; 42] = [
        SETTINGS,
        CLOCK,
        COUNTERS,
        RST_BUDGET,
        SCRATCH,
        LOCALS,
        LOCAL_CACHE,
        LISTENERS,
        FILTERS,
        LISTENER_STATES,
        LISTENER_ACTIVE,
        SLOTS,
        TARGETS,
        HOPS,
        TARGET_TIMES,
        TARGET_ACTIVE,
        TARGET_TOTALS,
        LISTENER_TOTALS,
        INTERFACES,
        INTERFACE_SLOTS,
        FLOWS,
        HALF_OPEN,
        HALF_OPEN_RING,
        CLOSED_RING,
        RING_HEADS,
        FLOW_LOG,
        SYN_RATE,
        TARGET_SYN_RATES,
        PROVEN,
        SCRATCH6,
        PACKET6,
        LOCALS6,
        LOCAL_CACHE6,
        LISTENERS6,
        FILTERS6,
        TARGETS6,
        FLOWS6,
        HALF_OPEN6,
        HALF_OPEN_RING6,
        CLOSED_RING6,
        XDP_PARTS,
        TC_PARTS,
    ];
}

/// The XDP program of the packet path, as named in the object file.
pub const XDP_PROGRAM: &str = "alb_xdp";
/// The same at TC ingress.
pub const TC_PROGRAM: &str = "alb_tc";
/// What [`XDP_PROGRAM`] leaves IPv6 to, by a tail call: so neither the other's stack nor its
/// verification is larger for it.
pub const XDP6_PROGRAM: &str = "alb_xdp6";
/// What [`TC_PROGRAM`] does.
pub const TC6_PROGRAM: &str = "alb_tc6";

/// A type that crosses the kernel boundary as bytes.
///
/// # Safety
///
/// The type is `repr(C)` or `repr(transparent)`, has no padding, and every bit pattern is a
/// valid value.
#[expect(unsafe_code, reason = "the marker's promise is about raw bytes")]
pub unsafe trait Plain: Copy + 'static {}

/// Proves at compile time that the fields fill the size exactly.
macro_rules! filled {
    ($type:ty, $size:literal: $($field:ident: $field_type:ty),+ $(,)?) => {
        const _: () = {
            const fn fields(value: &$type) {
                $(let _: &$field_type = &value.$field;)+
            }
            let _ = fields;
            assert!(size_of::<$type>() == $size, "size of a map type changed: raise ABI_VERSION");
            assert!(0 $(+ size_of::<$field_type>())+ == $size, "padding in a map type");
        };
    };
}
pub(crate) use filled;

/// Implements [`Plain`] after proving at compile time that the fields fill the size exactly.
macro_rules! plain {
    ($type:ty, $size:literal: $($field:ident: $field_type:ty),+ $(,)?) => {
        $crate::abi::filled!($type, $size: $($field: $field_type),+);
        // SAFETY: the asserts above prove that the listed fields, which are integers or
        // `Plain` types themselves, fill the `repr(C)` type without padding.
        #[expect(unsafe_code, reason = "proved by the asserts above")]
        unsafe impl $crate::abi::Plain for $type {}
    };
}
pub(crate) use plain;

// SAFETY: integers have no padding and no invalid bit patterns.
#[expect(unsafe_code, reason = "integers")]
unsafe impl Plain for u32 {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "integers")]
unsafe impl Plain for u64 {}

// SAFETY: integers have no padding and no invalid bit patterns.
#[expect(unsafe_code, reason = "integers")]
unsafe impl Plain for u16 {}
