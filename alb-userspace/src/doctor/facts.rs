//! What is known of the host: plain data, so that every check can be tested without one.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use crate::{
    model::{DatapathMode, PortRange},
    net::{Interface, MacAddr},
};

/// Everything the checks look at.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What `alb run` would use.
    pub planned: PlannedUse,
    /// The running kernel.
    pub kernel: Kernel,
    /// What this process may do.
    pub process: Process,
    /// Where maps and links would be pinned.
    pub bpffs: BpfFs,
    /// Interfaces of this network namespace, loopback excepted.
    pub interfaces: Vec<InterfaceFacts>,
    /// VIPs that no interface has, where the file names no interface to put them on.
    pub unplaced: Vec<IpAddr>,
    /// Local ports.
    pub ports: Ports,
    /// Targets named in the file.
    pub targets: Vec<TargetFacts>,
    /// `gc_thresh3` of `net.ipv4.neigh.default` and `net.ipv6.neigh.default`, neighbours the kernel
    /// keeps at most; `None` where it cannot be seen (other network namespaces).
    pub neighbour_limits: [Option<usize>; 2],
}

/// What `alb run` would use: from the file, else the defaults.
#[derive(Clone, Debug)]
pub struct PlannedUse {
    /// Interfaces the file names; empty = no file, look at all of them. (A proxy without a packet
    /// path needs none.)
    pub interfaces: Vec<String>,
    /// Where the packet path is to run.
    pub datapath: DatapathMode,
    /// Ports towards targets.
    pub snat: PortRange,
}

/// The running kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// As in `uname -r`.
    pub release: String,
    /// Its build options; `None` if they can be read nowhere.
    pub config: Option<KernelConfig>,
    /// Type information is at `/sys/kernel/btf/vmlinux`.
    pub btf: bool,
    /// `net.core.bpf_jit_enable`; `None` where it cannot be seen (other network namespaces).
    pub jit: Option<u32>,
}

/// A kernel's build options.
#[derive(Clone, Debug)]
pub struct KernelConfig {
    /// File they were read from.
    pub source: PathBuf,
    /// Value by name without `CONFIG_`; unset ones are absent.
    pub options: BTreeMap<String, String>,
}

/// What this process may do.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// Effective capabilities, bit = number.
    pub capabilities: u64,
    /// Soft limit of open files.
    pub open_files: u64,
}

/// Where maps and links would be pinned.
#[derive(Clone, Debug)]
pub struct BpfFs {
    /// The directory.
    pub path: PathBuf,
    /// It, or what of it exists, is on a bpffs.
    pub mounted: bool,
    /// It exists and holds something.
    pub pinned: bool,
    /// This process sees other mounts than the host's first process; `None` = unknown.
    pub private_mounts: Option<bool>,
}

/// One interface.
#[derive(Clone, Debug)]
pub struct InterfaceFacts {
    /// As netlink has it.
    pub interface: Interface,
    /// Name of its driver, as in `ethtool -i`.
    pub driver: Option<String>,
    /// Offloads that are on, as `ethtool -k` calls them inside: `rx-gro`, `tx-checksum-ip-generic`, …
    pub features: BTreeSet<String>,
    /// Reverse path filter in force: 0 off, 1 strict, 2 loose.
    pub rp_filter: Option<u32>,
    /// Whether it takes packets from addresses of this host: 0 no, 1 yes.
    pub accept_local: Option<u32>,
}

/// Local ports of this network namespace.
#[derive(Clone, Debug)]
pub struct Ports {
    /// `net.ipv4.ip_local_port_range`, inclusive.
    pub ephemeral: Option<(u16, u16)>,
    /// `net.ipv4.ip_local_reserved_ports`, inclusive ranges.
    pub reserved: Vec<(u16, u16)>,
    /// Listening TCP sockets.
    pub listening: BTreeSet<SocketAddr>,
}

/// One address that targets are at.
#[derive(Clone, Copy, Debug)]
pub struct TargetFacts {
    /// The address.
    pub address: IpAddr,
    /// How it is reached.
    pub reach: Reach,
}

/// How an address is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// There is no route, or it does not lead over a link.
    NoRoute,
    /// By this neighbour: the address itself, or a router.
    Neighbour {
        /// Its address.
        address: IpAddr,
        /// Its MAC; `None` = it does not answer.
        mac: Option<MacAddr>,
    },
}
