//! The programs of the object: one for the XDP hooks, one for TC, each with its IPv6 part, which it
//! leaves packets to. Each is given to the verifier when it is first asked for.

use std::{
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
};

use alb_common::abi::{TC_PROGRAM, TC6_PROGRAM, XDP_PROGRAM, XDP6_PROGRAM, map};
use aya::{
    Ebpf,
    maps::{MapError as AyaMapError, ProgramArray},
    programs::{ProgramError, SchedClassifier, Xdp},
};

use super::KernelError;
use crate::{
    datapath::{
        pins::{LinkPin, MapSet, Pins, failed},
        sys::link,
        verifier,
    },
    report::AttachMode,
};

/// Times a program is given to the verifier when a signal interrupts it; libbpf's number.
const LOAD_ATTEMPTS: u32 = 5;

/// A kind of hook, and so of program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::datapath) enum Hook {
    Xdp,
    Tc,
}

impl Hook {
    pub(in crate::datapath) const fn of(mode: AttachMode) -> Self {
        match mode {
            AttachMode::Xdp | AttachMode::XdpGeneric => Self::Xdp,
            AttachMode::Tc | AttachMode::TcFilter => Self::Tc,
        }
    }

    pub(in crate::datapath) const fn program(self) -> &'static str {
        match self {
            Self::Xdp => XDP_PROGRAM,
            Self::Tc => TC_PROGRAM,
        }
    }
}

/// The XDP program of an object in which it is loaded.
pub(in crate::datapath) fn program(ebpf: &Ebpf) -> Result<&Xdp, ProgramError> {
    ebpf.program(XDP_PROGRAM).ok_or(ProgramError::NotLoaded)?.try_into()
}

/// The XDP program, loaded.
pub(in crate::datapath) fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, KernelError> {
    if load_xdp(ebpf, XDP6_PROGRAM)? | load_xdp(ebpf, XDP_PROGRAM)? {
        join(ebpf, map::XDP_PARTS, XDP6_PROGRAM)?;
    }
    let program = ebpf.program_mut(XDP_PROGRAM).ok_or(ProgramError::NotLoaded);
    program.and_then(TryInto::try_into).map_err(refused)
}

/// Loads a program unless it is; whether it was not.
fn load_xdp(ebpf: &mut Ebpf, name: &str) -> Result<bool, KernelError> {
    let program = ebpf.program_mut(name).ok_or(ProgramError::NotLoaded);
    let program: &mut Xdp = program.and_then(TryInto::try_into).map_err(refused)?;
    let is_new = program.fd().is_err();
    if is_new {
        retry(|| program.load())?;
    }
    Ok(is_new)
}

/// The TC program, loaded.
pub(super) fn tc(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, KernelError> {
    if load_tc(ebpf, TC6_PROGRAM)? | load_tc(ebpf, TC_PROGRAM)? {
        join(ebpf, map::TC_PARTS, TC6_PROGRAM)?;
    }
    let program = ebpf.program_mut(TC_PROGRAM).ok_or(ProgramError::NotLoaded);
    program.and_then(TryInto::try_into).map_err(refused)
}

fn load_tc(ebpf: &mut Ebpf, name: &str) -> Result<bool, KernelError> {
    let program = ebpf.program_mut(name).ok_or(ProgramError::NotLoaded);
    let program: &mut SchedClassifier = program.and_then(TryInto::try_into).map_err(refused)?;
    let is_new = program.fd().is_err();
    if is_new {
        retry(|| program.load())?;
    }
    Ok(is_new)
}

/// Loads a program of another object that has this kind of hook; its id and descriptor.
pub(in crate::datapath) fn load_alone(
    ebpf: &mut Ebpf,
    hook: Hook,
    name: &'static str,
) -> Result<(u32, OwnedFd), KernelError> {
    match hook {
        Hook::Xdp => load_xdp(ebpf, name)?,
        Hook::Tc => load_tc(ebpf, name)?,
    };
    let program = ebpf.program(name).ok_or(ProgramError::NotLoaded).map_err(refused)?;
    let id = program.info().map_err(refused)?.id();
    let fd = program.fd().map_err(refused)?.as_fd().try_clone_to_owned();
    Ok((id, fd.map_err(|error| refused(ProgramError::IOError(error)))?))
}

/// Puts an IPv6 program where its hook's program leaves packets to it. What is there already is of
/// the same ABI version, so it matters to none of them when it is replaced.
fn join(ebpf: &mut Ebpf, parts: &'static str, program: &str) -> Result<(), KernelError> {
    let program = ebpf.program(program).ok_or(ProgramError::NotLoaded);
    let program = program.and_then(aya::programs::Program::fd).map_err(refused)?;
    let program = program.try_clone().map_err(|error| refused(ProgramError::IOError(error)))?;
    let failed = |source| KernelError::Open { name: parts, source };
    let absent = || AyaMapError::InvalidName { name: parts.to_owned() };
    let map = ebpf.map_mut(parts).ok_or_else(absent).map_err(failed)?;
    let mut array = ProgramArray::try_from(map).map_err(failed)?;
    array.set(0, &program, 0).map_err(failed)
}

/// The program for a hook, loaded.
pub(super) fn fd(ebpf: &mut Ebpf, hook: Hook) -> Result<OwnedFd, KernelError> {
    let fd = match hook {
        Hook::Xdp => xdp(ebpf)?.fd(),
        Hook::Tc => tc(ebpf)?.fd(),
    };
    let fd = fd.map_err(refused)?.as_fd().try_clone_to_owned();
    fd.map_err(|error| refused(ProgramError::IOError(error)))
}

/// Leaves the programs that these links run beside the next maps: if this process dies while it
/// switches links, whoever finishes that needs one for each hook.
pub(super) fn leave(ebpf: &mut Ebpf, pins: &Pins, links: &[LinkPin]) -> Result<(), KernelError> {
    for hook in [Hook::Xdp, Hook::Tc] {
        if links.iter().any(|pin| Hook::of(pin.mode) == hook) {
            let path = pins.map(MapSet::Next, hook.program());
            link::pin(fd(ebpf, hook)?.as_fd(), &path).map_err(failed("pin", &path))?;
        }
    }
    Ok(())
}

/// A program that was left, for a hook.
pub(super) fn left(pins: &Pins, hook: Hook) -> Result<OwnedFd, KernelError> {
    let path = pins.map(MapSet::Next, hook.program());
    Ok(link::open(&path).map_err(failed("open", &path))?)
}

/// Removes what [`leave`] left, now that the maps are the current ones.
pub(super) fn tidy(pins: &Pins) -> Result<(), KernelError> {
    for hook in [Hook::Xdp, Hook::Tc] {
        let path = pins.map(MapSet::Current, hook.program());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &path)(error).into());
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn retry(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), KernelError> {
    let mut attempt = 1;
    loop {
        match load() {
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
            Err(error) => return Err(refused(error)),
        }
    }
}

fn refused(error: ProgramError) -> KernelError {
    KernelError::Load { source: error.into() }
}
