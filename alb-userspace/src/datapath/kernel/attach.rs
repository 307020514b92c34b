//! Puts the program on the interfaces, and the maps in their place under it.

use std::{fs, os::fd::AsFd as _};

use alb_common::{abi::map, limits};
use aya::{
    maps::MapError as AyaMapError,
    programs::{ProgramError, XdpMode, links::FdLink},
};

use super::{Attachment, Found, Kernel, KernelError, Place, links, program_mut, step};
use crate::{
    datapath::pins::{LinkPin, MapSet, Pins, failed},
    model::DatapathMode,
    report::AttachMode,
};

/// Refuses interfaces that run a program which none of our links has put there.
pub(in crate::datapath) fn refuse_foreign(
    pins: &Pins,
    places: &[Place],
) -> Result<(), KernelError> {
    if places.iter().all(|place| place.programs.is_empty()) {
        return Ok(());
    }
    let ours = links::open(pins)?;
    for Place { interface, ifindex, programs } in places {
        let is_ours =
            |id: &u32| ours.iter().any(|link| link.on == Some(*ifindex) && link.program == *id);
        if !programs.iter().all(is_ours) {
            return Err(KernelError::Foreign { interface: interface.clone() });
        }
    }
    Ok(())
}

impl Kernel {
    /// Puts the program on these interfaces: links that are pinned are switched over, the others
    /// are made; links of interfaces that are not named any more go. Called when the maps are
    /// filled, and again when a device was removed or made anew.
    pub fn attach(
        &mut self,
        places: &[Place],
        wanted: DatapathMode,
    ) -> Result<Vec<Attachment>, KernelError> {
        let attached = self.attach_all(places, wanted);
        self.attached |= attached.is_ok();
        if !self.attached && self.found == Found::Nothing {
            // Nothing was there before, so nothing of a failed start is left.
            self.pins.clone().remove()?;
        }
        attached
    }

    fn attach_all(
        &mut self,
        places: &[Place],
        wanted: DatapathMode,
    ) -> Result<Vec<Attachment>, KernelError> {
        refuse_foreign(&self.pins, places)?;
        self.pins.create_links()?;
        let mut pinned = if self.pinned { self.switch_links()? } else { self.replace_maps()? };
        for pin in &mut pinned {
            self.adopt(pin)?;
        }
        self.pins.remove_other_versions()?;

        let named = |pin: &LinkPin| places.iter().any(|place| place.ifindex == pin.ifindex);
        for left in pinned.iter().filter(|pin| !named(pin)) {
            links::remove(left)?;
        }
        let mut attached = Vec::new();
        for Place { interface, ifindex, .. } in places {
            let on: Vec<_> = pinned.iter().filter(|pin| pin.ifindex == *ifindex).collect();
            let kept = on.iter().find(|pin| mode_fits(pin.mode, wanted)).map(|pin| pin.mode);
            let mode = if let Some(mode) = kept {
                mode
            } else {
                // One program a device: a link in a mode that is not wanted any more goes first.
                for pin in on {
                    links::remove(pin)?;
                }
                let mode = self.attach_new(interface, *ifindex, wanted)?;
                step::reached(&format!("link {} made", attached.len() + 1));
                mode
            };
            attached.push(Attachment { interface: interface.clone(), ifindex: *ifindex, mode });
        }
        step::reached("attached");
        Ok(attached)
    }

    /// Puts our maps in the place of those that are pinned, and our program on every link. A
    /// process that dies on the way leaves traffic to one of the two sets or, while links are
    /// switched, to both; see `recover`.
    fn replace_maps(&mut self) -> Result<Vec<LinkPin>, KernelError> {
        self.pins.create_next()?;
        step::reached("directory made");
        for (count, name) in (1..).zip(map::ALL) {
            let path = self.pins.map(MapSet::Next, name);
            super::map_data(&self.ebpf, name)?.pin(&path).map_err(|error| KernelError::Open {
                name,
                source: AyaMapError::PinError { name: Some(name.to_owned()), error },
            })?;
            if count == map::ALL.len() / 2 {
                step::reached("half of the maps pinned");
            }
        }
        step::reached("all maps pinned");
        let new = self.maps()?;
        self.mirror(&new)?;
        if let Some(carry) = &mut self.carry {
            carry.catch_up(&new)?;
            step::reached("flows copied");
        }
        let switched = self.switch_links();
        if switched.is_err() {
            // All links are as they were.
            self.pins.remove_next()?;
        }
        let pinned = switched?;
        if let Some(mut carry) = self.carry.take() {
            carry.latest(&new)?;
            step::reached("latest flows copied");
            carry.merge(&new)?;
            step::reached("flows merged");
        }
        self.pins.exchange()?;
        self.pinned = true;
        step::reached("maps exchanged");
        self.pins.remove_next()?;
        Ok(pinned)
    }

    /// Makes the flow tables equal to those that are carried over.
    pub(super) fn mirror(&mut self, new: &super::Maps) -> Result<(), KernelError> {
        let flows = self.flows;
        let rings = (limits::half_open_for(flows), limits::closed_ring_for(flows));
        let Some(carry) = &mut self.carry else { return Ok(()) };
        carry.mirror(new, flows, rings)
    }

    fn switch_links(&mut self) -> Result<Vec<LinkPin>, KernelError> {
        let program = program_mut(&mut self.ebpf).and_then(|program| program.fd());
        let program = program.map_err(|error| KernelError::Load { source: error.into() })?;
        links::switch_all(links::open(&self.pins)?, program.as_fd())
    }

    /// Takes a link in from another ABI version's directory, which goes when all are moved.
    fn adopt(&self, pin: &mut LinkPin) -> Result<(), KernelError> {
        let path = self.pins.link(pin.ifindex, pin.mode);
        if path != pin.path {
            fs::rename(&pin.path, &path).map_err(failed("move", &pin.path))?;
            pin.path = path;
        }
        Ok(())
    }

    fn attach_new(
        &mut self,
        interface: &str,
        ifindex: u32,
        wanted: DatapathMode,
    ) -> Result<AttachMode, KernelError> {
        let modes: &[(AttachMode, XdpMode)] = match wanted {
            DatapathMode::Xdp => &[(AttachMode::Xdp, XdpMode::Driver)],
            DatapathMode::XdpGeneric => &[(AttachMode::XdpGeneric, XdpMode::Skb)],
            DatapathMode::Auto | DatapathMode::Tc | DatapathMode::Proxy => {
                &[(AttachMode::Xdp, XdpMode::Driver), (AttachMode::XdpGeneric, XdpMode::Skb)]
            }
        };
        let mut last = None;
        for (mode, flag) in modes {
            let attached = program_mut(&mut self.ebpf).and_then(|program| {
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
            let link = FdLink::try_from(link).map_err(|source| KernelError::NotALink {
                interface: interface.to_owned(),
                source,
            })?;
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
