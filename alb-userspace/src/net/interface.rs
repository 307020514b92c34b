//! Network interfaces, by netlink: `/sys/class/net` may show another network namespace.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::{
    address::{AddressAttribute, AddressMessage},
    link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp},
};

use super::{
    MacAddr,
    netlink::{Error, Netlink},
};

/// One interface as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Index, unique in its network namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Kind of a virtual interface: `veth`, `bridge`, `bond`, …; `None` = a device.
    pub kind: Option<String>,
    /// Its own address; zeros if it has none (loopback, tunnels).
    pub mac: MacAddr,
    /// Largest packet without the link header, bytes.
    pub mtu: u32,
    /// Switched on by the administrator.
    pub up: bool,
    /// The other end is there too.
    pub carrier: bool,
    /// What is sent through it comes back in.
    pub is_loopback: bool,
    /// Addresses with their prefixes.
    pub addresses: Vec<IpNet>,
    /// Ids of XDP programs that are attached.
    pub xdp: Vec<u32>,
}

/// The interfaces of a network namespace, by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces(pub Vec<Interface>);

impl Interfaces {
    /// The interface of this name.
    pub fn named(&self, name: &str) -> Result<&Interface, Error> {
        self.0.iter().find(|interface| interface.name == name).ok_or_else(|| Error::NoInterface {
            name: name.to_owned(),
            known: self.0.iter().map(|interface| interface.name.clone()).collect(),
        })
    }

    /// Which of `names` are not there.
    pub fn missing<'n>(&self, names: &'n [String]) -> Vec<&'n str> {
        let absent = |name: &&str| self.named(name).is_err();
        names.iter().map(String::as_str).filter(absent).collect()
    }

    /// Whether one of them has this address.
    pub fn have(&self, address: IpAddr) -> bool {
        let mut nets = self.0.iter().flat_map(|interface| &interface.addresses);
        address.is_loopback() || nets.any(|net| net.addr() == address)
    }

    /// Which of `names` an address belongs on: the first with a prefix that holds it, else
    /// the first.
    pub fn for_address(&self, names: &[String], address: IpAddr) -> Option<&Interface> {
        let mut candidates = names.iter().filter_map(|name| self.named(name).ok());
        let holds = |interface: &Interface| {
            interface
                .addresses
                .iter()
                .any(|net| net.prefix_len() < net.max_prefix_len() && net.contains(&address))
        };
        candidates.clone().find(|interface| holds(interface)).or_else(|| candidates.next())
    }
}

impl Netlink {
    /// Lists the interfaces with their addresses.
    pub async fn interfaces(&self) -> Result<Interfaces, Error> {
        let links = Self::collect(self.0.link().get().execute(), "interfaces").await?;
        let addresses = self.addresses().await?;
        let mut interfaces: Vec<_> = links.iter().map(interface).collect();
        for message in &addresses {
            let index = message.header.index;
            let owner = interfaces.iter_mut().find(|interface| interface.index == index);
            if let (Some(owner), Some(net)) = (owner, net(message)) {
                owner.addresses.push(net);
            }
        }
        interfaces.sort_by_key(|interface| interface.index);
        Ok(Interfaces(interfaces))
    }

    pub(super) async fn addresses(&self) -> Result<Vec<AddressMessage>, Error> {
        Self::collect(self.0.address().get().execute(), "addresses").await
    }
}

fn interface(message: &LinkMessage) -> Interface {
    let flags = message.header.flags;
    let mut interface = Interface {
        index: message.header.index,
        name: String::new(),
        kind: None,
        mac: MacAddr::default(),
        mtu: 0,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        is_loopback: flags.contains(LinkFlags::Loopback),
        addresses: vec![],
        xdp: vec![],
    };
    for attribute in &message.attributes {
        if let LinkAttribute::IfName(name) = attribute {
            interface.name.clone_from(name);
        } else if let LinkAttribute::Address(mac) = attribute {
            interface.mac = mac.as_slice().try_into().unwrap_or_default();
        } else if let LinkAttribute::Mtu(mtu) = attribute {
            interface.mtu = *mtu;
        } else if let LinkAttribute::LinkInfo(infos) = attribute {
            interface.kind = infos.iter().find_map(kind);
        } else if let LinkAttribute::Xdp(xdp) = attribute {
            interface.xdp = xdp.iter().filter_map(program).collect();
            interface.xdp.sort_unstable();
            interface.xdp.dedup();
        }
    }
    interface
}

fn kind(info: &LinkInfo) -> Option<String> {
    if let LinkInfo::Kind(kind) = info { Some(InfoKind::to_string(kind)) } else { None }
}

fn program(attribute: &LinkXdp) -> Option<u32> {
    if let LinkXdp::ProgId(id)
    | LinkXdp::DrvProgId(id)
    | LinkXdp::SkbProgId(id)
    | LinkXdp::HwProgId(id) = attribute
    {
        Some(*id).filter(|id| *id != 0)
    } else {
        None
    }
}

/// The address of a message with its prefix.
pub(super) fn net(message: &AddressMessage) -> Option<IpNet> {
    let mut address = None;
    for attribute in &message.attributes {
        // On a point-to-point link `Address` is the other end.
        if let AddressAttribute::Local(local) = attribute {
            address = Some(*local);
        } else if let AddressAttribute::Address(other) = attribute {
            address = address.or(Some(*other));
        }
    }
    IpNet::new(address?, message.header.prefix_len).ok()
}

#[cfg(test)]
mod tests {
    use super::{Interface, Interfaces};

    fn interface(name: &str, nets: &[&str]) -> Interface {
        let addresses = nets.iter().map(|net| net.parse().unwrap()).collect();
        let (name, mac) = (name.into(), [2, 0, 0, 0, 0, 1]);
        let (up, carrier, kind, xdp) = (true, true, None, vec![]);
        let is_loopback = false;
        Interface { index: 1, name, kind, mac, mtu: 1500, up, carrier, is_loopback, addresses, xdp }
    }

    #[track_caller]
    fn check(names: &[&str], address: &str, expected: Option<&str>) {
        let interfaces = Interfaces(vec![
            interface("lo", &["127.0.0.1/8", "198.18.9.9/32"]),
            interface("eth0", &["198.18.0.1/24", "2001:db8::1/64"]),
            interface("eth1", &["198.18.1.1/24"]),
        ]);
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let found = interfaces.for_address(&names, address.parse().unwrap());
        assert_eq!(found.map(|interface| interface.name.as_str()), expected);
    }

    #[test]
    fn an_address_belongs_where_its_prefix_is() {
        check(&["eth0", "eth1"], "198.18.1.10", Some("eth1"));
        check(&["eth1", "eth0"], "2001:db8::10", Some("eth0"));
        check(&["eth1", "eth0"], "198.18.9.9", Some("eth1"));
        check(&["eth1", "lo"], "198.18.9.9", Some("eth1"));
        check(&["eth7"], "198.18.0.10", None);
        check(&[], "198.18.0.10", None);
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let interfaces = Interfaces(vec![interface("lo", &[]), interface("eth0", &[])]);
        let error = interfaces.named("eht0").unwrap_err();
        assert_eq!(error.to_string(), "no interface \"eht0\"; there are lo, eth0");
    }
}
