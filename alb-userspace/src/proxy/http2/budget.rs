//! How many frames that ask for nothing a client may send: a budget for each kind, refilled with
//! time. Pure. Streams, windows, header lists and data have their limits in `settings`.

use std::time::Duration;

use super::frames::Kind;

/// A client that goes on beyond its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flood {
    /// `RST_STREAM`: requests that are given up at once (CVE-2023-44487).
    Reset,
    /// PING, SETTINGS, PRIORITY and unknown frames (CVE-2019-9512, -9515).
    Control,
    /// CONTINUATION, and DATA without data (CVE-2019-9518, CVE-2024-27316).
    Empty,
    /// `WINDOW_UPDATE` without anything to be updated for.
    Window,
}

impl Flood {
    /// Counter, metric label and log word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Reset => "h2_reset_flood",
            Self::Control => "h2_control_flood",
            Self::Empty => "h2_empty_frame_flood",
            Self::Window => "h2_window_update_flood",
        }
    }
}

/// Frames of one kind.
#[derive(Clone, Copy, Debug)]
struct Limit {
    /// At once. Browsers reset all streams of a page that is left: more than those of one
    /// connection, less than an attack.
    burst: u32,
    /// A second.
    rate: u32,
}

const RESET: Limit = Limit { burst: 400, rate: 50 };
const CONTROL: Limit = Limit { burst: 400, rate: 20 };
const EMPTY: Limit = Limit { burst: 200, rate: 10 };
const WINDOW: Limit = Limit { burst: 2000, rate: 100 };
/// Bytes sent to the client that earn it one `WINDOW_UPDATE`. Clients send one or two for each
/// DATA frame, and DATA frames of event streams are small.
const BYTES_A_WINDOW: u64 = 32;

/// What a client has left.
#[derive(Debug)]
pub(super) struct Budgets {
    left: [u32; 4],
    /// Bytes that did not earn a frame yet.
    bytes: u64,
}

impl Default for Budgets {
    fn default() -> Self {
        Self { left: LIMITS.map(|limit| limit.burst), bytes: 0 }
    }
}

const LIMITS: [Limit; 4] = [RESET, CONTROL, EMPTY, WINDOW];

impl Budgets {
    /// Takes a frame; an error is a frame too many.
    pub(super) fn spend(&mut self, kind: Kind) -> Result<(), Flood> {
        let (at, flood) = match kind {
            Kind::Work => return Ok(()),
            Kind::Reset => (0, Flood::Reset),
            Kind::Control => (1, Flood::Control),
            Kind::Empty => (2, Flood::Empty),
            Kind::Window => (3, Flood::Window),
        };
        self.left[at] = self.left[at].checked_sub(1).ok_or(flood)?;
        Ok(())
    }

    /// So much was sent to the client.
    pub(super) fn sent(&mut self, bytes: u64) {
        self.bytes += bytes;
        let earned = self.bytes / BYTES_A_WINDOW;
        self.bytes %= BYTES_A_WINDOW;
        // What a large download earned serves it to its end, not for ever.
        let most = WINDOW.burst * 16;
        let earned = u32::try_from(earned).unwrap_or(most);
        self.left[3] = self.left[3].saturating_add(earned).min(most);
    }

    /// So much time went by; parts of a second are none.
    pub(super) fn refill(&mut self, passed: Duration) {
        let seconds = u32::try_from(passed.as_secs()).unwrap_or(u32::MAX);
        for (left, limit) in self.left.iter_mut().zip(LIMITS) {
            let refilled = left.saturating_add(limit.rate.saturating_mul(seconds));
            *left = refilled.min(limit.burst.max(*left));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flood(budgets: &mut Budgets, kind: Kind, most: u32) -> Option<(u32, Flood)> {
        (0..most).find_map(|n| budgets.spend(kind).err().map(|flood| (n, flood)))
    }

    #[test]
    fn a_burst_is_let_through_and_no_more() {
        for (kind, flood_of, limit) in [
            (Kind::Reset, Flood::Reset, RESET),
            (Kind::Control, Flood::Control, CONTROL),
            (Kind::Empty, Flood::Empty, EMPTY),
            (Kind::Window, Flood::Window, WINDOW),
        ] {
            let mut budgets = Budgets::default();
            assert_eq!(flood(&mut budgets, kind, 10_000), Some((limit.burst, flood_of)));
            budgets.refill(Duration::from_millis(2500));
            assert_eq!(flood(&mut budgets, kind, 10_000), Some((2 * limit.rate, flood_of)));
            budgets.refill(Duration::from_secs(1_000_000));
            assert_eq!(flood(&mut budgets, kind, 10_000), Some((limit.burst, flood_of)));
        }
        assert_eq!(flood(&mut Budgets::default(), Kind::Work, 1_000_000), None);
    }

    #[test]
    fn what_is_sent_earns_window_updates() {
        let mut budgets = Budgets::default();
        assert!(flood(&mut budgets, Kind::Window, 1_000_000).is_some());
        for _ in 0..1000 {
            budgets.sent(20);
        }
        assert_eq!(flood(&mut budgets, Kind::Window, 1_000_000), Some((625, Flood::Window)));
        budgets.sent(u64::MAX - 1000);
        budgets.refill(Duration::from_secs(1));
        let most = WINDOW.burst * 16;
        assert_eq!(flood(&mut budgets, Kind::Window, 1_000_000), Some((most, Flood::Window)));
    }
}
