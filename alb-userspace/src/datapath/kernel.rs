//! The packet path in the kernel: load it, adopt or replace what is pinned, attach it.
//!
//! Together with `shape.rs` and `maps.rs` the only place that names aya.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use alb_common::abi::{ABI_VERSION, Plain, XDP_PROGRAM, map};
use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{MapData, MapError as AyaMapError},
    programs::{
        ProgramError, Xdp, XdpMode,
        links::{FdLink, LinkError, PinnedLink},
        xdp::XdpLink,
    },
};

use super::{
    maps::{MapError, Maps, Table},
    pins::{LinkPin, Pins, PinsError},
    shape::{Shape, pinned_shape, sizes},
    verifier,
};
use crate::{model::DatapathMode, report::AttachMode};

pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/alb.bpf.o"));

/// The packet path could not be put in place.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The kernel lacks something, or the daemon a privilege.
    #[error(
        "the kernel refuses the packet path: {source}; it needs root or the capabilities BPF, NET_ADMIN \
         and PERFMON, and Linux 6.1 or later (`alb doctor` tells which is missing)"
    )]
    Load {
        /// What aya says.
        #[source]
        source: EbpfError,
    },
    /// The verifier does not accept the program.
    #[error("this kernel's verifier refuses the packet path:\n{log}")]
    Verifier {
        /// The end of its log.
        log: String,
        /// What the system call said.
        #[source]
        source: io::Error,
    },
    /// A program of somebody else is attached.
    #[error(
        "node.interfaces: {interface}: another XDP program is attached; take it off \
         (`ip link set dev {interface} xdp off`, or its own command) or leave the interface out"
    )]
    Foreign {
        /// The interface.
        interface: String,
    },
    /// The mode that the file asks for is not to be had.
    #[error(
        "node.datapath: {wanted}: {interface} does not take it: {source}; `auto` uses the best mode \
         that an interface has"
    )]
    Mode {
        /// The interface.
        interface: String,
        /// The mode.
        wanted: &'static str,
        /// What the kernel said.
        #[source]
        source: ProgramError,
    },
    /// Pinned state of another shape cannot be taken over.
    #[error(
        "the pinned flow tables cannot be taken over: {why}; start once with --drop-flows to begin \
         with empty ones (open connections are reset)"
    )]
    Unadoptable {
        /// What differs.
        why: String,
    },
    /// A pinned link is broken.
    #[error("the pinned link of {interface} cannot be used")]
    Link {
        /// The interface.
        interface: String,
        /// What aya says.
        #[source]
        source: LinkError,
    },
    /// A file could not be handled.
    #[error(transparent)]
    Pins(#[from] PinsError),
    /// A map could not be read or written.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A map could not be opened.
    #[error("cannot open map {name}")]
    Open {
        /// Which.
        name: &'static str,
        /// What aya says.
        #[source]
        source: AyaMapError,
    },
}

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

/// An interface to attach to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its name.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
    /// How the program runs there.
    pub mode: AttachMode,
}

/// The loaded packet path.
#[derive(Debug)]
pub struct Kernel {
    ebpf: Ebpf,
    pins: Pins,
    found: Found,
    /// The pins are those of our maps.
    pinned: bool,
    /// An attempt to attach has succeeded.
    attached: bool,
}

