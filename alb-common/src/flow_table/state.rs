//! What a line's state says: its phase, where keys that have it as their home are, a version.

/// Bits of a state that are the phase.
pub(super) const PHASE: u32 = 0b11;
/// Nobody's.
pub const EMPTY: u32 = 0;
/// Its key is being written.
pub const BUSY: u32 = 1;
/// Its key is there, and counts if no other line has it.
pub const OFFERED: u32 = 2;
/// Its key counts.
pub const TAKEN: u32 = 3;
/// In the state of a home: that the nearest line of its group has a key of it. The next bits are of
/// the lines after that.
pub(super) const NEAR: u32 = 1 << 2;
/// Adds a key of the home's in another group.
pub(super) const FAR: u32 = 1 << 9;
/// Bits that count those.
pub(super) const FAR_BITS: u32 = 0xff << 9;
/// With so many keys in other groups a home takes no more: far more than there are in a table whose
/// nominal size is kept, and room for all CPUs that add one at the same moment.
pub(super) const MOST_FAR: u32 = 128 << 9;
/// Bits of a state that tell of displaced keys.
pub(super) const DISPLACED_BITS: u32 = VERSION - NEAR;
/// Adds one to the version, the bits that are left; it wraps.
pub(super) const VERSION: u32 = 1 << 17;
/// Makes an offered line empty, with another version.
pub(super) const WITHDRAWN: u32 = VERSION.wrapping_sub(OFFERED);

#[inline(always)]
pub(super) const fn phase(state: u32) -> u32 {
    state & PHASE
}

/// Whether a state is of this phase, [`OFFERED`] or [`TAKEN`], or a later one.
#[inline(always)]
pub const fn is_in(state: u32, least: u32) -> bool {
    state & least == least
}

/// Whether two states of a line that was offered or taken are of the same key.
#[inline(always)]
pub const fn is_same(a: u32, b: u32) -> bool {
    a / VERSION == b / VERSION
}

/// Whether keys whose home this is are elsewhere.
#[inline(always)]
pub const fn has_displaced(state: u32) -> bool {
    state & DISPLACED_BITS != 0
}

/// The bit of a home for the line of its group that is this step away.
#[inline(always)]
pub(super) const fn near(step: u32) -> u32 {
    NEAR >> 1 << step
}

/// Whether a line in this state was left by somebody who stopped half-way, if it is in the same
/// state later than an insertion can take.
pub const fn abandoned(state: u32) -> bool {
    matches!(phase(state), BUSY | OFFERED)
}

/// Whether a line's entry counts.
#[inline(always)]
pub const fn is_taken(state: u32) -> bool {
    phase(state) == TAKEN
}
