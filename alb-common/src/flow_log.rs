//! What is told of a flow that has ended, for the access log.

use crate::{
    abi::plain,
    expiry::TICK_SHIFT,
    flow::{self, FlowEntry},
    net::{Address, Be16, Be128},
    tcp::FlowFlags,
};

/// An element of `FLOW_LOG`. The packet path writes one for each flow that closes, and for one
/// that it collects open; the daemon makes those of the flows that it collects itself. A flow that
/// never opened has none, and one whose RST turns out to be forged has another when it really ends,
/// which tells what went through since.
///
/// IPv4 addresses are mapped. 120 bytes, to which the ring adds 8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowRecord {
    /// When it ended: the kernel's coarse monotonic clock, nanoseconds.
    pub at: u64,
    /// Bytes of IP from the client.
    pub bytes_in: u64,
    /// Bytes of IP to the client.
    pub bytes_out: u64,
    /// Packets from the client, modulo 2³².
    pub packets_in: u32,
    /// Packets to the client, modulo 2³².
    pub packets_out: u32,
    /// Where the client's packets came from.
    pub client: Be128,
    /// Where they went to.
    pub vip: Be128,
    /// Where the target saw them come from.
    pub snat: Be128,
    /// Who got them.
    pub target: Be128,
    /// Port of `client`.
    pub client_port: Be16,
    /// Port of `vip`.
    pub vip_port: Be16,
    /// Port of `snat`.
    pub snat_port: Be16,
    /// Port of `target`.
    pub target_port: Be16,
    /// Ticks since it was established, see [`flow::age`].
    pub age: u32,
    /// Index of the target.
    pub target_index: u32,
    /// Index of the listener.
    pub listener: u32,
    /// [`FlowFlags`] that it ended in: closed by both, by a RST, [`FlowFlags::CUT`], or open and idle.
    pub state: u32,
}

plain!(FlowRecord, 120:
    at: u64, bytes_in: u64, bytes_out: u64, packets_in: u32, packets_out: u32, client: Be128,
    vip: Be128, snat: Be128, target: Be128, client_port: Be16, vip_port: Be16, snat_port: Be16,
    target_port: Be16, age: u32, target_index: u32, listener: u32, state: u32);

/// Bytes of the ring buffer: 32,768 records.
pub const RING_BYTES: usize = 4 << 20;

impl FlowRecord {
    /// Tells of a flow that ended at this time of the coarse clock, from both of its entries as they
    /// were while it was open, and the state that it ended in. Field by field: a whole record is too
    /// large for the BPF stack.
    #[inline(always)]
    pub fn tell<A: Address>(
        &mut self,
        forward: &FlowEntry<A>,
        reverse: &FlowEntry<A>,
        state: FlowFlags,
        at: u64,
    ) {
        self.at = at;
        self.bytes_in = forward.bytes;
        self.bytes_out = reverse.bytes;
        self.packets_in = forward.packets;
        self.packets_out = reverse.packets;
        self.client = reverse.dst.mapped();
        self.vip = reverse.src.mapped();
        self.snat = forward.src.mapped();
        self.target = forward.dst.mapped();
        self.client_port = reverse.dport;
        self.vip_port = reverse.sport;
        self.snat_port = forward.sport;
        self.target_port = forward.dport;
        self.age = flow::age(forward.begun(), (at >> TICK_SHIFT) as u32);
        self.target_index = forward.target;
        self.listener = forward.listener as u32;
        self.state = (state.0 & !FlowFlags::REVERSE) as u32;
    }
}