impl Kernel {
    /// Loads the program over the pinned maps, or over new ones. Nothing is attached yet, so
    /// that new maps can be filled first.
    pub fn open(pins: Pins, flows: u32, drop_flows: bool) -> Result<Self, KernelError> {
        let links = pins.links()?;
        let pinned = match pinned_shape(&pins, flows)? {
            // Nothing runs over them: a start that did not get far has left them.
            Shape::Other(_) if links.is_empty() => Shape::None,
            shape @ (Shape::None | Shape::Same | Shape::Resized | Shape::Other(_)) => shape,
        };
        let mut loader = EbpfLoader::new();
        for (name, entries) in sizes(flows) {
            loader.map_max_entries(name, entries);
        }
        if pinned == Shape::Same {
            for name in map::ALL {
                loader.map_pin_path(name, pins.map(name));
            }
        }
        let mut ebpf = loader.load(OBJECT).map_err(|source| KernelError::Load { source })?;
        load_program(&mut ebpf)?;
        let mut kernel = Self { ebpf, pins, found: Found::Nothing, pinned: false, attached: false };
        kernel.found = match pinned {
            Shape::None if links.is_empty() => Found::Nothing,
            Shape::Same => Found::Adopted,
            Shape::Resized => {
                kernel.copy_flows()?;
                Found::Copied
            }
            Shape::None | Shape::Other(_) if drop_flows => Found::Dropped,
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
        kernel.pinned = kernel.found == Found::Adopted;
        Ok(kernel)
    }

    /// What was found pinned.
    pub fn found(&self) -> Found {
        self.found
    }

    /// The maps, for reading and writing.
    pub fn maps(&self) -> Result<Maps, KernelError> {
        Maps::open(|name| duplicate(self.map_data(name)?, name))
    }

    fn map_data(&self, name: &'static str) -> Result<&MapData, KernelError> {
        use aya::maps::Map;
        match self.ebpf.map(name) {
            Some(Map::Array(data) | Map::HashMap(data) | Map::PerCpuArray(data)) => Ok(data),
            _ => Err(KernelError::Open {
                name,
                source: AyaMapError::InvalidName { name: name.to_owned() },
            }),
        }
    }

    /// Copies flows that are pinned in tables of another size. Flows that begin meanwhile are
    /// those of the last few milliseconds; their clients repeat the SYN.
    fn copy_flows(&self) -> Result<(), KernelError> {
        let new = self.maps()?;
        let old = Maps::open(|name| {
            let data = MapData::from_pin(self.pins.map(name))
                .map_err(|source| KernelError::Open { name, source })?;
            duplicate(&data, name)
        })?;
        copy(&old.targets, &new.targets)?;
        copy(&old.hops, &new.hops)?;
        copy(&old.target_states, &new.target_states)?;
        copy(&old.listener_states, &new.listener_states)?;
        // Listeners too, so that they keep the indices that flows name; the first change of
        // the tables brings the rest up to date.
        copy(&old.listeners, &new.listeners)?;
        copy(&old.slots, &new.slots)?;
        copy(&old.flows, &new.flows)?;
        copy(&old.half_open, &new.half_open)
    }

    /// Pins maps that are not pinned yet, in place of any of another shape.
    fn pin_maps(&mut self) -> Result<(), KernelError> {
        if self.pinned {
            return Ok(());
        }
        for name in map::ALL {
            let path = self.pins.map(name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(super::pins::failed("replace", &path)(error).into());
                }
                Ok(()) | Err(_) => {}
            }
            self.map_data(name)?.pin(&path).map_err(|error| KernelError::Open {
                name,
                source: AyaMapError::PinError { name: Some(name.to_owned()), error },
            })?;
        }
        self.pinned = true;
        Ok(())
    }

    /// Puts the program on these interfaces: links that are pinned are switched over in one
    /// step, the others are made; links of interfaces that are not named any more go. Called
    /// when the maps are filled, and again when a device was removed or made anew.
    pub fn attach(
        &mut self,
        interfaces: &[(String, u32)],
        wanted: DatapathMode,
    ) -> Result<Vec<Attachment>, KernelError> {
        self.pins.create()?;
        let attached = self.attach_all(interfaces, wanted);
        self.attached |= attached.is_ok();
        if !self.attached && self.found == Found::Nothing {
            // Nothing was there before, so nothing of a failed start is left.
            self.pins.clone().remove()?;
        }
        attached
    }

    fn attach_all(
        &mut self,
        interfaces: &[(String, u32)],
        wanted: DatapathMode,
    ) -> Result<Vec<Attachment>, KernelError> {
        if self.found == Found::Nothing {
            // Maps first: whoever finds links wants to find what they run over.
            self.pin_maps()?;
        }
        let mut pinned = self.pins.links()?;
        let mut attached = Vec::new();
        for (interface, ifindex) in interfaces {
            let index = pinned
                .iter()
                .position(|link| link.ifindex == *ifindex && mode_fits(link.mode, wanted));
            let taken = match index {
                Some(index) => self.take_over(&pinned.remove(index), interface)?,
                None => None,
            };
            let mode = match taken {
                Some(mode) => mode,
                None => self.attach_new(interface, *ifindex, wanted, &mut pinned)?,
            };
            attached.push(Attachment { interface: interface.clone(), ifindex: *ifindex, mode });
        }
        for left in pinned {
            remove_link(&left)?;
        }
        self.pin_maps()?;
        self.pins.remove_other_versions()?;
        Ok(attached)
    }

    /// Switches a pinned link to our program; `None` if its interface is gone.
    fn take_over(
        &mut self,
        pin: &LinkPin,
        interface: &str,
    ) -> Result<Option<AttachMode>, KernelError> {
        let broken = |source| KernelError::Link { interface: interface.to_owned(), source };
        let link = PinnedLink::from_pin(&pin.path).map_err(broken)?;
        let link = XdpLink::try_from(FdLink::from(link)).map_err(broken)?;
        let result = program(&mut self.ebpf).and_then(|program| {
            let id = program.attach_to_link(link)?;
            program.take_link(id)
        });
        match result {
            Ok(kept_by_its_pin) => drop(kept_by_its_pin),
            // The device was removed and made anew: the link is a husk (xdp_link_update).
            Err(ProgramError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::ENOLINK) =>
            {
                remove_link(pin)?;
                return Ok(None);
            }
            Err(source) => {
                let wanted = pin.mode.label();
                return Err(KernelError::Mode { interface: interface.to_owned(), wanted, source });
            }
        }
        let path = self.pins.link(pin.ifindex, pin.mode);
        if path != pin.path {
            // From another ABI version's directory, which goes when all links are moved.
            std::fs::rename(&pin.path, &path).map_err(super::pins::failed("move", &pin.path))?;
        }
        Ok(Some(pin.mode))
    }

