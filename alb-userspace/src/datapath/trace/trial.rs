//! A second instance of the program: it reads the pinned maps and writes maps of its own.

use std::path::Path;

use alb_common::{
    Reason,
    abi::map,
    flow_table::lines_for,
    net::Mac,
    reason::{COUNTERS, Event},
};
use aya::{
    Ebpf, EbpfLoader,
    programs::{ProgramError, TestRun as _, TestRunOptions},
};
use nix::net::if_::if_indextoname;

use super::{
    TraceError,
    frame::{Frame, Seen},
};
use crate::datapath::{
    flows::{FlowTables, FlowsError, InTable},
    kernel::{KernelError, OBJECT, duplicate, make_tables, map_data, program, xdp},
    maps::{MapError, Maps},
    pins::{MapSet, Pins},
    shape::{Room, Shape, pinned_shape},
    sys::link,
    wide::{FlowEntry, FlowKey},
};

/// What the program never writes: the pinned maps themselves.
const READ: [&str; 16] = [
    map::SETTINGS,
    map::LOCALS,
    map::LOCAL_CACHE,
    map::LISTENERS,
    map::FILTERS,
    map::SLOTS,
    map::TARGETS,
    map::HOPS,
    map::TARGET_TIMES,
    map::INTERFACES,
    map::INTERFACE_SLOTS,
    map::LOCALS6,
    map::LOCAL_CACHE6,
    map::LISTENERS6,
    map::FILTERS6,
    map::TARGETS6,
];

/// What it writes and needs little room for: the flows of one packet and those in its way; one
/// place of each ring; no totals; records of ended flows that nobody reads.
const SMALL: [(&str, u32); 13] = [
    (map::FLOWS, lines_for(128)),
    (map::HALF_OPEN, lines_for(128)),
    (map::HALF_OPEN_RING, 1),
    (map::CLOSED_RING, 1),
    (map::FLOWS6, lines_for(128)),
    (map::HALF_OPEN6, lines_for(128)),
    (map::HALF_OPEN_RING6, 1),
    (map::CLOSED_RING6, 1),
    // Bytes: a page, on every machine.
    (map::FLOW_LOG, 1 << 16),
    (map::TARGET_TOTALS, 1),
    // It sees no flood: what a client would get that has proven itself.
    (map::TARGET_SYN_RATES, 1),
    (map::PROVEN, 1),
    (map::LISTENER_TOTALS, 1),
];

/// A flow of the trial's tables.
pub(super) struct Stored {
    /// The entry under the packet's key.
    pub(super) entry: FlowEntry,
    /// That of the other direction.
    pub(super) peer: Option<FlowEntry>,
    /// It is in the half-open table.
    pub(super) half_open: bool,
}

/// The loaded instance.
#[derive(Debug)]
pub(super) struct Trial {
    ebpf: Ebpf,
    own: Maps,
    /// What is pinned, by descriptors that can only read; of the flow tables those map nothing.
    pub(super) live: Maps,
}

impl Trial {
    /// Loads it over what is pinned under this directory.
    pub(super) fn over(bpffs: &Path) -> Result<Self, TraceError> {
        let absent = || FlowsError::Absent { bpffs: bpffs.to_owned() };
        let pins = Pins::existing(bpffs).ok_or_else(absent)?;
        match pinned_shape(&pins, MapSet::Current, Room::new(0, false))? {
            Shape::Same | Shape::Resized => {}
            Shape::None => return Err(absent().into()),
            Shape::Other(why) => return Err(TraceError::Other { bpffs: bpffs.to_owned(), why }),
        }
        let live = Maps::open(|name| {
            let path = pins.map(MapSet::Current, name);
            link::open_to_read(&path).map_err(|source| TraceError::Open { path, source })
        })?;
        let mut loader = EbpfLoader::new();
        for (name, entries) in SMALL {
            loader.map_max_entries(name, entries);
        }
        for name in READ {
            loader.map_pin_path(name, pins.map(MapSet::Current, name));
        }
        let mut ebpf = loader.load(OBJECT).map_err(|source| KernelError::Load { source })?;
        xdp(&mut ebpf)?;
        let own = Maps::open(|name| duplicate(map_data(&ebpf, name)?, name))?;
        make_tables(&own)?;
        Ok(Self { ebpf, own, live })
    }

