//! A hash table in an array map: one line for each direction of a flow, of IPv4 a cache line of 64
//! bytes, of IPv6 two.
//!
//! The kernel's own hash table reads a bucket, then an element, each a cache miss and a TLB miss
//! where there are many flows; here most packets touch one line. Whoever has the array in memory
//! takes part: every CPU of the packet path, and the daemon.
//!
//! # Where a key may be
//!
//! A keyed hash names a line in each of [`GROUPS`] groups of lines; the first is the key's home. The
//! key is at home, or, if another was there first, in any line of the home's group, which is in the
//! same page of memory, or, if that is almost full, of the group that has the most empty lines. The
//! home knows which lines of its group have its keys, and how many are in other groups: so a lookup
//! ends at the home unless something of it was displaced, also if the key is in no line, and else
//! looks at few lines more. With two lines an entry, in a table of nominal size that flows have
//! come to and gone from for long, half of the keys are at home and six of seven in its group, and
//! there is room for a third more at least. With fewer some keys find no room in a table that is not
//! full.
//!
//! # How it is changed without locks
//!
//! A line is empty, [`BUSY`] while its key is written, [`OFFERED`] when the key can be read, and
//! [`TAKEN`] when it counts. Of several that insert the same key at once, each offers a line, then
//! looks for the key in all others: as what is offered is seen by whoever looks later, at most one
//! finds none (both may find the other's, then neither has inserted it). What is displaced is known to
//! the home before it is offered; so whoever finds, after its own offer, that the home knows of nobody
//! else need not look further than the home. While a line is busy nobody else changes what its home
//! knows of it, also when it is removed. Only atomic operations change a line's state, and
//! each removal gives it a new version, so that nobody takes a line for what it was.
//!
//! Who stops half-way, a daemon that is killed, leaves a line busy or offered, which hinders nobody
//! but, while it is offered, who would insert its key; [`abandoned`] finds such.

use core::fmt::Debug;

use crate::{
    abi::{Plain, filled},
    flow::{FlowEntry, FlowKey},
    hash,
    net::{Address, Be32, Be128},
};

mod family;
mod state;

pub use family::{Lined, RANDOM};
pub use state::{BUSY, EMPTY, OFFERED, TAKEN, abandoned, has_displaced, is_in, is_same, is_taken};
use state::{DISPLACED_BITS, FAR, FAR_BITS, MOST_FAR, PHASE, VERSION, WITHDRAWN, near, phase};

#[cfg(not(target_arch = "bpf"))]
pub mod shared;
#[cfg(test)]
mod tests;

/// One direction of a flow with its key: what the array is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowLine<A: Lined = Be32> {
    /// Phase, displaced keys and version: see the constants of this module.
    pub state: u32,
    /// Whose it is, unless empty.
    pub key: FlowKey<A>,
    /// Zero.
    pub rest: A::Rest,
    /// The rewrite.
    pub entry: FlowEntry<A>,
}

filled!(FlowLine<Be32>, 64: state: u32, key: FlowKey, rest: [u32; 0], entry: FlowEntry);
filled!(FlowLine<Be128>, 128:
    state: u32, key: FlowKey<Be128>, rest: [u32; 4], entry: FlowEntry<Be128>);

// SAFETY: `Lined` is of the families that this is proved for, above.
#[expect(unsafe_code, reason = "proved by the asserts above")]
unsafe impl<A: Lined> Plain for FlowLine<A> {}

/// What is in the first line of the array: where the others are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Shape<A: Lined = Be32> {
    /// Groups of lines; 0 = the table is not ready.
    pub groups: u32,
    /// Zero.
    pub reserved: u32,
    /// Keys of the hash.
    pub seeds: A::Seeds,
}

filled!(Shape<Be32>, 40: groups: u32, reserved: u32, seeds: [u64; 4]);
filled!(Shape<Be128>, 88: groups: u32, reserved: u32, seeds: [u64; 10]);

// SAFETY: as of `FlowLine`.
#[expect(unsafe_code, reason = "proved by the asserts above")]
unsafe impl<A: Lined> Plain for Shape<A> {}

