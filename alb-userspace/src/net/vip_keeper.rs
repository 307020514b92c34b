//! Keeps VIPs where they belong: looks for a conflict, puts them on, announces them, puts
//! them back when an interface returns or somebody takes them off. Dropping the keeper leaves
//! them on, since the packet path goes on serving them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use rtnetlink::packet_route::RouteNetlinkMessage;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::{
    Interface, Interfaces, MacAddr, arp,
    netlink::{Error, Event, Events, Netlink},
    vip::{Vip, VipChanges},
};

/// How long another host may take to say that it has an address.
const CONFLICT: Duration = Duration::from_millis(300);
/// Addresses that are asked for at one time.
const ASKED_AT_ONCE: usize = 64;
/// Events come in bursts; they are answered together.
const SETTLE: Duration = Duration::from_millis(50);
/// When an address could not be put on, it is tried again after this.
const RETRY: Duration = Duration::from_secs(2);

/// Where VIPs are now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VipStatus {
    /// Index of the interface each one is on.
    pub on: BTreeMap<IpAddr, u32>,
    /// Wanted ones that another host has, with its MAC; they are not put on.
    pub conflicts: BTreeMap<IpAddr, MacAddr>,
}

impl VipStatus {
    /// What is wrong, for people; `None` = no other host has one of them.
    pub fn trouble(&self) -> Option<String> {
        let each = self.conflicts.iter().map(|(vip, mac)| {
            format!("VIP {vip}: {} has it, so it is not put on here", mac_text(*mac))
        });
        let all = each.collect::<Vec<_>>().join("; ");
        (!all.is_empty()).then_some(all)
    }
}

/// `02:00:00:00:00:01`.
pub fn mac_text(mac: MacAddr) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Handle on the task that keeps VIPs; the task ends with it.
#[derive(Debug)]
pub struct VipKeeper {
    wanted: watch::Sender<Wanted>,
    status: watch::Receiver<Arc<VipStatus>>,
    task: JoinHandle<()>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    interfaces: Vec<String>,
    addresses: BTreeSet<IpAddr>,
}

impl Drop for VipKeeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl VipKeeper {
    /// Starts in the calling thread's network namespace. Touches nothing before `want`.
    pub fn spawn() -> Result<Self, Error> {
        let (wanted, wants) = watch::channel(Wanted::default());
        let (publisher, status) = watch::channel(Arc::default());
        let (netlink, events) = (Netlink::open()?, Events::open()?);
        let (carriers, due) = (BTreeMap::new(), None);
        let task = Task { netlink, events, wants, publisher, carriers, due };
        Ok(Self { wanted, status, task: tokio::spawn(task.run()) })
    }

    /// Replaces what is wanted: addresses, and the interfaces (names) they are spread over.
    /// On these interfaces, VIPs that are not wanted are taken off, those of an earlier run
    /// too.
    pub fn want(&self, interfaces: Vec<String>, addresses: BTreeSet<IpAddr>) {
        self.wanted.send_replace(Wanted { interfaces, addresses });
    }

    /// Leaves them as they are from now on.
    pub fn stop(&self) {
        self.task.abort();
    }

    /// Where VIPs are now.
    pub fn status(&self) -> Arc<VipStatus> {
        self.status.borrow().clone()
    }

    /// Wakes when it changes where VIPs are.
    pub fn subscribe(&self) -> watch::Receiver<Arc<VipStatus>> {
        self.status.clone()
    }

    /// Waits until every wanted address is on or found to be in conflict, at most `within`.
    pub async fn settled(&self, within: Duration) -> Arc<VipStatus> {
        let wanted = self.wanted.borrow().addresses.clone();
        let mut status = self.status.clone();
        let placed = status.wait_for(|status| {
            let is_placed =
                |address| status.on.contains_key(address) || status.conflicts.contains_key(address);
            wanted.iter().all(is_placed) && status.on.keys().all(|on| wanted.contains(on))
        });
        // What is there when time is up is the answer too.
        drop(tokio::time::timeout(within, placed).await);
        self.status.borrow().clone()
    }
}

