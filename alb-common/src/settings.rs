//! Node-wide settings of the packet path.

use crate::abi::plain;

/// The one element of `SETTINGS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// [`crate::abi::ABI_VERSION`] of who wrote it.
    pub abi: u32,
    /// Raised when a route or a gateway's address changes; wraps.
    pub route_generation: u16,
    /// First SNAT port.
    pub port_first: u16,
    /// Number of SNAT ports.
    pub port_count: u16,
    /// First port of our addresses that answers to flows may come to: below `port_first` while
    /// flows live that began under another range.
    pub reply_first: u16,
    /// Number of these ports.
    pub reply_count: u16,
    /// Step between two probes, coprime with `port_count`, so that probes never repeat.
    pub port_stride: u16,
    /// RSTs, and as many ICMP messages, a CPU may send in one window of [`RST_WINDOW_SHIFT`]. 0 =
    /// nor are packets to SNAT ports that no flow has left to the host, which would send one.
    pub rst_per_window: u32,
    /// Size of the half-open ring less one; sizes are powers of two.
    pub half_open_mask: u32,
    /// Size of the closed ring less one.
    pub closed_mask: u32,
    /// [`Self::half_open_mask`] of IPv6.
    pub half_open_mask6: u32,
    /// [`Self::closed_mask`] of IPv6.
    pub closed_mask6: u32,
    /// Targets that drain: while there are none, packets from targets need not ask.
    pub draining: u32,
    /// Whether flows that end are written to `FLOW_LOG`: 0 = no.
    pub flow_log: u32,
    /// SYNs in a window of [`crate::syn`], of one CPU, that may come to nothing before clients have
    /// to prove themselves; towards one target, a quarter of them. 0 = they never have to.
    pub syn_limit: u32,
    /// Key of the cookies; random.
    pub syn_key: [u32; 4],
}

plain!(Settings, 64:
    abi: u32, route_generation: u16, port_first: u16, port_count: u16, reply_first: u16,
    reply_count: u16, port_stride: u16, rst_per_window: u32, half_open_mask: u32,
    closed_mask: u32, half_open_mask6: u32, closed_mask6: u32, draining: u32,
    flow_log: u32, syn_limit: u32, syn_key: [u32; 4]);

/// Ticks, shifted right by this, number the windows of the RST limit: 134 ms each.
pub const RST_WINDOW_SHIFT: u32 = 3;

/// Indices in `RST_BUDGET`.
pub mod budget {
    /// RSTs.
    pub const RST: u32 = 0;
    /// ICMP messages.
    pub const ICMP: u32 = 1;
    /// How many.
    pub const COUNT: usize = 2;
}

/// Packets sent in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RstBudget {
    /// Number of the window.
    pub window: u32,
    /// Packets sent in it.
    pub sent: u32,
}

plain!(RstBudget, 8: window: u32, sent: u32);
