//! The flow tables' key and value.

use crate::{
    abi::{Plain, filled, plain},
    flow_table::{FlowLine, Lined},
    net::{Address, Be16, Be32, Be128, Mac},
    tcp::FlowFlags,
};

/// Addresses and ports of a packet as it arrives, in network byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct FlowKey<A = Be32> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port.
    pub sport: Be16,
    /// Destination port.
    pub dport: Be16,
}

filled!(FlowKey<Be32>, 12: src: Be32, dst: Be32, sport: Be16, dport: Be16);
filled!(FlowKey<Be128>, 36: src: Be128, dst: Be128, sport: Be16, dport: Be16);

// SAFETY: `Lined` is of the families that this is proved for, above.
#[expect(unsafe_code, reason = "proved by the asserts above")]
unsafe impl<A: Lined> Plain for FlowKey<A> {}

impl<A: Address> FlowKey<A> {
    /// 16 bits that tell a reader of an entry whether it is still this key's: a line that is removed
    /// may be the next insert's at once, also under a reader's pointer.
    #[inline(always)]
    pub fn tag(self) -> u16 {
        let ports = (self.sport.0 as u64) << 16 | self.dport.0 as u64;
        let mixed = A::pair(self.src, self.dst) ^ ports.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed.wrapping_mul(0xff51_afd7_ed55_8ccd) >> 48) as u16
    }
}

/// One direction of a flow: the whole rewrite, so that a packet of an established flow needs
/// one lookup and a few array reads.
///
/// IPv4: 48 bytes; with a 12-byte key and a state a line of 64 of [`crate::flow_table`]. IPv6: 72
/// bytes; with a 36-byte key, a state and 16 bytes of nothing a line of 128. See [`bytes_per_flow`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowEntry<A = Be32> {
    /// [`FlowKey::tag`] of its key.
    pub tag: u16,
    /// Reverse: the route generation that `mac` and `interface` were found under. Forward, while
    /// half-open: the [`stamp`] of its place in the half-open ring; then see [`Self::begin`].
    pub route_generation: u16,
    /// New source address.
    pub src: A,
    /// New destination address.
    pub dst: A,
    /// New source port.
    pub sport: Be16,
    /// New destination port.
    pub dport: Be16,
    /// One's-complement sum that the rewrite adds to the TCP checksum.
    pub check_delta: u16,
    /// Index of the listener that made the flow.
    pub listener: u16,
    /// Slot of the outgoing interface (reverse entries; forward ones take the target's hop, and see
    /// [`Self::begin`]).
    pub interface: u8,
    /// State.
    pub flags: FlowFlags,
    /// Forward: the address the client's frames come from. Reverse: the address of the
    /// client's next hop.
    pub mac: Mac,
    /// Index of the target.
    pub target: u32,
    /// Tick of the last packet in this direction.
    pub last: u32,
    /// Packets in this direction. While half-open: the initial sequence number, host order.
    /// In a closed flow's reverse entry: the sequence number after the target's last, host order.
    pub packets: u32,
    /// Bytes of IP in this direction. In a closed flow's reverse entry, both of host order: from bit
    /// 32 on the sequence number after the client's last, below it its last timestamp value, 0 if it
    /// had none.
    pub bytes: u64,
}

filled!(FlowEntry<Be32>, 48:
    tag: u16, route_generation: u16, src: Be32, dst: Be32, sport: Be16, dport: Be16,
    check_delta: u16, listener: u16, interface: u8, flags: FlowFlags, mac: Mac, target: u32,
    last: u32, packets: u32, bytes: u64);
filled!(FlowEntry<Be128>, 72:
    tag: u16, route_generation: u16, src: Be128, dst: Be128, sport: Be16, dport: Be16,
    check_delta: u16, listener: u16, interface: u8, flags: FlowFlags, mac: Mac, target: u32,
    last: u32, packets: u32, bytes: u64);

// SAFETY: as of `FlowKey`.
#[expect(unsafe_code, reason = "proved by the asserts above")]
unsafe impl<A: Lined> Plain for FlowEntry<A> {}

// SAFETY: `repr(transparent)` over an integer.
#[expect(unsafe_code, reason = "transparent over an integer")]
unsafe impl crate::abi::Plain for FlowFlags {}

impl<A: Copy> FlowEntry<A> {
    /// The key of the other direction's entry: what the peer answers to this rewrite.
    #[inline(always)]
    pub const fn peer_key(&self) -> FlowKey<A> {
        FlowKey { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport }
    }

    /// Whether what it makes of packets is answered under this key: [`Self::peer_key`] is it.
    #[inline(always)]
    pub fn answers(&self, key: &FlowKey<A>) -> bool
    where
        A: PartialEq,
    {
        self.dst == key.src
            && self.src == key.dst
            && self.dport == key.sport
            && self.sport == key.dport
    }

    /// Notes in a forward entry the tick at which its flow was established: 24 bits of it, in two
    /// fields that have no other use there.
    #[inline(always)]
    pub const fn begin(&mut self, now: u32) {
        self.route_generation = now as u16;
        self.interface = (now >> 16) as u8;
    }

    /// What [`Self::begin`] has noted.
    #[inline(always)]
    pub const fn begun(&self) -> u32 {
        self.route_generation as u32 | (self.interface as u32) << 16
    }
}

/// Ages that are told apart, ticks.
pub const AGES: u32 = 1 << 24;

/// Ticks since [`FlowEntry::begun`], modulo [`AGES`]: what is older than three days and six hours
/// seems younger by as much.
#[inline(always)]
pub const fn age(begun: u32, now: u32) -> u32 {
    let age = now.wrapping_sub(begun) % AGES;
    // Another CPU's clock was a little ahead.
    if age > AGES - 60 { 0 } else { age }
}

