//! A table in memory that this process shares with the kernel, or with its own threads.

use core::{
    cell::UnsafeCell,
    fmt,
    mem::offset_of,
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, SeqCst},
    },
};

use super::{
    EMPTY, FlowLine, Inserted, Lined, Lines, RANDOM, Shape, find, insert, is_same, is_taken, phase,
    remove,
};
use crate::{
    abi::Plain,
    flow::{FlowEntry, FlowKey},
    net::{Be32, Be128},
};

/// A line as atomics: words of 32 bits, the state first, but for the last two, which are one number.
#[repr(transparent)]
pub struct Line<A: Lined = Be32>(UnsafeCell<FlowLine<A>>);

/// The number that is last.
const LAST: usize = size_of::<u64>();

const fn is_last<A: Lined>() -> bool {
    let offset = offset_of!(FlowLine<A>, entry) + offset_of!(FlowEntry<A>, bytes);
    offset + LAST == size_of::<FlowLine<A>>() && align_of::<FlowLine<A>>() == align_of::<u64>()
}
const _: () = assert!(is_last::<Be32>() && is_last::<Be128>());

// SAFETY: what is in it is reached by `Line::parts` and `Line::state` alone, which give atomics.
#[expect(unsafe_code, reason = "atomics")]
unsafe impl<A: Lined> Sync for Line<A> {}

impl<A: Lined> Default for Line<A> {
    fn default() -> Self {
        Self(UnsafeCell::default())
    }
}

impl<A: Lined> fmt::Debug for Line<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({:#x})", self.state().load(Relaxed))
    }
}

/// What a line holds.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Words([u32; MOST]);

/// Words of the largest line.
const MOST: usize = size_of::<FlowLine<Be128>>() / size_of::<u32>();

impl<A: Lined> Line<A> {
    /// Words of 32 bits.
    const WORDS: usize = (size_of::<FlowLine<A>>() - LAST) / size_of::<u32>();

    /// The atomics that it is.
    #[expect(unsafe_code, reason = "a value as atomics")]
    fn parts(&self) -> (&[AtomicU32], &AtomicU64) {
        let first = self.0.get();
        // SAFETY: within the line, aligned as its `u32` are, alive as long as `self`; it is reached in
        // this way only, here and by whoever shares it, and any bits are a value.
        let words = unsafe { core::slice::from_raw_parts(first.cast::<AtomicU32>(), Self::WORDS) };
        // SAFETY: as above.
        let last = unsafe { &raw mut (*first).entry.bytes };
        // SAFETY: aligned, as `is_last` says; the rest as above.
        let last = unsafe { AtomicU64::from_ptr(last) };
        (words, last)
    }

    /// The first of them: all that is asked of most lines by who looks through a table.
    #[expect(unsafe_code, reason = "a word as an atomic")]
    fn state(&self) -> &AtomicU32 {
        // SAFETY: as in `parts`.
        unsafe { &*self.0.get().cast::<AtomicU32>() }
    }

    fn load(&self) -> Words {
        let (words, last) = self.parts();
        let mut all = Words([0; MOST]);
        for (to, word) in all.0.iter_mut().zip(words) {
            *to = word.load(Acquire);
        }
        let [low, high] = halves(last.load(Acquire));
        (all.0[Self::WORDS], all.0[Self::WORDS + 1]) = (low, high);
        all
    }

    /// Writes all but the state.
    fn store(&self, all: Words) {
        let (words, last) = self.parts();
        for (word, value) in words.iter().zip(all.0).skip(1) {
            word.store(value, Relaxed);
        }
        last.store(whole([all.0[Self::WORDS], all.0[Self::WORDS + 1]]), Relaxed);
    }
}

/// A number as the two words that it is in memory.
fn halves(number: u64) -> [u32; 2] {
    let bytes = number.to_ne_bytes();
    let (words, _) = bytes.as_chunks();
    [u32::from_ne_bytes(words[0]), u32::from_ne_bytes(words[1])]
}

