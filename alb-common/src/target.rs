//! Targets.

use crate::{
    abi::plain,
    expiry,
    limits::{MAX_SNAT_ADDRESSES, MAX_TARGETS},
    net::{Be16, Be32, Be128},
};

/// Where a target is and which addresses packets to it come from. Read for new flows only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TargetEntry<A = Be32> {
    /// Hash of the ids of backend and target: tells a restarted daemon whose index it is.
    pub id: TargetId,
    /// Its address; zero = free index.
    pub addr: A,
    /// Its port.
    pub port: Be16,
    /// How many of `snat` are used, at least one.
    pub snat_count: u16,
    /// Source addresses towards it.
    pub snat: SnatAddresses<A>,
}

/// Source addresses towards one target.
pub type SnatAddresses<A = Be32> = [A; MAX_SNAT_ADDRESSES];

plain!(TargetEntry<Be32>, 32:
    id: TargetId, addr: Be32, port: Be16, snat_count: u16, snat: SnatAddresses);
plain!(TargetEntry<Be128>, 92:
    id: TargetId, addr: Be128, port: Be16, snat_count: u16, snat: SnatAddresses<Be128>);

/// Hash of the ids of a backend and a target, in two words: a longer one would leave padding
/// behind the addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct TargetId([u32; 2]);

// SAFETY: `repr(transparent)` over an array of integers.
#[expect(unsafe_code, reason = "transparent over integers")]
unsafe impl crate::abi::Plain for TargetId {}

impl From<u64> for TargetId {
    fn from(hash: u64) -> Self {
        Self([(hash >> 32) as u32, hash as u32])
    }
}

impl From<TargetId> for u64 {
    fn from(TargetId([high, low]): TargetId) -> Self {
        Self::from(high) << 32 | Self::from(low)
    }
}

/// Moments of a target, by its index. Read only if its hop's flags say so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TargetTimes {
    /// Tick at which its flows are ended; 0 = they are not.
    pub cut_at: u32,
    /// Seconds that its flows may live on once it is removed: told to a restarted daemon that
    /// does not find it in the file any more.
    pub drain: u32,
    /// Tick at which it came into service.
    pub start: u32,
    /// Ticks in which its share of new flows grows from nothing to the whole; 0 = at once.
    pub ramp: u32,
}

plain!(TargetTimes, 16: cut_at: u32, drain: u32, start: u32, ramp: u32);

/// Shares of a target that starts slowly are parts of this.
const WHOLE: u32 = 1 << 16;
/// A share never is less: the target must be seen to work.
const LEAST: u32 = WHOLE / 100;

impl TargetTimes {
    /// Whether its flows are over.
    #[inline(always)]
    pub const fn is_cut(&self, now: u32) -> bool {
        self.cut_at != 0 && expiry::due(now, self.cut_at)
    }

    /// Whether its share has grown to the whole.
    #[inline(always)]
    pub const fn is_full(&self, now: u32) -> bool {
        self.elapsed(now) >= self.ramp
    }

    /// Ticks since it came into service. Who wrote that may have been a little ahead.
    #[inline(always)]
    const fn elapsed(&self, now: u32) -> u32 {
        const AHEAD: u32 = 64;
        let elapsed = now.wrapping_sub(self.start);
        if elapsed > u32::MAX - AHEAD { 0 } else { elapsed }
    }

    /// Whether it takes a new flow that fell to it by this lot. Lots that are numbered in turn
    /// are spread evenly: multiples of the golden section fall below a share as often as it says.
    #[inline(always)]
    pub const fn admits(&self, now: u32, lot: u32) -> bool {
        if self.is_full(now) {
            return true;
        }
        let share = (self.elapsed(now) as u64 * WHOLE as u64 / self.ramp as u64) as u32;
        let share = if share < LEAST { LEAST } else { share };
        lot.wrapping_mul(0x9e37_79b1) >> 16 < share
    }
}

/// Flows of each target that are half-open or established and not closed, by target index: one element
/// with all of them, since who compares many targets pays for each lookup. Each changes atomically.
pub type TargetActive = [u64; MAX_TARGETS];

const _: () =
    assert!(size_of::<TargetActive>() == 1 << 20, "size of a map type changed: raise ABI_VERSION");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_grows_with_time() {
        let times = TargetTimes { start: u32::MAX - 9, ramp: 1_000, ..TargetTimes::default() };
        for (elapsed, least, most) in [
            (u32::MAX, 50, 150),
            (0, 50, 150),
            (10, 50, 150),
            (100, 950, 1_050),
            (500, 4_950, 5_050),
            (1_000, 10_000, 10_000),
        ] {
            let now = times.start.wrapping_add(elapsed);
            // The lots of every fourth turn, as a target of four has them.
            let admitted = (0..10_000).filter(|turn| times.admits(now, turn * 4 + 3)).count();
            assert!((least..=most).contains(&admitted), "{elapsed}: {admitted}");
        }
        assert!(TargetTimes::default().admits(7, 1));
    }
}
