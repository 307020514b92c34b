//! The table by itself, and every interleaving of those who share one.

extern crate std;

mod model;

use std::{collections::HashMap, vec::Vec};

use proptest::prelude::*;

use super::{
    shared::{FlowTable, Line},
    *,
};
use crate::net::Be16;

const SEEDS: [u64; RANDOM] = [
    0x1234_5678_9abc_def0,
    0x0fed_cba9_8765_4321,
    0x9e37_79b9_7f4a_7c15,
    0xff51_afd7_ed55_8ccd,
    0xc4ce_b9fe_1a85_ec53,
    0x87c3_7b91_1142_53d5,
    0x4cf5_ad43_2745_937f,
    0x52dc_e729_3849_5ab5,
    0x2545_f491_4f6c_dd1d,
    0xd6e8_feb8_6659_fd93,
];

fn lines<A: Lined>(count: u32) -> Vec<Line<A>> {
    (0..count).map(|_| Line::default()).collect()
}

/// What the same test of both families needs.
trait Tested: Lined {
    fn addr(n: u32) -> Self;
}

impl Tested for Be32 {
    fn addr(n: u32) -> Self {
        Self(n)
    }
}

impl Tested for Be128 {
    /// Each bit of the number in another word.
    fn addr(n: u32) -> Self {
        let word = |at: u32| n & 0x1111_1111 << at;
        Self([word(0), word(1) ^ 0x2001_0db8, word(2), word(3)])
    }
}

