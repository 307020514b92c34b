//! What the packet path does to packets, packet by packet, as it does it: also while no daemon runs.
//!
//! Around the program that runs on each link another one is put, in one step, which runs it and looks
//! at the packet before and after, and at the counters, by which it knows the reason; at the end the
//! program itself is put back. Each step is taken only if what is to be replaced is what runs there:
//! a daemon that starts meanwhile puts its own in the place of whichever it finds, and a capture goes
//! on around that.
//!
//! `DIR/capture` is there while a capture runs, locked by its process. In it is pinned what the
//! capturing programs need to reach those that forward, so that a process that is killed takes nothing
//! away; whoever next finds the directory without its lock — a capture, or the daemon, within some
//! seconds — puts the programs back ([`put_back`]). Until then they record nothing ([`LEASE`]).

mod filter;
mod packet;
mod programs;

use std::{
    collections::{BTreeSet, VecDeque},
    fs, io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::Duration,
};

use alb_common::{Verdict, abi::ABI_VERSION, capture::CaptureSettings, tcp::Direction};
use aya::EbpfError;
use nix::time::{ClockId, clock_gettime};

use self::programs::Around;
pub use self::{
    filter::CaptureFilter,
    packet::{Captured, Frame, Hook, Said},
};
use super::{
    claim::{Claim, claimed_by},
    flows::FlowTables,
    kernel::{self, KernelError, Link, open_links, replace, step},
    maps::MapError,
    pins::{ELSEWHERE, Pins, PinsError, failed},
    sys,
    wide::between,
};

/// How long capturing programs record after the last look of their process.
pub const LEASE: Duration = Duration::from_secs(3);