/// The lines of a table, in whoever's memory. What is provided is to be replaced only by a call of the
/// same function, where the stack has no room for it in line.
pub trait Lines: Sized {
    /// The family of the keys.
    type Addr: Lined;

    /// Lines of a group, a power of two.
    const WAYS: u32 = GROUP;

    /// The state of a line. What is read of it later was not read before. Of a line that there is
    /// not: [`BUSY`].
    fn state(&self, line: u32) -> u32;

    /// Whether a line's key is this one.
    fn has(&self, line: u32, key: &FlowKey<Self::Addr>) -> bool;

    /// Whether a line that is in this phase or a later one is a key's, before and after it is looked
    /// at.
    #[inline(always)]
    fn holds(&self, line: u32, phase: u32, key: &FlowKey<Self::Addr>) -> bool {
        let state = self.state(line);
        is_in(state, phase) && self.has(line, key) && is_same(self.state(line), state)
    }

    /// Changes a state that is still `from`: whether it was. A full barrier.
    fn swap(&self, line: u32, from: u32, to: u32) -> bool;

    /// Adds to a state, which wraps, and returns what it was. A full barrier.
    fn add(&self, line: u32, by: u32) -> u32;

    /// Writes a busy line's key and entry.
    fn fill(&self, line: u32, key: &FlowKey<Self::Addr>, entry: &FlowEntry<Self::Addr>);

    /// [`find`].
    #[inline(always)]
    fn find(&self, places: Places, key: &FlowKey<Self::Addr>) -> Option<u32> {
        find(self, places, key)
    }

    /// [`claim`].
    #[inline(always)]
    fn claim(&self, places: Places, _: &FlowKey<Self::Addr>) -> Option<u32> {
        claim(self, places)
    }

    /// [`empty_lines`].
    #[inline(always)]
    fn empty_lines(&self, place: u32) -> u32 {
        empty_lines(self, place)
    }

    /// [`is_elsewhere`].
    #[inline(always)]
    fn is_elsewhere(&self, places: Places, but: u32, key: &FlowKey<Self::Addr>) -> bool {
        is_elsewhere(self, places, but, key)
    }
}

/// Where a key may be: a line in each group, the first its home.
pub type Places = [u32; GROUPS];

/// Groups in which a key may be.
pub const GROUPS: usize = 3;

/// What became of an insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is in.
    Yes,
    /// The key is there already, or being inserted.
    Exists,
    /// All lines where it might be are others'.
    NoRoom,
}

impl<A: Lined> Shape<A> {
    /// Of an array of so many lines: with the last ones unused if they are no whole group.
    pub fn of(lines: u32, random: [u64; RANDOM]) -> Self {
        // The first group's place has this shape, and nothing else.
        let groups = (lines / GROUP).saturating_sub(1);
        Self { groups, reserved: 0, seeds: A::seeds(random) }
    }

    /// Where a key may be.
    ///
    /// The sum of products is a universal hash (Thorup 2015 §3), so that nobody who does not know the
    /// seeds finds many keys of one home; but it is linear, and clients in a row would make it
    /// patterns: the steps after it undo those.
    #[inline(always)]
    pub fn places(&self, key: &FlowKey<A>) -> Places {
        let (sum, odd) = A::hash_of(key, &self.seeds);
        let first = mixed(sum, odd);
        let second = mixed(first, odd);
        let lines = self.groups * GROUP;
        let line = |hash: u64| GROUP + hash::slot((hash >> 32) as u32, lines);
        [line(first), line(second), line(mixed(second, odd))]
    }
}

#[inline(always)]
const fn mixed(hash: u64, odd: u64) -> u64 {
    (hash ^ hash >> 32).wrapping_mul(odd)
}

/// Lines of a group in an array map.
pub const GROUP: u32 = 8;

/// Lines for so many entries: two an entry, so that most are at home.
pub const fn lines_for(entries: u32) -> u32 {
    (entries.saturating_mul(2).div_ceil(GROUP) + 1).saturating_mul(GROUP)
}