    fn attach_new(
        &mut self,
        interface: &str,
        ifindex: u32,
        wanted: DatapathMode,
        pinned: &mut Vec<LinkPin>,
    ) -> Result<AttachMode, KernelError> {
        // A link in a mode that is not wanted any more must go first: one program a device.
        if let Some(index) = pinned.iter().position(|link| link.ifindex == ifindex) {
            remove_link(&pinned.remove(index))?;
        }
        let modes: &[(AttachMode, XdpMode)] = match wanted {
            DatapathMode::Xdp => &[(AttachMode::Xdp, XdpMode::Driver)],
            DatapathMode::XdpGeneric => &[(AttachMode::XdpGeneric, XdpMode::Skb)],
            DatapathMode::Auto | DatapathMode::Tc | DatapathMode::Proxy => {
                &[(AttachMode::Xdp, XdpMode::Driver), (AttachMode::XdpGeneric, XdpMode::Skb)]
            }
        };
        let mut last = None;
        for (mode, flag) in modes {
            let attached = program(&mut self.ebpf).and_then(|program| {
                let id = program.attach_to_if_index(ifindex, *flag)?;
                program.take_link(id)
            });
            let link = match attached {
                Ok(link) => link,
                Err(error) if is_busy(&error) => {
                    return Err(KernelError::Foreign { interface: interface.to_owned() });
                }
                Err(error) => {
                    let label = mode.label();
                    tracing::info!(interface, mode = label, %error, "mode is not to be had");
                    last = Some((label, error));
                    continue;
                }
            };
            let link = FdLink::try_from(link)
                .map_err(|source| KernelError::Link { interface: interface.to_owned(), source })?;
            link.pin(self.pins.link(ifindex, *mode)).map_err(|error| KernelError::Open {
                name: "link",
                source: AyaMapError::PinError { name: None, error },
            })?;
            return Ok(*mode);
        }
        let (wanted, source) = last.unwrap_or(("xdp", ProgramError::NotLoaded));
        Err(KernelError::Mode { interface: interface.to_owned(), wanted, source })
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, ProgramError> {
    ebpf.program_mut(XDP_PROGRAM).ok_or(ProgramError::NotLoaded)?.try_into()
}

/// Times the program is given to the verifier when a signal interrupts it; libbpf's number.
const LOAD_ATTEMPTS: u32 = 5;

fn load_program(ebpf: &mut Ebpf) -> Result<(), KernelError> {
    let mut attempt = 1;
    loop {
        match program(ebpf).and_then(Xdp::load) {
            Ok(()) => return Ok(()),
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.kind() == io::ErrorKind::WouldBlock && attempt < LOAD_ATTEMPTS =>
            {
                attempt += 1;
            }
            Err(ProgramError::LoadError { io_error, verifier_log }) => {
                let log = verifier::excerpt(&verifier_log.to_string());
                return Err(KernelError::Verifier { log, source: io_error });
            }
            Err(error) => return Err(KernelError::Load { source: error.into() }),
        }
    }
}

fn mode_fits(mode: AttachMode, wanted: DatapathMode) -> bool {
    match wanted {
        DatapathMode::Auto => true,
        DatapathMode::Xdp => mode == AttachMode::Xdp,
        DatapathMode::XdpGeneric => mode == AttachMode::XdpGeneric,
        DatapathMode::Tc => mode == AttachMode::Tc,
        DatapathMode::Proxy => false,
    }
}

/// `EBUSY`: another program is attached by a link; `EEXIST`: by netlink (`dev_xdp_attach`).
fn is_busy(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(error)
        if matches!(error.io_error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST)))
}

fn remove_link(pin: &LinkPin) -> Result<(), KernelError> {
    std::fs::remove_file(&pin.path)
        .map_err(|error| super::pins::failed("remove", &pin.path)(error).into())
}

fn duplicate(data: &MapData, name: &'static str) -> Result<OwnedFd, KernelError> {
    data.fd()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| KernelError::Open { name, source: AyaMapError::IoError(error) })
}

/// Copies a map.
fn copy<K, V>(old: &Table<K, V>, new: &Table<K, V>) -> Result<(), KernelError>
where
    K: Plain + Default,
    V: Plain + Default,
{
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    old.for_each(|key, value| {
        keys.push(*key);
        values.push(*value);
    })?;
    Ok(new.set_all(&keys, &values)?)
}
