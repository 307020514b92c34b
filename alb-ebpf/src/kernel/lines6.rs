//! The global functions of the flow tables of IPv6. There is no room on the stack for a key a call:
//! the one that is looked for is beside it, with where it may be.

use alb_common::{
    flow::{FlowEntry, FlowKey},
    flow_table::{self, Places},
    net::Be128,
};

use super::{
    copy,
    lines::{self, Calls, HalfOpen6, Open6, Table, done},
    maps,
};

/// What is looked for.
pub(super) struct Search {
    key: FlowKey<Be128>,
    places: Places,
}

/// This CPU's search.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn search() -> Option<&'static Search> {
    // SAFETY: this CPU's element; it is written by `begin`, before these functions are called, and
    // by `alb_places6`, while nobody has the reference.
    maps::PACKET6.get_ptr_mut(0).map(|place| unsafe { &(*place).search })
}

/// Begins this CPU's search: whether the table has a shape.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
fn begin(key: &FlowKey<Be128>, table: u32) -> bool {
    let Some(place) = maps::PACKET6.get_ptr_mut(0) else { return false };
    // SAFETY: this CPU's element.
    let place = unsafe { &raw mut (*place).search.key };
    // SAFETY: only this module's functions refer to it, each until it returns; no key that they are
    // asked for is in it.
    unsafe { copy::words(key, place) };
    alb_places6(table) != 0
}

/// Finds out where the key that is looked for may be; 0 = the table has no shape.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own, and map value access")]
#[unsafe(no_mangle)]
extern "C" fn alb_places6(table: u32) -> u32 {
    let Some(place) = maps::PACKET6.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's element, of which nobody has a reference while this function runs.
    let search = unsafe { &mut (*place).search };
    let places = if table == Open6::NUMBER {
        lines::places(&Open6, &search.key)
    } else {
        lines::places(&HalfOpen6, &search.key)
    };
    let Some(places) = places else { return 0 };
    search.places = places;
    1
}

impl Calls for Be128 {
    #[inline(always)]
    fn find(key: &FlowKey<Self>, table: u32) -> u32 {
        if begin(key, table) { alb_find6(table) } else { 0 }
    }

    #[inline(always)]
    fn insert(key: &FlowKey<Self>, table: u32, entry: &FlowEntry<Self>) -> u32 {
        if begin(key, table) { alb_insert6(table, entry) } else { done::NO }
    }

    #[inline(always)]
    fn remove(key: &FlowKey<Self>, table: u32) -> u32 {
        if begin(key, table) { alb_remove_line6(table) } else { done::NO }
    }

    // Of an insertion: its key is the one that is looked for.
    #[inline(always)]
    fn found(_: &FlowKey<Self>, table: u32) -> u32 {
        alb_find6(table)
    }

    #[inline(always)]
    fn claim(_: &FlowKey<Self>, table: u32) -> u32 {
        alb_claim_line6(table)
    }

    #[inline(always)]
    fn empty_lines(place: u32, table: u32) -> u32 {
        alb_empty_lines6(place, table)
    }

    #[inline(always)]
    fn is_elsewhere(_: &FlowKey<Self>, table: u32, but: u32) -> u32 {
        alb_is_elsewhere6(table, but)
    }
}

#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
extern "C" fn alb_find6(table: u32) -> u32 {
    let Some(Search { key, places }) = search() else { return 0 };
    let found = if table == Open6::NUMBER {
        flow_table::find(&Open6, *places, key)
    } else {
        flow_table::find(&HalfOpen6, *places, key)
    };
    found.unwrap_or(0)
}

#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own, and a pointer from its callers")]
#[unsafe(no_mangle)]
extern "C" fn alb_insert6(table: u32, entry: *const FlowEntry<Be128>) -> u32 {
    // SAFETY: null, or made of a reference that is alive for the call.
    let Some(entry) = (unsafe { entry.as_ref() }) else { return done::NO };
    let Some(Search { key, places }) = search() else { return done::NO };
    done::inserted(if table == Open6::NUMBER {
        flow_table::insert(&Open6, *places, key, entry)
    } else {
        flow_table::insert(&HalfOpen6, *places, key, entry)
    })
}

#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
extern "C" fn alb_remove_line6(table: u32) -> u32 {
    let Some(Search { key, places }) = search() else { return done::NO };
    let removed = if table == Open6::NUMBER {
        flow_table::remove(&Open6, *places, key)
    } else {
        flow_table::remove(&HalfOpen6, *places, key)
    };
    if removed { done::YES } else { done::NO }
}

#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
extern "C" fn alb_claim_line6(table: u32) -> u32 {
    let Some(Search { places, .. }) = search() else { return 0 };
    let claimed = if table == Open6::NUMBER {
        flow_table::claim(&Open6, *places)
    } else {
        flow_table::claim(&HalfOpen6, *places)
    };
    claimed.unwrap_or(0)
}

#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
extern "C" fn alb_empty_lines6(place: u32, table: u32) -> u32 {
    if table == Open6::NUMBER {
        flow_table::empty_lines(&Open6, place)
    } else {
        flow_table::empty_lines(&HalfOpen6, place)
    }
}

#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
extern "C" fn alb_is_elsewhere6(table: u32, but: u32) -> u32 {
    let Some(Search { key, places }) = search() else { return done::NO };
    let is = if table == Open6::NUMBER {
        flow_table::is_elsewhere(&Open6, *places, but, key)
    } else {
        flow_table::is_elsewhere(&HalfOpen6, *places, but, key)
    };
    if is { done::YES } else { done::NO }
}
