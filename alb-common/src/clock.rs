//! What `CLOCK` keeps: the tick of one jiffy.
//!
//! The coarse clock changes with jiffies only, and reading these is a load, where reading the clock is
//! two calls: on a CPU whose returns are guarded (SRSO) a fifth of what a packet of an open connection
//! costs. So it is read by the first packet of a jiffy.

/// A tick beside the lower half of the jiffies that it was read at. 0 is an empty place.
#[inline(always)]
pub const fn keep(jiffies: u64, tick: u32) -> u64 {
    jiffies << 32 | tick as u64
}

/// The tick that was read at these jiffies, if that is what is kept. The half that is compared comes
/// round after 49 days at 1,000 Hz; a word of that age has waited all the time for its one jiffy.
#[inline(always)]
pub const fn kept(word: u64, jiffies: u64) -> Option<u32> {
    if word != 0 && word >> 32 == jiffies & u32::MAX as u64 { Some(word as u32) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_of_its_jiffy_alone() {
        for (word, jiffies, expected) in [
            (keep(7, 9), 7, Some(9)),
            (keep(7, 9), 8, None),
            (keep(7, 9), 6, None),
            (keep(7, 0), 7, Some(0)),
            (keep(0, u32::MAX), 0, Some(u32::MAX)),
            // Five minutes after its start a kernel's jiffies are 2³².
            (keep((1 << 32) + 5, 9), (1 << 32) + 5, Some(9)),
            (keep((1 << 32) - 1, 9), 1 << 32, None),
            (0, 0, None),
            (0, 1 << 32, None),
        ] {
            assert_eq!(kept(word, jiffies), expected, "{word:#x} {jiffies:#x}");
        }
    }
}
