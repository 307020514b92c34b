//! The packet path in the kernel: load it over what is pinned, or over maps of its own.
//!
//! Together with `shape.rs`, `maps.rs`, `flow_ring.rs`, `trace/trial.rs` and `capture/programs.rs` the
//! only place that names aya.

mod attach;
mod error;
mod links;
mod programs;
mod recover;
mod seeds;
pub mod step;

pub(super) use attach::refuse_foreign;
pub use error::KernelError;
pub(super) use links::{Link, open as open_links, program as running, replace};
pub(super) use programs::{Hook, load_alone, program, xdp};
pub(super) use seeds::make_tables;

use std::os::fd::{AsFd as _, OwnedFd};

use alb_common::abi::{ABI_VERSION, map};
use aya::{
    Ebpf, EbpfLoader,
    maps::{MapData, MapError as AyaMapError},
};

use super::{
    capture,
    carry::Carry,
    maps::Maps,
    pins::{LinkPin, MapSet, Pins},
    shape::{Room, Shape, has_room_for_ipv6, pinned_shape, sizes},
};
use crate::report::AttachMode;

pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/alb.bpf.o"));

/// What was found when the packet path was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing: the tables are new.
    Nothing,
    /// Pinned tables of this shape: taken over as they are.
    Adopted,
    /// Pinned tables of another size: flows were copied to new ones.
    Copied,
    /// Pinned tables that could not be taken over were dropped, as asked for.
    Dropped,
}

/// An interface to attach to, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
    /// Ids of the XDP programs that run there.
    pub programs: Vec<u32>,
}

/// An interface that the program is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its name.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
    /// How the program runs there.
    pub mode: AttachMode,
    /// Why it does not run in a better way.
    pub why: Option<String>,
}

/// The loaded packet path.
#[derive(Debug)]
pub struct Kernel {
    ebpf: Ebpf,
    pins: Pins,
    /// What the flow tables are made for.
    room: Room,
    found: Found,
    /// Flows to take over from maps of other sizes.
    carry: Option<Carry>,
    /// The pins are those of our maps.
    pinned: bool,
    /// An attempt to attach has succeeded.
    attached: bool,
}

impl Kernel {
    /// Loads the program over the pinned maps, or over new ones. Nothing is attached yet, so
    /// that new maps can be filled first. A replacement that was interrupted is finished.
    pub fn open(
        pins: Pins,
        (flows, has_ipv6): (u32, bool),
        drop_flows: bool,
    ) -> Result<Self, KernelError> {
        recover::recover(&pins, flows)?;
        let room = Room::new(flows, has_ipv6 || has_room_for_ipv6(&pins));
        let links = pins.links()?;
        let pinned = match pinned_shape(&pins, MapSet::Current, room)? {
            // Nothing runs over them: a start that did not get far has left them.
            Shape::Other(_) if links.is_empty() => Shape::None,
            shape @ (Shape::None | Shape::Same | Shape::Resized | Shape::Other(_)) => shape,
        };
        let mut loader = EbpfLoader::new();
        for (name, entries) in sizes(room) {
            loader.map_max_entries(name, entries);
        }
        let kept: &[&str] = match pinned {
            Shape::Same => &map::ALL,
            // What was not read of it yet is not lost.
            Shape::Resized => &[map::FLOW_LOG],
            Shape::None | Shape::Other(_) => &[],
        };
        for name in kept {
            loader.map_pin_path(name, pins.map(MapSet::Current, name));
        }
        let mut ebpf = loader.load(OBJECT).map_err(|source| KernelError::Load { source })?;
        // The one that most hosts need; if the verifier refuses it, nothing is changed.
        programs::xdp(&mut ebpf)?;
        let (found, carry) = match pinned {
            Shape::None if links.is_empty() => (Found::Nothing, None),
            Shape::Same => (Found::Adopted, None),
            Shape::Resized => {
                let old = pinned_maps(&pins, MapSet::Current)?;
                (Found::Copied, Some(Carry::from(old)))
            }
            Shape::None | Shape::Other(_) if drop_flows => (Found::Dropped, None),
            Shape::None => {
                let why = match links.iter().find(|link| link.version != ABI_VERSION) {
                    Some(LinkPin { version, .. }) => {
                        format!("they are of ABI version {version}, this is {ABI_VERSION}")
                    }
                    None => "programs are attached, but no maps are pinned".to_owned(),
                };
                return Err(KernelError::Unadoptable { why });
            }
            Shape::Other(why) => return Err(KernelError::Unadoptable { why }),
        };
        let (pinned, attached) = (found == Found::Adopted, false);
        let mut kernel = Self { ebpf, pins, room, found, carry, pinned, attached };
        let new = kernel.maps()?;
        make_tables(&new)?;
        if let Some(carry) = &kernel.carry {
            carry.tables(&new)?;
            // Now too, so that it is known early whether they fit and what they name.
            kernel.mirror(&new)?;
        }
        Ok(kernel)
    }

    pub(super) fn ebpf(&self) -> &Ebpf {
        &self.ebpf
    }

    /// What was found pinned.
    pub fn found(&self) -> Found {
        self.found
    }

    /// How many flows the tables are made for.
    pub fn room(&self) -> Room {
        self.room
    }

    /// The process of an `alb capture` that runs on the packet path.
    pub(super) fn capture(&self) -> Option<u32> {
        capture::running(&self.pins)
    }

    /// Puts the programs back where a capture was killed.
    pub(super) fn end_lost_capture(&self) {
        capture::put_back(&self.pins);
    }

    /// The maps, for reading and writing.
    pub fn maps(&self) -> Result<Maps, KernelError> {
        Maps::open(|name| duplicate(map_data(&self.ebpf, name)?, name))
    }
}

/// One of the maps of a loaded object.
pub(super) fn map_data<'a>(ebpf: &'a Ebpf, name: &'static str) -> Result<&'a MapData, KernelError> {
    use aya::maps::Map;
    match ebpf.map(name) {
        Some(
            Map::Array(data)
            | Map::HashMap(data)
            | Map::PerCpuArray(data)
            | Map::LpmTrie(data)
            | Map::ProgramArray(data)
            | Map::RingBuf(data),
        ) => Ok(data),
        _ => Err(KernelError::Open {
            name,
            source: AyaMapError::InvalidName { name: name.to_owned() },
        }),
    }
}

/// The maps pinned in a set.
fn pinned_maps(pins: &Pins, set: MapSet) -> Result<Maps, KernelError> {
    Maps::open(|name| {
        let data = MapData::from_pin(pins.map(set, name))
            .map_err(|source| KernelError::Open { name, source })?;
        duplicate(&data, name)
    })
}

pub(super) fn duplicate(data: &MapData, name: &'static str) -> Result<OwnedFd, KernelError> {
    data.fd()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| KernelError::Open { name, source: AyaMapError::IoError(error) })
}
