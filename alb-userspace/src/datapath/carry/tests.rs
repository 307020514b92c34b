//! What is decided about flows, without maps.

use alb_common::{
    net::{Be16, Be32, Be128},
    tcp::FlowFlags,
};

use super::*;

fn addr(n: u32) -> Be128 {
    Be128::widen(&Be32(n))
}

/// The two entries of the flow of client `n`, last heard of `age` ticks ago.
fn flow(n: u32, age: u32) -> [(FlowKey, FlowEntry); 2] {
    let key = FlowKey { src: addr(n), dst: addr(1), sport: Be16(2), dport: Be16(3) };
    let last = now().wrapping_sub(age);
    let forward = FlowEntry {
        src: addr(4),
        dst: addr(5),
        sport: Be16::new(u16::try_from(n).unwrap()),
        dport: Be16(6),
        last,
        ..FlowEntry::default()
    };
    let reverse = FlowEntry {
        src: key.dst,
        dst: key.src,
        sport: key.dport,
        dport: key.sport,
        flags: FlowFlags(FlowFlags::REVERSE),
        last,
        ..FlowEntry::default()
    };
    [(key, forward), (forward.peer_key(), reverse)]
}

#[test]
fn the_youngest_half_open_flows_queue_by_age() {
    let mut all: Vec<_> =
        [(1, 30), (2, 90), (3, 10), (4, 50)].map(|(n, age)| flow(n, age)).concat();
    all.push(flow(7, 1)[0]); // its reverse entry is gone
    let (keys, values) = all.into_iter().unzip();
    let read = Read { keys, values };
    let promoted = |key: &FlowKey| key.src == addr(3);
    let chosen = read.youngest(3, promoted);
    let queued: Vec<_> = chosen
        .keys
        .iter()
        .zip(&chosen.values)
        .filter(|(_, entry)| entry.flags.direction() == Direction::Forward)
        .map(|(key, entry)| (key.src.narrow().0, entry.route_generation))
        .collect();
    assert_eq!(queued, [(4, stamp(0)), (1, stamp(1))]);
    assert_eq!(chosen.keys.len(), 4);
}

#[test]
fn what_began_before_a_moment_also_when_ages_wrap() {
    let began = |tick| {
        let mut entry = FlowEntry::default();
        entry.begin(tick);
        entry
    };
    for (tick, moment, expected) in [
        (5, 6, true),
        (6, 6, false),
        (7, 6, false),
        (AGES - 1, AGES + 1, true),
        (AGES + 1, AGES - 1, false),
        (u32::MAX, 3, true),
        (0, AGES / 2, false),
    ] {
        assert_eq!(began_before(&began(tick), moment), expected, "{tick} {moment}");
    }
}

#[test]
fn the_later_entry_knows_more_also_when_ticks_wrap() {
    let at = |last| FlowEntry { last, ..FlowEntry::default() };
    for (old, new, expected) in [(5, 4, true), (4, 4, false), (4, 5, false), (3, u32::MAX, true)] {
        assert_eq!(supersedes(&at(old), &at(new)), expected, "{old} {new}");
    }
}
