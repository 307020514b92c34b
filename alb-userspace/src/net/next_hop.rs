//! Next hops towards the addresses somebody wants to reach: kept resolved, watched, and
//! published as one table.

mod known;
mod watch_loop;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle};

use super::{
    MacAddr,
    neighbour::Neighbour,
    netlink::{Error, Events, Netlink},
    route::Route,
};

/// Where packets to an address are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Index of the interface to send on.
    pub interface: u32,
    /// Router on the way; `None` = the address itself is on the link.
    pub gateway: Option<IpAddr>,
    /// Address of the node towards it.
    pub source: IpAddr,
    /// Destination MAC, all zero over loopback; `None` until it is known for the first time. Kept
    /// while a neighbour does not answer: there is nothing better to send to.
    pub mac: Option<MacAddr>,
}

/// All next hops at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextHopTable {
    /// By wanted address. One without a route over a link has no entry.
    pub hops: BTreeMap<IpAddr, NextHop>,
    /// Grows (wrapping) whenever a way learnt earlier may be wrong now: a route, an address
    /// or a link changed, or any neighbour has another MAC.
    pub route_generation: u32,
}

impl Netlink {
    /// The next hop towards an address as the kernel knows it now, without asking anyone.
    /// `None` = there is no route over a link.
    pub async fn next_hop(&self, to: IpAddr) -> Result<Option<NextHop>, Error> {
        let Some(Route { interface, gateway, source, is_here }) = self.route(to).await? else {
            return Ok(None);
        };
        if is_here {
            let mac = Some(MacAddr::default());
            return Ok(Some(NextHop { interface, gateway, source, mac }));
        }
        let neighbour = Neighbour { interface, address: gateway.unwrap_or(to) };
        let entries = self.neighbours().await?;
        let mac = entries.iter().find(|e| e.neighbour == neighbour).and_then(|entry| entry.mac);
        Ok(Some(NextHop { interface, gateway, source, mac }))
    }
}

/// Handle on the task that watches; it ends when the last handle is dropped.
#[derive(Debug)]
pub struct NextHops {
    wanted: watch::Sender<BTreeSet<IpAddr>>,
    table: watch::Receiver<Arc<NextHopTable>>,
    task: JoinHandle<()>,
}

impl Drop for NextHops {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl NextHops {
    /// Starts watching in the calling thread's network namespace.
    pub async fn spawn() -> Result<Self, Error> {
        let events = Events::open()?;
        let netlink = Netlink::open()?;
        let (wanted, wants) = watch::channel(BTreeSet::new());
        let (publisher, table) = watch::channel(Arc::default());
        let task = watch_loop::WatchLoop::new(netlink, events, wants, publisher).await?;
        Ok(Self { wanted, table, task: tokio::spawn(task.run()) })
    }

    /// Adds to the addresses whose next hops are kept: those of them that are new.
    pub fn want_too(&self, addresses: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
        let mut fresh = BTreeSet::new();
        self.wanted.send_if_modified(|wanted| {
            fresh = addresses.difference(wanted).copied().collect();
            wanted.extend(&fresh);
            !fresh.is_empty()
        });
        fresh
    }

    /// Replaces the addresses whose next hops are kept.
    pub fn want(&self, addresses: BTreeSet<IpAddr>) {
        self.wanted.send_if_modified(|wanted| {
            let differs = *wanted != addresses;
            *wanted = addresses;
            differs
        });
    }

    /// Wakes when the table changes.
    pub fn subscribe(&self) -> watch::Receiver<Arc<NextHopTable>> {
        self.table.clone()
    }

    /// The table now.
    pub fn table(&self) -> Arc<NextHopTable> {
        self.table.borrow().clone()
    }

    /// Waits until every wanted address has a MAC, at most `within`. Returns those that have
    /// none by then.
    pub async fn resolved(&self, within: Duration) -> BTreeSet<IpAddr> {
        let wanted = self.wanted.borrow().clone();
        self.resolved_of(&wanted, within).await
    }

    /// The same of these addresses, which are wanted.
    pub async fn resolved_of(
        &self,
        wanted: &BTreeSet<IpAddr>,
        within: Duration,
    ) -> BTreeSet<IpAddr> {
        let missing = |table: &NextHopTable| -> BTreeSet<IpAddr> {
            let has =
                |address: &IpAddr| table.hops.get(address).is_some_and(|hop| hop.mac.is_some());
            wanted.iter().copied().filter(|address| !has(address)).collect()
        };
        let mut table = self.table.clone();
        let complete = table.wait_for(|table| missing(table).is_empty());
        let complete = tokio::time::timeout(within, complete).await;
        if matches!(complete, Ok(Ok(_))) {
            return BTreeSet::new();
        }
        drop(complete);
        missing(&self.table.borrow())
    }
}
