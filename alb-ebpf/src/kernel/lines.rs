//! The flow tables of IPv4, arrays of lines: [`alb_common::flow_table`] over the maps.
//!
//! A look at a key's home is made where it is asked for; what is rarer is a global function.

use alb_common::{
    flow::{FlowEntry, FlowKey},
    flow_table::{self, FlowLine, Inserted, Lines, Places, Shape},
    net::Be32,
};

use super::{atomic, maps};

/// The error of a map that has the key already, as of the kernel's hash tables.
const EEXIST: i32 = -17;
/// The same of one that has no room.
const E2BIG: i32 = -7;
/// The same of one that has not got the key.
const ENOENT: i32 = -2;

/// A table.
pub(super) trait Table: Lines {
    /// What the global functions know it by.
    const NUMBER: u32;

    fn line(&self, line: u32) -> Option<*mut FlowLine>;
}

macro_rules! table {
    ($name:ident, $number:literal, $map:ident) => {
        pub(super) struct $name;

        impl Table for $name {
            const NUMBER: u32 = $number;

            #[inline(always)]
            fn line(&self, line: u32) -> Option<*mut FlowLine> {
                maps::$map.get_ptr_mut(line)
            }
        }

        impl Lines for $name {
            #[inline(always)]
            fn state(&self, line: u32) -> u32 {
                self.line(line).map_or(flow_table::BUSY, state)
            }

            #[inline(always)]
            fn has(&self, line: u32, key: &FlowKey) -> bool {
                self.line(line).is_some_and(|line| has(line, key))
            }

            #[inline(always)]
            fn swap(&self, line: u32, from: u32, to: u32) -> bool {
                self.line(line).is_some_and(|line| swap(line, from, to))
            }

            #[inline(always)]
            fn add(&self, line: u32, by: u32) -> u32 {
                self.line(line).map_or(flow_table::BUSY, |line| add(line, by))
            }

            #[inline(always)]
            fn fill(&self, line: u32, key: &FlowKey, entry: &FlowEntry) {
                if let Some(line) = self.line(line) {
                    fill(line, key, entry);
                }
            }

            #[inline(always)]
            fn find(&self, _: Places, key: &FlowKey) -> Option<u32> {
                some(alb_find(opaque(key), $number))
            }

            #[inline(always)]
            fn claim(&self, _: Places, key: &FlowKey) -> Option<u32> {
                some(alb_claim_line(opaque(key), $number))
            }

            #[inline(always)]
            fn empty_lines(&self, place: u32) -> u32 {
                alb_empty_lines(place, $number)
            }

            #[inline(always)]
            fn is_elsewhere(&self, _: Places, but: u32, key: &FlowKey) -> bool {
                alb_is_elsewhere(opaque(key), $number, but) == done::YES
            }
        }
    };
}

table!(Open, 0, FLOWS);
table!(HalfOpen, 1, HALF_OPEN);

