//! Every interleaving of two or three that share a table of few lines, under the memory model of
//! C11, by loom.

extern crate std;
use std::{sync::Arc, vec::Vec};

use loom::{
    sync::atomic::{
        AtomicU32,
        Ordering::{AcqRel, Acquire, Relaxed, SeqCst},
        fence,
    },
    thread,
};

use super::super::*;
use crate::net::Be16;

/// Groups of two lines: the shape's, then two; the second is the third too.
struct Table(Vec<[AtomicU32; 2]>);

/// The part of a key that tells them apart here.
fn word(key: &FlowKey) -> u32 {
    key.src.0
}

impl Lines for Table {
    type Addr = Be32;
    const WAYS: u32 = 2;

    fn state(&self, line: u32) -> u32 {
        self.0[line as usize][0].load(Acquire)
    }

    fn has(&self, line: u32, key: &FlowKey) -> bool {
        self.0[line as usize][1].load(Acquire) == word(key)
    }

    fn swap(&self, line: u32, from: u32, to: u32) -> bool {
        fence(SeqCst);
        let swapped = self.0[line as usize][0].compare_exchange(from, to, AcqRel, Acquire).is_ok();
        fence(SeqCst);
        swapped
    }

    fn add(&self, line: u32, by: u32) -> u32 {
        // loom takes an access that is SeqCst for AcqRel; fences it knows.
        fence(SeqCst);
        let before = self.0[line as usize][0].fetch_add(by, AcqRel);
        fence(SeqCst);
        before
    }

    fn fill(&self, line: u32, key: &FlowKey, _: &FlowEntry) {
        self.0[line as usize][1].store(word(key), Relaxed);
    }
}

fn table() -> Arc<Table> {
    Arc::new(Table((0..6).map(|_| [AtomicU32::new(0), AtomicU32::new(0)]).collect()))
}

fn key(n: u32) -> FlowKey {
    FlowKey { src: Be32(n), dst: Be32(1), sport: Be16(2), dport: Be16(3) }
}

/// All keys have one home here.
const PLACES: Places = [2, 4, 4];

fn insert_one(table: &Table, n: u32) -> bool {
    insert(table, PLACES, &key(n), &FlowEntry::default()) == Inserted::Yes
}

fn taken(table: &Table, n: u32) -> usize {
    let is_its = |line: &u32| is_taken(table.state(*line)) && table.has(*line, &key(n));
    (2..6).filter(is_its).count()
}

/// The home knows of all that are displaced and of nothing else, if nobody is half-way.
fn is_tidy(table: &Table) {
    let displaced = (3..6).filter(|line| is_taken(table.state(*line)));
    let known: u32 = displaced.map(|line| displaced_in::<Table>(2, line)).sum();
    assert_eq!(table.state(2) & DISPLACED_BITS, known);
    assert!((2..6).all(|line| !abandoned(table.state(line))));
}

/// Who shares the table.
fn beside<T: Send + 'static>(
    table: &Arc<Table>,
    work: impl FnOnce(&Table) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let table = Arc::clone(table);
    thread::spawn(move || work(&table))
}

/// Keeps the number of interleavings to what can be waited for: so many times a thread is stopped
/// where it need not be.
fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

#[test]
fn one_of_two_that_insert_a_key_has_it_or_none() {
    check(3, || {
        let table = table();
        let other = beside(&table, |table| insert_one(table, 7));
        let mine = insert_one(&table, 7);
        let others = other.join().unwrap();
        assert!(!(mine && others), "both");
        assert_eq!(taken(&table, 7), usize::from(mine || others));
        is_tidy(&table);
    });
}

#[test]
fn also_if_the_home_is_taken_by_another_that_goes() {
    check(2, || {
        let table = table();
        assert!(insert_one(&table, 1));
        let remover = beside(&table, |table| assert!(remove(table, PLACES, &key(1))));
        let other = beside(&table, |table| insert_one(table, 7));
        let mine = insert_one(&table, 7);
        let others = other.join().unwrap();
        remover.join().unwrap();
        assert!(!(mine && others), "both");
        assert_eq!(taken(&table, 7), usize::from(mine || others));
        is_tidy(&table);
    });
}

#[test]
fn a_key_that_is_there_is_found_whatever_goes_on_beside_it() {
    check(3, || {
        let table = table();
        assert!(insert_one(&table, 1) && insert_one(&table, 7));
        let other = beside(&table, |table| {
            assert!(remove(table, PLACES, &key(1)));
            assert!(insert_one(table, 2));
        });
        assert!(find(&*table, PLACES, &key(7)).is_some());
        assert!(!insert_one(&table, 7));
        other.join().unwrap();
        assert_eq!(taken(&table, 7), 1);
        is_tidy(&table);
    });
}

#[test]
fn one_of_two_that_remove_a_key_has_removed_it() {
    check(3, || {
        let table = table();
        assert!(insert_one(&table, 1) && insert_one(&table, 7));
        let other = beside(&table, |table| remove(table, PLACES, &key(7)));
        let mine = remove(&*table, PLACES, &key(7));
        let others = other.join().unwrap();
        assert!(mine != others, "{mine} {others}");
        assert_eq!((taken(&table, 1), taken(&table, 7)), (1, 0));
        is_tidy(&table);
    });
}

#[test]
fn what_is_removed_and_comes_back_is_never_removed_for_what_it_was() {
    check(3, || {
        let table = table();
        assert!(insert_one(&table, 1));
        let other = beside(&table, |table| remove(table, PLACES, &key(1)));
        let mine = remove(&*table, PLACES, &key(1));
        // In the line that was key 1's.
        let inserted = insert_one(&table, 2);
        let others = other.join().unwrap();
        assert!(mine != others && inserted, "{mine} {others}");
        assert_eq!((taken(&table, 1), taken(&table, 2)), (0, 1));
        is_tidy(&table);
    });
}

#[test]
fn a_displaced_key_that_goes_and_comes_back_beside_another_is_found() {
    check(2, || {
        let table = table();
        assert!(insert_one(&table, 1) && insert_one(&table, 7));
        // Both may want the line that is free at that moment: then one has no room.
        let other = beside(&table, |table| {
            assert!(!insert_one(table, 2) || remove(table, PLACES, &key(2)));
        });
        assert!(remove(&*table, PLACES, &key(7)));
        let is_back = insert_one(&table, 7);
        assert_eq!(find(&*table, PLACES, &key(7)).is_some(), is_back);
        other.join().unwrap();
        assert_eq!((taken(&table, 7), taken(&table, 2)), (usize::from(is_back), 0));
        is_tidy(&table);
    });
}
