//! Putting VIPs on interfaces and taking them off again. What was added is marked in the
//! kernel itself (`IFA_PROTO`, Linux 5.18), so that it is found again after a crash and an
//! address that the operator put there is never touched.

use std::{collections::BTreeSet, net::IpAddr};

use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol, CacheInfo,
};

use super::{
    interface::net,
    netlink::{Error, Netlink, Refusal, host_prefix},
};

/// The mark: an address protocol that no other program is known to use (`ip address show`
/// prints it as `proto 0xa1`).
const MARK: AddressProtocol = AddressProtocol::Other(0xa1);

/// An address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vip {
    /// Index of the interface.
    pub interface: u32,
    /// The address; put on as a host prefix.
    pub address: IpAddr,
}

/// What a call changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VipChanges {
    /// Put on; to be announced.
    pub added: Vec<Vip>,
    /// Taken off.
    pub removed: Vec<Vip>,
    /// Wanted and there already, put on by someone else; left to him.
    pub foreign: Vec<Vip>,
}

impl Netlink {
    /// Makes the marked addresses on `interfaces` (indices) exactly those `wanted`. Other
    /// addresses and other interfaces are left alone. Each instance owns the interfaces its
    /// program is attached to, so two of them do not meet here. An empty `wanted` takes all
    /// VIPs off.
    pub async fn sync_vips(
        &self,
        interfaces: &BTreeSet<u32>,
        wanted: &BTreeSet<Vip>,
    ) -> Result<VipChanges, Error> {
        let messages = self.addresses().await?;
        let mut changes = VipChanges::default();
        let mut present = BTreeSet::new();
        for message in messages {
            let Some(net) = net(&message) else { continue };
            let vip = Vip { interface: message.header.index, address: net.addr() };
            let marked = message.attributes.contains(&AddressAttribute::Protocol(MARK));
            if wanted.contains(&vip) {
                present.insert(vip);
                if !marked {
                    changes.foreign.push(vip);
                }
            } else if marked && interfaces.contains(&vip.interface) {
                self.take_off(vip, message).await?;
                changes.removed.push(vip);
            }
        }
        for vip in wanted.difference(&present) {
            self.put_on(*vip).await?;
            changes.added.push(*vip);
        }
        Ok(changes)
    }

    async fn put_on(&self, vip: Vip) -> Result<(), Error> {
        let Vip { interface, address } = vip;
        let mut request = self.0.address().add(interface, address, host_prefix(address));
        let attributes = &mut request.message_mut().attributes;
        attributes.push(AddressAttribute::Protocol(MARK));
        // No route of its own: the interface's prefix is not the VIP's business. And no wait for
        // who else may have an IPv6 address (RFC 4862 §5.4): it is to serve at once.
        let flags = AddressFlags::Noprefixroute | AddressFlags::Nodad;
        attributes.push(AddressAttribute::Flags(flags));
        // Preferred for no time: served, but not the source of this host's own connections
        // (RFC 6724 rule 3). IPv4 takes the first address of a subnet, which a VIP is not.
        if address.is_ipv6() {
            let mut lifetimes = CacheInfo::default();
            (lifetimes.ifa_preferred, lifetimes.ifa_valid) = (0, u32::MAX);
            attributes.push(AddressAttribute::CacheInfo(lifetimes));
        }
        request.message_mut().header.flags = AddressHeaderFlags::Nodad;
        let added = request.execute().await;
        added.doing(|| format!("put {address} on interface {interface}"))
    }

    async fn take_off(&self, vip: Vip, message: AddressMessage) -> Result<(), Error> {
        let Vip { interface, address } = vip;
        let removed = self.0.address().del(message).execute().await;
        match removed.doing(|| format!("take {address} off interface {interface}")) {
            // Gone in the meantime, with its interface or by hand.
            Err(error) if matches!(error.errno(), Some(libc::EADDRNOTAVAIL | libc::ENODEV)) => {
                Ok(())
            }
            other => other,
        }
    }
}
