//! The rise and fall machine: pure.

use crate::state::Health;

/// Turns the results of one check into a verdict. The first result decides at once, so that a
/// start is quick; from then on it takes `rise` or `fall` equal results in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    verdict: Option<bool>,
    /// Results in a row that contradict the verdict.
    against: u8,
    rise: u8,
    fall: u8,
}

impl Machine {
    /// Starts from what is known of the target.
    pub(super) fn new(known: Health, rise: u8, fall: u8) -> Self {
        let verdict = match known {
            Health::Initial | Health::Unchecked => None,
            Health::Healthy => Some(true),
            Health::Unhealthy => Some(false),
        };
        Self { verdict, against: 0, rise, fall }
    }

    pub(super) fn health(self) -> Health {
        match self.verdict {
            None => Health::Initial,
            Some(true) => Health::Healthy,
            Some(false) => Health::Unhealthy,
        }
    }

    /// Unhealthy without a result: what happened weighs more than a probe.
    pub(super) fn condemn(&mut self) {
        (self.verdict, self.against) = (Some(false), 0);
    }

    /// Takes in one result; true if the verdict changed.
    pub(super) fn observe(&mut self, passed: bool) -> bool {
        let needed = match self.verdict {
            None => 1,
            Some(true) => self.fall,
            Some(false) => self.rise,
        };
        if self.verdict == Some(passed) {
            self.against = 0;
            return false;
        }
        self.against = self.against.saturating_add(1);
        if self.against < needed {
            return false;
        }
        (self.verdict, self.against) = (Some(passed), 0);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Machine;
    use crate::state::Health;

    /// `+` and `-` are results; the verdicts after each as `i`nitial, `h`ealthy, `u`nhealthy.
    #[track_caller]
    fn check(known: Health, rise: u8, fall: u8, results: &str, verdicts: &str) {
        let mut machine = Machine::new(known, rise, fall);
        let seen: String = results
            .chars()
            .map(|result| {
                machine.observe(result == '+');
                machine.health().as_str().chars().next().unwrap()
            })
            .collect();
        assert_eq!(seen, verdicts, "after {results}");
    }

    #[test]
    fn the_first_result_decides_at_once() {
        check(Health::Initial, 5, 5, "+", "h");
        check(Health::Initial, 5, 5, "-", "u");
    }

    #[test]
    fn afterwards_it_takes_as_many_in_a_row() {
        check(Health::Initial, 2, 3, "+---++", "hhhuuh");
        check(Health::Healthy, 3, 3, "--+--+---", "hhhhhhhhu");
        check(Health::Unhealthy, 3, 3, "++-++-+++", "uuuuuuuuh");
        check(Health::Healthy, 1, 1, "-+-+", "uhuh");
    }

    proptest! {
        /// The verdict is always that of the latest run of results as long as its threshold.
        #[test]
        fn agrees_with_the_definition(
            results in prop::collection::vec(any::<bool>(), 1..60),
            rise in 1_u8..=5,
            fall in 1_u8..=5,
        ) {
            let mut machine = Machine::new(Health::Initial, rise, fall);
            let mut expected = results[0];
            for end in 1..=results.len() {
                let changed = machine.observe(results[end - 1]);
                let last = results[end - 1];
                let run = results[..end].iter().rev().take_while(|r| **r == last).count();
                let before = expected;
                if run >= usize::from(if last { rise } else { fall }) {
                    expected = last;
                }
                prop_assert_eq!(machine.health() == Health::Healthy, expected);
                prop_assert_eq!(changed, end == 1 || before != expected);
            }
        }
    }
}