/// The parts of a line; every line there is is an element of an array map, never unmapped while a
/// program runs.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn word(line: *mut FlowLine) -> *mut u32 {
    // SAFETY: within a line, which is alive as said above.
    unsafe { &raw mut (*line).state }
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn whose(line: *mut FlowLine) -> *mut FlowKey {
    // SAFETY: as in `word`.
    unsafe { &raw mut (*line).key }
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn entry(line: *mut FlowLine) -> *mut FlowEntry {
    // SAFETY: as in `word`.
    unsafe { &raw mut (*line).entry }
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn state(line: *mut FlowLine) -> u32 {
    // SAFETY: an aligned word of the map, which everybody changes atomically.
    unsafe { word(line).read_volatile() }
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn has(line: *mut FlowLine, key: &FlowKey) -> bool {
    // SAFETY: aligned, and every bit pattern is a key; a torn one is told by the state.
    let there = unsafe { whose(line).read_volatile() };
    let addresses = there.src.0 ^ key.src.0 | there.dst.0 ^ key.dst.0;
    addresses | (there.sport.0 ^ key.sport.0) as u32 | (there.dport.0 ^ key.dport.0) as u32 == 0
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn swap(line: *mut FlowLine, from: u32, to: u32) -> bool {
    // SAFETY: as in `state`.
    unsafe { atomic::swap(word(line), from, to) }
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn add(line: *mut FlowLine, by: u32) -> u32 {
    // SAFETY: as in `state`.
    unsafe { atomic::fetch_add_word(word(line), by) }
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn fill(line: *mut FlowLine, key: &FlowKey, value: &FlowEntry) {
    // SAFETY: the line is busy: only who made it so writes to it, and nobody takes what is there for
    // a key.
    unsafe { whose(line).write(*key) };
    // An assignment would be a call of `memmove`.
    // SAFETY: as above; what is copied is not in a map.
    unsafe { core::ptr::copy_nonoverlapping(value, entry(line), 1) };
}

/// Where a key may be; `None` while the table has no shape.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn places(table: &impl Table, key: &FlowKey) -> Option<Places> {
    let first = table.line(0)?.cast::<Shape>();
    // SAFETY: the first line is a shape, written before a program ran over the table.
    let shape = unsafe { &*first };
    (shape.groups != 0).then(|| shape.places(key))
}

/// Loads the home of a key that is asked for soon, and waits for nothing: what a new flow costs is
/// mostly memory, and the CPU has several loads under way at once if none needs the other's result.
#[inline(never)]
pub(super) fn touch<T: Table>(table: &T, key: &FlowKey) -> u32 {
    let home = places(table, key).and_then(|places| table.line(places[0]));
    home.map_or(0, state)
}

/// [`find_here`] as a call of its own.
#[inline(never)]
pub(super) fn find_here_apart(key: &FlowKey) -> Option<*mut FlowEntry> {
    find_here(key)
}

/// The entry of a key, for the packets that are most: a look at its home, then [`find`].
#[inline(always)]
pub(super) fn find_here(key: &FlowKey) -> Option<*mut FlowEntry> {
    let table = &Open;
    let home = table.line(places(table, key)?[0])?;
    let before = state(home);
    let is_it = flow_table::is_taken(before) && has(home, key);
    if is_it && flow_table::is_same(state(home), before) {
        return Some(entry(home));
    }
    if flow_table::has_displaced(before) { find(table, key) } else { None }
}

/// The entry of a key.
#[inline(always)]
pub(super) fn find<T: Table>(table: &T, key: &FlowKey) -> Option<*mut FlowEntry> {
    match alb_find(opaque(key), T::NUMBER) {
        0 => None,
        line => table.line(line).map(entry),
    }
}

/// Keeps the compiler from knowing what a callee does with a key: else it makes a copy for each call,
/// and there is no room for them on the stack.
#[inline(always)]
fn opaque(key: &FlowKey) -> *const FlowKey {
    core::hint::black_box(key)
}

/// Inserts a key that is in no line.
#[inline(always)]
pub(super) fn insert<T: Table>(_: &T, key: &FlowKey, entry: &FlowEntry) -> Result<(), i32> {
    match alb_insert(opaque(key), T::NUMBER, entry) {
        done::YES => Ok(()),
        done::EXISTS => Err(EEXIST),
        _ => Err(E2BIG),
    }
}

/// Inserts a key, or replaces its entry by another in another line.
#[inline(always)]
pub(super) fn put<T: Table>(table: &T, key: &FlowKey, entry: &FlowEntry) -> Result<(), i32> {
    match insert(table, key, entry) {
        Err(EEXIST) => {
            _ = remove(table, key);
            insert(table, key, entry)
        }
        done => done,
    }
}

/// Removes a key, unless somebody else did.
#[inline(always)]
pub(super) fn remove<T: Table>(_: &T, key: &FlowKey) -> Result<(), i32> {
    if alb_remove_line(opaque(key), T::NUMBER) == done::YES { Ok(()) } else { Err(ENOENT) }
}

/// What the global functions return.
mod done {
    pub(super) const NO: u32 = 0;
    pub(super) const YES: u32 = 1;
    pub(super) const EXISTS: u32 = 2;
}

/// [`flow_table::find`] in one of the tables; 0 = nowhere: that line is the shape.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own, and a pointer from its callers")]
#[unsafe(no_mangle)]
extern "C" fn alb_find(key: *const FlowKey<Be32>, table: u32) -> u32 {
    // SAFETY: null, or made of a reference that is alive for the call.
    let Some(key) = (unsafe { key.as_ref() }) else { return 0 };
    if table == Open::NUMBER { within(&Open, key) } else { within(&HalfOpen, key) }
}

#[inline(always)]
fn within(table: &impl Table, key: &FlowKey) -> u32 {
    places(table, key).and_then(|places| flow_table::find(table, places, key)).unwrap_or(0)
}

/// A line; 0 is none.
#[inline(always)]
const fn some(line: u32) -> Option<u32> {
    if line == 0 { None } else { Some(line) }
}

/// [`flow_table::claim`] in one of the tables; 0 = none.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own, and a pointer from its callers")]
#[unsafe(no_mangle)]
extern "C" fn alb_claim_line(key: *const FlowKey<Be32>, table: u32) -> u32 {
    // SAFETY: null, or made of a reference that is alive for the call.
    let Some(key) = (unsafe { key.as_ref() }) else { return 0 };
    if table == Open::NUMBER { claim(&Open, key) } else { claim(&HalfOpen, key) }
}

#[inline(always)]
fn claim(table: &impl Table, key: &FlowKey) -> u32 {
    places(table, key).and_then(|places| flow_table::claim(table, places)).unwrap_or(0)
}

/// [`flow_table::empty_lines`] in one of the tables.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
extern "C" fn alb_empty_lines(place: u32, table: u32) -> u32 {
    if table == Open::NUMBER {
        flow_table::empty_lines(&Open, place)
    } else {
        flow_table::empty_lines(&HalfOpen, place)
    }
}

/// [`flow_table::is_elsewhere`] in one of the tables.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own, and a pointer from its callers")]
#[unsafe(no_mangle)]
extern "C" fn alb_is_elsewhere(key: *const FlowKey<Be32>, table: u32, but: u32) -> u32 {
    // SAFETY: null, or made of a reference that is alive for the call.
    let Some(key) = (unsafe { key.as_ref() }) else { return done::NO };
    let is =
        if table == Open::NUMBER { other(&Open, key, but) } else { other(&HalfOpen, key, but) };
    if is { done::YES } else { done::NO }
}

#[inline(always)]
fn other(table: &impl Table, key: &FlowKey, but: u32) -> bool {
    let places = places(table, key);
    places.is_some_and(|places| flow_table::is_elsewhere(table, places, but, key))
}

/// [`flow_table::insert`] into one of the tables.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own, and pointers from its callers")]
#[unsafe(no_mangle)]
extern "C" fn alb_insert(
    key: *const FlowKey<Be32>,
    table: u32,
    entry: *const FlowEntry<Be32>,
) -> u32 {
    // SAFETY: null, or made of a reference that is alive for the call.
    let Some(key) = (unsafe { key.as_ref() }) else { return done::NO };
    // SAFETY: as above.
    let Some(entry) = (unsafe { entry.as_ref() }) else { return done::NO };
    // On the stack: before Linux 6.2 a pointer that came as an argument cannot be passed on.
    let key = &core::hint::black_box(*key);
    let inserted =
        if table == Open::NUMBER { into(&Open, key, entry) } else { into(&HalfOpen, key, entry) };
    match inserted {
        Inserted::Yes => done::YES,
        Inserted::Exists => done::EXISTS,
        Inserted::NoRoom => done::NO,
    }
}

#[inline(always)]
fn into(table: &impl Table, key: &FlowKey, entry: &FlowEntry) -> Inserted {
    let Some(places) = places(table, key) else { return Inserted::NoRoom };
    flow_table::insert(table, places, key, entry)
}

/// [`flow_table::remove`] from one of the tables.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own, and a pointer from its callers")]
#[unsafe(no_mangle)]
extern "C" fn alb_remove_line(key: *const FlowKey<Be32>, table: u32) -> u32 {
    // SAFETY: null, or made of a reference that is alive for the call.
    let Some(key) = (unsafe { key.as_ref() }) else { return done::NO };
    let removed = if table == Open::NUMBER { out_of(&Open, key) } else { out_of(&HalfOpen, key) };
    if removed { done::YES } else { done::NO }
}

#[inline(always)]
fn out_of(table: &impl Table, key: &FlowKey) -> bool {
    places(table, key).is_some_and(|places| flow_table::remove(table, places, key))
}