/// Steps of a search over all lines in which a key may be.
#[inline(always)]
const fn steps<L: Lines>() -> u32 {
    GROUPS as u32 * L::WAYS
}

/// The line of a step: of one group after the other, the nearest to the named line first. Step 0 is
/// the home.
#[inline(always)]
const fn line<L: Lines>(places: Places, step: u32) -> u32 {
    let [home, second, third] = places;
    let group = step / L::WAYS;
    let named = if group == 0 {
        home
    } else if group == 1 {
        second
    } else {
        third
    };
    named ^ (step % L::WAYS)
}

/// The line of a key.
#[inline(always)]
pub fn find<L: Lines>(lines: &L, places: Places, key: &FlowKey<L::Addr>) -> Option<u32> {
    let state = lines.state(places[0]);
    if lines.holds(places[0], TAKEN, key) {
        return Some(places[0]);
    }
    if has_displaced(state) { find_displaced(lines, places, key, state) } else { None }
}

/// The line of a key that is not at home, whose state was this.
#[inline(always)]
fn find_displaced<L: Lines>(
    lines: &L,
    places: Places,
    key: &FlowKey<L::Addr>,
    home: u32,
) -> Option<u32> {
    let mut step = 1;
    while step < L::WAYS {
        let line = places[0] ^ step;
        if home & near(step) != 0 && lines.holds(line, TAKEN, key) {
            return Some(line);
        }
        step += 1;
    }
    if home & FAR_BITS == 0 {
        return None;
    }
    while step < steps::<L>() {
        let line = line::<L>(places, step);
        if lines.holds(line, TAKEN, key) {
            return Some(line);
        }
        step += 1;
    }
    None
}

/// What a home's state has more while a key of its is in this line, another one.
#[inline(always)]
fn displaced_in<L: Lines>(home: u32, line: u32) -> u32 {
    let step = home ^ line;
    if step < L::WAYS { near(step) } else { FAR }
}

/// Has the home know of a busy line, unless it does since somebody stopped half-way.
#[inline(always)]
fn note<L: Lines>(lines: &L, home: u32, line: u32) {
    let displaced = displaced_in::<L>(home, line);
    if displaced == FAR || lines.state(home) & displaced == 0 {
        lines.add(home, displaced);
    }
}

/// Has the home forget of a busy line, which is empty then.
#[inline(always)]
fn forget<L: Lines>(lines: &L, home: u32, line: u32) {
    lines.add(home, displaced_in::<L>(home, line).wrapping_neg());
    lines.add(line, EMPTY.wrapping_sub(BUSY));
}

/// Inserts a key that is in no line.
#[inline(always)]
pub fn insert<L: Lines>(
    lines: &L,
    places: Places,
    key: &FlowKey<L::Addr>,
    entry: &FlowEntry<L::Addr>,
) -> Inserted {
    let home = places[0];
    let state = lines.state(home);
    if phase(state) == EMPTY && lines.swap(home, state, state + BUSY) {
        lines.fill(home, key, entry);
        let before = lines.add(home, OFFERED - BUSY);
        if has_displaced(before) && lines.is_elsewhere(places, home, key) {
            lines.add(home, WITHDRAWN);
            return Inserted::Exists;
        }
        lines.add(home, TAKEN - OFFERED);
        return Inserted::Yes;
    }
    displaced(lines, places, key, entry)
}

/// Inserts a key whose home is another's.
#[inline(always)]
fn displaced<L: Lines>(
    lines: &L,
    places: Places,
    key: &FlowKey<L::Addr>,
    entry: &FlowEntry<L::Addr>,
) -> Inserted {
    // Most keys that are there need not be offered to be found.
    if lines.find(places, key).is_some() {
        return Inserted::Exists;
    }
    if lines.state(places[0]) & FAR_BITS >= MOST_FAR {
        return Inserted::NoRoom;
    }
    let Some(line) = lines.claim(places, key) else { return Inserted::NoRoom };
    lines.fill(line, key, entry);
    note(lines, places[0], line);
    lines.add(line, OFFERED - BUSY);
    let is_only_one = lines.state(places[0]) & DISPLACED_BITS == displaced_in::<L>(places[0], line);
    let exists = if is_only_one {
        lines.holds(places[0], OFFERED, key)
    } else {
        lines.is_elsewhere(places, line, key)
    };
    if exists {
        lines.add(line, WITHDRAWN + BUSY);
        forget(lines, places[0], line);
        return Inserted::Exists;
    }
    lines.add(line, TAKEN - OFFERED);
    Inserted::Yes
}