/// A test of both families.
macro_rules! both {
    ($($name:ident),+ $(,)?) => {
        mod ipv4 {
            use super::*;
            $(#[test] fn $name() { super::$name::<Be32>() })+
        }
        mod ipv6 {
            use super::*;
            $(#[test] fn $name() { super::$name::<Be128>() })+
        }
    };
}

fn key<A: Tested>(n: u32) -> FlowKey<A> {
    FlowKey {
        src: A::addr(0xc612_0000 + n),
        dst: A::addr(7),
        sport: Be16(n as u16),
        dport: Be16(80),
    }
}

fn entry<A: Tested>(n: u32) -> FlowEntry<A> {
    FlowEntry { target: n, bytes: u64::from(n) << 40, ..FlowEntry::default() }
}

both!(
    its_nominal_size_fits_and_most_are_at_home,
    whatever_the_keys_and_the_seeds_its_nominal_size_fits,
    the_least_table_holds_its_nominal_size_for_long,
    after_long_use_most_are_in_their_home_s_group,
    a_full_table_says_so_and_keeps_what_it_has,
    an_array_without_a_shape_is_no_table,
    what_was_left_half_way_hinders_nobody_and_is_cleared,
    keys_without_the_seeds_spread_evenly,
    every_word_of_a_key_counts,
    what_was_left_offered_hinders_its_key_only,
    what_was_removed_half_way_hinders_nobody,
    threads_that_insert_and_remove_the_same_keys_agree,
);

fn its_nominal_size_fits_and_most_are_at_home<A: Tested>() {
    for entries in [64, 1_000, 100_000] {
        let lines = lines::<A>(lines_for(entries));
        let table = FlowTable::make(&lines, SEEDS);
        for n in 0..entries {
            assert_eq!(table.insert(&key(n), &entry(n)), Inserted::Yes, "{n} of {entries}");
        }
        let shape = Shape::<A>::of(lines_for(entries), SEEDS);
        let at_home = |n: &u32| {
            let home = shape.places(&key(*n))[0];
            table.read(home).is_some_and(|(found, _)| found == key(*n))
        };
        let home = (0..entries).filter(at_home).count();
        assert!(home * 10 > entries as usize * 7, "{home} of {entries}");
        for n in 0..entries {
            assert_eq!(table.get(&key(n)), Some(entry(n)), "{n} of {entries}");
            assert_eq!(table.insert(&key(n), &entry(0)), Inserted::Exists);
            assert_eq!(table.get(&key(n + entries)), None);
        }
        let there = (GROUP..lines_for(entries)).filter_map(|line| table.read(line)).count();
        assert_eq!(there, entries as usize);
    }
}

/// Keys as they come: clients in a row, ports in a row, both, and at random.
fn patterns<A: Tested>(n: u32) -> [FlowKey<A>; 4] {
    let of = |src: u32, sport: u16| FlowKey {
        src: A::addr(src.to_be()),
        dst: A::addr(0x0a00_12c6),
        sport: Be16::new(sport),
        dport: Be16::new(443),
    };
    let random = n.wrapping_mul(0x9e37_79b1) ^ n.rotate_left(16).wrapping_mul(0x85eb_ca6b);
    [
        of(0x0a00_0000 + n, 40_000),
        of(0x0a00_0000 + n / 60_000, (n % 60_000) as u16),
        of(0x0a00_0000 + n / 256, (1_024 + n % 256) as u16),
        of(random, (random >> 7) as u16),
    ]
}

fn whatever_the_keys_and_the_seeds_its_nominal_size_fits<A: Tested>() {
    const ENTRIES: u32 = 16_384;
    let mut seed = 1_u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed ^ seed >> 29
    };
    for _ in 0..20 {
        let seeds = core::array::from_fn(|_| next());
        for pattern in 0..4 {
            let lines = lines::<A>(lines_for(ENTRIES));
            let table = FlowTable::make(&lines, seeds);
            // A fifth more than it is made for.
            for n in 0..ENTRIES + ENTRIES / 5 {
                let key = patterns::<A>(n)[pattern];
                let inserted = table.insert(&key, &entry(n));
                assert_ne!(inserted, Inserted::NoRoom, "{n} of pattern {pattern}, {seeds:x?}");
            }
        }
    }
}

/// As [`whatever_the_keys_and_the_seeds_its_nominal_size_fits`], of the least table there is, while
/// flows come and go.
fn the_least_table_holds_its_nominal_size_for_long<A: Tested>() {
    const ENTRIES: u32 = crate::limits::LEAST_FLOWS * 2;
    for round in 0..20_u64 {
        let seeds = SEEDS.map(|seed| seed.wrapping_mul(2 * round + 1) ^ round << 40);
        for pattern in 0..4 {
            let lines = lines::<A>(lines_for(ENTRIES));
            let table = FlowTable::make(&lines, seeds);
            for n in 0..8 * ENTRIES {
                if let Some(oldest) = n.checked_sub(ENTRIES) {
                    assert!(table.remove(&patterns(oldest)[pattern]));
                }
                let inserted = table.insert(&patterns(n)[pattern], &entry(n));
                assert_eq!(inserted, Inserted::Yes, "{n} of pattern {pattern}, {round}");
            }
        }
    }
}

fn after_long_use_most_are_in_their_home_s_group<A: Tested>() {
    const ENTRIES: u32 = 8_192;
    let lines = lines::<A>(lines_for(ENTRIES));
    let table = FlowTable::make(&lines, SEEDS);
    for n in 0..6 * ENTRIES {
        assert_eq!(table.insert(&key(n), &entry(n)), Inserted::Yes, "{n}");
        if let Some(oldest) = n.checked_sub(ENTRIES) {
            assert!(table.remove(&key(oldest)));
        }
    }
    let shape = Shape::<A>::of(lines_for(ENTRIES), SEEDS);
    let is_within = |n: u32, ways: u32| {
        let home = shape.places(&key(n))[0];
        (0..ways).any(|step| table.read(home ^ step).is_some_and(|(found, _)| found == key(n)))
    };
    let count = |ways| (5 * ENTRIES..6 * ENTRIES).filter(|n| is_within(*n, ways)).count();
    let (at_home, in_group) = (count(1), count(GROUP));
    assert!(at_home * 100 > ENTRIES as usize * 48, "{at_home} of {ENTRIES}");
    assert!(in_group * 100 > ENTRIES as usize * 83, "{in_group} of {ENTRIES}");
}

fn a_full_table_says_so_and_keeps_what_it_has<A: Tested>() {
    let lines = lines::<A>(GROUP * 3);
    let table = FlowTable::make(&lines, SEEDS);
    let in_it: Vec<u32> =
        (0..100).filter(|n| table.insert(&key(*n), &entry(*n)) == Inserted::Yes).collect();
    assert_eq!(in_it.len(), 16, "two groups");
    for n in 0..100 {
        assert_eq!(table.get(&key(n)).is_some(), in_it.contains(&n));
    }
    for n in &in_it {
        assert!(table.remove(&key(*n)) && !table.remove(&key(*n)));
    }
    let displaced = (0..GROUP * 3).filter(|line| has_displaced(table.state(*line)));
    // The shape is no line.
    assert_eq!(displaced.filter(|line| *line >= GROUP).count(), 0, "nobody is counted any more");
}

fn an_array_without_a_shape_is_no_table<A: Tested>() {
    let lines = lines::<A>(64);
    let table = FlowTable::new(&lines);
    assert!(!table.is_ready() && table.get(&key(1)).is_none() && !table.remove(&key(1)));
    assert_eq!(table.insert(&key(1), &entry(1)), Inserted::NoRoom);
    assert!(FlowTable::make(&lines, SEEDS).is_ready());
    assert_eq!(FlowTable::new(&lines).insert(&key(1), &entry(1)), Inserted::Yes);
    assert_eq!(table.get(&key(1)), None, "whoever looked before it was one");
}

fn what_was_left_half_way_hinders_nobody_and_is_cleared<A: Tested>() {
    let lines = lines::<A>(lines_for(64));
    let table = FlowTable::make(&lines, SEEDS);
    let places = Shape::<A>::of(lines_for(64), SEEDS).places(&key(1));
    let lines = &&lines[..];
    assert!(lines.swap(places[0], EMPTY, BUSY));
    assert_eq!(table.insert(&key(1), &entry(1)), Inserted::Yes);
    assert_eq!(table.get(&key(1)), Some(entry(1)));
    let state = lines.state(places[0]);
    assert!(abandoned(state) && clear(lines, places[0], state));
    assert!(!clear(lines, places[0], state), "once");
    assert_eq!(table.get(&key(1)), Some(entry(1)));
    assert!(table.remove(&key(1)));
    assert!((GROUP..lines_for(64)).all(|line| table.state(line) & (PHASE | DISPLACED_BITS) == 0));
}

fn keys_without_the_seeds_spread_evenly<A: Tested>() {
    // What an attacker can choose: addresses in a row, and ports.
    for (step, ports) in [(1, false), (1 << 8, false), (0, true), (1, true)] {
        let shape = Shape::<A>::of(GROUP * 129, SEEDS);
        let mut homes: HashMap<u32, u32> = HashMap::new();
        for n in 0..1_024_u32 {
            let sport = Be16(if ports { n as u16 } else { 9 });
            let src = A::addr(7_u32.wrapping_add(n.wrapping_mul(step)));
            let key = FlowKey { src, dst: A::addr(1), sport, dport: Be16(443) };
            *homes.entry(shape.places(&key)[0]).or_default() += 1;
        }
        let most = homes.values().max().copied();
        assert!(most <= Some(10), "{step} {ports}: {most:?}");
    }
}

/// Keys that differ from each other in one word.
fn neighbours<A: Tested>() -> Vec<FlowKey<A>> {
    let key = key::<A>(9);
    let mut all = std::vec![key];
    for bit in 0..32 {
        all.push(FlowKey { src: A::addr(0xc612_0009 ^ 1 << bit), ..key });
        all.push(FlowKey { dst: A::addr(7 ^ 1 << bit), ..key });
    }
    for bit in 0..16 {
        all.push(FlowKey { sport: Be16(key.sport.0 ^ 1 << bit), ..key });
        all.push(FlowKey { dport: Be16(key.dport.0 ^ 1 << bit), ..key });
    }
    all
}

fn every_word_of_a_key_counts<A: Tested>() {
    let keys = neighbours::<A>();
    let shape = Shape::<A>::of(1 << 20, SEEDS);
    for other in &keys[1..] {
        assert_ne!(shape.places(other), shape.places(&keys[0]), "{other:?}");
        // Wherever the others' lines are, some share one's home or group.
        let lines = lines::<A>(GROUP * 2);
        let table = FlowTable::make(&lines, SEEDS);
        for (n, key) in (1..).zip([&keys[0], other]) {
            assert_eq!(table.insert(key, &entry(n)), Inserted::Yes, "{key:?}");
        }
        for (n, key) in (1..).zip([&keys[0], other]) {
            assert_eq!(table.get(key), Some(entry(n)), "{key:?}");
        }
        assert!(table.remove(&keys[0]) && table.get(other).is_some());
        assert_eq!(table.get(&keys[0]), None, "{other:?}");
    }
}

fn what_was_left_offered_hinders_its_key_only<A: Tested>() {
    let lines = lines::<A>(lines_for(64));
    let table = FlowTable::make(&lines, SEEDS);
    let places = Shape::<A>::of(lines_for(64), SEEDS).places(&key(1));
    let (line, lines) = (places[0] ^ 1, &&lines[..]);
    assert_eq!(table.insert(&key(2), &entry(2)), Inserted::Yes);
    assert!(lines.swap(line, EMPTY, BUSY));
    lines.fill(line, &key(1), &entry(1));
    lines.add(places[0], near(1));
    lines.add(line, OFFERED - BUSY);
    assert_eq!(table.get(&key(1)), None, "it does not count");
    assert_eq!(table.insert(&key(1), &entry(3)), Inserted::Exists, "nobody else has it");
    assert_eq!(table.insert(&key(3), &entry(3)), Inserted::Yes);
    assert!(clear(lines, line, lines.state(line)));
    assert_eq!(table.insert(&key(1), &entry(3)), Inserted::Yes);
    assert_eq!(table.get(&key(1)), Some(entry(3)));
    assert_eq!(table.get(&key(2)), Some(entry(2)));
}

fn what_was_removed_half_way_hinders_nobody<A: Tested>() {
    let lines = lines::<A>(lines_for(64));
    let table = FlowTable::make(&lines, SEEDS);
    let places = Shape::<A>::of(lines_for(64), SEEDS).places(&key(1));
    let (line, lines) = (places[0] ^ 1, &&lines[..]);
    assert!(lines.swap(places[0], EMPTY, BUSY));
    assert_eq!(table.insert(&key(1), &entry(1)), Inserted::Yes);
    assert!(lines.swap(line, TAKEN, VERSION + BUSY));
    assert_eq!(table.get(&key(1)), None);
    for line in [places[0], line] {
        assert!(clear(lines, line, lines.state(line)));
    }
    // Its home knows of that line still.
    assert!(lines.swap(places[0], VERSION + near(1), VERSION + near(1) + BUSY));
    for _ in 0..2 {
        assert_eq!(table.insert(&key(1), &entry(2)), Inserted::Yes);
        assert_eq!(table.get(&key(1)), Some(entry(2)));
        assert!(table.remove(&key(1)));
        assert!(!has_displaced(lines.state(places[0])));
    }
}

fn it_is_a_map<A: Tested>(steps: &[(u8, usize)]) -> Result<(), TestCaseError> {
    let keys = neighbours::<A>();
    // So small that homes collide, keys are displaced, and sometimes there is no room.
    let lines = lines::<A>(GROUP * 4);
    let table = FlowTable::make(&lines, SEEDS);
    let mut model = HashMap::new();
    for &(what, n) in steps {
        let (key, entry) = (&keys[n], entry(n as u32));
        match what {
            0 => match table.insert(key, &entry) {
                Inserted::Yes => prop_assert!(model.insert(n, entry).is_none()),
                Inserted::Exists => prop_assert!(model.contains_key(&n)),
                Inserted::NoRoom => prop_assert!(!model.contains_key(&n) && model.len() >= 8),
            },
            1 => prop_assert_eq!(table.remove(key), model.remove(&n).is_some()),
            _ => prop_assert_eq!(table.get(key), model.get(&n).copied()),
        }
    }
    for (n, key) in keys.iter().enumerate() {
        prop_assert_eq!(table.get(key), model.get(&n).copied());
    }
    Ok(())
}

proptest! {
    #[test]
    fn it_is_a_map_of_either_family(
        steps in prop::collection::vec((0_u8..3, 0_usize..40), 1..400),
    ) {
        it_is_a_map::<Be32>(&steps)?;
        it_is_a_map::<Be128>(&steps)?;
    }
}

fn threads_that_insert_and_remove_the_same_keys_agree<A: Tested>() {
    use std::sync::atomic::{AtomicU32, Ordering};

    const KEYS: u32 = 24;
    let lines = lines::<A>(GROUP * 5);
    FlowTable::make(&lines, SEEDS);
    let owners: Vec<AtomicU32> = (0..KEYS).map(|_| AtomicU32::new(0)).collect();
    std::thread::scope(|scope| {
        for thread in 1..=3_u32 {
            let (lines, owners) = (&lines, &owners);
            scope.spawn(move || {
                let table = FlowTable::new(lines);
                let mut random = thread;
                for _ in 0..50_000 {
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let n = random >> 16 & 31;
                    if n >= KEYS || table.insert(&key(n), &entry(n)) != Inserted::Yes {
                        continue;
                    }
                    // Whoever has inserted a key is the only one, until it removes it.
                    let before = owners[n as usize].swap(thread, Ordering::SeqCst);
                    assert_eq!(before, 0, "key {n} of {thread}");
                    assert_eq!(table.get(&key(n)), Some(entry(n)));
                    owners[n as usize].store(0, Ordering::SeqCst);
                    assert!(table.remove(&key(n)), "key {n} of {thread}");
                }
            });
        }
    });
    let table = FlowTable::new(&lines);
    assert!((GROUP..GROUP * 5).all(|line| table.state(line) & (PHASE | DISPLACED_BITS) == 0));
}
