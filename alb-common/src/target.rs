//! Targets.

use crate::{
    abi::plain,
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

/// Live numbers of a target, updated atomically.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TargetState {
    /// Flows that are half-open or established and not closed.
    pub active: u64,
}

plain!(TargetState, 8: active: u64);