/// Makes an empty line busy, not the home: of the home's group while that leaves a quarter of it
/// empty, else of the group that has the most. None also if others take all of those meanwhile.
///
/// A group that is filled to the last line would leave keys no room whose other groups are full too.
#[inline(always)]
pub fn claim<L: Lines>(lines: &L, places: Places) -> Option<u32> {
    let [home, second, third] = places;
    let (mut best, mut most) = (home, lines.empty_lines(home));
    if most <= L::WAYS / 4 {
        for place in [second, third] {
            let empty = lines.empty_lines(place);
            if empty > most {
                (best, most) = (place, empty);
            }
        }
    }
    // So that the compiler keeps no line of the search above for this one, on a small stack.
    let best = core::hint::black_box(best);
    let mut step = 0;
    while step < L::WAYS {
        let line = best ^ step;
        let state = lines.state(line);
        if phase(state) == EMPTY && line != home && lines.swap(line, state, state + BUSY) {
            return Some(line);
        }
        step += 1;
    }
    None
}

/// How many lines of a group are empty.
#[inline(always)]
pub fn empty_lines<L: Lines>(lines: &L, place: u32) -> u32 {
    let mut empty = 0;
    let mut step = 0;
    while step < L::WAYS {
        let state = lines.state(place ^ step);
        // Without a branch: the verifier would follow both of each.
        empty += !(state | state >> 1) & 1;
        step += 1;
    }
    empty
}

/// Whether another line than this one has a key, or offers it.
#[inline(always)]
pub fn is_elsewhere<L: Lines>(lines: &L, places: Places, but: u32, key: &FlowKey<L::Addr>) -> bool {
    let home = lines.state(places[0]);
    let mut step = 0;
    while step < steps::<L>() {
        let line = line::<L>(places, step);
        let may_be = if step == 0 {
            true
        } else if step < L::WAYS {
            home & near(step) != 0
        } else {
            home & FAR_BITS != 0
        };
        step += 1;
        if may_be && line != but && lines.holds(line, OFFERED, key) {
            return true;
        }
    }
    false
}

/// Removes a key: whether this call did.
#[inline(always)]
pub fn remove<L: Lines>(lines: &L, places: Places, key: &FlowKey<L::Addr>) -> bool {
    match find(lines, places, key) {
        Some(line) => empty(lines, places, line, key),
        None => false,
    }
}

/// Empties a line that a key was found in.
#[inline(always)]
fn empty<L: Lines>(lines: &L, places: Places, line: u32, key: &FlowKey<L::Addr>) -> bool {
    let mut tries = 0;
    while tries < TRIES {
        let state = lines.state(line);
        if phase(state) != TAKEN || !lines.has(line, key) {
            return false;
        }
        // Fails also if only what it knows of displaced keys has changed.
        let emptied = state.wrapping_add(VERSION) & !PHASE;
        if line == places[0] {
            if lines.swap(line, state, emptied) {
                return true;
            }
        } else if lines.swap(line, state, emptied + BUSY) {
            forget(lines, places[0], line);
            return true;
        }
        tries += 1;
    }
    false
}

/// Times that a removal is tried while others change the same line's state.
const TRIES: u32 = 8;

/// Empties such a line. What its home knows of it stays so, which costs some lookups time.
pub fn clear(lines: &impl Lines, line: u32, state: u32) -> bool {
    abandoned(state) && lines.swap(line, state, state.wrapping_add(VERSION) & !PHASE)
}
