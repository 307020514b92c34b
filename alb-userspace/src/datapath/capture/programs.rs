//! The capturing programs: one around each program of the packet path, with maps of its own.

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use alb_common::{
    abi::map,
    capture::{
        CAPTURE_TC, CAPTURE_XDP, CaptureSettings, LOST_MAP, RING_MAP, SETTINGS_MAP, TC_MAP, XDP_MAP,
    },
    interface::{HopEntry, InterfaceEntry},
    reason::COUNTERS,
};
use aya::{
    EbpfLoader,
    maps::{Map, MapData, MapError as AyaMapError, MapInfo, ProgramArray, RingBuf},
    programs::ProgramInfo,
};

use super::{CaptureError, packet::Captured};
use crate::datapath::{
    kernel::{Hook, KernelError, duplicate, load_alone, map_data, running},
    maps::Table,
    pins::{MapSet, Pins, PinsError, failed},
    sys::link,
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/capture.bpf.o"));

/// `XDP_PASS` of `linux/bpf.h`.
const PASS: u32 = 2;
/// `TC_ACT_UNSPEC` of `linux/pkt_cls.h`, which is -1.
const UNSPECIFIED: u32 = u32::MAX;

/// Name of the capturing program for a hook.
pub(super) const fn name(hook: Hook) -> &'static str {
    match hook {
        Hook::Xdp => CAPTURE_XDP,
        Hook::Tc => CAPTURE_TC,
    }
}

/// Name of the map in which it has the program that it runs.
pub(super) const fn place(hook: Hook) -> &'static str {
    match hook {
        Hook::Xdp => XDP_MAP,
        Hook::Tc => TC_MAP,
    }
}

/// A capturing program, around one of the packet path's.
pub(super) struct Around {
    /// Id of the packet path's program.
    pub(super) inner: u32,
    inner_fd: OwnedFd,
    /// Its own id.
    pub(super) id: u32,
    fd: OwnedFd,
    settings: Table<u32, CaptureSettings>,
    lost: Table<u32, u64>,
    ring: RingBuf<MapData>,
    interfaces: Table<u32, InterfaceEntry>,
    /// The packet path's own, by target.
    pub(super) hops: Table<u32, HopEntry>,
    /// Interfaces by which it sends, with their slots, as of the last look.
    pub(super) sends_by: Vec<(u32, InterfaceEntry)>,
    /// The array that has the packet path's program is pinned here: the kernel empties an array that
    /// no process and no file knows of any more.
    pin: PathBuf,
}

impl Around {
    /// Loads it around this program. Nothing is attached yet.
    pub(super) fn load(
        pins: &Pins,
        inner: u32,
        hook: Hook,
        settings: &CaptureSettings,
    ) -> Result<Self, CaptureError> {
        let program = running(inner)?;
        if program.name_as_str() != Some(hook.program()) {
            let name = program.name_as_str().unwrap_or_default();
            return Err(CaptureError::Other { why: format!("it runs program {name:?}") });
        }
        let maps = maps(&program)?;
        let counters = find::<u64>(&maps, map::COUNTERS)?;
        if counters.max_entries() as usize != COUNTERS {
            return Err(other(map::COUNTERS));
        }
        let path = pins.map(MapSet::Current, map::COUNTERS);
        match MapInfo::from_pin(&path) {
            Ok(pinned) if pinned.id() == counters.id() => {}
            // A start of the daemon is about to put others in their place.
            Ok(_) | Err(_) => return Err(CaptureError::Replacing),
        }
        let mut loader = EbpfLoader::new();
        loader.map_pin_path(map::COUNTERS, path);
        let mut ebpf = loader.load(OBJECT).map_err(CaptureError::Maps)?;

        let fd = program.fd().map_err(KernelError::Programs)?;
        let (at, failed) = (place(hook), |source| KernelError::Open { name: place(hook), source });
        let absent = || AyaMapError::InvalidName { name: at.to_owned() };
        let array = ebpf.map_mut(at).ok_or_else(absent).map_err(failed)?;
        let mut array = ProgramArray::try_from(array).map_err(failed)?;
        array.set(0, &fd, 0).map_err(failed)?;
        let inner_fd = fd.as_fd().try_clone_to_owned().map_err(CaptureError::Duplicate)?;

        let own = |name| duplicate(map_data(&ebpf, name)?, name);
        let settings_map = Table::new(SETTINGS_MAP, own(SETTINGS_MAP)?);
        let lost = Table::new(LOST_MAP, own(LOST_MAP)?);
        let array = own(at)?;
        let otherwise = if hook == Hook::Xdp { PASS } else { UNSPECIFIED };
        settings_map.set(&0_u32, &CaptureSettings { otherwise, ..*settings })?;
        let (id, fd) = load_alone(&mut ebpf, hook, name(hook)).map_err(|error| {
            if let KernelError::Verifier { log, source } = error {
                CaptureError::Verifier { log, source }
            } else {
                error.into()
            }
        })?;
        let missing = || AyaMapError::InvalidName { name: RING_MAP.to_owned() };
        let ring = ebpf.take_map(RING_MAP).ok_or_else(missing);
        let ring = ring.and_then(|ring: Map| RingBuf::try_from(ring));
        let ring = ring.map_err(|source| KernelError::Open { name: RING_MAP, source })?;
        let interfaces = opened::<InterfaceEntry>(&maps, map::INTERFACES)?;
        let hops = opened::<HopEntry>(&maps, map::HOPS)?;
        // Last: nothing is left in the way of the next if this fails.
        let pin = pins.capture_dir().join(inner.to_string());
        link::pin(array.as_fd(), &pin).map_err(self::failed("pin", &pin))?;
        Ok(Self {
            inner,
            inner_fd,
            id,
            fd,
            settings: settings_map,
            lost,
            ring,
            interfaces,
            hops,
            sends_by: Vec::new(),
            pin,
        })
    }

