//! A table in memory that this process shares with the kernel, or with its own threads.

use core::{
    mem::offset_of,
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, SeqCst},
    },
};

use super::{
    EMPTY, FlowLine, Inserted, Lines, Shape, find, insert, is_same, is_taken, phase, remove,
};
use crate::flow::{FlowEntry, FlowKey};

/// A line as words: the state, three of the key, twelve of the entry; the last two of these at once,
/// since they are one number.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Line([AtomicU32; 14], AtomicU64);

const _: () = assert!(size_of::<Line>() == size_of::<FlowLine>());
const _: () = assert!(
    offset_of!(FlowLine, entry) + offset_of!(FlowEntry, bytes) == size_of::<[AtomicU32; 14]>()
);

/// What a line holds.
#[derive(Clone, Copy)]
#[repr(C)]
struct Words([u32; 14], u64);

impl Line {
    fn load(&self) -> Words {
        Words(core::array::from_fn(|at| self.0[at].load(Acquire)), self.1.load(Acquire))
    }

    /// Writes all but the state.
    fn store(&self, Words(words, last): Words) {
        for (word, value) in self.0.iter().zip(words).skip(1) {
            word.store(value, Relaxed);
        }
        self.1.store(last, Relaxed);
    }
}

/// A table: all lines of the array.
#[derive(Clone, Copy, Debug)]
pub struct FlowTable<'a> {
    lines: &'a [Line],
    shape: Shape,
}

impl<'a> FlowTable<'a> {
    /// The table in an array whose first line has its shape.
    pub fn new(lines: &'a [Line]) -> Self {
        let shape = lines.first().map_or_else(Shape::default, |first| from_words(first.load()));
        // What the array has no lines for cannot be reached.
        let most = Shape::of(u32::try_from(lines.len()).unwrap_or(u32::MAX), [0; 4]).groups;
        Self { lines, shape: Shape { groups: shape.groups.min(most), ..shape } }
    }

    /// Makes a table of an array of zeroes, to be shared then.
    pub fn make(lines: &'a [Line], seeds: [u64; 4]) -> Self {
        let shape = Shape::of(u32::try_from(lines.len()).unwrap_or(u32::MAX), seeds);
        if let Some(first) = lines.first() {
            first.store(to_words(shape));
            first.0[0].store(shape.groups, SeqCst);
        }
        Self { lines, shape }
    }

    /// Whether it can hold anything.
    pub const fn is_ready(&self) -> bool {
        self.shape.groups != 0
    }

    /// The entry of a key.
    pub fn get(&self, key: &FlowKey) -> Option<FlowEntry> {
        if !self.is_ready() {
            return None;
        }
        let line = find(&self.lines, self.shape.places(key), key)?;
        self.read(line).filter(|(found, _)| found == key).map(|(_, entry)| entry)
    }

    /// Inserts a key that is in no line.
    pub fn insert(&self, key: &FlowKey, entry: &FlowEntry) -> Inserted {
        if !self.is_ready() {
            return Inserted::NoRoom;
        }
        insert(&self.lines, self.shape.places(key), key, entry)
    }

    /// Removes a key: whether this call did.
    pub fn remove(&self, key: &FlowKey) -> bool {
        self.is_ready() && remove(&self.lines, self.shape.places(key), key)
    }

    /// State of a line.
    pub fn state(&self, line: u32) -> u32 {
        self.lines.state(line)
    }

    /// The first line from this one on that is not empty, and its state.
    pub fn occupied(&self, from: u32) -> Option<(u32, u32)> {
        let rest = self.lines.get(from as usize..)?;
        let states = rest.iter().map(|line| line.0[0].load(Acquire));
        (from..).zip(states).find(|(_, state)| phase(*state) != EMPTY)
    }

    /// Key and entry of a line that is taken, and was while they were read.
    pub fn read(&self, line: u32) -> Option<(FlowKey, FlowEntry)> {
        let state = self.lines.state(line);
        if !is_taken(state) {
            return None;
        }
        let FlowLine { key, entry, .. } = from_words(self.lines.get(line as usize)?.load());
        is_same(self.lines.state(line), state).then_some((key, entry))
    }
}

impl Lines for &[Line] {
    fn state(&self, line: u32) -> u32 {
        self.get(line as usize).map_or(super::BUSY, |line| line.0[0].load(Acquire))
    }

    fn has(&self, line: u32, key: &FlowKey) -> bool {
        let Some(Line([_, src, dst, ports, ..], _)) = self.get(line as usize) else { return false };
        let [wanted_src, wanted_dst, wanted_ports]: [u32; 3] = key_words(key);
        src.load(Acquire) == wanted_src
            && dst.load(Acquire) == wanted_dst
            && ports.load(Acquire) == wanted_ports
    }

    fn swap(&self, line: u32, from: u32, to: u32) -> bool {
        let Some(line) = self.get(line as usize) else { return false };
        line.0[0].compare_exchange(from, to, SeqCst, SeqCst).is_ok()
    }

    fn add(&self, line: u32, by: u32) -> u32 {
        self.get(line as usize).map_or(super::BUSY, |line| line.0[0].fetch_add(by, SeqCst))
    }

    fn fill(&self, line: u32, key: &FlowKey, entry: &FlowEntry) {
        let Some(line) = self.get(line as usize) else { return };
        line.store(to_words(FlowLine { state: 0, key: *key, entry: *entry }));
    }
}

#[expect(unsafe_code, reason = "values as words")]
fn to_words<T: crate::abi::Plain>(value: T) -> Words {
    const { assert!(size_of::<T>() == size_of::<Words>()) };
    // SAFETY: of the same size; a `Plain` type has no padding, and the copy is unaligned.
    unsafe { core::mem::transmute_copy(&value) }
}

#[expect(unsafe_code, reason = "words as values")]
fn from_words<T: crate::abi::Plain>(words: Words) -> T {
    const { assert!(size_of::<T>() == size_of::<Words>()) };
    // SAFETY: of the same size, without padding; every bit pattern is a valid `Plain` value, and the
    // copy is unaligned.
    unsafe { core::mem::transmute_copy(&words) }
}

/// A key as the words that it is in memory.
#[expect(unsafe_code, reason = "a key as words")]
pub const fn key_words(key: &FlowKey) -> [u32; 3] {
    // SAFETY: of the same size, without padding.
    unsafe { core::mem::transmute(*key) }
}
