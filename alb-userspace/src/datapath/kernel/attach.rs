//! Puts the program on the interfaces, and the maps in their place under it.

use std::{fs, io, os::fd::AsFd as _};

use alb_common::abi::{ABI_VERSION, map};
use aya::{
    maps::MapError as AyaMapError,
    programs::{
        LinkOrder, ProgramError, TcAttachType, XdpMode,
        links::{FdLink, LinkError},
        tc::TcAttachOptions,
    },
};

use super::{
    Attachment, Found, Kernel, KernelError, Place,
    links::{self, Link},
    programs::{self, Hook},
    recover, step,
};
use crate::{
    datapath::{
        capture,
        pins::{LinkPin, MapSet, Pins, failed},
        sys::filter,
    },
    model::DatapathMode,
    report::AttachMode,
};

/// Refuses interfaces that run an XDP program which none of our links has put there. At TC
/// programs live side by side.
pub(in crate::datapath) fn refuse_foreign(
    pins: &Pins,
    places: &[Place],
    wanted: DatapathMode,
) -> Result<(), KernelError> {
    if wanted == DatapathMode::Tc || places.iter().all(|place| place.programs.is_empty()) {
        return Ok(());
    }
    let ours = links::open(pins)?;
    for Place { interface, ifindex, programs } in places {
        for id in programs {
            let runs_here = |link: &Link| link.on == Some(*ifindex) && link.program == *id;
            if !ours.iter().any(runs_here) && !was_ours(pins, *id)? {
                return Err(KernelError::Foreign { interface: interface.clone() });
            }
        }
    }
    Ok(())
}

