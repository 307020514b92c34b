//! Why the packet path could not be put in place.

use std::{io, path::PathBuf};

use aya::{
    EbpfError,
    maps::MapError as AyaMapError,
    programs::{ProgramError, links::LinkError},
};

use crate::datapath::{maps::MapError, pins::PinsError};

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
    #[error(
        "this kernel's verifier refuses the packet path, which is made for Linux 6.1 and later \
         (`alb doctor`; `node.datapath: proxy` does without):\n{log}"
    )]
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
    /// Somebody has a filter at our place.
    #[error(
        "node.interfaces: {interface}: another filter has our priority and handle at TC ingress, of \
         another alb perhaps; take it off (`tc filter del dev {interface} ingress`) or leave the \
         interface out"
    )]
    ForeignFilter {
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
    /// The flows that are open do not fit into the tables asked for.
    #[error(
        "node.flows: {wanted}: {open} flows are open; raise it to {open} or more, or start once with \
         --drop-flows to begin with empty tables (open connections are reset)"
    )]
    TooSmall {
        /// What the file asks for.
        wanted: u32,
        /// Flows in the pinned tables.
        open: usize,
    },
    /// A pinned link is broken.
    #[error("cannot {action} the pinned link {}", path.display())]
    Link {
        /// What was tried.
        action: &'static str,
        /// Its file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel has no links for the device.
    #[error("{interface} takes no link, so the program cannot stay when the daemon ends")]
    NotALink {
        /// The interface.
        interface: String,
        /// What aya says.
        #[source]
        source: LinkError,
    },
    /// What runs on a link could not be asked for.
    #[error("cannot look at the loaded programs")]
    Programs(#[source] ProgramError),
    /// A link's program is not among those loaded.
    #[error("program {id} of a pinned link is not among the loaded ones")]
    NoProgram {
        /// Its id.
        id: u32,
    },
    /// The flow tables need seeds that nobody can guess.
    #[error("the operating system gave no randomness for the flow tables")]
    Randomness,
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
