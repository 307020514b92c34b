//! A kernel that is played: what it may answer, in any order.

use proptest::prelude::*;

use super::*;

/// `from` to `end` of the bytes of its way.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    from: u32,
    end: u32,
}

impl Piece for Part {
    fn len(&self) -> u32 {
        self.end - self.from
    }

    fn consume(&mut self, count: u32) {
        self.from += count;
    }
}

#[test]
fn a_message_is_sent_and_its_buffer_returned() {
    let mut ops = Vec::new();
    let mut exchange = Exchange::begin(&mut ops);
    assert_eq!(ops, [Op::Read(Way::Up), Op::Read(Way::Down)]);
    ops.clear();
    exchange.came(Way::Up, Came::Bytes(Part { from: 0, end: 9 }), true, &mut ops);
    assert_eq!(ops, [Op::Send(Way::Up)]);
    ops.clear();
    exchange.came(Way::Up, Came::Bytes(Part { from: 9, end: 12 }), true, &mut ops);
    assert_eq!(ops, [], "one after the other");
    exchange.sent(Way::Up, 9, &mut ops);
    assert_eq!(ops, [Op::Return(Part { from: 0, end: 9 }), Op::Send(Way::Up)]);
    assert_eq!(exchange.take_counts(Way::Up), (12, 9));
    assert!(!exchange.is_leaving());
}

#[test]
fn a_receiver_that_is_slow_ends_it_with_nothing_lost() {
    let mut ops = Vec::new();
    let mut exchange = Exchange::begin(&mut ops);
    exchange.came(Way::Down, Came::Bytes(Part { from: 0, end: 9 }), true, &mut ops);
    ops.clear();
    exchange.sent(Way::Down, 4, &mut ops);
    assert_eq!(ops, [Op::Cancel(Way::Up), Op::Cancel(Way::Down)]);
    exchange.came(Way::Down, Came::Bytes(Part { from: 9, end: 11 }), true, &mut ops);
    for way in Way::BOTH {
        assert!(!exchange.is_over());
        exchange.cancelled(way);
        exchange.came(way, Came::Nothing, false, &mut ops);
    }
    assert!(exchange.is_over());
    assert_eq!(ops.len(), 2, "nothing was begun");
    assert_eq!(
        exchange.take_unsent(Way::Down),
        [Part { from: 4, end: 9 }, Part { from: 9, end: 11 }]
    );
}

#[test]
fn no_buffer_means_to_ask_again_and_a_reset_is_told() {
    let mut ops = Vec::new();
    let mut exchange = Exchange::<Part>::begin(&mut ops);
    ops.clear();
    exchange.came(Way::Up, Came::Nothing, false, &mut ops);
    assert_eq!(ops, [Op::Read(Way::Up)]);
    ops.clear();
    exchange.came(Way::Up, Came::Failed, false, &mut ops);
    assert_eq!(ops, [Op::Cancel(Way::Down)]);
    assert!(exchange.has_failed(Way::Up) && !exchange.has_failed(Way::Down));
}

proptest! {
    /// Whatever the kernel does: bytes keep their order, every buffer is returned or left over,
    /// what is under way is under way once, and it ends.
    #[test]
    fn nothing_is_lost_or_done_twice(steps in prop::collection::vec((any::<u8>(), 1_u32..6000), 0..200)) {
        let mut ops = Vec::new();
        let mut exchange = Exchange::begin(&mut ops);
        let (mut reads, mut cancels, mut sends) = ([false; 2], [false; 2], [false; 2]);
        let (mut came, mut gone, mut returned) = ([0_u32; 2], [0_u32; 2], 0);
        let mut pieces = 0;
        let mut steps = steps.into_iter();
        for turn in 0.. {
            for op in ops.drain(..) {
                match op {
                    Op::Read(way) => prop_assert!(!std::mem::replace(&mut reads[way as usize], true)),
                    Op::Cancel(way) => prop_assert!(!std::mem::replace(&mut cancels[way as usize], true)),
                    Op::Send(way) => prop_assert!(!std::mem::replace(&mut sends[way as usize], true)),
                    Op::Return(_) => returned += 1,
                }
            }
            // When there are no steps left, it is left and what is under way ends.
            let (kind, size) = steps.next().unwrap_or_else(|| {
                exchange.leave(&mut ops);
                (if turn % 3 == 0 { 12 } else { 20 + u8::try_from(turn % 4).unwrap() }, 1)
            });
            for op in ops.drain(..) {
                if let Op::Cancel(way) = op {
                    prop_assert!(!std::mem::replace(&mut cancels[way as usize], true));
                }
            }
            let way = Way::BOTH[usize::from(kind & 1)];
            let at = way as usize;
            match kind {
                0..=9 if reads[at] => {
                    let part = Part { from: came[at], end: came[at] + size.min(LARGE) };
                    came[at] = part.end;
                    pieces += 1;
                    reads[at] = kind < 8;
                    exchange.came(way, Came::Bytes(part), reads[at], &mut ops);
                }
                10 | 11 if reads[at] => {
                    reads[at] = false;
                    exchange.came(way, Came::Nothing, false, &mut ops);
                }
                12 | 13 => for way in Way::BOTH {
                    let at = way as usize;
                    if sends[at] {
                        sends[at] = false;
                        let part = exchange.sending(way).expect("what is sent").clone();
                        let count = if kind == 12 { part.len() } else { size.min(part.len()) };
                        prop_assert_eq!(part.from, gone[at], "in order");
                        gone[at] += count;
                        exchange.sent(way, count, &mut ops);
                    }
                },
                14 if reads[at] => {
                    reads[at] = false;
                    exchange.came(way, Came::End, false, &mut ops);
                }
                20..=23 if cancels[at] => {
                    cancels[at] = false;
                    if std::mem::take(&mut reads[at]) {
                        exchange.came(way, Came::Nothing, false, &mut ops);
                    }
                    exchange.cancelled(way);
                }
                _ => {}
            }
            if exchange.is_over() && !sends[0] && !sends[1] {
                break;
            }
            prop_assert!(turn < 1000, "it does not end");
        }
        let mut left = 0;
        for way in Way::BOTH {
            let mut next = gone[way as usize];
            for part in exchange.take_unsent(way) {
                prop_assert_eq!(part.from, next, "in order");
                next = part.end;
                left += 1;
            }
            prop_assert_eq!(next, came[way as usize], "all of it");
        }
        returned += ops.iter().filter(|op| matches!(op, Op::Return(_))).count();
        prop_assert_eq!(left + returned, pieces);
    }
}
