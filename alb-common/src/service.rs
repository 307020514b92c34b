//! Addresses and listeners.

use crate::{
    abi::plain,
    net::{Be16, Be32, Be128},
};

/// What an address of this node is, bits of the value in `LOCALS`.
pub mod local {
    /// A load balancer's address.
    pub const VIP: u32 = 1;
    /// A source address towards targets.
    pub const SNAT: u32 = 2;
    /// With [`VIP`]: the host's stack has connections on it, because the proxy serves some of its
    /// ports or did.
    pub const PROXY: u32 = 4;

    /// Bits below the filter's id.
    const KIND_BITS: u32 = 8;
    /// Largest id of a filter.
    pub const MAX_FILTER: u32 = u32::MAX >> KIND_BITS;

    /// The filter that new connections to the address have to pass; 0 = none, all are open.
    #[inline(always)]
    pub const fn filter(flags: u32) -> u32 {
        flags >> KIND_BITS
    }

    /// Flags with a filter, 0 to [`MAX_FILTER`].
    pub const fn filtered(flags: u32, filter: u32) -> u32 {
        flags | filter << KIND_BITS
    }
}

/// An address and port that is listened on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct ListenerKey<A = Be32> {
    /// VIP.
    pub addr: A,
    /// TCP port.
    pub port: Be16,
    /// Always zero.
    pub reserved: u16,
}

plain!(ListenerKey<Be32>, 8: addr: Be32, port: Be16, reserved: u16);
plain!(ListenerKey<Be128>, 20: addr: Be128, port: Be16, reserved: u16);

/// How a listener chooses a target. It is replaced as a whole, so a packet sees either the
/// old extent or the new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ListenerEntry {
    /// First slot of its selection table.
    pub offset: u32,
    /// Slots in it; 0 = no healthy target.
    pub len: u32,
    /// Index in `LISTENER_STATES`.
    pub index: u16,
    /// [`algorithm`] code.
    pub algorithm: u16,
    /// Most flows that may be open, together with those of `sibling`; 0 = no limit.
    pub max: u32,
    /// Index of the same listener on its load balancer's other address; its own if there is none.
    pub sibling: u16,
    /// Always zero.
    pub reserved: u16,
}

plain!(ListenerEntry, 20:
    offset: u32, len: u32, index: u16, algorithm: u16, max: u32, sibling: u16, reserved: u16);

/// Codes of [`ListenerEntry::algorithm`].
pub mod algorithm {
    /// Slots in turn.
    pub const ROUND_ROBIN: u16 = 0;
    /// Slot by the client's address.
    pub const IP_HASH: u16 = 1;
    /// The slot whose target has the fewest active flows for its weight. Its slots say the
    /// weight too, see [`crate::selection::weighted`].
    pub const LEAST_CONN: u16 = 2;
    /// None: the proxy listens, packets go to the host's stack.
    pub const PROXY: u16 = 3;
}

/// What changes or is needed without the listener's key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ListenerState {
    /// Next turn of the round robin; counted up atomically.
    pub turn: u64,
    /// Idle timeout of its flows, ticks.
    pub idle: u64,
}

plain!(ListenerState, 16: turn: u64, idle: u64);
