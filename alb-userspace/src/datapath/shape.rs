//! Sizes of the maps: those we would make, and how what is pinned compares. aya takes a pin
//! without looking, so this does.

use std::path::Path;

use alb_common::{abi::map, limits};
use aya::maps::MapInfo;

use super::{
    kernel::{KernelError, OBJECT},
    pins::{MapSet, Pins},
};

/// Sizes that follow from `node.flows`: map name and entries.
pub(super) fn sizes(flows: u32) -> [(&'static str, u32); 4] {
    let half_open = limits::half_open_for(flows);
    [
        (map::FLOWS, flows.saturating_mul(2)),
        (map::HALF_OPEN, limits::half_open_entries(half_open)),
        (map::HALF_OPEN_RING, half_open),
        (map::CLOSED_RING, limits::closed_ring_for(flows)),
    ]
}

/// How pinned maps compare with those we would make.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// There are none.
    None,
    /// The same.
    Same,
    /// The same layout with flow tables of another size.
    Resized,
    /// Something else; a sentence that says what.
    Other(String),
}

/// Compares every map's type and sizes: aya takes a pin without looking.
pub(super) fn pinned_shape(pins: &Pins, set: MapSet, flows: u32) -> Result<Shape, KernelError> {
    let mut there = 0;
    let mut resized = false;
    let object = aya_obj_maps();
    for name in map::ALL {
        let path = pins.map(set, name);
        if !path.exists() {
            continue;
        }
        there += 1;
        let info = MapInfo::from_pin(&path).map_err(|source| KernelError::Open { name, source })?;
        let Some(expected) = object.iter().find(|expected| expected.name == name) else {
            return Ok(Shape::Other(format!("map {name} is unknown to this version")));
        };
        let kind = info.map_type().map_err(|source| KernelError::Open { name, source })?;
        let found = (kind as u32, info.key_size(), info.value_size(), info.map_flags());
        let wanted = (expected.kind, expected.key, expected.value, expected.flags);
        if found != wanted {
            return Ok(Shape::Other(format!(
                "map {name} has type, key size, value size and flags {found:?} where {wanted:?} is needed"
            )));
        }
        let entries = sizes(flows)
            .into_iter()
            .find_map(|(sized, entries)| (sized == name).then_some(entries))
            .unwrap_or(expected.entries);
        resized |= entries != info.max_entries();
    }
    Ok(match (there, resized) {
        (0, _) => Shape::None,
        (there, _) if there < map::ALL.len() => {
            Shape::Other(format!("{there} of {} maps are pinned", map::ALL.len()))
        }
        (_, false) => Shape::Same,
        (_, true) => Shape::Resized,
    })
}

/// Bytes of a key and of a value of a pinned map.
pub(super) fn element(path: &Path, name: &'static str) -> Result<(u32, u32), KernelError> {
    let info = MapInfo::from_pin(path).map_err(|source| KernelError::Open { name, source })?;
    Ok((info.key_size(), info.value_size()))
}

/// A map as the object file defines it.
struct Definition {
    name: String,
    kind: u32,
    key: u32,
    value: u32,
    flags: u32,
    entries: u32,
}

fn aya_obj_maps() -> Vec<Definition> {
    // The object is part of this program; a test parses it.
    let Ok(object) = aya_obj::Object::parse(OBJECT) else { return Vec::new() };
    object
        .maps
        .iter()
        .map(|(name, map)| Definition {
            name: name.clone(),
            kind: map.map_type(),
            key: map.key_size(),
            value: map.value_size(),
            flags: map.map_flags(),
            entries: map.max_entries(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_object_has_every_map_in_the_contract_s_layout() {
        use alb_common::flow::{FlowEntry, FlowKey};

        let maps = aya_obj_maps();
        let names: BTreeSet<&str> = maps.iter().map(|map| map.name.as_str()).collect();
        assert_eq!(names, map::ALL.into_iter().collect());
        let flows = maps.iter().find(|found| found.name == map::FLOWS).unwrap();
        assert_eq!(
            (flows.key as usize, flows.value as usize, flows.entries),
            (size_of::<FlowKey>(), size_of::<FlowEntry>(), limits::DEFAULT_FLOWS * 2)
        );
        for map in &maps {
            let flags = match map.name.as_str() {
                map::TARGET_STATES | map::LISTENER_ACTIVE => 1 << 10, // `BPF_F_MMAPABLE` of linux/bpf.h
                map::FILTERS => 1,                                    // `BPF_F_NO_PREALLOC`
                _ => 0,
            };
            assert_eq!(map.flags, flags, "{}", map.name);
        }
    }

    #[test]
    fn rings_are_powers_of_two() {
        for flows in [1_024, 1_025, 1_000_000, limits::DEFAULT_FLOWS, 16_777_216] {
            assert!(limits::half_open_for(flows).is_power_of_two());
            assert!(limits::closed_ring_for(flows).is_power_of_two());
        }
    }
}
