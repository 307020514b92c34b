//! Interfaces the packet path sends through.

use crate::{abi::plain, net::Mac};

impl HopEntry {
    /// Whether a frame can be sent to it.
    #[inline(always)]
    pub const fn is_resolved(&self) -> bool {
        !self.mac.is_unset() || self.flags & hop_flag::HERE != 0
    }
}

/// One interface, by slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct InterfaceEntry {
    /// Kernel interface index; 0 = free slot.
    pub ifindex: u32,
    /// Its own address: source of every frame sent through it.
    pub mac: Mac,
    /// Largest IP packet, bytes.
    pub mtu: u16,
    /// [`interface_flag`] bits.
    pub flags: u32,
}

plain!(InterfaceEntry, 16: ifindex: u32, mac: Mac, mtu: u16, flags: u32);

/// Bits of [`InterfaceEntry::flags`].
pub mod interface_flag {
    /// Send back out by redirecting instead of by `XDP_TX`: a veth delivers the latter only to
    /// a peer with an XDP program (`veth_xdp_flush`), the former to one with GRO too.
    pub const REDIRECT: u32 = 1;
    /// Loopback: it has no stations, so that all zero is an address like any, and what is sent
    /// through it comes back in.
    pub const LOOPBACK: u32 = 2;
}

/// Link-layer next hop of a target: one 8-byte word, so that an update is seen whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct HopEntry {
    /// Destination of the frame; all zero = not resolved, unless it is [`hop_flag::HERE`].
    pub mac: Mac,
    /// Slot of the outgoing interface.
    pub interface: u8,
    /// [`hop_flag`] bits.
    pub flags: u8,
}

plain!(HopEntry, 8: mac: Mac, interface: u8, flags: u8);

/// Bits of [`HopEntry::flags`]: what else is to be known of the target. They are here because
/// every packet to it reads this word anyway.
pub mod hop_flag {
    /// Its flows end at [`crate::target::TargetTimes::cut_at`].
    pub const DRAINS: u8 = 1;
    /// It takes a growing share of its new flows: [`crate::target::TargetTimes::admits`].
    pub const STARTS: u8 = 2;
    /// It is on this host, behind loopback.
    pub const HERE: u8 = 4;
}