/// The reverse of [`halves`].
fn whole(words: [u32; 2]) -> u64 {
    let mut bytes = [0; 8];
    let (chunks, _) = bytes.as_chunks_mut();
    (chunks[0], chunks[1]) = (words[0].to_ne_bytes(), words[1].to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

/// A table: all lines of the array.
#[derive(Clone, Copy, Debug)]
pub struct FlowTable<'a, A: Lined = Be32> {
    lines: &'a [Line<A>],
    shape: Shape<A>,
}

impl<'a, A: Lined> FlowTable<'a, A> {
    /// The table in an array whose first line has its shape.
    pub fn new(lines: &'a [Line<A>]) -> Self {
        let shape = lines.first().map_or_else(Shape::default, |first| from_words(first.load()));
        // What the array has no lines for cannot be reached.
        let most =
            Shape::<A>::of(u32::try_from(lines.len()).unwrap_or(u32::MAX), [0; RANDOM]).groups;
        Self { lines, shape: Shape { groups: shape.groups.min(most), ..shape } }
    }

    /// Makes a table of an array of zeroes, to be shared then.
    pub fn make(lines: &'a [Line<A>], random: [u64; RANDOM]) -> Self {
        let shape = Shape::of(u32::try_from(lines.len()).unwrap_or(u32::MAX), random);
        if let Some(first) = lines.first() {
            first.store(to_words(shape));
            first.state().store(shape.groups, SeqCst);
        }
        Self { lines, shape }
    }

    /// Whether it can hold anything.
    pub const fn is_ready(&self) -> bool {
        self.shape.groups != 0
    }

    /// The entry of a key.
    pub fn get(&self, key: &FlowKey<A>) -> Option<FlowEntry<A>> {
        if !self.is_ready() {
            return None;
        }
        let line = find(&self.lines, self.shape.places(key), key)?;
        self.read(line).filter(|(found, _)| found == key).map(|(_, entry)| entry)
    }

    /// Inserts a key that is in no line.
    pub fn insert(&self, key: &FlowKey<A>, entry: &FlowEntry<A>) -> Inserted {
        if !self.is_ready() {
            return Inserted::NoRoom;
        }
        insert(&self.lines, self.shape.places(key), key, entry)
    }

    /// Removes a key: whether this call did.
    pub fn remove(&self, key: &FlowKey<A>) -> bool {
        self.is_ready() && remove(&self.lines, self.shape.places(key), key)
    }

    /// State of a line.
    pub fn state(&self, line: u32) -> u32 {
        self.lines.state(line)
    }

    /// The first line from this one on that is not empty, and its state.
    pub fn occupied(&self, from: u32) -> Option<(u32, u32)> {
        A::occupied(self.lines, from)
    }

    /// Key and entry of a line that is taken, and was while they were read.
    pub fn read(&self, line: u32) -> Option<(FlowKey<A>, FlowEntry<A>)> {
        let state = self.lines.state(line);
        if !is_taken(state) {
            return None;
        }
        let FlowLine::<A> { key, entry, .. } = from_words(self.lines.get(line as usize)?.load());
        is_same(self.lines.state(line), state).then_some((key, entry))
    }
}

/// [`FlowTable::occupied`].
#[inline(always)]
pub(super) fn occupied<A: Lined>(lines: &[Line<A>], from: u32) -> Option<(u32, u32)> {
    let rest = lines.get(from as usize..)?;
    let states = rest.iter().map(|line| line.state().load(Acquire));
    (from..).zip(states).find(|(_, state)| phase(*state) != EMPTY)
}

impl<A: Lined> Lines for &[Line<A>] {
    type Addr = A;

    fn state(&self, line: u32) -> u32 {
        self.get(line as usize).map_or(super::BUSY, |line| line.state().load(Acquire))
    }

    fn has(&self, line: u32, key: &FlowKey<A>) -> bool {
        let Some(line) = self.get(line as usize) else { return false };
        let (words, _) = line.parts();
        let wanted = to_words(*key).0;
        let key = words.iter().skip(1).take(size_of::<FlowKey<A>>() / size_of::<u32>());
        key.zip(wanted).all(|(word, wanted)| word.load(Acquire) == wanted)
    }

    fn swap(&self, line: u32, from: u32, to: u32) -> bool {
        let Some(line) = self.get(line as usize) else { return false };
        line.state().compare_exchange(from, to, SeqCst, SeqCst).is_ok()
    }

    fn add(&self, line: u32, by: u32) -> u32 {
        self.get(line as usize).map_or(super::BUSY, |line| line.state().fetch_add(by, SeqCst))
    }

    fn fill(&self, line: u32, key: &FlowKey<A>, entry: &FlowEntry<A>) {
        let Some(line) = self.get(line as usize) else { return };
        let rest = A::Rest::default();
        line.store(to_words(FlowLine { state: 0, key: *key, rest, entry: *entry }));
    }
}

/// A value, and zeroes after it.
#[expect(unsafe_code, reason = "values as words")]
fn to_words<T: Plain>(value: T) -> Words {
    const { assert!(size_of::<T>() <= size_of::<Words>()) };
    let mut words = Words([0; MOST]);
    // SAFETY: it fits; a `Plain` type has no padding, and words may be any bits.
    unsafe { (&raw mut words).cast::<T>().write_unaligned(value) };
    words
}

/// The reverse of [`to_words`].
#[expect(unsafe_code, reason = "words as values")]
fn from_words<T: Plain>(words: Words) -> T {
    const { assert!(size_of::<T>() <= size_of::<Words>()) };
    // SAFETY: so many bytes are there; every bit pattern is a valid `Plain` value, and the copy is
    // unaligned.
    unsafe { core::mem::transmute_copy(&words) }
}
