//! Sizes of the maps: those we would make, and how what is pinned compares. aya takes a pin
//! without looking, so this does.

use std::path::Path;

use alb_common::{abi::map, flow_table::lines_for, limits};
use aya::maps::MapInfo;

use super::{
    kernel::{KernelError, OBJECT},
    maps::Family,
    pins::{MapSet, Pins},
};

/// How many flows tables are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// `node.flows`.
    pub four: u32,
    /// The same, or few: a node without IPv6 VIPs needs no memory for their flows.
    pub six: u32,
}

impl Room {
    /// For this `node.flows`, with IPv6 or without.
    pub(super) const fn new(flows: u32, has_ipv6: bool) -> Self {
        Self { four: flows, six: if has_ipv6 { flows } else { limits::LEAST_FLOWS } }
    }

    /// That of one family.
    pub(super) const fn of(self, family: Family) -> u32 {
        match family {
            Family::Four => self.four,
            Family::Six => self.six,
        }
    }
}

/// Whether tables for more than a few IPv6 flows are pinned: they stay, flows may be in them.
pub(super) fn has_room_for_ipv6(pins: &Pins) -> bool {
    let info = MapInfo::from_pin(pins.map(MapSet::Current, map::FLOWS6));
    info.is_ok_and(|info| info.max_entries() > lines_for(limits::LEAST_FLOWS * 2))
}

/// Sizes that follow: map name and elements.
pub(super) fn sizes(room: Room) -> [(&'static str, u32); 8] {
    let of = |flows: u32| {
        let half_open = limits::half_open_for(flows);
        let entries = limits::half_open_entries(half_open);
        (flows.saturating_mul(2), entries, half_open, limits::closed_ring_for(flows))
    };
    let ((flows, half_open, ring, closed), (flows6, half_open6, ring6, closed6)) =
        (of(room.four), of(room.six));
    [
        (map::FLOWS, lines_for(flows)),
        (map::HALF_OPEN, lines_for(half_open)),
        (map::HALF_OPEN_RING, ring),
        (map::CLOSED_RING, closed),
        (map::FLOWS6, lines_for(flows6)),
        (map::HALF_OPEN6, lines_for(half_open6)),
        (map::HALF_OPEN_RING6, ring6),
        (map::CLOSED_RING6, closed6),
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
pub(super) fn pinned_shape(pins: &Pins, set: MapSet, room: Room) -> Result<Shape, KernelError> {
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
        let entries = sizes(room)
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
    use std::collections::{BTreeMap, BTreeSet};

    use alb_common::net::{Be32, Be128};

    use super::*;

    #[test]
    fn the_object_has_every_map_in_the_contract_s_layout() {
        use alb_common::flow_table::FlowLine;
        use aya::maps::MapType;

        let maps = aya_obj_maps();
        let names: BTreeSet<&str> = maps.iter().map(|map| map.name.as_str()).collect();
        assert_eq!(names, map::ALL.into_iter().collect());
        // Of default sizes, and for a few flows of IPv6.
        let defaults: BTreeMap<&str, u32> =
            sizes(Room::new(limits::DEFAULT_FLOWS, false)).into_iter().collect();
        for (name, line) in [
            (map::FLOWS, size_of::<FlowLine<Be32>>()),
            (map::HALF_OPEN, size_of::<FlowLine<Be32>>()),
            (map::FLOWS6, size_of::<FlowLine<Be128>>()),
            (map::HALF_OPEN6, size_of::<FlowLine<Be128>>()),
        ] {
            let found = maps.iter().find(|found| found.name == name).unwrap();
            let of_found = (found.kind, found.key as usize, found.value as usize);
            let array = (MapType::Array as u32, size_of::<u32>(), line);
            assert_eq!((of_found, found.entries), (array, defaults[name]), "{name}");
        }
        for map in &maps {
            let flags = match map.name.as_str() {
                // `BPF_F_MMAPABLE` of linux/bpf.h
                map::TARGET_ACTIVE
                | map::LISTENER_ACTIVE
                | map::FLOWS
                | map::HALF_OPEN
                | map::FLOWS6
                | map::HALF_OPEN6 => 1 << 10,
                map::FILTERS | map::FILTERS6 => 1, // `BPF_F_NO_PREALLOC`
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
