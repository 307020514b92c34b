//! The live flows, read from the pinned tables: also while no daemon runs, and without changing
//! anything, by mappings that can only be read. What is told of a flow is in `flows/`.

mod changes;
mod filter;
mod flow;

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use alb_common::{
    abi::{ABI_VERSION, map},
    flow_table::FlowLine,
    net::Be128,
    tcp::Direction,
};

pub use self::{
    changes::Change,
    filter::{EndFilter, FlowFilter, NotAnEnd},
    flow::{Count, Ends, Flow, FlowState, NoSuchState},
};
use self::{changes::Tracker, flow::Stage};
use super::{
    collect::now,
    kernel::KernelError,
    maps::{Flows, MapError},
    pins::{ELSEWHERE, MapSet, Pins, PinsError},
    shape,
    sys::link,
    wide::{FlowEntry, FlowKey, tag},
};

/// The flow tables cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FlowsError {
    /// There are none.
    #[error(
        "no flow table is pinned under {}: `alb run` makes one unless node.datapath is proxy; \
         {elsewhere}",
        bpffs.display(), elsewhere = ELSEWHERE
    )]
    Absent {
        /// The pin directory.
        bpffs: PathBuf,
    },
    /// They are another version's.
    #[error(
        "the tables under {} have layout version {found}, this alb reads {ABI_VERSION}: use the \
         one that the daemon is",
        bpffs.display()
    )]
    Version {
        /// The pin directory.
        bpffs: PathBuf,
        /// The version found.
        found: u32,
    },
    /// Their elements are not what this version reads.
    #[error(
        "map {name} has keys and values of {} and {} bytes where {} and {} are read: use the alb \
         that the daemon is", found.0, found.1, wanted.0, wanted.1
    )]
    Layout {
        /// The map.
        name: &'static str,
        /// Sizes of its keys and values.
        found: (u32, u32),
        /// Those that this version knows.
        wanted: (u32, u32),
    },
    /// A pin cannot be opened.
    #[error("cannot open {}: reading flows takes root or CAP_BPF", path.display())]
    Open {
        /// The pin.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The pin directory cannot be listed.
    #[error(transparent)]
    Pins(#[from] PinsError),
    /// A map does not say what it is.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A map cannot be read.
    #[error(transparent)]
    Map(#[from] MapError),
}

/// Flows that a filter takes, as far as there is room for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// By VIP, then by client.
    pub flows: Vec<Flow>,
    /// How many the filter takes.
    pub matching: usize,
}

/// The two flow tables.
#[derive(Debug)]
pub(super) struct FlowTables {
    flows: Flows,
    half_open: Flows,
}

/// A flow as it was found by one of its keys.
#[derive(Debug)]
pub(super) struct InTable {
    pub(super) flow: Flow,
    /// The entry under the key.
    pub(super) entry: FlowEntry,
    /// That of the other direction.
    pub(super) peer: Option<FlowEntry>,
    /// It is in the half-open table.
    pub(super) half_open: bool,
}

/// A flow in a listing, before its other direction is read.
#[derive(Debug)]
struct Found {
    stage: Stage,
    key: FlowKey,
    forward: FlowEntry,
    /// Tick at which it was read.
    at: u32,
}

/// Lists the flows under this pin directory that a filter takes: `limit` at most, if there is
/// one; which of more is left to their places in the table.
///
/// The tables are read line by line while packets go on changing them: a flow that is there all the
/// time is seen once, one that begins or ends meanwhile may be seen or not.
pub fn list(
    bpffs: &Path,
    filter: &FlowFilter,
    limit: Option<usize>,
) -> Result<Listing, FlowsError> {
    let tables = FlowTables::open(bpffs)?;
    let mut found = Vec::new();
    let mut matching = 0;
    // Half-open flows with their places in `found`: one that is promoted meanwhile is in the
    // other table by then.
    let mut opening: HashMap<FlowKey, Option<usize>> = HashMap::new();
    for stage in [Stage::Opening, Stage::Open] {
        tables.of(stage).for_each(|key, entry| {
            let is_forward = entry.flags.direction() == Direction::Forward;
            if !is_forward || !filter.takes(&Ends::of(key, entry), stage.state(entry)) {
                return;
            }
            let flow = Found { stage, key: *key, forward: *entry, at: now() };
            if let Some(place) = opening.remove(key) {
                if let Some(same) = place.and_then(|place| found.get_mut(place)) {
                    *same = flow;
                }
                return;
            }
            matching += 1;
            let has_room = limit.is_none_or(|limit| found.len() < limit);
            if stage == Stage::Opening {
                opening.insert(*key, has_room.then_some(found.len()));
            }
            if has_room {
                found.push(flow);
            }
        })?;
    }
    let flows = found.into_iter().map(|Found { stage, key, forward, at }| {
        let reverse = tables.reverse(stage, &key, &forward)?;
        Ok(Flow::of(stage, &key, &forward, reverse.as_ref(), at))
    });
    let mut flows = flows.collect::<Result<Vec<_>, FlowsError>>()?;
    flows.sort_unstable_by_key(|flow| (flow.ends.vip, flow.ends.client));
    Ok(Listing { flows, matching })
}

/// Tells of flows that begin and end, by looking at the tables again and again.
#[derive(Debug)]
pub struct Follower {
    bpffs: PathBuf,
    filter: FlowFilter,
    tracker: Tracker,
}

impl Follower {
    /// For the tables under this pin directory.
    pub fn new(bpffs: &Path, filter: FlowFilter) -> Self {
        Self { bpffs: bpffs.to_owned(), filter, tracker: Tracker::default() }
    }

    /// Looks, and tells what is new and what ended since the last look; after the first, nothing.
    /// Returns how many flows are there that the filter takes, whatever their state, and how long
    /// it took.
    pub fn look(
        &mut self,
        tell: impl FnMut(Change, Flow),
    ) -> Result<(usize, Duration), FlowsError> {
        let started = Instant::now();
        // Anew each time: a daemon that is given another `node.flows` puts others in their place.
        let tables = FlowTables::open(&self.bpffs)?;
        let Self { bpffs: _, filter, tracker } = self;
        tracker.begin();
        for stage in [Stage::Opening, Stage::Open] {
            tables.of(stage).for_each(|key, entry| tracker.see(stage, key, entry, filter))?;
        }
        let there = tracker.end(filter, now(), tell);
        Ok((there, started.elapsed()))
    }
}

impl FlowTables {
    pub(super) fn open(bpffs: &Path) -> Result<Self, FlowsError> {
        let absent = || FlowsError::Absent { bpffs: bpffs.to_owned() };
        match fs::metadata(bpffs) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(absent()),
            Err(source) => return Err(FlowsError::Open { path: bpffs.to_owned(), source }),
        }
        let pins = Pins::existing(bpffs).ok_or_else(absent)?;
        let mut open = |name| {
            let path = pins.map(MapSet::Current, name);
            if !path.exists() {
                let other = pins.links()?.into_iter().map(|link| link.version);
                let other = other.into_iter().find(|version| *version != ABI_VERSION);
                return Err(other.map_or_else(absent, |found| {
                    let bpffs = bpffs.to_owned();
                    FlowsError::Version { bpffs, found }
                }));
            }
            // Mapped for reading; the kernel maps nothing for what can only read.
            let fd = link::open(&path);
            let fd = fd.map_err(|source| FlowsError::Open { path: path.clone(), source })?;
            let (found, wanted) = (shape::element(&path, name)?, line_sizes(name));
            if found != wanted {
                return Err(FlowsError::Layout { name, found, wanted });
            }
            Ok(fd)
        };
        Ok(Self {
            flows: Flows::open_to_read(map::FLOWS, map::FLOWS6, &mut open)?,
            half_open: Flows::open_to_read(map::HALF_OPEN, map::HALF_OPEN6, &mut open)?,
        })
    }

    fn of(&self, stage: Stage) -> &Flows {
        match stage {
            Stage::Opening => &self.half_open,
            Stage::Open => &self.flows,
        }
    }

    /// The flow that a packet with this key is of, whichever way it goes.
    pub(super) fn find(&self, key: &FlowKey) -> Result<Option<InTable>, FlowsError> {
        for stage in [Stage::Open, Stage::Opening] {
            let entry = self.of(stage).get(key)?.filter(|entry| entry.tag == tag(key));
            let Some(entry) = entry else { continue };
            let peer = self.reverse(stage, key, &entry)?;
            let at = now();
            let flow = match (entry.flags.direction(), &peer) {
                (Direction::Reverse, Some(forward)) => {
                    Flow::of(stage, &entry.peer_key(), forward, Some(&entry), at)
                }
                (Direction::Forward | Direction::Reverse, _) => {
                    Flow::of(stage, key, &entry, peer.as_ref(), at)
                }
            };
            return Ok(Some(InTable { flow, entry, peer, half_open: stage == Stage::Opening }));
        }
        Ok(None)
    }

    /// The other entry of a flow, if it is still this one's.
    fn reverse(
        &self,
        stage: Stage,
        key: &FlowKey,
        forward: &FlowEntry,
    ) -> Result<Option<FlowEntry>, FlowsError> {
        let peer_key = forward.peer_key();
        let found = self.of(stage).get(&peer_key)?;
        Ok(found.filter(|entry| entry.tag == tag(&peer_key) && entry.peer_key() == *key))
    }
}

/// Bytes of a key and of a value of one of these maps.
fn line_sizes(name: &str) -> (u32, u32) {
    let of = |size| u32::try_from(size).unwrap_or(u32::MAX);
    let is_ipv6 = [map::FLOWS6, map::HALF_OPEN6].contains(&name);
    let line = if is_ipv6 { size_of::<FlowLine<Be128>>() } else { size_of::<FlowLine>() };
    (of(size_of::<u32>()), of(line))
}
