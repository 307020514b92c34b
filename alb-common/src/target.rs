//! Targets.

use crate::{
    abi::plain,
    expiry,
    limits::MAX_SNAT_ADDRESSES,
    net::{Be16, Be32},
};

/// Where a target is and which addresses packets to it come from. Read for new flows only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TargetEntry {
    /// Hash of the ids of backend and target: tells a restarted daemon whose index it is.
    pub id: u64,
    /// Its address; zero = free index.
    pub addr: Be32,
    /// Its port.
    pub port: Be16,
    /// How many of `snat` are used, at least one.
    pub snat_count: u16,
    /// Source addresses towards it.
    pub snat: SnatAddresses,
}

/// Source addresses towards one target.
pub type SnatAddresses = [Be32; MAX_SNAT_ADDRESSES];

plain!(TargetEntry, 32: id: u64, addr: Be32, port: Be16, snat_count: u16, snat: SnatAddresses);

/// Moments of a target, by its index. Read only if its hop's flags say so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TargetTimes {
    /// Tick at which its flows are ended; 0 = they are not.
    pub cut_at: u32,
    /// Seconds that its flows may live on once it is removed: told to a restarted daemon that
    /// does not find it in the file any more.
    pub drain: u32,
}

plain!(TargetTimes, 8: cut_at: u32, drain: u32);

impl TargetTimes {
    /// Whether its flows are over.
    #[inline(always)]
    pub const fn is_cut(&self, now: u32) -> bool {
        self.cut_at != 0 && expiry::due(now, self.cut_at)
    }
}

/// Live numbers of a target, updated atomically.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TargetState {
    /// Flows that are half-open or established and not closed.
    pub active: u64,
}

plain!(TargetState, 8: active: u64);
