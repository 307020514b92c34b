//! Reading the facts from the running system. What cannot be read is unknown, not an error:
//! the checks say what that means.

mod proc;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Read,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use flate2::read::GzDecoder;
use futures_util::{StreamExt, stream};
use nix::sys::{
    resource::{Resource, getrlimit},
    statfs::{BPF_FS_MAGIC, statfs},
};

use super::{
    BpfFs, Facts, InterfaceFacts, Kernel, KernelConfig, PlannedUse, Ports, Process, Reach,
    TargetFacts,
    ethtool::{self, Features},
};
use crate::{
    config::SNAT_PORTS,
    model::{DatapathMode, Model, Node},
    net::{Error, Interface, Interfaces, Netlink, arp},
};

/// How long a neighbour may take to answer.
const ANSWER: Duration = Duration::from_secs(1);
/// Neighbours that are asked at one time.
const ASKED_AT_ONCE: usize = 64;

/// Gathers everything; `None` = without a file, so for the defaults. Asks the neighbours of
/// configured targets by ARP and neighbour discovery, which leaves no trace anywhere.
pub async fn gather(model: Option<&Model>) -> Result<Facts, Error> {
    let netlink = Netlink::open()?;
    let interfaces = netlink.interfaces().await?;
    let named = model.map(|model| model.node.interfaces.as_slice()).unwrap_or_default();
    let is_of_use = |one: &Interface| !one.is_loopback || named.contains(&one.name);
    let targets = targets(&netlink, &interfaces, model).await?;
    let bpffs = model.map_or_else(|| PathBuf::from("/sys/fs/bpf/alb"), |m| m.node.bpffs.clone());
    Ok(Facts {
        planned: planned(model.map(|model| &model.node)),
        unplaced: model.map(|model| unplaced(model, &interfaces)).unwrap_or_default(),
        kernel: kernel(),
        process: process(),
        bpffs: bpf_fs(bpffs),
        interfaces: interfaces.0.into_iter().filter(is_of_use).map(interface).collect(),
        ports: ports(),
        targets,
        neighbour_limits: ["ipv4", "ipv6"].map(|family| {
            let limit = read(format!("/proc/sys/net/{family}/neigh/default/gc_thresh3"))?;
            limit.trim().parse().ok()
        }),
    })
}

/// What a node would use; `None` = the defaults.
pub fn planned(node: Option<&Node>) -> PlannedUse {
    PlannedUse {
        interfaces: node.map(|node| node.interfaces.clone()).unwrap_or_default(),
        datapath: node.map_or(DatapathMode::Auto, |node| node.datapath),
        snat: node.map_or(SNAT_PORTS, |node| node.snat.port_range),
    }
}

/// VIPs that nobody has put on, where `alb run` does not.
fn unplaced(model: &Model, interfaces: &Interfaces) -> Vec<IpAddr> {
    if !model.node.interfaces.is_empty() {
        return vec![];
    }
    let vips = model.load_balancers.iter().flat_map(|balancer| &balancer.vips).copied();
    vips.filter(|vip| !interfaces.have(*vip)).collect()
}

fn kernel() -> Kernel {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    let at_boot = PathBuf::from(format!("/boot/config-{release}"));
    let options = |text: String| proc::kernel_options(&text);
    let config = unpacked("/proc/config.gz")
        .map(|text| ("/proc/config.gz".into(), text))
        .or_else(|| read(&at_boot).map(|text| (at_boot, text)))
        .map(|(source, text)| KernelConfig { source, options: options(text) });
    Kernel {
        release,
        config,
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        jit: read("/proc/sys/net/core/bpf_jit_enable").and_then(|text| text.trim().parse().ok()),
    }
}

/// What the kernel lets this process do.
pub fn process() -> Process {
    let status = read("/proc/self/status").unwrap_or_default();
    let (_soft, open_files) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((0, 0));
    Process { capabilities: proc::capabilities(&status), open_files }
}