struct Task {
    netlink: Netlink,
    events: Events,
    wants: watch::Receiver<Wanted>,
    publisher: watch::Sender<Arc<VipStatus>>,
    /// Interfaces that had a carrier when last looked at.
    carriers: BTreeMap<u32, bool>,
    /// When to look again; `None` = when something happens.
    due: Option<Instant>,
}

impl Task {
    async fn run(mut self) {
        let mut started = false;
        loop {
            let due = self.due;
            tokio::select! {
                changed = self.wants.changed() => {
                    if changed.is_err() { return }
                    started = true;
                    self.due = Some(Instant::now());
                }
                event = self.events.stream.next() => {
                    let Some(event) = event else {
                        tracing::error!("the kernel's network events ended; VIPs are no longer kept");
                        return;
                    };
                    if started && concerns(&event) {
                        let soon = Instant::now() + SETTLE;
                        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.due = None;
                    self.sync().await;
                }
            }
        }
    }

    async fn sync(&mut self) {
        let wanted = self.wants.borrow_and_update().clone();
        match self.place(&wanted).await {
            Ok(status) => {
                if status.on.len() < wanted.addresses.len() {
                    self.due = Some(Instant::now() + RETRY);
                }
                tell(&self.publisher.borrow().conflicts, &status.conflicts);
                self.publisher.send_if_modified(|published| {
                    let differs = **published != status;
                    *published = Arc::new(status);
                    differs
                });
            }
            Err(error) => {
                tracing::error!(%error, "VIPs are not as they should be; trying again");
                self.due = Some(Instant::now() + RETRY);
            }
        }
    }

    async fn place(&mut self, wanted: &Wanted) -> Result<VipStatus, Error> {
        let interfaces = self.netlink.interfaces().await?;
        let mut vips = vips(&interfaces, wanted);
        let conflicts = conflicts(&interfaces, &vips).await?;
        vips.retain(|vip| !conflicts.contains_key(&vip.address));
        let own = wanted.interfaces.iter().filter_map(|name| interfaces.named(name).ok());
        let own: BTreeSet<u32> = own.map(|interface| interface.index).collect();
        let VipChanges { added, removed, foreign: _ } = self.netlink.sync_vips(&own, &vips).await?;
        let name = |index: u32| {
            let known = interfaces.0.iter().find(|interface| interface.index == index);
            known.map_or_else(|| index.to_string(), |interface| interface.name.clone())
        };
        for Vip { interface, address } in &added {
            tracing::info!(vip = %address, interface = name(*interface), "put on");
        }
        for Vip { interface, address } in &removed {
            tracing::info!(vip = %address, interface = name(*interface), "taken off");
        }
        self.announce(&interfaces, &vips, &added);
        let on = vips.iter().map(|vip| (vip.address, vip.interface)).collect();
        Ok(VipStatus { on, conflicts })
    }

    /// Announces what was put on, and everything on an interface whose link returned.
    fn announce(&mut self, interfaces: &Interfaces, vips: &BTreeSet<Vip>, added: &[Vip]) {
        for interface in &interfaces.0 {
            let linked = interface.up && interface.carrier;
            let returned = self.carriers.insert(interface.index, linked) == Some(false) && linked;
            let here = vips.iter().filter(|vip| vip.interface == interface.index);
            let news: Vec<_> =
                here.filter(|vip| returned || added.contains(vip)).map(|vip| vip.address).collect();
            // Nobody is on loopback to be told.
            if !news.is_empty() && !interface.is_loopback {
                tokio::spawn(announce(interface.clone(), news));
            }
        }
    }
}

/// Says what changed, not every time that it is still so.
fn tell(before: &BTreeMap<IpAddr, MacAddr>, now: &BTreeMap<IpAddr, MacAddr>) {
    for (vip, mac) in now.iter().filter(|(vip, mac)| before.get(vip) != Some(mac)) {
        let mac = mac_text(*mac);
        tracing::error!(%vip, %mac, "another host has this address; it is not put on until that host gives it up");
    }
    for vip in before.keys().filter(|vip| !now.contains_key(vip)) {
        tracing::info!(%vip, "no other host has this address any more");
    }
}

async fn announce(interface: Interface, addresses: Vec<IpAddr>) {
    if let Err(error) = arp::announce(&interface, &addresses).await {
        tracing::warn!(%error, "VIPs are not announced");
    }
}

fn concerns(event: &Event) -> bool {
    use RouteNetlinkMessage::{DelAddress, DelLink, NewAddress, NewLink};
    matches!(
        event,
        Event::Lost | Event::Message(NewLink(_) | DelLink(_) | NewAddress(_) | DelAddress(_))
    )
}

/// Which interface each address belongs on; one that is down takes none.
fn vips(interfaces: &Interfaces, wanted: &Wanted) -> BTreeSet<Vip> {
    let place = |address: &IpAddr| {
        let interface = interfaces.for_address(&wanted.interfaces, *address)?;
        interface.up.then_some(Vip { interface: interface.index, address: *address })
    };
    wanted.addresses.iter().filter_map(place).collect()
}

/// Asks for those that are not on yet.
async fn conflicts(
    interfaces: &Interfaces,
    vips: &BTreeSet<Vip>,
) -> Result<BTreeMap<IpAddr, MacAddr>, Error> {
    let new = vips.iter().filter_map(|vip| {
        let is_its = |interface: &&Interface| interface.index == vip.interface;
        let interface = interfaces.0.iter().find(is_its)?;
        let on = interface.addresses.iter().any(|net| net.addr() == vip.address);
        let can_ask = interface.carrier && !interface.is_loopback;
        (!on && can_ask).then_some((interface.clone(), vip.address))
    });
    let answers: Vec<_> = stream::iter(new.collect::<Vec<_>>())
        .map(|(interface, address)| async move {
            let holder = arp::in_use(&interface, address, CONFLICT).await?;
            Ok(holder.map(|mac| (address, mac)))
        })
        .buffer_unordered(ASKED_AT_ONCE)
        .collect()
        .await;
    answers.into_iter().filter_map(Result::transpose).collect()
}

#[cfg(test)]
mod tests {
    use super::{Interface, Interfaces, Vip, Wanted, vips};

