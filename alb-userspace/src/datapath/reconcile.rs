//! Whether a target's active counter is wrong, and by how much for sure: pure.
//!
//! Flows begin and end while a sweep counts them. Every flow that is open when the sweep is over
//! was seen, or has begun meanwhile; every flow that was seen is still open, or has ended
//! meanwhile. How many began is counted apart, so how many ended follows from the counter itself.
//! So the truth lies between bounds that meet when nothing began or ended, and a counter beyond
//! them is moved to the nearer one: never past the truth, and to it as soon as a sweep
//! meets a moment without a flow that begins (for one that is too high) or ends.

/// One target around a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Observation {
    /// The counter before the sweep.
    pub(super) before: u64,
    /// The counter after it; what the sweep removed is subtracted already.
    pub(super) after: u64,
    /// Flows begun meanwhile.
    pub(super) begun: u64,
    /// Open flows that the sweep saw and did not remove.
    pub(super) seen: u64,
    /// Open flows that the sweep removed.
    pub(super) removed: u64,
}

impl Observation {
    /// What to add to the counter.
    pub(super) fn correction(&self) -> i64 {
        // Counts of flows, so far from the ends; a counter that is too low may have wrapped.
        let [before, after, begun, seen, removed] =
            [self.before, self.after, self.begun, self.seen, self.removed].map(u64::cast_signed);
        let ended = (begun - after.wrapping_sub(before) - removed).max(0);
        let too_high_by = after.wrapping_sub(seen) - begun;
        let too_low_by = seen.wrapping_sub(after) - ended;
        if too_high_by > 0 { -too_high_by } else { too_low_by.max(0) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_quiet_target_is_set_right_at_once() {
        for (counter, seen, correction) in
            [(5, 5, 0), (7, 5, -2), (3, 5, 2), (0, 2, 2), (u64::MAX, 0, 1), (4, 0, -4)]
        {
            let observation =
                Observation { before: counter, after: counter, seen, ..Observation::default() };
            assert_eq!(observation.correction(), correction, "{counter} {seen}");
        }
    }

    #[test]
    fn what_the_sweep_removed_is_no_error() {
        let observation =
            Observation { before: 10, after: 7, seen: 7, removed: 3, ..Observation::default() };
        assert_eq!(observation.correction(), 0);
        // One of the three was counted twice.
        assert_eq!(Observation { after: 6, ..observation }.correction(), 0, "one may have ended");
    }

    /// What may happen to a flow while a sweep is under way.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Begin,
        End(usize),
        /// The sweep looks at this flow.
        Visit(usize),
        /// The sweep removes this flow.
        Remove(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Begin),
            (0usize..40).prop_map(Step::End),
            (0usize..40).prop_map(Step::Visit),
            (0usize..40).prop_map(Step::Remove),
        ]
    }

    proptest! {
        #[test]
        fn never_past_the_truth(
            steps in proptest::collection::vec(step(), 0..60),
            open in 0usize..30,
            error in -5i64..5,
        ) {
            /// Open, and whether the sweep has come by.
            #[derive(Clone, Copy)]
            struct Flow { open: bool, visited: bool, seen: bool }
            let fresh = |visited| Flow { open: true, visited, seen: false };
            let mut flows = vec![fresh(false); open];
            let mut counter = i64::try_from(open).unwrap() + error;
            let mut observation =
                Observation { before: counter.cast_unsigned(), ..Observation::default() };
            for step in steps {
                match step {
                    // It may be behind the sweep or before it.
                    Step::Begin => {
                        let behind = flows.len() % 2 == 0;
                        flows.push(fresh(behind));
                        observation.begun += 1;
                        counter += 1;
                    }
                    Step::End(index) => {
                        if let Some(flow) = flows.get_mut(index).filter(|flow| flow.open) {
                            flow.open = false;
                            counter -= 1;
                        }
                    }
                    Step::Visit(index) => {
                        if let Some(flow) = flows.get_mut(index).filter(|flow| !flow.visited) {
                            flow.visited = true;
                            flow.seen = flow.open;
                            observation.seen += u64::from(flow.open);
                        }
                    }
                    Step::Remove(index) => {
                        let seen = flows.get_mut(index).filter(|flow| flow.open && flow.seen);
                        if let Some(flow) = seen {
                            flow.open = false;
                            counter -= 1;
                            observation.seen -= 1;
                            observation.removed += 1;
                        }
                    }
                }
            }
            // The rest of the sweep.
            for flow in flows.iter_mut().filter(|flow| !flow.visited) {
                observation.seen += u64::from(flow.open);
            }
            observation.after = counter.cast_unsigned();
            let truth = i64::try_from(flows.iter().filter(|flow| flow.open).count()).unwrap();
            prop_assert_eq!(counter - truth, error);
            let left = error + observation.correction();
            prop_assert!(left.abs() <= error.abs() && left * error >= 0, "{error} became {left}");
        }
    }
}
