//! Which ports of our addresses answers to flows may come to: the range of the file, and older
//! ones for as long as flows live that began under them.

use alb_common::settings::Settings;

use crate::model::PortRange;

/// The ports that flows of earlier ranges may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replies(Option<PortRange>);

impl Replies {
    /// What an earlier run has left.
    pub fn adopt(settings: &Settings) -> Self {
        let last = settings.reply_count.checked_sub(1).map(|more| settings.reply_first + more);
        Self(last.map(|last| PortRange { first: settings.reply_first, last }))
    }

    /// The least range that holds `now` and what flows may use.
    pub fn with(self, now: PortRange) -> PortRange {
        let Self(Some(older)) = self else { return now };
        PortRange { first: now.first.min(older.first), last: now.last.max(older.last) }
    }

    /// Adds a port that a flow uses.
    pub fn note(&mut self, port: u16) {
        self.0 = Some(self.with(PortRange { first: port, last: port }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: PortRange = PortRange { first: 20_000, last: 20_999 };

    #[test]
    fn older_ports_count_until_no_flow_uses_them() {
        assert_eq!(Replies::adopt(&Settings::default()).with(NOW), NOW);
        let settings = Settings { reply_first: 10_000, reply_count: 100, ..Settings::default() };
        let adopted = Replies::adopt(&settings);
        assert_eq!(adopted.with(NOW), PortRange { first: 10_000, last: 20_999 });

        let mut live = Replies::default();
        live.note(20_500);
        assert_eq!(live.with(NOW), NOW);
        live.note(30_000);
        assert_eq!(live.with(NOW), PortRange { first: 20_000, last: 30_000 });
    }

    #[test]
    fn every_port_fits() {
        let settings = Settings { reply_first: 1, reply_count: 65_535, ..Settings::default() };
        let all = PortRange { first: 1, last: 65_535 };
        assert_eq!(Replies::adopt(&settings).with(NOW), all);
    }
}