fn bpf_fs(path: PathBuf) -> BpfFs {
    let existing = path.ancestors().find(|path| path.exists());
    let kind = existing.and_then(|path| statfs(path).ok()).map(|fs| fs.filesystem_type());
    let pinned = fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some());
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    let private_mounts = namespace("self").zip(namespace("1")).map(|(own, first)| own != first);
    BpfFs { path, mounted: kind == Some(BPF_FS_MAGIC), pinned, private_mounts }
}

fn interface(interface: Interface) -> InterfaceFacts {
    let name = &interface.name;
    let setting = |of: &str, name: &str| -> Option<u32> {
        read(format!("/proc/sys/net/ipv4/conf/{of}/{name}"))?.trim().parse().ok()
    };
    let both = |setting_name| setting("all", setting_name).zip(setting(name, setting_name));
    let Features { driver, on } = ethtool::query(name);
    // The stricter of the two is in force, as the kernel's ip-sysctl text has it.
    let rp_filter = both("rp_filter").map(|(all, own)| all.max(own));
    let accept_local = both("accept_local").map(|(all, own)| all.max(own));
    InterfaceFacts { driver, features: on, rp_filter, accept_local, interface }
}

fn ports() -> Ports {
    let tables = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"];
    let listening = tables.iter().filter_map(read).flat_map(|text| proc::listening(&text));
    let ranges = |file: &str| read(format!("/proc/sys/net/ipv4/{file}"));
    let ephemeral = ranges("ip_local_port_range").and_then(|text| {
        let (low, high) = text.trim().split_once(char::is_whitespace)?;
        low.trim().parse().ok().zip(high.trim().parse().ok())
    });
    Ports {
        ephemeral,
        reserved: proc::port_ranges(&ranges("ip_local_reserved_ports").unwrap_or_default()),
        listening: listening.collect(),
    }
}

async fn targets(
    netlink: &Netlink,
    interfaces: &Interfaces,
    model: Option<&Model>,
) -> Result<Vec<TargetFacts>, Error> {
    let named = model.map(|model| model.node.interfaces.as_slice()).unwrap_or_default();
    // Without it, an address of this host is no target.
    let loopback = interfaces.0.iter().any(|one| one.is_loopback && named.contains(&one.name));
    let balancers = model.map(|model| model.load_balancers.as_slice()).unwrap_or_default();
    let groups = balancers.iter().flat_map(|balancer| &balancer.target_groups);
    let addresses: BTreeSet<IpAddr> =
        groups.flat_map(|group| &group.targets).map(|target| target.address).collect();
    let mut ways = BTreeMap::new();
    for address in addresses {
        let way = netlink.next_hop(address).await?;
        let is_here = |index| interfaces.0.iter().any(|one| one.is_loopback && one.index == index);
        let way = way.filter(|way| loopback || !is_here(way.interface));
        ways.insert(
            address,
            way.map(|way| (way.interface, way.gateway.unwrap_or(address), way.mac)),
        );
    }
    let hops: BTreeSet<_> = ways.values().flatten().copied().collect();
    let answers: BTreeMap<_, _> = stream::iter(hops)
        .map(|(index, hop, known)| async move {
            let interface = interfaces.0.iter().find(|interface| interface.index == index);
            let mac = match interface {
                Some(interface) if !interface.is_loopback => {
                    arp::in_use(interface, hop, ANSWER).await
                }
                _ => Ok(known),
            };
            // Without the right to ask, what the kernel knows has to do.
            ((index, hop), mac.unwrap_or(known))
        })
        .buffer_unordered(ASKED_AT_ONCE)
        .collect()
        .await;
    let reach = |way: Option<(u32, IpAddr, _)>| match way {
        None => Reach::NoRoute,
        Some((index, address, _)) => {
            Reach::Neighbour { address, mac: answers.get(&(index, address)).copied().flatten() }
        }
    };
    Ok(ways
        .iter()
        .map(|(address, way)| TargetFacts { address: *address, reach: reach(*way) })
        .collect())
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn unpacked(path: &str) -> Option<String> {
    let mut text = String::new();
    GzDecoder::new(File::open(path).ok()?).read_to_string(&mut text).ok()?;
    Some(text)
}
