//! The flow tables, arrays of lines: [`alb_common::flow_table`] over the maps.
//!
//! A look at a key's home is made where it is asked for; what is rarer is a global function, of each
//! family its own: those of IPv6 are in [`super::lines6`].

use alb_common::{
    flow::{FlowEntry, FlowKey},
    flow_table::{self, FlowLine, Inserted, Lined, Lines, Places, Shape},
    net::{Be32, Be128},
};

use super::{atomic, copy, maps};

/// The error of a map that has the key already, as of the kernel's hash tables.
const EEXIST: i32 = -17;
/// The same of one that has no room.
pub(super) const E2BIG: i32 = -7;
/// The same of one that has not got the key.
const ENOENT: i32 = -2;

/// A table.
pub(super) trait Table: Lines<Addr: Calls> {
    /// What the global functions know it by.
    const NUMBER: u32;

    fn line(&self, line: u32) -> Option<*mut FlowLine<Self::Addr>>;
}

/// The global functions of a family; what is returned is a line, 0 = none, or one of [`done`].
pub(super) trait Calls: Lined {
    /// [`flow_table::find`] in one of the tables.
    fn find(key: &FlowKey<Self>, table: u32) -> u32;
    /// [`flow_table::claim`] in one of the tables.
    fn claim(key: &FlowKey<Self>, table: u32) -> u32;
    /// [`flow_table::empty_lines`] in one of the tables.
    fn empty_lines(place: u32, table: u32) -> u32;
    /// [`flow_table::is_elsewhere`] in one of the tables.
    fn is_elsewhere(key: &FlowKey<Self>, table: u32, but: u32) -> u32;
    /// [`flow_table::insert`] into one of the tables.
    fn insert(key: &FlowKey<Self>, table: u32, entry: &FlowEntry<Self>) -> u32;
    /// [`Self::find`] of the key that is being inserted.
    fn found(key: &FlowKey<Self>, table: u32) -> u32;
    /// [`flow_table::remove`] from one of the tables.
    fn remove(key: &FlowKey<Self>, table: u32) -> u32;
}

