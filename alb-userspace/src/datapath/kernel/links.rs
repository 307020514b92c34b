//! Pinned links: what runs on them, and how all of them are switched to another program. A filter
//! is a link too here; pinned is its program, which tells that the filter is ours.

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use aya::programs::{ProgramFd, ProgramInfo, loaded_programs};

use super::{KernelError, programs::Hook, step};
use crate::{
    datapath::{
        pins::{LinkPin, Pins},
        sys::{filter, link},
    },
    report::AttachMode,
};

/// A pinned link as it is now.
#[derive(Debug)]
pub(in crate::datapath) struct Link {
    pub(in crate::datapath) pin: LinkPin,
    /// Of a filter: of the pinned program.
    fd: OwnedFd,
    /// Id of the program that runs on it.
    pub(in crate::datapath) program: u32,
    /// Interface it is on; `None` = its device is gone, and it cannot be put to use again.
    pub(in crate::datapath) on: Option<u32>,
}

/// Opens all pinned links.
pub(in crate::datapath) fn open(pins: &Pins) -> Result<Vec<Link>, KernelError> {
    pins.links()?
        .into_iter()
        .map(|pin| {
            let fd = link::open(&pin.path).map_err(broken("open", &pin))?;
            if pin.mode == AttachMode::TcFilter {
                let program = filter::program(pin.ifindex).map_err(broken("look at", &pin))?;
                let on = program.map(|_| pin.ifindex);
                return Ok(Link { pin, fd, program: program.unwrap_or(0), on });
            }
            let info = link::info(fd.as_fd()).map_err(broken("look at", &pin))?;
            let on = (info.ifindex != 0).then_some(info.ifindex);
            Ok(Link { pin, fd, program: info.program, on })
        })
        .collect()
}

/// A program that runs somewhere.
pub(in crate::datapath) fn program(id: u32) -> Result<ProgramInfo, KernelError> {
    // Others come and go while we look.
    let mut programs = loaded_programs().filter_map(Result::ok);
    programs.find(|program| program.id() == id).ok_or(KernelError::NoProgram { id })
}

/// Ids of the maps that a link's program works on.
pub(super) fn maps_under(link: &Link) -> Result<BTreeSet<u32>, KernelError> {
    maps_of(link.program)
}

/// Ids of the maps that a program works on.
pub(super) fn maps_of(id: u32) -> Result<BTreeSet<u32>, KernelError> {
    let ids = program(id)?.map_ids().map_err(KernelError::Programs)?;
    Ok(ids.unwrap_or_default().into_iter().collect())
}

/// Puts the program for its hook on every link, or changes none; those whose device is gone are
/// removed. Returns the pins of the others.
pub(super) fn switch_all(
    links: Vec<Link>,
    mut program: impl FnMut(Hook) -> Result<OwnedFd, KernelError>,
) -> Result<Vec<LinkPin>, KernelError> {
    let (links, husks): (Vec<_>, Vec<_>) = links.into_iter().partition(|link| link.on.is_some());
    husks.iter().try_for_each(|husk| husk.pin.remove())?;
    let mut before = Vec::new();
    for link in &links {
        // Held, so that they are there to go back to.
        before.push(self::program(link.program)?.fd().map_err(KernelError::Programs)?);
    }
    let mut switched: Vec<(Link, ProgramFd)> = Vec::new();
    for (link, before) in links.into_iter().zip(before) {
        let switched_to = program(Hook::of(link.pin.mode));
        match switched_to.and_then(|program| switch(&link, program.as_fd())) {
            Ok(true) => switched.push((link, before)),
            Ok(false) => continue,
            Err(error) => {
                for (link, before) in switched.into_iter().rev() {
                    if let Err(error) = switch(&link, before.as_fd()) {
                        tracing::error!(%error, "cannot go back to the program before");
                    }
                }
                return Err(error);
            }
        }
        step::reached(&format!("link {} switched", switched.len()));
    }
    Ok(switched.into_iter().map(|(link, _)| link.pin).collect())
}

/// Puts a program on a link; `false` if its device is gone, and the link with it.
pub(super) fn switch(link: &Link, program: BorrowedFd<'_>) -> Result<bool, KernelError> {
    let switched = match link.pin.mode {
        AttachMode::TcFilter => set_filter(&link.pin, program),
        AttachMode::Xdp | AttachMode::XdpGeneric | AttachMode::Tc => {
            link::update(link.fd.as_fd(), program)
        }
    };
    match switched {
        Ok(()) => Ok(true),
        // The device was removed: the link is a husk (`bpf_xdp_link_update`, `tcx_link_update`).
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOLINK | libc::ENODEV)) => {
            link.pin.remove()?;
            Ok(false)
        }
        Err(error) => Err(broken("switch", &link.pin)(error)),
    }
}

/// Puts a program on a link if the one before is what runs there by now; whether it did. The links are
/// held ([`Pins::hold_links`]): with a filter this is not one step.
pub(in crate::datapath) fn replace(
    link: &Link,
    (id, before): (u32, BorrowedFd<'_>),
    program: BorrowedFd<'_>,
) -> Result<bool, KernelError> {
    let Link { pin, fd, .. } = link;
    let replaced = match pin.mode {
        AttachMode::TcFilter => match filter::program(pin.ifindex) {
            Ok(found) if found != Some(id) => return Ok(false),
            Ok(_) => set_filter(pin, program),
            Err(error) => Err(error),
        },
        AttachMode::Xdp | AttachMode::XdpGeneric | AttachMode::Tc => {
            link::replace(fd.as_fd(), before, program)
        }
    };
    match replaced {
        Ok(()) => Ok(true),
        Err(error)
            if matches!(
                error.raw_os_error(),
                // Another runs there; or the device was removed.
                Some(libc::EPERM | libc::ENOLINK | libc::ENODEV)
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(broken("switch", pin)(error)),
    }
}

/// Puts a program on an interface by a filter, and pins it in the place of the one before.
pub(super) fn set_filter(pin: &LinkPin, program: BorrowedFd<'_>) -> io::Result<()> {
    // Pinned first: a filter without a pin would be somebody else's.
    let new = pin.path.with_file_name(format!("{}-new", pin.ifindex));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    link::pin(program, &new)?;
    fs::rename(&new, &pin.path)?;
    filter::put(pin.ifindex, program)
}

fn broken(action: &'static str, pin: &LinkPin) -> impl FnOnce(io::Error) -> KernelError {
    let path = pin.path.clone();
    move |source| KernelError::Link { action, path, source }
}
