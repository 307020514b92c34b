//! Times as the log writes them: `2026-01-31T23:59:59.123Z`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Formats times, remembering the last second: lines come in order.
#[derive(Debug)]
pub(super) struct Clock {
    second: u64,
    text: [u8; 24],
}

impl Default for Clock {
    fn default() -> Self {
        Self { second: 0, text: *b"1970-01-01T00:00:00.000Z" }
    }
}

impl Clock {
    /// RFC 3339 with milliseconds, UTC. Times before 1970 are 1970, years beyond 9999 keep
    /// their last four digits.
    pub(super) fn format(&mut self, time: SystemTime) -> &[u8; 24] {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        if since.as_secs() != self.second {
            self.second = since.as_secs();
            self.set_second();
        }
        digits(&mut self.text[20..23], u64::from(since.subsec_millis()));
        &self.text
    }

    fn set_second(&mut self) {
        let (days, second) = (self.second / 86_400, self.second % 86_400);
        let (year, month, day) = civil(days);
        for (at, width, value) in [
            (0, 4, year),
            (5, 2, month),
            (8, 2, day),
            (11, 2, second / 3_600),
            (14, 2, second / 60 % 60),
            (17, 2, second % 60),
        ] {
            digits(&mut self.text[at..at + width], value);
        }
    }
}

fn digits(out: &mut [u8], mut value: u64) {
    for place in out.iter_mut().rev() {
        *place = b'0' + u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
    }
}

/// Days since 1970-01-01 as year, month and day of the Gregorian calendar. Eras of 400 years
/// that begin on 1 March, so that the leap day is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn format(clock: &mut Clock, millis: u64) -> String {
        let time = UNIX_EPOCH + Duration::from_millis(millis);
        String::from_utf8(clock.format(time).to_vec()).unwrap()
    }

    #[test]
    fn known_times() {
        let mut clock = Clock::default();
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_001, "2000-02-29T00:00:00.001Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (1_709_251_199_000, "2024-02-29T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(format(&mut clock, millis), text);
        }
    }

    proptest! {
        /// The date as the `httpdate` crate has it, whatever was formatted before.
        #[test]
        fn agrees_with_another(times in prop::collection::vec(0_u64..250_000_000_000_000, 1..20)) {
            let mut clock = Clock::default();
            for millis in times {
                let text = format(&mut clock, millis);
                let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(millis));
                let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
                let month = months.find(&date[8..11]).unwrap() / 3 + 1;
                let expected = format!(
                    "{}-{month:02}-{}T{}.{:03}Z", &date[12..16], &date[5..7], &date[17..25], millis % 1000
                );
                prop_assert_eq!(text, expected);
            }
        }
    }
}