    /// Index and link-layer address of an interface of the packet path: of the one of this name,
    /// else of the first.
    pub(super) fn interface(&self, name: Option<&str>) -> Result<(u32, Mac), TraceError> {
        let mut there = Vec::new();
        self.live.interfaces.for_each(|slot, entry| {
            if entry.ifindex != 0 {
                there.push((*slot, entry.ifindex, entry.mac));
            }
        })?;
        there.sort_unstable_by_key(|(slot, ..)| *slot);
        let Some(name) = name else {
            let first = there.first().ok_or(TraceError::NoInterface)?;
            return Ok((first.1, first.2));
        };
        let named = |index: u32| interface_name(index).unwrap_or_else(|| index.to_string());
        let found = there.iter().find(|(_, index, _)| named(*index) == name);
        found.map(|(_, index, mac)| (*index, *mac)).ok_or_else(|| TraceError::NotThere {
            name: name.to_owned(),
            known: there.iter().map(|(_, index, _)| named(*index)).collect(),
        })
    }

    /// Copies the flow that has this key, if there is one.
    pub(super) fn take_over(
        &self,
        flows: &FlowTables,
        key: &FlowKey,
    ) -> Result<Option<Stored>, TraceError> {
        let Some(InTable { entry, peer, half_open, .. }) = flows.find(key)? else {
            return Ok(None);
        };
        let table = if half_open { &self.own.half_open } else { &self.own.flows };
        table.set(key, &entry)?;
        if let Some(peer) = &peer {
            table.set(&entry.peer_key(), peer)?;
        }
        Ok(Some(Stored { entry, peer, half_open }))
    }

    /// The flow that has this key in the trial's tables.
    pub(super) fn stored(&self, key: &FlowKey) -> Result<Option<Stored>, MapError> {
        for (table, half_open) in [(&self.own.flows, false), (&self.own.half_open, true)] {
            if let Some(entry) = table.get(key)? {
                let peer = table.get(&entry.peer_key())?;
                return Ok(Some(Stored { entry, peer, half_open }));
            }
        }
        Ok(None)
    }

    /// Undoes the flow that a trial opened.
    pub(super) fn forget(&self, key: &FlowKey, opened: &Stored) -> Result<(), MapError> {
        self.own.half_open.remove(key)?;
        // Another's, if it was taken over since: that one is in its place.
        let peer_key = opened.entry.peer_key();
        let peer = self.own.half_open.get(&peer_key)?;
        if peer.is_some_and(|peer| peer.peer_key() == *key) {
            self.own.half_open.remove(&peer_key)?;
        }
        Ok(())
    }

    /// Runs the program on a frame: what is left of the frame, what it is counted under, and what
    /// else is counted.
    pub(super) fn run(
        &self,
        frame: &Frame,
        ifindex: u32,
    ) -> Result<(Option<Seen>, Reason, Vec<Event>), TraceError> {
        // Turns and open flows decide which target is next.
        self.live.listener_states.copy_to(&self.own.listener_states)?;
        self.live.listener_active.copy_to(&self.own.listener_active)?;
        self.live.target_active.copy_counters_to(&self.own.target_active)?;
        let before = self.counts()?;
        let bytes = frame.bytes();
        let mut out = [0; 256];
        // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress.
        let end = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let context = [0, end, 0, ifindex, 0, 0].map(u32::to_ne_bytes).concat();
        let options = TestRunOptions {
            data_in: Some(&bytes),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        let failed = |source: ProgramError| TraceError::Run { ifindex, source };
        let program = program(&self.ebpf).map_err(failed)?;
        let result = program.test_run(options).map_err(failed)?;
        let len = out.len().min(result.data_size_out as usize);
        let after = self.counts()?;
        let counted: Vec<usize> =
            (0..COUNTERS).filter(|index| before.get(*index) != after.get(*index)).collect();
        let reason = counted.iter().find_map(|index| Reason::ALL.get(*index).copied());
        let events =
            counted.iter().filter_map(|index| Event::ALL.get(index.checked_sub(Reason::COUNT)?));
        // Every packet is counted under one.
        let reason = reason.unwrap_or(Reason::Internal);
        Ok((Seen::of(&out[..len]), reason, events.copied().collect()))
    }

    fn counts(&self) -> Result<Vec<u64>, MapError> {
        let indices = (0_u32..).take(COUNTERS);
        indices.map(|index| Ok(self.own.counters.per_cpu(&index)?.iter().sum())).collect()
    }
}

/// Name of an interface of this network namespace.
pub fn interface_name(index: u32) -> Option<String> {
    let name = if_indextoname(index).ok()?.into_string().ok()?;
    // The C library answers an impossible index with an empty name.
    (!name.is_empty()).then_some(name)
}