/// Whether a program that ran somewhere a moment ago is gone, or works on our maps: while a capture
/// begins or ends, another takes its place.
fn was_ours(pins: &Pins, id: u32) -> Result<bool, KernelError> {
    match links::maps_of(id) {
        Ok(maps) => Ok(!maps.is_disjoint(&recover::ids(pins, MapSet::Current)?)),
        Err(KernelError::NoProgram { .. }) => Ok(true),
        Err(error) => Err(error),
    }
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
        // What a capture that was killed has left runs nowhere any more.
        capture::put_back(&self.pins);
        attached
    }

    fn attach_all(
        &mut self,
        places: &[Place],
        wanted: DatapathMode,
    ) -> Result<Vec<Attachment>, KernelError> {
        refuse_foreign(&self.pins, places, wanted)?;
        self.pins.create_links()?;
        let _held = self.pins.hold_links()?;
        let mut pinned = if self.pinned { self.switch_links()? } else { self.replace_maps()? };
        for pin in &mut pinned {
            self.adopt(pin)?;
        }
        self.pins.remove_other_versions()?;

        let named = |pin: &LinkPin| places.iter().any(|place| place.ifindex == pin.ifindex);
        let (mut pinned, left): (Vec<_>, Vec<_>) = pinned.into_iter().partition(named);
        left.iter().try_for_each(LinkPin::remove)?;
        let candidates = candidates(wanted, pinned.first().map(|pin| pin.mode));
        let mut why = None;
        for (index, way) in candidates.iter().enumerate() {
            match self.attach_by(*way, places, &mut pinned) {
                Ok(mut attached) => {
                    for on in &mut attached {
                        on.why.clone_from(&why);
                    }
                    step::reached("attached");
                    return Ok(attached);
                }
                Err(KernelError::Mode { interface, wanted, source })
                    if index + 1 < candidates.len() =>
                {
                    tracing::info!(interface, mode = wanted, error = %source, "mode is not to be had");
                    why = Some(format!("{interface} does not take {wanted}: {source}"));
                }
                Err(error) => return Err(error),
            }
        }
        // Not reached: the last candidate's error is returned, and there is one.
        Ok(Vec::new())
    }

    /// Attaches to every interface in one way, or to none: what runs at XDP can send only to
    /// devices that take XDP's frames. `pinned` is kept true.
    fn attach_by(
        &mut self,
        way: Way,
        places: &[Place],
        pinned: &mut Vec<LinkPin>,
    ) -> Result<Vec<Attachment>, KernelError> {
        let mut attached = Vec::new();
        let mut new_pins = Vec::new();
        for Place { interface, ifindex, .. } in places {
            let here = |pin: &LinkPin| pin.ifindex == *ifindex;
            let kept = pinned.iter().find(|pin| here(pin) && way.fits(pin.mode));
            let mode = if let Some(mode) = kept.map(|pin| pin.mode) {
                // A start that was killed may have left another beside it.
                for pin in pinned.extract_if(.., |pin| here(pin) && pin.mode != mode) {
                    pin.remove()?;
                }
                mode
            } else {
                // What is not wanted any more goes when the new one is there; but a device takes
                // one program of a kind.
                let (same, other): (Vec<_>, Vec<_>) = pinned
                    .extract_if(.., |pin| here(pin))
                    .partition(|pin| Hook::of(pin.mode) == way.hook());
                same.iter().try_for_each(LinkPin::remove)?;
                let new = match self.attach_new(interface, *ifindex, way) {
                    Ok(new) => new,
                    Err(error) => {
                        pinned.extend(other);
                        new_pins.iter().try_for_each(LinkPin::remove)?;
                        return Err(error);
                    }
                };
                other.iter().try_for_each(LinkPin::remove)?;
                step::reached(&format!("link {} made", attached.len() + 1));
                new_pins.push(self.pin_of(*ifindex, new));
                new
            };
            let interface = interface.clone();
            attached.push(Attachment { interface, ifindex: *ifindex, mode, why: None });
        }
        pinned.append(&mut new_pins);
        Ok(attached)
    }

    fn pin_of(&self, ifindex: u32, mode: AttachMode) -> LinkPin {
        LinkPin { path: self.pins.link(ifindex, mode), ifindex, mode, version: ABI_VERSION }
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
        programs::leave(&mut self.ebpf, &self.pins, &self.pins.links()?)?;
        if let Some(carry) = &mut self.carry {
            carry.hush(&new)?;
        }
        let switched = self.switch_links();
        if switched.is_err() {
            // All links are as they were.
            if let Some(carry) = &self.carry {
                carry.speak(&new)?;
            }
            self.pins.remove_next()?;
        }
        let pinned = switched?;
        if let Some(mut carry) = self.carry.take() {
            carry.latest(&new)?;
            step::reached("latest flows copied");
            carry.merge(&new)?;
            carry.speak(&new)?;
            step::reached("flows merged");
        }
        self.pins.exchange()?;
        self.pinned = true;
        step::reached("maps exchanged");
        programs::tidy(&self.pins)?;
        self.pins.remove_next()?;
        Ok(pinned)
    }

    /// Makes the flow tables equal to those that are carried over.
    pub(super) fn mirror(&mut self, new: &super::Maps) -> Result<(), KernelError> {
        let Some(carry) = &mut self.carry else { return Ok(()) };
        carry.mirror(new, self.room)
    }

    fn switch_links(&mut self) -> Result<Vec<LinkPin>, KernelError> {
        let links = links::open(&self.pins)?;
        links::switch_all(links, |hook| programs::fd(&mut self.ebpf, hook))
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
        way: Way,
    ) -> Result<AttachMode, KernelError> {
        let flag = match way {
            Way::Xdp => XdpMode::Driver,
            Way::XdpGeneric => XdpMode::Skb,
            Way::Tc => return self.attach_tc(interface, ifindex),
        };
        let program = programs::xdp(&mut self.ebpf)?;
        let link = program.attach_to_if_index(ifindex, flag).and_then(|id| program.take_link(id));
        let link = match link {
            Ok(link) => FdLink::try_from(link),
            Err(error) if is_busy(&error) => {
                return Err(KernelError::Foreign { interface: interface.to_owned() });
            }
            Err(source) => {
                let interface = interface.to_owned();
                return Err(KernelError::Mode { interface, wanted: way.label(), source });
            }
        };
        let mode = if way == Way::Xdp { AttachMode::Xdp } else { AttachMode::XdpGeneric };
        self.pin(link, interface, ifindex, mode)
    }

    /// Attaches at TC ingress: by a link, or by a filter where the kernel has no links there.
    fn attach_tc(&mut self, interface: &str, ifindex: u32) -> Result<AttachMode, KernelError> {
        let program = programs::tc(&mut self.ebpf)?;
        let last = TcAttachOptions::TcxOrder(LinkOrder::default());
        let link = if step::wants_filter() {
            Err(io::Error::from_raw_os_error(libc::EINVAL))
        } else {
            let link = program
                .attach_with_options(interface, TcAttachType::Ingress, last)
                .and_then(|id| program.take_link(id));
            match link {
                Ok(link) => Ok(link),
                Err(ProgramError::SyscallError(error)) => Err(error.io_error),
                Err(source) => return Err(not_to_be_had(interface, source)),
            }
        };
        let error = match link {
            Ok(link) => {
                return self.pin(FdLink::try_from(link), interface, ifindex, AttachMode::Tc);
            }
            Err(error) => error,
        };
        // What a kernel says to a kind of link that it does not know.
        if error.raw_os_error() != Some(libc::EINVAL) {
            return Err(not_to_be_had(interface, ProgramError::IOError(error)));
        }
        let set = |error| not_to_be_had(interface, ProgramError::IOError(error));
        if filter::program(ifindex).map_err(set)?.is_some() {
            return Err(KernelError::ForeignFilter { interface: interface.to_owned() });
        }
        let program = programs::fd(&mut self.ebpf, Hook::Tc)?;
        let pin = self.pin_of(ifindex, AttachMode::TcFilter);
        match links::set_filter(&pin, program.as_fd()) {
            Ok(()) => Ok(AttachMode::TcFilter),
            Err(error) => {
                pin.remove()?;
                Err(set(error))
            }
        }
    }

    fn pin(
        &self,
        link: Result<FdLink, LinkError>,
        interface: &str,
        ifindex: u32,
        mode: AttachMode,
    ) -> Result<AttachMode, KernelError> {
        let interface = interface.to_owned();
        let link = link.map_err(|source| KernelError::NotALink { interface, source })?;
        link.pin(self.pins.link(ifindex, mode)).map_err(|error| KernelError::Open {
            name: "link",
            source: AyaMapError::PinError { name: None, error },
        })?;
        Ok(mode)
    }
}