/// Packets cannot be captured.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// There is no packet path.
    #[error(
        "no packet path is pinned under {}: `alb run` puts one there unless node.datapath is proxy; \
         {elsewhere}",
        bpffs.display(), elsewhere = ELSEWHERE
    )]
    Absent {
        /// The pin directory.
        bpffs: PathBuf,
    },
    /// It is on no interface that can be seen from here.
    #[error(
        "the packet path under {} is on no interface of this network namespace: run this in the \
         daemon's (`nsenter --net=/run/netns/NAME`)",
        bpffs.display()
    )]
    Elsewhere {
        /// The pin directory.
        bpffs: PathBuf,
    },
    /// What is there cannot be opened.
    #[error("cannot open {}: capturing takes root", path.display())]
    Open {
        /// The pin.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another process captures.
    #[error(
        "another alb capture{} runs on the packet path under {}: one at a time",
        holder.map(|id| format!(" (process {id})")).unwrap_or_default(), bpffs.display()
    )]
    Busy {
        /// The pin directory.
        bpffs: PathBuf,
        /// The process, if that can be seen from here.
        holder: Option<u32>,
    },
    /// It is another version's.
    #[error("the packet path is not of this version: {why}; use the alb that the daemon is")]
    Other {
        /// What differs.
        why: String,
    },
    /// A start of the daemon is under way, or was not finished.
    #[error(
        "the packet path is being replaced, by a start of the daemon: try again; if no daemon is \
         starting, `alb run` finishes what one has begun"
    )]
    Replacing,
    /// The maps of the capturing programs cannot be made.
    #[error("cannot make the maps to capture with: capturing takes root")]
    Maps(#[source] EbpfError),
    /// The verifier refuses a capturing program.
    #[error(
        "this kernel's verifier refuses the capturing programs, which are made for Linux 6.1 and later \
         with the BPF JIT:\n{log}"
    )]
    Verifier {
        /// The end of its log.
        log: String,
        /// What the system call said.
        #[source]
        source: io::Error,
    },
    /// The clock cannot be read.
    #[error("cannot read the clock")]
    Clock(#[source] io::Error),
    /// A descriptor cannot be had.
    #[error("cannot duplicate a descriptor")]
    Duplicate(#[source] io::Error),
    /// The pin directory cannot be handled.
    #[error(transparent)]
    Pins(#[from] PinsError),
    /// A program or map cannot be looked at.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A map cannot be read or written.
    #[error(transparent)]
    Map(#[from] MapError),
}

/// A capture under way. Its end puts the programs back that forward.
#[derive(Debug)]
pub struct Capture {
    pins: Pins,
    settings: CaptureSettings,
    around: Vec<Around>,
    /// What was left in rings of programs that are gone.
    left: VecDeque<Captured>,
    left_lost: u64,
    /// Interfaces on which packets are seen: indices.
    on: BTreeSet<u32>,
    has_ended: bool,
    /// The last to go: its directory is empty by then.
    _claim: Claim,
}

impl Capture {
    /// Begins to capture packets that a filter takes, so many bytes of each, on the packet path under
    /// this pin directory. Others of the same ends come too.
    pub fn begin(bpffs: &Path, filter: &CaptureFilter, snaplen: u32) -> Result<Self, CaptureError> {
        let absent = || CaptureError::Absent { bpffs: bpffs.to_owned() };
        match fs::metadata(bpffs) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(absent()),
            Err(source) => return Err(CaptureError::Open { path: bpffs.to_owned(), source }),
        }
        let pins = Pins::existing(bpffs).ok_or_else(absent)?;
        if pins.links()?.is_empty() {
            return Err(absent());
        }
        let claim = pins.claim_capture().map_err(|error| match error {
            PinsError::Claimed { holder, .. } => {
                CaptureError::Busy { bpffs: bpffs.to_owned(), holder }
            }
            PinsError::Io { path, source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                CaptureError::Open { path, source }
            }
            error @ (PinsError::Io { .. } | PinsError::NotBpffs { .. }) => error.into(),
        })?;
        tidy(&pins)?;
        let reasons = filter.reasons().fold(0, |bits, reason| bits | 1 << reason as u32);
        let mut settings = CaptureSettings { reasons, snaplen, ..CaptureSettings::default() };
        for (place, end) in settings.ends.iter_mut().zip(filter.ends()) {
            *place = end;
            settings.end_count += 1;
        }
        let mut capture = Self {
            pins,
            settings,
            around: Vec::new(),
            left: VecDeque::new(),
            left_lost: 0,
            on: BTreeSet::new(),
            has_ended: false,
            _claim: claim,
        };
        let there_is = capture.refresh()?;
        if capture.on.is_empty() {
            let bpffs = bpffs.to_owned();
            return Err(if there_is {
                CaptureError::Replacing
            } else {
                CaptureError::Elsewhere { bpffs }
            });
        }
        step::reached(step::CAPTURE_BEGUN);
        Ok(capture)
    }

    /// Looks whether other programs run by now, as after a start of the daemon, and follows them;
    /// `false` if none does. To be called more often than [`LEASE`] says.
    pub fn refresh(&mut self) -> Result<bool, CaptureError> {
        self.renew()?;
        let _held = self.pins.hold_links()?;
        let links = links(&self.pins)?;
        self.on.clear();
        for link in &links {
            if self.around.iter().any(|around| around.id == link.program) || self.put(link)? {
                self.on.insert(link.pin.ifindex);
            }
        }
        self.retire(&links)?;
        // A verifier can take longer than the lease.
        self.renew()?;
        Ok(!links.is_empty())
    }

    /// Puts the end of the lease off.
    fn renew(&mut self) -> Result<(), CaptureError> {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC);
        let until = Duration::from(now.map_err(|errno| CaptureError::Clock(errno.into()))?) + LEASE;
        self.settings.until = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        for around in &mut self.around {
            around.look(self.settings.until)?;
        }
        Ok(())
    }

    /// Puts a capturing program on a link; `false` if the link's own is about to be replaced.
    fn put(&mut self, link: &Link) -> Result<bool, CaptureError> {
        let known = self.around.iter().position(|around| around.inner == link.program);
        let hook = kernel::Hook::of(link.pin.mode);
        let known = match known {
            Some(known) => known,
            None => match Around::load(&self.pins, link.program, hook, &self.settings) {
                Ok(mut around) => {
                    around.look(self.settings.until)?;
                    self.around.push(around);
                    step::reached(step::CAPTURE_LOADED);
                    self.around.len() - 1
                }
                Err(
                    CaptureError::Replacing | CaptureError::Kernel(KernelError::NoProgram { .. }),
                ) => {
                    return Ok(false);
                }
                Err(error) => return Err(error),
            },
        };
        let Some(around) = self.around.get(known) else { return Ok(false) };
        let (before, program) = around.there();
        Ok(replace(link, before, program)?)
    }

    /// Lets go of capturing programs that were put off their links.
    fn retire(&mut self, links: &[Link]) -> Result<(), CaptureError> {
        let runs = |around: &Around| {
            // A link may have been switched since it was looked at.
            links.iter().any(|link| [around.id, around.inner].contains(&link.program))
        };
        if self.around.iter().all(runs) {
            return Ok(());
        }
        sys::wait_for_packets();
        for mut around in self.around.extract_if(.., |around| !runs(around)) {
            around.unpin()?;
            self.left.extend(std::iter::from_fn(|| around.take()));
            self.left_lost += around.lost()?;
        }
        Ok(())
    }

    /// Indices of the interfaces on which packets are seen.
    pub fn interfaces(&self) -> impl Iterator<Item = u32> {
        self.on.iter().copied()
    }

    /// The next packet, if there is one.
    pub fn take(&mut self) -> Option<Captured> {
        self.left.pop_front().or_else(|| self.around.iter_mut().find_map(Around::take))
    }

    /// Ends it. What was seen so far can still be taken.
    pub fn end(&mut self) -> Result<(), CaptureError> {
        if std::mem::replace(&mut self.has_ended, true) {
            return Ok(());
        }
        let _held = self.pins.hold_links()?;
        for link in present(&self.pins)? {
            if let Some(around) = self.around.iter().find(|around| around.id == link.program) {
                let (before, program) = around.back();
                replace(&link, before, program)?;
            }
        }
        sys::wait_for_packets();
        Ok(self.around.iter().try_for_each(Around::unpin)?)
    }

    /// Packets that are missing because they came faster than they were taken.
    pub fn lost(&self) -> Result<u64, CaptureError> {
        self.around.iter().try_fold(self.left_lost, |sum, around| Ok(sum + around.lost()?))
    }

    /// Index of the interface by which a packet leaves, if that can be said.
    pub fn leaves_by(&self, packet: &Captured) -> Option<u32> {
        let after = packet.after.as_ref()?;
        if packet.reason.verdict() != Verdict::Forward {
            // An answer goes where the question came from.
            return Some(packet.ifindex);
        }
        // Its sender is the interface.
        let sender = after.sender()?;
        self.around.iter().find_map(|around| {
            let mut same = around.sends_by.iter().filter(|(_, entry)| entry.mac.bytes() == sender);
            let (_, one) = same.next()?;
            if same.next().is_none() {
                return Some(one.ifindex);
            }
            let slot = self.slot(around, packet)?;
            let found = around.sends_by.iter().find(|(found, _)| *found == slot);
            found.map(|(_, entry)| entry.ifindex)
        })
    }

    /// Slot of the interface by which the packet's flow goes on: several have one address.
    fn slot(&self, around: &Around, packet: &Captured) -> Option<u32> {
        let Said { from, to, .. } = packet.before.said()?;
        let flow = FlowTables::open(self.pins.root()).ok()?.find(&between(from, to)).ok()??;
        Some(u32::from(match flow.entry.flags.direction() {
            Direction::Reverse => flow.entry.interface,
            Direction::Forward => around.hops.get(&flow.entry.target).ok()??.interface,
        }))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(%error, "the capturing programs stay, and forward as those before them do");
        }
    }
}

