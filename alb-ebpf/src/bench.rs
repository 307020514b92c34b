//! What the bench's programs do with each packet; written by the bench, read by `bench_xdp.rs`.

use alb_common::{
    abi::Plain,
    flow::FlowKey,
    net::{Be16, Be32},
};

/// A number that depends on the flow: `base + ((flow >> shift) & mask)`, host order.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Field {
    /// That of flow 0.
    pub base: u32,
    /// Bits of the flow's number that it takes.
    pub mask: u32,
    /// Bits of it that it leaves out.
    pub shift: u32,
}

impl Field {
    /// The same for every flow.
    pub const fn fixed(base: u32) -> Self {
        Self { base, mask: 0, shift: 0 }
    }

    /// Its value for this flow.
    #[inline(always)]
    pub const fn of(&self, flow: u32) -> u32 {
        self.base.wrapping_add((flow >> self.shift) & self.mask)
    }
}

/// Length of the frames, bytes.
pub const FRAME: usize = 64;
/// The same of IPv6.
pub const FRAME6: usize = 80;

/// Loads that a run of `bench_load` makes.
pub const LOADS: u32 = 64;

/// One row's packets: the program writes `template` over the frame with the addresses and ports
/// of the next flow (of IPv6 the last words of the addresses), and goes on to the program in `slot`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Plan {
    /// Packets so far.
    pub next: u32,
    /// Odd: packet `n` is of flow `n * multiplier & mask`, so that the order of visits is not
    /// that of the table.
    pub multiplier: u32,
    /// Number of flows less one, a power of two less one.
    pub mask: u32,
    /// Slot of the program to go on to.
    pub slot: u32,
    /// Bits of a line's number that count, of a row of loads that wait for each other: all, or none
    /// to load the first line each time.
    pub reach: u32,
    /// Zero, which the compiler does not know.
    pub zero: u32,
    /// Source address.
    pub src: Field,
    /// Source port.
    pub sport: Field,
    /// Destination address.
    pub dst: Field,
    /// Destination port.
    pub dport: Field,
    /// The frame, as words in memory order; of IPv6 or the first of these words.
    pub template: [u32; FRAME6 / 4],
}

impl Plan {
    /// The key of a flow's packets, of IPv4.
    #[inline(always)]
    pub const fn key(&self, flow: u32) -> FlowKey {
        FlowKey {
            src: Be32(self.src.of(flow).to_be()),
            dst: Be32(self.dst.of(flow).to_be()),
            sport: Be16::new(self.sport.of(flow) as u16),
            dport: Be16::new(self.dport.of(flow) as u16),
        }
    }
}

const _: () = assert!(size_of::<Plan>() == 4 * (6 + 4 * 3 + FRAME6 / 4), "padding in a map type");

// SAFETY: `repr(C)`, of 32-bit integers alone; the assert above proves that there is no padding.
#[expect(unsafe_code, reason = "integers")]
unsafe impl Plain for Plan {}
