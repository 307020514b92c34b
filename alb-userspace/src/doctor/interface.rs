//! Interfaces: driver, XDP or TC, offloads, MTU, reverse path filter. Pure.

use std::net::IpAddr;

use super::{Facts, Finding, InterfaceFacts};
use crate::{model::DatapathMode, net::MacAddr};

/// Drivers with native XDP in Linux 6.1, as `ethtool -i` names them.
const NATIVE: [&str; 36] = [
    "atlantic",
    "bnxt_en",
    "bonding",
    "cpsw",
    "dpaa2-eth",
    "ena",
    "fec",
    "fsl-dpa",
    "fsl_dpa2_eth",
    "fsl_enetc",
    "fun",
    "gve",
    "hv_netvsc",
    "i40e",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "ixgbevf",
    "mana",
    "mlx4_en",
    "mlx5_core",
    "mvneta",
    "mvpp2",
    "netsec",
    "nfp",
    "qede",
    "rvu-nicpf",
    "sfc",
    "sfc_ef100",
    "stmmac",
    "thunder-nicvf",
    "tsnep",
    "tun",
    "veth",
    "virtio_net",
];
/// Largest MTU of a frame that fits one page with headroom and trailer (x86, 4 KiB pages).
const ONE_PAGE: u32 = 3498;

pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let Facts { planned, interfaces, unplaced, .. } = facts;
    let is_proxy = planned.datapath == DatapathMode::Proxy;
    let known = || {
        let names = interfaces.iter().map(|facts| facts.interface.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let mut findings = vec![];
    for name in &planned.interfaces {
        if !interfaces.iter().any(|facts| facts.interface.name == *name) {
            findings.push(Finding::fail(
                subject(name),
                "does not exist in this network namespace",
                if is_proxy {
                    "`alb run` puts VIPs on it"
                } else {
                    "`alb run` attaches its program there"
                },
                &format!("name one of these in node.interfaces: {}", known()),
            ));
        }
    }
    if is_proxy {
        let named = |facts: &&InterfaceFacts| planned.interfaces.contains(&facts.interface.name);
        findings.extend(interfaces.iter().filter(named).flat_map(link));
        findings.extend(unplaced.iter().copied().map(absent));
        return findings;
    }
    let planned_here = |facts: &&InterfaceFacts| {
        let interface = &facts.interface;
        // Without a file every interface that could be meant is.
        if planned.interfaces.is_empty() {
            return interface.up && interface.mac != MacAddr::default();
        }
        planned.interfaces.contains(&interface.name)
    };
    let used: Vec<_> = interfaces.iter().filter(planned_here).collect();
    // There programs live side by side, and every frame is as the stack takes it.
    let is_tc = planned.datapath == DatapathMode::Tc;
    for one in &used {
        if one.interface.is_loopback {
            findings.push(loopback(one));
            continue;
        }
        findings.extend(link(one));
        findings.push(way(one, planned.datapath));
        if !is_tc {
            findings.extend(foreign_program(one, facts.bpffs.pinned));
            findings.extend(offloads(one));
            findings.extend(mtu(one));
        }
        findings.extend(rp_filter(one, used.len()));
    }
    if !is_tc {
        findings.extend(pairs(&used));
    }
    findings
}

fn subject(name: &str) -> String {
    format!("interface {name}")
}

fn absent(vip: IpAddr) -> Finding {
    Finding::warn(
        format!("VIP {vip}"),
        "no interface of this host has it",
        "nothing reaches it before something puts it on",
        "name the interface it belongs on in node.interfaces, or have another program put it on \
         (keepalived, a routing daemon)",
    )
}

fn link(facts: &InterfaceFacts) -> Vec<Finding> {
    let interface = &facts.interface;
    let subject = subject(&interface.name);
    if interface.mac == MacAddr::default() {
        return vec![Finding::fail(
            subject,
            "has no MAC address",
            "the packet path speaks Ethernet; a tunnel is not served",
            "name the Ethernet interface below it",
        )];
    }
    if !interface.up {
        let remedy = format!("ip link set {} up", interface.name);
        return vec![Finding::fail(subject, "is down", "it carries no traffic", &remedy)];
    }
    if !interface.carrier {
        return vec![Finding::fail(
            subject,
            "has no carrier",
            "it is up, but nothing is at the other end",
            "look at the cable, the switch port or the other end of the pair",
        )];
    }
    let nets: Vec<_> = interface.addresses.iter().map(ToString::to_string).collect();
    if nets.is_empty() {
        return vec![Finding::warn(
            subject,
            "is up, without an address",
            "targets behind it see connections from an address of the node on that side",
            "give it an address, unless node.snat.addresses names others",
        )];
    }
    vec![Finding::ok(subject, format!("is up, {}", nets.join(", ")))]
}

/// Where clients of this host itself come in.
fn loopback(facts: &InterfaceFacts) -> Finding {
    let subject = subject(&facts.interface.name);
    if facts.accept_local == Some(0) {
        let remedy = format!("sysctl -w net.ipv4.conf.{}.accept_local=1", facts.interface.name);
        return Finding::warn(
            subject,
            "takes no packets from this host's own addresses (accept_local = 0)",
            "answers of targets on other hosts to clients on this one are dropped",
            &remedy,
        );
    }
    Finding::ok(subject, "serves clients of this host itself, at TC")
}

/// How the packet path can run there.
fn way(facts: &InterfaceFacts, datapath: DatapathMode) -> Finding {
    let subject = subject(&facts.interface.name);
    let driver = facts.driver.as_deref().unwrap_or("unknown");
    let is_native = facts.driver.as_deref().is_some_and(|driver| NATIVE.contains(&driver));
    match datapath {
        DatapathMode::Tc => Finding::ok(subject, format!("driver {driver}; TC works with each")),
        DatapathMode::XdpGeneric => Finding::warn(
            subject,
            "is to run generic XDP",
            "that breaks while senders hand over super-packets (GSO), as they do on virtual links; \
             whether they do cannot be seen from here",
            "set node.datapath to auto or tc; or at the senders: ethtool -K NAME gso off tso off",
        ),
        _ if is_native => Finding::ok(subject, format!("driver {driver}, which has native XDP")),
        DatapathMode::Xdp => Finding::fail(
            subject,
            format!("driver {driver}, not known to have native XDP"),
            "node.datapath asks for native XDP",
            "set node.datapath to auto, or use another interface",
        ),
        DatapathMode::Auto | DatapathMode::Proxy => Finding::warn(
            subject,
            format!("driver {driver}, not known to have native XDP"),
            "the packet path then runs at TC on every interface of the node, which costs more \
             for each packet: XDP can send only to devices that take its frames",
            "nothing if it is fast enough; else an interface whose driver has XDP",
        ),
    }
}

fn foreign_program(facts: &InterfaceFacts, pinned: bool) -> Option<Finding> {
    let interface = &facts.interface;
    let (first, rest) = interface.xdp.split_first()?;
    let ids = rest.iter().fold(first.to_string(), |ids, id| format!("{ids}, {id}"));
    let subject = subject(&interface.name);
    if pinned {
        return Some(Finding::ok(subject, format!("XDP program {ids} is attached and pinned")));
    }
    let remedy = format!(
        "see whose it is with `bpftool prog show id {first}`, then stop that program or \
         `ip link set {} xdp off`",
        interface.name
    );
    let found = format!("XDP program {ids} is attached, and none of ours is pinned");
    let why = "an interface takes one XDP program; `alb run` never replaces a foreign one";
    Some(Finding::fail(subject, found, why, &remedy))
}

fn offloads(facts: &InterfaceFacts) -> Vec<Finding> {
    let name = &facts.interface.name;
    let on = |feature: &str| facts.features.contains(feature);
    let mut findings = vec![];
    if on("rx-lro") {
        findings.push(Finding::warn(
            subject(name),
            "large receive offload is on",
            "merged frames do not fit the packet path; drivers refuse native XDP with it",
            &format!("ethtool -K {name} lro off"),
        ));
    }
    if on("rx-gro-hw") {
        findings.push(Finding::warn(
            subject(name),
            "receive offload in hardware is on",
            "merged frames may not fit the packet path, and virtio_net refuses native XDP where \
             the host cannot switch it off",
            &format!("ethtool -K {name} rx-gro-hw off"),
        ));
    }
    findings
}

/// One finding for all ends of veth pairs: they are told apart by name only.
fn pairs(used: &[&InterfaceFacts]) -> Option<Finding> {
    let ends = used.iter().filter(|facts| facts.driver.as_deref() == Some("veth"));
    let names: Vec<_> = ends.map(|facts| facts.interface.name.as_str()).collect();
    let (subject, found) = match names.as_slice() {
        [] => return None,
        [name] => {
            (subject(name), "is one end of a veth pair; the other end cannot be seen from here")
        }
        names => (
            format!("interfaces {}", names.join(", ")),
            "are ends of veth pairs; the other ends cannot be seen from here",
        ),
    };
    Some(Finding::warn(
        subject,
        found,
        "frames sent to an end without GRO or an XDP program vanish silently, and so do TCP \
         segments whose sender leaves the checksum to the device",
        "at the other end: ethtool -K NAME gro on tx off",
    ))
}

fn mtu(facts: &InterfaceFacts) -> Option<Finding> {
    let mtu = facts.interface.mtu;
    (mtu > ONE_PAGE).then(|| {
        Finding::warn(
            subject(&facts.interface.name),
            format!("MTU {mtu}"),
            "frames beyond one page need multi-buffer XDP, which not every driver has; one \
             without it refuses the program",
            &format!(
                "if `alb run` is refused: ip link set {} mtu {ONE_PAGE} or less",
                facts.interface.name
            ),
        )
    })
}

fn rp_filter(facts: &InterfaceFacts, used: usize) -> Option<Finding> {
    let name = &facts.interface.name;
    (facts.rp_filter == Some(1) && used > 1).then(|| {
        Finding::warn(
            subject(name),
            "strict reverse path filter (rp_filter = 1)",
            "answers to health checks that return by another interface than they left are \
             dropped; forwarded traffic is not concerned",
            &format!("sysctl -w net.ipv4.conf.{name}.rp_filter=2, unless routes are symmetric"),
        )
    })
}

#[cfg(test)]
mod tests;