macro_rules! table {
    ($name:ident, $addr:ident, $number:literal, $map:ident) => {
        pub(super) struct $name;

        impl Table for $name {
            const NUMBER: u32 = $number;

            #[inline(always)]
            fn line(&self, line: u32) -> Option<*mut FlowLine<$addr>> {
                maps::$map.get_ptr_mut(line)
            }
        }

        impl Lines for $name {
            type Addr = $addr;

            #[inline(always)]
            fn state(&self, line: u32) -> u32 {
                self.line(line).map_or(flow_table::BUSY, state)
            }

            #[inline(always)]
            fn has(&self, line: u32, key: &FlowKey<$addr>) -> bool {
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
            fn fill(&self, line: u32, key: &FlowKey<$addr>, entry: &FlowEntry<$addr>) {
                if let Some(line) = self.line(line) {
                    fill(line, key, entry);
                }
            }

            #[inline(always)]
            fn find(&self, _: Places, key: &FlowKey<$addr>) -> Option<u32> {
                some($addr::found(opaque(key), $number))
            }

            #[inline(always)]
            fn claim(&self, _: Places, key: &FlowKey<$addr>) -> Option<u32> {
                some($addr::claim(opaque(key), $number))
            }

            #[inline(always)]
            fn empty_lines(&self, place: u32) -> u32 {
                $addr::empty_lines(place, $number)
            }

            #[inline(always)]
            fn is_elsewhere(&self, _: Places, but: u32, key: &FlowKey<$addr>) -> bool {
                $addr::is_elsewhere(opaque(key), $number, but) == done::YES
            }
        }
    };
}

table!(Open, Be32, 0, FLOWS);
table!(HalfOpen, Be32, 1, HALF_OPEN);
table!(Open6, Be128, 0, FLOWS6);
table!(HalfOpen6, Be128, 1, HALF_OPEN6);

/// The parts of a line; every line there is is an element of an array map, never unmapped while a
/// program runs.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn word<A: Lined>(line: *mut FlowLine<A>) -> *mut u32 {
    // SAFETY: within a line, which is alive as said above.
    unsafe { &raw mut (*line).state }
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn whose<A: Lined>(line: *mut FlowLine<A>) -> *mut FlowKey<A> {
    // SAFETY: as in `word`.
    unsafe { &raw mut (*line).key }
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn entry<A: Lined>(line: *mut FlowLine<A>) -> *mut FlowEntry<A> {
    // SAFETY: as in `word`.
    unsafe { &raw mut (*line).entry }
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn state<A: Lined>(line: *mut FlowLine<A>) -> u32 {
    // SAFETY: an aligned word of the map, which everybody changes atomically.
    unsafe { word(line).read_volatile() }
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn has<A: Lined>(line: *mut FlowLine<A>, key: &FlowKey<A>) -> bool {
    let (there, wanted) = (whose(line).cast::<u32>(), core::ptr::from_ref(key).cast::<u32>());
    // A sum, since of an `or` the compiler makes a comparison a word: the verifier would follow both
    // ways of each. Volatile, so that no words are kept on the small stack.
    let (mut differs, mut word) = (0, 0);
    while word < size_of::<FlowKey<A>>() / size_of::<u32>() {
        // SAFETY: a word of the key, which is aligned; a torn key is told by the state.
        let there = unsafe { there.wrapping_add(word).read_volatile() };
        // SAFETY: the same word of the other one.
        differs += (there ^ unsafe { wanted.wrapping_add(word).read_volatile() }) as u64;
        word += 1;
    }
    differs == 0
}

/// As [`has`], of a key that is not on the stack, which would have to be aligned: in words of 64 bits. No
/// sum: of these one could wrap to nothing.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn has_wide<A: Lined>(line: *mut FlowLine<A>, key: &FlowKey<A>) -> bool {
    const { assert!(size_of::<FlowKey<A>>() % size_of::<u64>() == size_of::<u32>()) };
    let (there, wanted) = (whose(line).cast::<u64>(), core::ptr::from_ref(key).cast::<u64>());
    let (mut differs, mut word) = (0, 0);
    while word < size_of::<FlowKey<A>>() / size_of::<u64>() {
        // SAFETY: within both keys, as in `has`; unaligned as in `packet`'s windows.
        let there = unsafe { there.wrapping_add(word).read_volatile() };
        // SAFETY: as above.
        differs |= there ^ unsafe { wanted.wrapping_add(word).read_volatile() };
        word += 1;
    }
    // SAFETY: as above, the last half.
    let there = unsafe { there.wrapping_add(word).cast::<u32>().read_volatile() };
    // SAFETY: as above.
    differs |= (there ^ unsafe { wanted.wrapping_add(word).cast::<u32>().read_volatile() }) as u64;
    differs == 0
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn swap<A: Lined>(line: *mut FlowLine<A>, from: u32, to: u32) -> bool {
    // SAFETY: as in `state`.
    unsafe { atomic::swap(word(line), from, to) }
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn add<A: Lined>(line: *mut FlowLine<A>, by: u32) -> u32 {
    // SAFETY: as in `state`.
    unsafe { atomic::fetch_add_word(word(line), by) }
}

#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn fill<A: Lined>(line: *mut FlowLine<A>, key: &FlowKey<A>, value: &FlowEntry<A>) {
    // SAFETY: the line is busy: only who made it so writes to it, and nobody takes what is there for
    // a key; what is copied is in no flow table.
    unsafe { copy::words(key, whose(line)) };
    // SAFETY: as above.
    unsafe { copy::words(value, entry(line)) };
}

/// Where a key may be; `None` while the table has no shape.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
pub(super) fn places<T: Table>(table: &T, key: &FlowKey<T::Addr>) -> Option<Places> {
    let first = table.line(0)?.cast::<Shape<T::Addr>>();
    // SAFETY: in the first line is a shape, written before a program ran over the table.
    let shape = unsafe { &*first };
    (shape.groups != 0).then(|| shape.places(key))
}

/// Loads the home of a key that is asked for soon, and waits for nothing: what a new flow costs is
/// mostly memory, and the CPU has several loads under way at once if none needs the other's result.
#[inline(never)]
pub(super) fn touch<T: Table>(table: &T, key: &FlowKey<T::Addr>) -> u32 {
    let home = places(table, key).and_then(|places| table.line(places[0]));
    home.map_or(0, state)
}

/// [`find_here`] as a call of its own.
#[inline(never)]
pub(super) fn find_here_apart<T: Table>(
    table: &T,
    key: &FlowKey<T::Addr>,
) -> Option<*mut FlowEntry<T::Addr>> {
    find_here(table, key)
}

/// The entry of a key, for the packets that are most: a look at its home, then [`find`].
#[inline(always)]
pub(super) fn find_here<T: Table>(
    table: &T,
    key: &FlowKey<T::Addr>,
) -> Option<*mut FlowEntry<T::Addr>> {
    let home = table.line(places(table, key)?[0])?;
    let before = state(home);
    let is_it = flow_table::is_taken(before) && has(home, key);
    if is_it && flow_table::is_same(state(home), before) {
        return Some(entry(home));
    }
    if flow_table::has_displaced(before) { find(table, key) } else { None }
}

/// An entry of a key, and the state of its line when it was that key's.
pub(super) struct Seen<A: Lined> {
    line: *mut FlowLine<A>,
    state: u32,
}

impl<A: Lined> Seen<A> {
    /// Copies the entry, if it is the same key's still: the entry.
    #[inline(always)]
    #[expect(unsafe_code, reason = "map value access")]
    pub(super) fn copy_to(&self, place: &mut FlowEntry<A>) -> Option<*mut FlowEntry<A>> {
        let entry = entry(self.line);
        // SAFETY: an element of the map, of which any bits are an entry; `place` is of another map.
        unsafe { copy::words(entry, place) };
        flow_table::is_same(state(self.line), self.state).then_some(entry)
    }
}

/// As [`find_here`], for who copies the entry. The key is not on the stack.
#[inline(always)]
pub(super) fn see<T: Table>(table: &T, key: &FlowKey<T::Addr>) -> Option<Seen<T::Addr>> {
    let home = table.line(places(table, key)?[0])?;
    let before = state(home);
    if flow_table::is_taken(before) && has_wide(home, key) {
        return Some(Seen { line: home, state: before });
    }
    if !flow_table::has_displaced(before) {
        return None;
    }
    let line = table.line(some(T::Addr::find(opaque(key), T::NUMBER))?)?;
    let state = state(line);
    (flow_table::is_taken(state) && has(line, key)).then_some(Seen { line, state })
}

/// The entry of a key.
#[inline(always)]
pub(super) fn find<T: Table>(table: &T, key: &FlowKey<T::Addr>) -> Option<*mut FlowEntry<T::Addr>> {
    match T::Addr::find(opaque(key), T::NUMBER) {
        0 => None,
        line => table.line(line).map(entry),
    }
}

/// Keeps the compiler from knowing what a callee does with a key: else it makes a copy for each call,
/// and there is no room for them on the stack.
#[inline(always)]
fn opaque<A>(key: &FlowKey<A>) -> &FlowKey<A> {
    core::hint::black_box(key)
}

/// Inserts a key that is in no line.
#[inline(always)]
pub(super) fn insert<T: Table>(
    _: &T,
    key: &FlowKey<T::Addr>,
    entry: &FlowEntry<T::Addr>,
) -> Result<(), i32> {
    match T::Addr::insert(opaque(key), T::NUMBER, entry) {
        done::YES => Ok(()),
        done::EXISTS => Err(EEXIST),
        _ => Err(E2BIG),
    }
}

/// Inserts a key, or replaces its entry by another in another line, which in a full table others may
/// be faster to take.
#[inline(always)]
pub(super) fn put<T: Table>(
    table: &T,
    key: &FlowKey<T::Addr>,
    entry: &FlowEntry<T::Addr>,
) -> Result<(), i32> {
    match insert(table, key, entry) {
        Err(EEXIST) => {
            _ = remove(table, key);
            match insert(table, key, entry) {
                // Another CPU has put its own there meanwhile, unless both have made way.
                Err(EEXIST) if find(table, key).is_some() => Ok(()),
                done => done,
            }
        }
        done => done,
    }
}

/// Removes a key, unless somebody else did.
#[inline(always)]
pub(super) fn remove<T: Table>(_: &T, key: &FlowKey<T::Addr>) -> Result<(), i32> {
    if T::Addr::remove(opaque(key), T::NUMBER) == done::YES { Ok(()) } else { Err(ENOENT) }
}

/// What the global functions return.
pub(super) mod done {
    pub(in crate::kernel) const NO: u32 = 0;
    pub(in crate::kernel) const YES: u32 = 1;
    pub(in crate::kernel) const EXISTS: u32 = 2;

    /// What became of an insertion.
    #[inline(always)]
    pub(in crate::kernel) const fn inserted(inserted: super::Inserted) -> u32 {
        match inserted {
            super::Inserted::Yes => YES,
            super::Inserted::Exists => EXISTS,
            super::Inserted::NoRoom => NO,
        }
    }
}

impl Calls for Be32 {
    #[inline(always)]
    fn find(key: &FlowKey<Self>, table: u32) -> u32 {
        alb_find(key, table)
    }

    #[inline(always)]
    fn found(key: &FlowKey<Self>, table: u32) -> u32 {
        alb_find(key, table)
    }

    #[inline(always)]
    fn claim(key: &FlowKey<Self>, table: u32) -> u32 {
        alb_claim_line(key, table)
    }

    #[inline(always)]
    fn empty_lines(place: u32, table: u32) -> u32 {
        alb_empty_lines(place, table)
    }

    #[inline(always)]
    fn is_elsewhere(key: &FlowKey<Self>, table: u32, but: u32) -> u32 {
        alb_is_elsewhere(key, table, but)
    }

    #[inline(always)]
    fn insert(key: &FlowKey<Self>, table: u32, entry: &FlowEntry<Self>) -> u32 {
        alb_insert(key, table, entry)
    }

    #[inline(always)]
    fn remove(key: &FlowKey<Self>, table: u32) -> u32 {
        alb_remove_line(key, table)
    }
}

#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own, and a pointer from its callers")]
#[unsafe(no_mangle)]
extern "C" fn alb_find(key: *const FlowKey<Be32>, table: u32) -> u32 {
    // SAFETY: null, or made of a reference that is alive for the call.
    let Some(key) = (unsafe { key.as_ref() }) else { return 0 };
    if table == Open::NUMBER { within(&Open, key) } else { within(&HalfOpen, key) }
}

#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own, and a pointer from its callers")]
#[unsafe(no_mangle)]
extern "C" fn alb_claim_line(key: *const FlowKey<Be32>, table: u32) -> u32 {
    // SAFETY: null, or made of a reference that is alive for the call.
    let Some(key) = (unsafe { key.as_ref() }) else { return 0 };
    if table == Open::NUMBER { claim(&Open, key) } else { claim(&HalfOpen, key) }
}

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
    done::inserted(inserted)
}

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
fn within<T: Table>(table: &T, key: &FlowKey<T::Addr>) -> u32 {
    places(table, key).and_then(|places| flow_table::find(table, places, key)).unwrap_or(0)
}

/// A line; 0 is none.
#[inline(always)]
const fn some(line: u32) -> Option<u32> {
    if line == 0 { None } else { Some(line) }
}

#[inline(always)]
fn claim<T: Table>(table: &T, key: &FlowKey<T::Addr>) -> u32 {
    places(table, key).and_then(|places| flow_table::claim(table, places)).unwrap_or(0)
}

#[inline(always)]
fn other<T: Table>(table: &T, key: &FlowKey<T::Addr>, but: u32) -> bool {
    let places = places(table, key);
    places.is_some_and(|places| flow_table::is_elsewhere(table, places, but, key))
}

#[inline(always)]
fn into<T: Table>(table: &T, key: &FlowKey<T::Addr>, entry: &FlowEntry<T::Addr>) -> Inserted {
    let Some(places) = places(table, key) else { return Inserted::NoRoom };
    flow_table::insert(table, places, key, entry)
}

#[inline(always)]
fn out_of<T: Table>(table: &T, key: &FlowKey<T::Addr>) -> bool {
    places(table, key).is_some_and(|places| flow_table::remove(table, places, key))
}