/// The pinned links whose device is there, of this version.
fn links(pins: &Pins) -> Result<Vec<Link>, CaptureError> {
    let links = present(pins)?;
    match links.iter().find(|link| link.pin.version != ABI_VERSION) {
        Some(Link { pin, .. }) => Err(CaptureError::Other {
            why: format!("its layout is {}, this is {ABI_VERSION}", pin.version),
        }),
        None => Ok(links),
    }
}

/// The pinned links whose device is there.
fn present(pins: &Pins) -> Result<Vec<Link>, KernelError> {
    let mut looks = 0;
    loop {
        match open_links(pins) {
            // One went while we looked.
            Err(KernelError::Link { source, .. })
                if source.kind() == io::ErrorKind::NotFound && looks < LOOKS =>
            {
                looks += 1;
            }
            found => {
                let mut links = found?;
                links.retain(|link| link.on.is_some());
                return Ok(links);
            }
        }
    }
}

/// Looks at links that go one after the other.
const LOOKS: u32 = 16;

/// The process of the capture that runs, if one does that can be seen from here.
pub(super) fn running(pins: &Pins) -> Option<u32> {
    claimed_by(&pins.capture_dir())
}

/// Puts back what forwards, where a capture was killed. What goes wrong is logged: forwarding goes on.
pub(super) fn put_back(pins: &Pins) {
    if !pins.capture_dir().exists() {
        return;
    }
    let _claim = match pins.claim_capture() {
        Ok(claim) => claim,
        // It runs.
        Err(PinsError::Claimed { .. }) => return,
        Err(error) => return tracing::warn!(%error, "cannot tell whether a capture runs"),
    };
    match tidy(pins) {
        Ok(()) => tracing::info!("cleared away what a capture that was killed has left"),
        Err(error) => tracing::warn!(%error, "cannot clear away what a capture has left"),
    }
}

/// Puts back what forwards, and empties the directory, whose lock the caller has.
fn tidy(pins: &Pins) -> Result<(), KernelError> {
    let dir = pins.capture_dir();
    let left = fs::read_dir(&dir).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let left = left.map_err(failed("list", &dir))?;
    if left.is_empty() {
        return Ok(());
    }
    {
        let _held = pins.hold_links()?;
        for link in &present(pins)? {
            let hook = kernel::Hook::of(link.pin.mode);
            let program = kernel::running(link.program)?;
            if program.name_as_str() != Some(programs::name(hook)) {
                continue;
            }
            let Some((_, inner)) = programs::inner_of(&program, hook)? else { continue };
            let fd = program.fd().map_err(KernelError::Programs)?;
            replace(link, (link.program, fd.as_fd()), inner.as_fd())?;
        }
    }
    sys::wait_for_packets();
    left.iter()
        .try_for_each(|file| fs::remove_file(file.path()).map_err(failed("remove", file.path())))?;
    Ok(())
}
