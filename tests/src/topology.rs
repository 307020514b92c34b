//! A lab: one client, the balancer and targets, each in a namespace, joined by bridges in a
//! namespace of their own.
//!
//! Where the balancer's devices run XDP, that decides how everything around them must be set:
//! a frame it sends reaches the peer only if that polls, and a checksum that the sender left to the
//! device is lost (TX checksums off at both TCP endpoints). At TC nothing needs to be.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
};

use crate::{daemon::Node, netns::Namespace, program};

/// Address clients connect to; not assigned by the lab.
pub const VIP: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);
/// The balancer on the clients' side.
pub const BALANCER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The balancer on the targets' side, where that is another.
const BALANCER_BACK: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 1);
/// The client's first address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 100);

/// Where the kernel has it, bridged IP packets go through netfilter.
const BRIDGE_NETFILTER: &str = "bridge/bridge-nf-call-iptables";

/// How the balancer is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arms {
    /// `eth0` towards everything.
    One,
    /// `eth0` towards clients, `eth1` towards targets.
    Two,
}

/// What a lab is made of.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How the balancer is connected.
    pub arms: Arms,
    /// Number of targets, 1–100.
    pub targets: u8,
    /// Senders may hand super-packets to their device; generic XDP cannot live with them.
    pub gso: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self { arms: Arms::Two, targets: 3, gso: true }
    }
}

/// One host: a namespace with `eth0`.
#[derive(Debug)]
pub struct Host {
    /// Where it lives.
    pub namespace: Namespace,
    /// Its address on `eth0`.
    pub address: Ipv4Addr,
}

/// The whole lab.
#[derive(Debug)]
pub struct Lab {
    /// What it was made from.
    pub shape: Shape,
    /// Connects to the VIP.
    pub client: Host,
    /// Runs the daemon; `eth0`, and with two arms `eth1`.
    pub balancer: Host,
    /// Servers, `198.18.1.11` and up (`198.18.0.11` and up with one arm).
    pub targets: Vec<Host>,
    /// Holds the bridges `front` and `back`.
    switch: Namespace,
}

impl Lab {
    /// Makes the namespaces, links and addresses, with the offloads at the endpoints that the
    /// datapath under test can live with.
    pub fn new(shape: Shape) -> Self {
        let gso = shape.gso && Node::tested() != "xdp-generic";
        Self::make(Shape { gso, ..shape }, Node::tested().starts_with("tc"))
    }

    /// As [`Lab::new`], with every offload that a virtual device has.
    pub fn with_offloads(shape: Shape) -> Self {
        Self::make(shape, true)
    }

    /// As [`Lab::new`], set as XDP needs it.
    pub fn for_xdp(shape: Shape) -> Self {
        Self::make(shape, false)
    }

    fn make(shape: Shape, offloads: bool) -> Self {
        let switch = Namespace::new("switch");
        // A switch does not look into IP: it neither drops odd packets nor puts fragments together.
        if Path::new("/proc/sys/net").join(BRIDGE_NETFILTER).exists() {
            switch.sysctl(BRIDGE_NETFILTER, "0");
        }
        for bridge in ["front", "back"] {
            switch.ip(&format!("link add {bridge} type bridge"));
            switch.ip(&format!("link set {bridge} up"));
        }
        let balancer = Namespace::new("balancer");
        connect(&switch, "front", "bal0", &balancer, "eth0", &format!("{BALANCER}/24"));
        poll(&switch, "bal0");
        let (segment, network) = match shape.arms {
            Arms::One => ("front", [198, 18, 0]),
            Arms::Two => {
                connect(&switch, "back", "bal1", &balancer, "eth1", &format!("{BALANCER_BACK}/24"));
                poll(&switch, "bal1");
                ("back", [198, 18, 1])
            }
        };
        let set = (shape.gso, offloads);
        let client = endpoint(&switch, "front", "client", CLIENT, set);
        let [a, b, c] = network;
        let targets = (1..=shape.targets).map(|number| {
            let address = Ipv4Addr::new(a, b, c, 10 + number);
            endpoint(&switch, segment, &format!("target{number}"), address, set)
        });
        let targets = targets.collect();
        let balancer = Host { namespace: balancer, address: BALANCER };
        Self { shape, client, balancer, targets, switch }
    }

