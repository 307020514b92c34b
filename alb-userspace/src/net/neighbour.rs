//! Neighbour entries: asking the kernel to keep them resolved, and reading what it found.

use std::{collections::BTreeSet, net::IpAddr};

use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourMessage, NeighbourState,
};

use super::{
    MacAddr,
    netlink::{Error, Netlink, Refusal},
};

/// An address on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Neighbour {
    /// Index of the interface.
    pub(super) interface: u32,
    /// The neighbour's address.
    pub(super) address: IpAddr,
}

/// What the kernel knows of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) neighbour: Neighbour,
    /// `None` while it is not resolved.
    pub(super) mac: Option<MacAddr>,
    pub(super) phase: Phase,
    /// The kernel keeps it resolved on somebody's behalf.
    pub(super) managed: bool,
}

/// Where the kernel is with a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has a MAC that is taken for right.
    Resolved,
    /// It has a MAC, and is being asked whether that still is right.
    Verifying,
    /// Somebody gave it its MAC by hand.
    Static,
    /// It did not answer.
    Failed,
    /// It is being looked for, or nobody wanted to know yet.
    Unresolved,
}

/// Reads an entry; `None` for what is no ARP or ND neighbour.
pub(super) fn entry(message: &NeighbourMessage) -> Option<Entry> {
    let (mut address, mut mac, mut managed) = (None, None, false);
    for attribute in &message.attributes {
        if let NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) = attribute {
            address = Some(IpAddr::V4(*v4));
        } else if let NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) = attribute {
            address = Some(IpAddr::V6(*v6));
        } else if let NeighbourAttribute::LinkLayerAddress(bytes) = attribute {
            mac = MacAddr::try_from(bytes.as_slice()).ok();
        } else if let NeighbourAttribute::ExtFlags(flags) = attribute {
            managed = flags.contains(NeighbourExtFlags::Managed);
        }
    }
    let neighbour = Neighbour { interface: message.header.ifindex, address: address? };
    let phase = phase(message.header.state);
    let has_mac = matches!(phase, Phase::Resolved | Phase::Verifying | Phase::Static);
    Some(Entry { neighbour, mac: mac.filter(|_| has_mac), phase, managed })
}

fn phase(state: NeighbourState) -> Phase {
    use NeighbourState::{Delay, Failed, Permanent, Probe, Reachable, Stale};
    if state == Permanent {
        Phase::Static
    } else if matches!(state, Reachable | Stale | Delay) {
        Phase::Resolved
    } else if state == Probe {
        Phase::Verifying
    } else if state == Failed {
        Phase::Failed
    } else {
        Phase::Unresolved
    }
}

impl Netlink {
    /// All ARP and ND neighbours.
    pub(super) async fn neighbours(&self) -> Result<Vec<Entry>, Error> {
        let messages = Self::collect(self.0.neighbours().get().execute(), "neighbours").await?;
        Ok(messages.iter().filter_map(entry).collect())
    }

    /// Has the kernel resolve a neighbour, by broadcast if it has no MAC, and keep it
    /// resolved: a managed entry (Linux 5.16) is asked for again every five seconds when it
    /// fails, also while this program does not run.
    pub(super) async fn resolve(&self, neighbour: Neighbour) -> Result<(), Error> {
        let managed = Some(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        self.set_neighbour(neighbour, NeighbourState::None, managed).await
    }

    /// Has the kernel verify a resolved neighbour now. Traffic goes on meanwhile; without an
    /// answer (three requests, one second apart) the entry fails. To be asked only of a
    /// neighbour that is not being verified: it would begin anew, and never fail.
    pub(super) async fn verify(&self, neighbour: Neighbour) -> Result<(), Error> {
        // A request that says managed has its state ignored, one that does not makes the
        // entry unmanaged (`__neigh_update` in net/core/neighbour.c).
        self.set_neighbour(neighbour, NeighbourState::Probe, None).await?;
        self.resolve(neighbour).await
    }

    /// Has the kernel no longer keep a neighbour resolved. The entry stays as long as it is of
    /// use to others.
    pub(super) async fn release(&self, neighbour: Neighbour) -> Result<(), Error> {
        // A resolved entry is not changed by this, but for being managed; one without a MAC
        // cannot become stale.
        match self.set_neighbour(neighbour, NeighbourState::Stale, None).await {
            Err(error) if error.errno() == Some(libc::EINVAL) => self.delete(neighbour).await,
            other => other,
        }
    }

    /// Releases every managed neighbour on these interfaces (indices), of earlier runs too.
    /// Returns how many.
    pub async fn release_neighbours(&self, interfaces: &BTreeSet<u32>) -> Result<usize, Error> {
        let ours = |entry: &Entry| entry.managed && interfaces.contains(&entry.neighbour.interface);
        let entries: Vec<_> = self.neighbours().await?.into_iter().filter(ours).collect();
        for entry in &entries {
            self.release(entry.neighbour).await?;
        }
        Ok(entries.len())
    }

    async fn delete(&self, neighbour: Neighbour) -> Result<(), Error> {
        let Neighbour { interface, address } = neighbour;
        let message = self.0.neighbours().add(interface, address).message_mut().clone();
        let deleted = self.0.neighbours().del(message).execute().await;
        match deleted.doing(|| format!("forget neighbour {address} on interface {interface}")) {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    async fn set_neighbour(
        &self,
        neighbour: Neighbour,
        state: NeighbourState,
        attribute: Option<NeighbourAttribute>,
    ) -> Result<(), Error> {
        let Neighbour { interface, address } = neighbour;
        let mut request = self.0.neighbours().add(interface, address).state(state).replace();
        request.message_mut().attributes.extend(attribute);
        let done = request.execute().await;
        done.doing(|| format!("keep neighbour {address} on interface {interface} resolved"))
    }
}
