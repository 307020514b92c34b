//! Time in the flow tables, and when an entry has had its time.

use crate::tcp::FlowFlags;

/// Nanoseconds of the kernel's coarse monotonic clock, shifted right by this, are ticks:
/// 16.8 ms each. A 32-bit tick wraps after 2.3 years, so ticks are only ever subtracted.
pub const TICK_SHIFT: u32 = 24;

/// Ticks in a whole number of seconds, rounded up.
pub const fn ticks(seconds: u32) -> u32 {
    ((seconds as u64 * 1_000_000_000) >> TICK_SHIFT) as u32 + 1
}

/// Half-open flows live this long after their last packet.
pub const HALF_OPEN: u32 = ticks(30);
/// Closed flows stay this long for repeated data, FINs and ACKs; a port that the target holds
/// in TIME-WAIT is not reused for as long (Linux: `TCP_TIMEWAIT_LEN`, 60 s).
pub const TIME_WAIT: u32 = ticks(60);
/// Closed flows whose client closed first and acknowledged everything, and reset ones, stay
/// this long.
pub const CLOSED: u32 = ticks(10);

/// Within this time Linux has sent again what was lost, where a round trip is short: it waits for the
/// round trip and at least 200 ms. (RFC 6298 §2.4 would have it wait a second.)
pub const REPEAT: u32 = ticks(1) / 2;

/// How long an established entry may be idle before it is collected; `idle` is its listener's
/// timeout.
#[inline(always)]
pub const fn lifetime(flags: FlowFlags, idle: u32) -> u32 {
    if !flags.closed() {
        idle
    } else if flags.is_held() {
        TIME_WAIT
    } else if flags.has(FlowFlags::RST) || flags.has(FlowFlags::DONE) {
        CLOSED
    } else {
        TIME_WAIT
    }
}

/// How long after its last packet a flow's SNAT port is kept from new flows.
#[inline(always)]
pub const fn port_hold(flags: FlowFlags, idle: u32) -> u32 {
    if !flags.closed() {
        idle
    } else if flags.has(FlowFlags::DONE) && !flags.is_held() {
        0
    } else {
        // A RST may be forged: its flow must have been silent for a while.
        lifetime(flags, idle)
    }
}

/// Whether `age` ticks have passed since `last`. Another CPU may have written `last` a little
/// ahead of this one's `now`: that is not an age of two years.
#[inline(always)]
pub const fn older(now: u32, last: u32, age: u32) -> bool {
    let elapsed = now.wrapping_sub(last);
    elapsed <= u32::MAX / 2 && elapsed > age
}

/// Whether the tick `at` has come. It may lie a year ahead or behind.
#[inline(always)]
pub const fn due(now: u32, at: u32) -> bool {
    now.wrapping_sub(at).cast_signed() >= 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_to_ticks() {
        assert_eq!(ticks(1), 60);
        assert_eq!(ticks(60), 3_577);
        assert_eq!(ticks(86_400), 5_149_842);
    }

    #[test]
    fn ages() {
        for (now, last, age, expected) in [
            (100, 40, 60, false),
            (101, 40, 60, true),
            (5, u32::MAX - 5, 10, true),  // wrapped
            (5, u32::MAX - 5, 11, false), // wrapped
            (40, 41, 0, false),           // ahead
        ] {
            assert_eq!(older(now, last, age), expected, "{now} {last} {age}");
        }
    }

    #[test]
    fn moments() {
        for (now, at, expected) in
            [(9, 9, true), (10, 9, true), (8, 9, false), (3, u32::MAX, true), (u32::MAX, 3, false)]
        {
            assert_eq!(due(now, at), expected, "{now} {at}");
        }
    }

    #[test]
    fn lifetimes() {
        const IDLE: u32 = 1_000_000;
        use FlowFlags as F;
        let both = F::FIN_CLIENT | F::FIN_TARGET;
        for (flags, life, hold) in [
            (0, IDLE, IDLE),
            (F::FIN_CLIENT, IDLE, IDLE),
            (F::FIN_TARGET | F::TARGET_FIRST, IDLE, IDLE),
            (both, TIME_WAIT, TIME_WAIT),
            (both | F::DONE, CLOSED, 0),
            (both | F::TARGET_FIRST, TIME_WAIT, TIME_WAIT),
            (F(both | F::TARGET_FIRST | F::REVERSE).held().0, TIME_WAIT, TIME_WAIT),
            (F::RST_CLIENT, CLOSED, CLOSED),
            (both | F::TARGET_FIRST | F::RST_TARGET, CLOSED, CLOSED),
        ] {
            assert_eq!(lifetime(F(flags), IDLE), life, "{flags:#x}");
            assert_eq!(port_hold(F(flags), IDLE), hold, "{flags:#x}");
        }
    }
}