    fn interface(index: u32, name: &str, up: bool, net: &str) -> Interface {
        let (name, mac, addresses) = (name.into(), [2, 0, 0, 0, 0, 1], vec![net.parse().unwrap()]);
        let (kind, mtu, carrier, xdp) = (None, 1500, up, vec![]);
        let is_loopback = false;
        Interface { index, name, kind, mac, mtu, up, carrier, is_loopback, addresses, xdp }
    }

    #[test]
    fn vips_go_where_their_prefix_is_unless_it_is_down() {
        let interfaces = Interfaces(vec![
            interface(2, "eth0", true, "198.18.0.1/24"),
            interface(3, "eth1", false, "198.18.1.1/24"),
            interface(4, "eth2", true, "198.18.2.1/24"),
        ]);
        let wanted = Wanted {
            interfaces: vec!["eth0".into(), "eth1".into()],
            addresses: ["198.18.0.10", "198.18.1.10", "198.18.2.10"]
                .map(|address| address.parse().unwrap())
                .into(),
        };
        let vip = |last: [u8; 4]| Vip { interface: 2, address: last.into() };
        // The last one's interface is not ours, so it goes on the first that is.
        let expected = [vip([198, 18, 0, 10]), vip([198, 18, 2, 10])];
        assert_eq!(vips(&interfaces, &wanted), expected.into());
    }
}
