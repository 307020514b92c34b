//! The flow tables, lines in array maps, and counters of active flows: mapped as the daemon maps them.

use std::{collections::BTreeMap, os::fd::AsFd as _};

use alb_common::{
    abi::map,
    flow::{FlowEntry, FlowKey},
    flow_table::{FlowLine, Lined, RANDOM},
    limits::MAX_TARGETS,
    net::{Be32, Be128},
};
use alb_userspace::datapath::{active::Active, maps::FlowLines};
use aya::{
    Ebpf,
    maps::{Map, MapData},
};

use super::Prog;

/// Keys of the tables' hash, so that a run is as the last one.
pub const SEEDS: [u64; RANDOM] = [
    0x1234_5678_9abc_def0,
    0x0fed_cba9_8765_4321,
    0x9e37_79b9_7f4a_7c15,
    0xff51_afd7_ed55_8ccd,
    0xc4ce_b9fe_1a85_ec53,
    0x87c3_7b91_1142_53d5,
    0x4cf5_ad43_2745_937f,
    0x52dc_e729_3849_5ab5,
    0x2545_f491_4f6c_dd1d,
    0xd6e8_feb8_6659_fd93,
];

/// The flow table in a map.
///
/// # Panics
///
/// If the map is no array of lines.
pub fn lines<A: Lined>(name: &'static str, data: &MapData) -> FlowLines<A> {
    let info = data.info().expect("the kernel knows the map");
    let sizes = [info.key_size(), info.value_size()].map(|size| size as usize);
    assert_eq!(
        sizes,
        [size_of::<u32>(), size_of::<FlowLine<A>>()],
        "{name} is no table of lines: the object is older than they are"
    );
    FlowLines::new(name, data.fd().as_fd().try_clone_to_owned().expect("a descriptor"))
}

/// The counters of active flows in [`map::TARGET_ACTIVE`].
///
/// # Panics
///
/// If it cannot be mapped.
pub fn active(data: &MapData) -> Active {
    Active::map(data.fd().as_fd(), MAX_TARGETS).expect("an array that can be mapped")
}

/// All of them of a loaded object.
#[derive(Debug)]
pub struct Tables {
    four: [FlowLines<Be32>; 2],
    six: [FlowLines<Be128>; 2],
    active: Active,
}

/// A family whose flows are in two of them.
pub trait Tabled: Lined {
    /// Their names.
    const NAMES: [&str; 2];

    /// The two.
    fn of(tables: &Tables) -> &[FlowLines<Self>; 2];
}

impl Tabled for Be32 {
    const NAMES: [&str; 2] = [map::FLOWS, map::HALF_OPEN];

    fn of(tables: &Tables) -> &[FlowLines<Self>; 2] {
        &tables.four
    }
}

impl Tabled for Be128 {
    const NAMES: [&str; 2] = [map::FLOWS6, map::HALF_OPEN6];

    fn of(tables: &Tables) -> &[FlowLines<Self>; 2] {
        &tables.six
    }
}

impl Tables {
    /// Makes them.
    pub(super) fn of(ebpf: &Ebpf) -> Self {
        Self {
            four: Be32::NAMES.map(|name| made(ebpf, name)),
            six: Be128::NAMES.map(|name| made(ebpf, name)),
            active: active(array(ebpf, map::TARGET_ACTIVE)),
        }
    }

    fn named<A: Tabled>(&self, name: &str) -> &FlowLines<A> {
        let place = A::NAMES.iter().position(|known| *known == name);
        &A::of(self)[place.unwrap_or_else(|| panic!("{name} is no flow table of this family"))]
    }
}

fn array<'a>(ebpf: &'a Ebpf, name: &str) -> &'a MapData {
    let map =
        ebpf.map(name).unwrap_or_else(|| panic!("no map {name}: the object is older than it"));
    let (Map::Array(data) | Map::HashMap(data)) = map else {
        panic!("{name} is another kind of map")
    };
    data
}

fn made<A: Lined>(ebpf: &Ebpf, name: &'static str) -> FlowLines<A> {
    let table = lines(name, array(ebpf, name));
    table.make(SEEDS).expect("an array that can be mapped");
    table
}

impl Prog {
    /// A flow table of the XDP program, to do many things with: [`map::FLOWS`] or
    /// [`map::HALF_OPEN`], or one of IPv6's.
    pub fn lines<A: Tabled>(&self, name: &str) -> &FlowLines<A> {
        self.tables.named(name)
    }

    /// Writes an entry to a flow table.
    pub fn put_flow<A: Tabled>(&mut self, name: &str, key: &FlowKey<A>, entry: &FlowEntry<A>) {
        for tables in [&self.tables].into_iter().chain(&self.twin_tables) {
            tables.named(name).set(key, entry).expect("room in the table");
        }
    }

    /// Active flows of a target.
    pub fn active(&self, target: u32) -> u64 {
        self.tables.active.get(target)
    }

    /// Says how many a target has.
    pub fn set_active(&mut self, target: u32, active: u64) {
        for tables in [&self.tables].into_iter().chain(&self.twin_tables) {
            tables.active.set(target, active);
        }
    }

    /// Everything in a flow table.
    pub fn flows<A: Tabled>(&self, name: &str) -> BTreeMap<FlowKey<A>, FlowEntry<A>> {
        flows(self.tables.named(name))
    }

    /// The same of the TC program, if it is loaded.
    pub fn twin_flows<A: Tabled>(&self, name: &str) -> Option<BTreeMap<FlowKey<A>, FlowEntry<A>>> {
        self.twin_tables.as_ref().map(|tables| flows(tables.named(name)))
    }
}

fn flows<A: Tabled>(table: &FlowLines<A>) -> BTreeMap<FlowKey<A>, FlowEntry<A>> {
    let mut flows = BTreeMap::new();
    let visit = |key: &FlowKey<A>, entry: &FlowEntry<A>| {
        assert_eq!(flows.insert(*key, *entry), None, "a key is in two lines");
    };
    table.for_each(visit).expect("a mapped table");
    flows
}