/// Room for both entries of a flow under construction: the BPF stack is too small for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Scratch<A = Be32> {
    /// Client to target.
    pub forward: FlowEntry<A>,
    /// Target to client.
    pub reverse: FlowEntry<A>,
}

plain!(Scratch<Be32>, 96: forward: FlowEntry, reverse: FlowEntry);
plain!(Scratch<Be128>, 144: forward: FlowEntry<Be128>, reverse: FlowEntry<Be128>);

/// A flow named in one of the rings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RingSlot<A = Be32> {
    /// Half-open: its forward key. Closed: its reverse key, which holds its port. All zero = never
    /// used.
    pub key: FlowKey<A>,
    /// Half-open: the [`stamp`] of the place, as in the flow's forward entry. Closed: the tick
    /// it was written.
    pub at: u32,
}

plain!(RingSlot<Be32>, 16: key: FlowKey, at: u32);
plain!(RingSlot<Be128>, 40: key: FlowKey<Be128>, at: u32);

/// 16 bits that tell a flow's place in the half-open ring from one that an earlier flow with
/// the same key had. The top bits of a product: ring positions a whole round apart differ.
#[inline(always)]
pub const fn stamp(position: u32) -> u16 {
    (position.wrapping_mul(0x9e37_79b1) >> 16) as u16
}

/// Indices in `RING_HEADS`: the two rings' write positions, and where to look for room next; those
/// of IPv6 are [`IPV6`](ring::IPV6) further on.
pub mod ring {
    /// Half-open flows.
    pub const HALF_OPEN: u32 = 0;
    /// Closed flows.
    pub const CLOSED: u32 = 1;
    /// Batches of the closed ring that were looked at because the flow table was full.
    pub const RECLAIMED: u32 = 2;
    /// From an index of IPv4 to that of IPv6.
    pub const IPV6: u32 = 3;
    /// How many.
    pub const COUNT: usize = 6;
}

/// Counters of flows that ended, and of flows begun; per CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Totals {
    /// Flows opened (SYNs forwarded, repeats not counted).
    pub new_flows: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets to clients.
    pub packets_out: u64,
    /// IP bytes from clients.
    pub bytes_in: u64,
    /// IP bytes to clients.
    pub bytes_out: u64,
}

plain!(Totals, 40: new_flows: u64, packets_in: u64, packets_out: u64, bytes_in: u64, bytes_out: u64);

/// Bytes of kernel memory for each flow a table is made for: the lines of two entries, as many as
/// [`lines_for`](crate::flow_table::lines_for) makes of them.
pub const fn bytes_per_flow<A: Lined>() -> usize {
    4 * size_of::<FlowLine<A>>()
}

const _: () = assert!(bytes_per_flow::<Be32>() <= 256);
const _: () = assert!(bytes_per_flow::<Be128>() <= 512);

#[cfg(test)]
mod tests {
    extern crate std;
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_peer_s_peer_is_oneself() {
        let key = FlowKey { src: Be32(1), dst: Be32(2), sport: Be16(3), dport: Be16(4) };
        // Forward: (client, vip) becomes (snat, target); reverse: (target, snat) becomes
        // (vip, client).
        let forward = FlowEntry {
            src: Be32(5),
            dst: Be32(6),
            sport: Be16(7),
            dport: Be16(8),
            ..FlowEntry::default()
        };
        let reverse = FlowEntry {
            src: key.dst,
            dst: key.src,
            sport: key.dport,
            dport: key.sport,
            ..FlowEntry::default()
        };
        assert_eq!(
            forward.peer_key(),
            FlowKey { src: Be32(6), dst: Be32(5), sport: Be16(8), dport: Be16(7) }
        );
        assert_eq!(reverse.peer_key(), key);
    }

    #[test]
    fn ages_wrap() {
        for (begun, now, age) in [
            (5, 5, 0),
            (5, 1_005, 1_000),
            (6, 5, 0), // ahead
            (u32::MAX - 9, 10, 20),
            (0x0300_0007, 0x03ff_ff00, 0xff_fef9),
            (7, AGES + 8, 1), // too old to be told
        ] {
            let mut entry: FlowEntry = FlowEntry::default();
            entry.begin(begun);
            assert_eq!(super::age(entry.begun(), now), age, "{begun} {now}");
        }
    }

    #[test]
    fn tags_of_ipv6_spread() {
        // Clients of one prefix, as they differ in the lowest word, or in the one above it.
        for word in [2, 3] {
            let tags: BTreeSet<u16> = (0..10_000u32)
                .map(|n| {
                    let mut src = Be128([0x2001_0db8u32.to_be(), 0, 0, 1]);
                    src.0[word] = (n / 100).to_be();
                    let dst = Be128([0x2001_0db8u32.to_be(), 0, 0, 7]);
                    let sport = Be16::new(10_000 + (n % 100) as u16);
                    FlowKey { src, dst, sport, dport: Be16::new(80) }.tag()
                })
                .collect();
            assert!(tags.len() > 9_100, "{word}: {}", tags.len());
        }
    }

    #[test]
    fn tags_spread() {
        let tags: BTreeSet<u16> = (0..10_000u32)
            .map(|n| {
                FlowKey {
                    src: Be32((0xc612_0000 + n / 100).to_be()),
                    dst: Be32(1),
                    sport: Be16::new(10_000 + (n % 100) as u16),
                    dport: Be16::new(80),
                }
                .tag()
            })
            .collect();
        // 10,000 draws out of 65,536 give 9,279 different ones on average.
        assert!(tags.len() > 9_100, "{}", tags.len());
    }
}