    /// What to take off a link, and what to put there instead, so that packets are captured.
    pub(super) fn there(&self) -> ((u32, BorrowedFd<'_>), BorrowedFd<'_>) {
        ((self.inner, self.inner_fd.as_fd()), self.fd.as_fd())
    }

    /// The same, so that they are not.
    pub(super) fn back(&self) -> ((u32, BorrowedFd<'_>), BorrowedFd<'_>) {
        ((self.id, self.fd.as_fd()), self.inner_fd.as_fd())
    }

    /// Puts its deadline off, and looks by which interfaces packets leave.
    pub(super) fn look(&mut self, until: u64) -> Result<(), CaptureError> {
        let Self { settings, interfaces, sends_by, .. } = self;
        if let Some(known) = settings.get(&0)? {
            settings.set(&0, &CaptureSettings { until, ..known })?;
        }
        sends_by.clear();
        interfaces.for_each(|slot, entry| {
            if entry.ifindex != 0 {
                sends_by.push((*slot, *entry));
            }
        })?;
        Ok(())
    }

    /// The next packet, if there is one.
    pub(super) fn take(&mut self) -> Option<Captured> {
        loop {
            // The program writes nothing else.
            if let Some(captured) = Captured::of(&self.ring.next()?) {
                return Some(captured);
            }
        }
    }

    /// Packets for which the ring had no room.
    pub(super) fn lost(&self) -> Result<u64, CaptureError> {
        Ok(self.lost.per_cpu(&0)?.iter().sum())
    }

    /// Forgets the packet path's program. No packet is in this one any more.
    pub(super) fn unpin(&self) -> Result<(), PinsError> {
        match fs::remove_file(&self.pin) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &self.pin)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// What a capturing program that somebody else has loaded runs: id and descriptor.
pub(super) fn inner_of(
    program: &ProgramInfo,
    hook: Hook,
) -> Result<Option<(u32, OwnedFd)>, KernelError> {
    let name = place(hook);
    let found = maps(program)?.into_iter().find(|map| map.name_as_str() == Some(name));
    let Some(array) = found else { return Ok(None) };
    let array = array.fd().map_err(|source| KernelError::Open { name, source })?;
    let array = array.as_fd().try_clone_to_owned();
    let array = array.map_err(|error| KernelError::Open { name, source: error.into() })?;
    // Programs are read by their ids.
    let Some(id) = Table::<u32, u32>::new(name, array).get(&0)? else { return Ok(None) };
    let fd = running(id)?.fd().map_err(KernelError::Programs)?;
    let fd = fd.as_fd().try_clone_to_owned();
    Ok(Some((id, fd.map_err(|error| KernelError::Open { name, source: error.into() })?)))
}

fn maps(program: &ProgramInfo) -> Result<Vec<MapInfo>, KernelError> {
    let ids = program.map_ids().map_err(KernelError::Programs)?.unwrap_or_default();
    Ok(ids.into_iter().filter_map(|id| MapInfo::from_id(id).ok()).collect())
}

/// A program's map of values of this type.
fn find<'a, V>(maps: &'a [MapInfo], name: &'static str) -> Result<&'a MapInfo, CaptureError> {
    let map = maps.iter().find(|map| map.name_as_str() == Some(name));
    map.filter(|map| map.value_size() as usize == size_of::<V>()).ok_or_else(|| other(name))
}

fn opened<V: alb_common::abi::Plain>(
    maps: &[MapInfo],
    name: &'static str,
) -> Result<Table<u32, V>, CaptureError> {
    let fd = find::<V>(maps, name)?.fd();
    let fd = fd.map_err(|source| KernelError::Open { name, source })?;
    let fd = fd.as_fd().try_clone_to_owned().map_err(CaptureError::Duplicate)?;
    Ok(Table::new(name, fd))
}

fn other(map: &str) -> CaptureError {
    CaptureError::Other { why: format!("its map {map} is another") }
}

impl std::fmt::Debug for Around {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (inner, id, fd) = (self.inner, self.id, self.fd.as_raw_fd());
        let mut shown = f.debug_struct("Around");
        shown.field("inner", &inner).field("id", &id).field("fd", &fd).finish_non_exhaustive()
    }
}
