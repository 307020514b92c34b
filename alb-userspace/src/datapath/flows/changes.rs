//! What began and what ended between one look at the flow tables and the next. Pure: a look is
//! fed in entry by entry, so that it is never held beside the one before.

use std::collections::HashMap;

use alb_common::tcp::Direction;

use super::{
    filter::FlowFilter,
    flow::{Count, Ends, Flow, FlowState, Stage, later, old, since},
};
use crate::datapath::wide::{FlowEntry, FlowKey};

/// What happened to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is there, and was not.
    New,
    /// It is closed or reset, or was open and is not there any more.
    Ended,
}

impl Change {
    /// Lower-case word, as in JSON and tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Ended => "ended",
        }
    }
}

/// What was told of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    New,
    Ended,
}

/// What is remembered of a flow.
#[derive(Debug)]
struct Known {
    state: FlowState,
    /// Tick of its last packet.
    last: u32,
    /// When it was established, as `Stage::begun`.
    begun: Option<u32>,
    incoming: Option<Count>,
    outgoing: Option<Count>,
    /// The look that has seen it last.
    look: u32,
    /// Its forward entry was seen: one that has only the other is under construction.
    is_whole: bool,
    told: Told,
}

impl Known {
    fn flow(&self, ends: &Ends, now: u32) -> Flow {
        let Self { state, last, begun, incoming, outgoing, .. } = *self;
        let age = begun.map(|begun| old(begun, now));
        Flow { ends: *ends, state, idle: since(last, now), age, incoming, outgoing }
    }
}

/// The flows of the last look that a filter takes.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    known: HashMap<Ends, Known>,
    look: u32,
}

impl Tracker {
    /// Begins a look: [`Tracker::see`] follows for each entry, then [`Tracker::end`].
    pub(super) fn begin(&mut self) {
        self.look = self.look.wrapping_add(1);
    }

    /// Takes in an entry. The half-open table comes first: a flow that is promoted meanwhile is
    /// in the other one by then.
    pub(super) fn see(
        &mut self,
        stage: Stage,
        key: &FlowKey,
        entry: &FlowEntry,
        filter: &FlowFilter,
    ) {
        let ends = Ends::of(key, entry);
        // Not by the state: a flow ends in another than it began in.
        if !filter.takes_ends(&ends) {
            return;
        }
        let (look, reached) = (self.look, stage.state(entry));
        let fresh = || Known {
            state: reached,
            last: entry.last,
            begun: None,
            incoming: None,
            outgoing: None,
            look,
            is_whole: false,
            told: Told::Nothing,
        };
        let known = self.known.entry(ends).or_insert_with(fresh);
        if known.told == Told::Ended && !reached.is_over() {
            // Another connection between the same ends.
            *known = fresh();
        }
        known.last = later(known.last, entry.last);
        known.look = look;
        known.state = reached;
        // The entry of a closed flow does not tell what it counted; what it had before is the
        // best that is known.
        let count = stage.count(entry);
        match entry.flags.direction() {
            Direction::Forward => {
                known.is_whole = true;
                known.begun = stage.begun(entry);
                known.incoming = count.or(known.incoming);
            }
            Direction::Reverse => known.outgoing = count.or(known.outgoing),
        }
    }