    /// Names of the balancer's interfaces.
    pub fn interfaces(&self) -> &'static [&'static str] {
        match self.shape.arms {
            Arms::One => &["eth0"],
            Arms::Two => &["eth0", "eth1"],
        }
    }

    /// Gives the client `count` more addresses, `198.18.2.1` and up, with a way back to each.
    pub fn add_client_addresses(&self, count: u8) -> Vec<Ipv4Addr> {
        self.balancer.namespace.ip("route replace 198.18.2.0/24 dev eth0");
        let addresses = (1..=count).map(|last| Ipv4Addr::new(198, 18, 2, last));
        addresses
            .inspect(|address| {
                self.client.namespace.ip(&format!("address add {address}/32 dev eth0"));
            })
            .collect()
    }

    /// Gives every host an IPv6 address beside its own, that of [`six`]. What they are, targets last.
    pub fn add_ipv6(&self) -> Vec<Ipv6Addr> {
        let hosts = [&self.client, &self.balancer].into_iter().chain(&self.targets);
        let hosts = hosts.map(|host| give_ipv6(&host.namespace, "eth0", host.address)).collect();
        if self.shape.arms == Arms::Two {
            give_ipv6(&self.balancer.namespace, "eth1", BALANCER_BACK);
        }
        hosts
    }

    /// Gives a target another hardware address, as when a host is replaced under its address.
    pub fn change_mac(&self, target: usize, mac: &str) {
        let namespace = &self.targets[target].namespace;
        namespace.ip(&format!("link set eth0 address {mac}"));
        // What a replaced host does on start: it announces itself.
        namespace.sysctl("ipv4/conf/eth0/arp_notify", "1");
        namespace.ip("link set eth0 down");
        namespace.ip("link set eth0 up");
    }

    /// Removes a device of the balancer, `eth0` or `eth1`, and the cable with it.
    pub fn remove_device(&self, device: &str) {
        self.balancer.namespace.ip(&format!("link del {device}"));
    }

    /// Makes it anew, with its name and its address, and another index.
    pub fn add_device(&self, device: &str) {
        let (bridge, port, address) = match device {
            "eth0" => ("front", "bal0", format!("{BALANCER}/24")),
            _ => ("back", "bal1", format!("{BALANCER_BACK}/24")),
        };
        connect(&self.switch, bridge, port, &self.balancer.namespace, device, &address);
        poll(&self.switch, port);
    }

    /// The namespace of the bridges, to look at ports or to cut them.
    pub fn switch(&self) -> &Namespace {
        &self.switch
    }
}

/// The IPv6 address that goes with an IPv4 one of the lab: `2001:db8:1::b` with `198.18.1.11`.
pub fn six(address: Ipv4Addr) -> Ipv6Addr {
    let [_, _, net, last] = address.octets();
    Ipv6Addr::new(0x2001, 0xdb8, net.into(), 0, 0, 0, 0, last.into())
}

/// Gives a device of a host the address that goes with this one.
pub fn give_ipv6(host: &Namespace, device: &str, address: Ipv4Addr) -> Ipv6Addr {
    let address = six(address);
    // At once: nobody else has it.
    host.sysctl(&format!("ipv6/conf/{device}/accept_dad"), "0");
    host.sysctl(&format!("ipv6/conf/{device}/disable_ipv6"), "0");
    host.ip(&format!("address add {address}/64 dev {device} nodad"));
    address
}

fn endpoint(
    switch: &Namespace,
    bridge: &str,
    label: &str,
    address: Ipv4Addr,
    (gso, offloads): (bool, bool),
) -> Host {
    let namespace = Namespace::new(label);
    connect(switch, bridge, label, &namespace, "eth0", &format!("{address}/24"));
    if !offloads {
        namespace.ethtool("-K eth0 tx off");
    }
    if !gso {
        namespace.ethtool("-K eth0 gso off tso off gro off");
    }
    Host { namespace, address }
}

/// A veth pair: `port` on the bridge, `device` in the host, up, with its address.
fn connect(
    switch: &Namespace,
    bridge: &str,
    port: &str,
    host: &Namespace,
    device: &str,
    address: &str,
) {
    switch.ip(&format!("link add {port} type veth peer name {device} netns {}", host.name()));
    switch.ip(&format!("link set {port} master {bridge} up"));
    host.sysctl(&format!("ipv6/conf/{device}/disable_ipv6"), "1");
    host.ip(&format!("link set {device} up"));
    host.ip(&format!("address add {address} dev {device}"));
}

/// Makes the peer of an XDP device poll. Frames that are redirected to the device vanish unless
/// its peer has GRO on or a program; frames that are sent back (`XDP_TX`) wait for ever unless it
/// has a program (`veth_xdp_flush` asks for one, `veth_xdp_xmit` does not; Linux 6.18).
fn poll(switch: &Namespace, port: &str) {
    switch.ethtool(&format!("-K {port} gro on"));
    program::attach_pass(switch, port);
}