/// A way to attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Xdp,
    Tc,
    XdpGeneric,
}

impl Way {
    const ALL: [Self; 3] = [Self::Xdp, Self::Tc, Self::XdpGeneric];

    const fn label(self) -> &'static str {
        match self {
            Self::Xdp => "native XDP",
            Self::Tc => "TC",
            Self::XdpGeneric => "generic XDP",
        }
    }

    const fn hook(self) -> Hook {
        match self {
            Self::Xdp | Self::XdpGeneric => Hook::Xdp,
            Self::Tc => Hook::Tc,
        }
    }

    const fn fits(self, mode: AttachMode) -> bool {
        match mode {
            AttachMode::Xdp => matches!(self, Self::Xdp),
            AttachMode::XdpGeneric => matches!(self, Self::XdpGeneric),
            AttachMode::Tc | AttachMode::TcFilter => matches!(self, Self::Tc),
        }
    }
}

/// The ways to try, in order: with `auto` first the one that is in use already.
fn candidates(wanted: DatapathMode, used: Option<AttachMode>) -> Vec<Way> {
    match wanted {
        DatapathMode::Xdp => vec![Way::Xdp],
        DatapathMode::XdpGeneric => vec![Way::XdpGeneric],
        DatapathMode::Tc => vec![Way::Tc],
        DatapathMode::Auto | DatapathMode::Proxy => {
            let mut ways = Way::ALL.to_vec();
            ways.sort_by_key(|way| used.is_none_or(|mode| !way.fits(mode)));
            ways
        }
    }
}

fn not_to_be_had(interface: &str, source: ProgramError) -> KernelError {
    KernelError::Mode { interface: interface.to_owned(), wanted: Way::Tc.label(), source }
}

/// `EBUSY`: another program is attached by a link; `EEXIST`: by netlink (`dev_xdp_attach`).
fn is_busy(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(error)
        if matches!(error.io_error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_in_order() {
        for (wanted, used, expected) in [
            (DatapathMode::Auto, None, [Way::Xdp, Way::Tc, Way::XdpGeneric].as_slice()),
            (DatapathMode::Auto, Some(AttachMode::Xdp), &[Way::Xdp, Way::Tc, Way::XdpGeneric]),
            (DatapathMode::Auto, Some(AttachMode::TcFilter), &[Way::Tc, Way::Xdp, Way::XdpGeneric]),
            (
                DatapathMode::Auto,
                Some(AttachMode::XdpGeneric),
                &[Way::XdpGeneric, Way::Xdp, Way::Tc],
            ),
            (DatapathMode::Tc, Some(AttachMode::Xdp), &[Way::Tc]),
            (DatapathMode::Xdp, None, &[Way::Xdp]),
            (DatapathMode::XdpGeneric, None, &[Way::XdpGeneric]),
        ] {
            assert_eq!(candidates(wanted, used), expected, "{wanted:?} {used:?}");
        }
    }
}
