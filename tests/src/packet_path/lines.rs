//! The flow tables of IPv4: lines in array maps, mapped as the daemon maps them.

use std::{collections::BTreeMap, os::fd::AsFd as _};

use alb_common::{
    abi::map,
    flow::{FlowEntry, FlowKey},
    flow_table::FlowLine,
};
use alb_userspace::datapath::maps::FlowLines;
use aya::{
    Ebpf,
    maps::{Map, MapData},
};

use super::Prog;

/// Keys of the tables' hash, so that a run is as the last one.
const SEEDS: [u64; 4] =
    [0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321, 0x9e37_79b9_7f4a_7c15, 0xff51_afd7_ed55_8ccd];

/// The flow table in a map.
///
/// # Panics
///
/// If the map is no array of lines.
pub fn lines(name: &'static str, data: &MapData) -> FlowLines {
    let info = data.info().expect("the kernel knows the map");
    let sizes = [info.key_size(), info.value_size()].map(|size| size as usize);
    assert_eq!(
        sizes,
        [size_of::<u32>(), size_of::<FlowLine>()],
        "{name} is no table of lines: the object is older than they are"
    );
    FlowLines::new(name, data.fd().as_fd().try_clone_to_owned().expect("a descriptor"))
}

/// Both tables of a loaded object.
#[derive(Debug)]
pub(super) struct Tables([FlowLines; 2]);

const NAMES: [&str; 2] = [map::FLOWS, map::HALF_OPEN];

impl Tables {
    /// Makes them.
    pub(super) fn of(ebpf: &Ebpf) -> Self {
        Self(NAMES.map(|name| {
            let (Map::Array(data) | Map::HashMap(data)) = ebpf.map(name).expect("a map") else {
                panic!("{name} is another kind of map")
            };
            let table = lines(name, data);
            table.make(SEEDS).expect("an array that can be mapped");
            table
        }))
    }

    fn named(&self, name: &str) -> &FlowLines {
        let place = NAMES.iter().position(|known| *known == name);
        &self.0[place.unwrap_or_else(|| panic!("{name} is no flow table of IPv4"))]
    }
}

impl Prog {
    /// A flow table of the XDP program, to do many things with: [`map::FLOWS`] or
    /// [`map::HALF_OPEN`].
    pub fn lines(&self, name: &str) -> &FlowLines {
        self.tables.named(name)
    }

    /// Writes an entry to a flow table.
    pub fn put_flow(&mut self, name: &str, key: &FlowKey, entry: &FlowEntry) {
        for tables in [&self.tables].into_iter().chain(&self.twin_tables) {
            tables.named(name).set(key, entry).expect("room in the table");
        }
    }

    /// Everything in a flow table: [`map::FLOWS`] or [`map::HALF_OPEN`].
    pub fn flows(&self, name: &str) -> BTreeMap<FlowKey, FlowEntry> {
        flows(self.tables.named(name))
    }

    /// The same of the TC program, if it is loaded.
    pub fn twin_flows(&self, name: &str) -> Option<BTreeMap<FlowKey, FlowEntry>> {
        self.twin_tables.as_ref().map(|tables| flows(tables.named(name)))
    }
}

fn flows(table: &FlowLines) -> BTreeMap<FlowKey, FlowEntry> {
    let mut flows = BTreeMap::new();
    let visit = |key: &FlowKey, entry: &FlowEntry| {
        assert_eq!(flows.insert(*key, *entry), None, "a key is in two lines");
    };
    table.for_each(visit).expect("a mapped table");
    flows
}