    /// Ends a look: tells what is new and what ended since the last one; after the first, nothing.
    /// `now` is the packet path's clock. Returns how many flows are there.
    pub(super) fn end(
        &mut self,
        filter: &FlowFilter,
        now: u32,
        mut tell: impl FnMut(Change, Flow),
    ) -> usize {
        let look = self.look;
        let is_first = look == 1;
        self.known.retain(|ends, known| {
            let is_there = known.look == look;
            if is_there && !known.is_whole {
                return true;
            }
            let is_over = known.state.is_over() || !is_there;
            let next = if is_over { Told::Ended } else { Told::New };
            let changes: &[Change] = match (known.told, next) {
                _ if is_first => &[],
                (Told::Nothing, Told::Ended) if is_there => &[Change::New, Change::Ended],
                (Told::Nothing, Told::New) => &[Change::New],
                (Told::New, Told::Ended) => &[Change::Ended],
                (Told::Nothing | Told::New | Told::Ended, _) => &[],
            };
            known.told = next;
            if filter.takes_state(known.state) {
                for change in changes {
                    tell(*change, known.flow(ends, now));
                }
            }
            is_there
        });
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use alb_common::tcp::FlowFlags;

    use super::{super::flow::tests::entries, *};

    fn ends(client: u16) -> Ends {
        let at = |host: u8, port| SocketAddr::from(([198, 18, 0, host], port));
        Ends { client: at(100, client), vip: at(10, 80), snat: at(2, client), target: at(21, 8080) }
    }

    /// Table, flags and client port of each flow in a look.
    type Look<'a> = &'a [(Stage, u8, u16)];

    /// Change, client port and state, by client port.
    fn look(tracker: &mut Tracker, filter: &FlowFilter, flows: Look<'_>) -> Vec<String> {
        tracker.begin();
        for (stage, flags, client) in flows {
            for (key, entry) in entries(&ends(*client), *flags, 1) {
                tracker.see(*stage, &key, &entry, filter);
            }
        }
        let mut told = Vec::new();
        tracker.end(filter, 1, |change, flow| {
            let (client, state) = (flow.ends.client.port(), flow.state);
            let bytes = flow.incoming.map_or(0, |count| count.bytes);
            told.push(format!("{client} {} {state} {bytes}", change.label()));
        });
        // The order of changes of one flow is their own.
        told.sort_by_key(|line| line[..1].to_owned());
        told
    }

    const OPEN: Stage = Stage::Open;
    const OPENING: Stage = Stage::Opening;
    const CLOSED: u8 = FlowFlags::FIN_CLIENT | FlowFlags::FIN_TARGET;

    fn check(filter: &FlowFilter, looks: &[(Look<'_>, &[&str])]) {
        let mut tracker = Tracker::default();
        for (number, (flows, expected)) in looks.iter().enumerate() {
            assert_eq!(look(&mut tracker, filter, flows), *expected, "look {number}");
        }
    }

    #[test]
    fn what_was_there_is_not_new_and_each_change_is_told_once() {
        check(
            &FlowFilter::default(),
            &[
                (&[(OPEN, 0, 1), (OPEN, CLOSED, 2)], &[]),
                (&[(OPEN, 0, 1), (OPEN, CLOSED, 2), (OPENING, 0, 3)], &["3 new half-open 0"]),
                (&[(OPEN, CLOSED, 1), (OPEN, 0, 3)], &["1 ended closed 700"]),
                (&[(OPEN, CLOSED, 1), (OPEN, 0, 3)], &[]),
                (&[(OPEN, FlowFlags::RST_CLIENT, 3)], &["3 ended reset 700"]),
                (&[], &[]),
            ],
        );
    }

    #[test]
    fn what_vanishes_has_ended_in_its_last_state() {
        check(
            &FlowFilter::default(),
            &[
                (&[(OPEN, 0, 1), (OPENING, 0, 2)], &[]),
                (&[], &["1 ended established 700", "2 ended half-open 0"]),
                (&[], &[]),
            ],
        );
    }

    #[test]
    fn a_short_connection_is_told_whole_and_one_that_comes_again_is_new() {
        check(
            &FlowFilter::default(),
            &[
                (&[], &[]),
                (&[(OPEN, CLOSED, 1)], &["1 new closed 0", "1 ended closed 0"]),
                (&[(OPENING, 0, 1)], &["1 new half-open 0"]),
                (&[(OPEN, 0, 1)], &[]),
                (&[(OPEN, CLOSED, 1)], &["1 ended closed 700"]),
                // In both tables: promoted between the two.
                (&[(OPENING, 0, 1), (OPEN, 0, 1)], &["1 new established 700"]),
            ],
        );
    }

    #[test]
    fn filters_are_for_flows_and_for_the_state_at_the_change() {
        let of = |client: &str| FlowFilter {
            client: vec![client.parse().unwrap()],
            ..FlowFilter::default()
        };
        let looks: &[(Look<'_>, &[&str])] = &[
            (&[], &[]),
            (&[(OPEN, 0, 1), (OPEN, 0, 2)], &["2 new established 700"]),
            (&[(OPEN, CLOSED, 1), (OPEN, CLOSED, 2)], &["2 ended closed 700"]),
        ];
        check(&of(":2"), looks);
        let closed = FlowFilter { state: vec![FlowState::Closed], ..FlowFilter::default() };
        let looks: &[(Look<'_>, &[&str])] =
            &[(&[], &[]), (&[(OPEN, 0, 1)], &[]), (&[(OPEN, CLOSED, 1)], &["1 ended closed 700"])];
        check(&closed, looks);
    }

    #[test]
    fn a_flow_under_construction_is_not_told() {
        let (mut tracker, filter) = (Tracker::default(), FlowFilter::default());
        assert_eq!(look(&mut tracker, &filter, &[]), [""; 0]);
        let mut reverse_only = || {
            tracker.begin();
            let [_, (key, entry)] = entries(&ends(1), 0, 1);
            tracker.see(OPENING, &key, &entry, &filter);
            let mut told = 0;
            tracker.end(&filter, 1, |_, _| told += 1);
            told
        };
        assert_eq!(reverse_only(), 0);
        assert_eq!(reverse_only(), 0);
        tracker.begin();
        tracker.end(&filter, 1, |change, _| panic!("{change:?}"));
    }
}
