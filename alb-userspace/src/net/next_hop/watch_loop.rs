//! The task behind `NextHops`: kernel events in, questions to the kernel, tables out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt;
use rtnetlink::packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkFlags, LinkMessage},
};
use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval, sleep_until},
};

use super::{
    NextHopTable,
    known::{Known, Link, Question},
};
use crate::net::{
    Interface, MacAddr,
    neighbour::{Neighbour, entry},
    netlink::{Error, Event, Events, Netlink},
};

/// Every hop is verified, or looked for again, once in `SLICES` of these: two seconds. A MAC
/// that changes without a word is found within that and the three seconds in which the kernel
/// asks the old one.
const SLICE: Duration = Duration::from_millis(100);
/// Parts over which the hops are spread.
const SLICES: usize = 20;
/// Hops verified in one part, at most. Beyond 500 hops it takes longer, rather than keep the
/// kernel busy with it.
const AT_ONCE: usize = 25;
/// Changes of routes and links come in bursts; they are answered together.
const SETTLE: Duration = Duration::from_millis(10);

pub(super) struct WatchLoop {
    netlink: Netlink,
    events: Events,
    wants: watch::Receiver<BTreeSet<IpAddr>>,
    publisher: watch::Sender<Arc<NextHopTable>>,
    known: Known,
    /// When routes have to be looked up again; `None` = they are right.
    reroute: Option<Instant>,
    /// Which part of the time is next.
    slice: usize,
    /// The hop that was verified last.
    verified: Option<Neighbour>,
    /// The table may differ from the published one.
    news: bool,
}

impl WatchLoop {
    pub(super) async fn new(
        netlink: Netlink,
        events: Events,
        wants: watch::Receiver<BTreeSet<IpAddr>>,
        publisher: watch::Sender<Arc<NextHopTable>>,
    ) -> Result<Self, Error> {
        let known = Known::default();
        let (reroute, slice, verified, news) = (None, 0, None, false);
        let mut this =
            Self { netlink, events, wants, publisher, known, reroute, slice, verified, news };
        this.list().await?;
        Ok(this)
    }

    pub(super) async fn run(mut self) {
        let mut verify = slices();
        loop {
            let rerouting = self.reroute;
            tokio::select! {
                changed = self.wants.changed() => {
                    if changed.is_err() { return }
                    self.reroute().await;
                }
                event = self.events.stream.next() => {
                    let Some(event) = event else {
                        tracing::error!("the kernel's network events ended; next hops are no longer followed");
                        return;
                    };
                    self.take_in(event).await;
                }
                () = sleep_until(rerouting.unwrap_or_else(Instant::now)), if rerouting.is_some() => {
                    self.reroute().await;
                }
                _ = verify.tick() => self.verify_slice().await,
            }
            if std::mem::take(&mut self.news) {
                self.publish();
            }
        }
    }

    /// Reads links and neighbours as they are now.
    async fn list(&mut self) -> Result<(), Error> {
        for interface in self.netlink.interfaces().await?.0 {
            let Interface { index, up, carrier, mac, mtu, .. } = interface;
            self.known.link(index, Some(Link { up, carrier, mac, mtu }));
        }
        let mut gone = self.known.neighbours();
        for entry in self.netlink.neighbours().await? {
            gone.remove(&entry.neighbour);
            self.known.neighbour(entry);
        }
        for neighbour in gone {
            self.known.neighbour_gone(neighbour);
        }
        Ok(())
    }

    async fn take_in(&mut self, event: Event) {
        let message = match event {
            Event::Message(message) => message,
            Event::Lost => {
                tracing::warn!("network events were lost; reading everything again");
                if let Err(error) = self.list().await {
                    tracing::error!(%error, "network events were lost");
                }
                return self.outdate();
            }
        };
        if let RouteNetlinkMessage::NewNeighbour(message) = &message {
            let Some(entry) = entry(message) else { return };
            let heard = self.known.neighbour(entry);
            self.news |= heard.news;
            if heard.lost {
                resolve(&self.netlink, entry.neighbour).await;
            }
        } else if let RouteNetlinkMessage::DelNeighbour(message) = &message {
            if let Some(entry) = entry(message)
                && self.known.neighbour_gone(entry.neighbour)
                && self.known.question(entry.neighbour).is_some()
            {
                resolve(&self.netlink, entry.neighbour).await;
            }
        } else if let RouteNetlinkMessage::NewLink(message) = &message {
            if self.known.link(message.header.index, Some(link(message))) {
                self.outdate();
            }
        } else if let RouteNetlinkMessage::DelLink(message) = &message {
            if self.known.link(message.header.index, None) {
                self.outdate();
            }
        } else {
            // Routes, rules and addresses; nothing else is subscribed to.
            self.outdate();
        }
    }

    fn outdate(&mut self) {
        self.news = true;
        self.known.outdate();
        self.reroute.get_or_insert_with(|| Instant::now() + SETTLE);
    }

    /// Looks up the route of every wanted address, and has new hops resolved.
    async fn reroute(&mut self) {
        self.reroute = None;
        let wanted = self.wants.borrow_and_update().clone();
        let mut routes = BTreeMap::new();
        for address in wanted {
            match self.netlink.route(address).await {
                Ok(Some(route)) => {
                    routes.insert(address, route);
                }
                Ok(None) => tracing::debug!(%address, "no route over a link"),
                Err(error) => tracing::warn!(%address, %error, "no next hop"),
            }
        }
        let before = self.known.hops();
        self.known.set_routes(routes);
        self.news = true;
        for hop in before.difference(&self.known.hops()) {
            if self.known.question(*hop).is_some()
                && let Err(error) = self.netlink.release(*hop).await
            {
                tracing::debug!(%error, "a neighbour is kept that is not needed");
            }
        }
        for hop in self.known.hops() {
            // A resolved one too: it is to be kept so.
            if self.known.question(hop).is_some() {
                resolve(&self.netlink, hop).await;
            }
        }
    }

    /// Asks the hops whose turn it is.
    async fn verify_slice(&mut self) {
        let hops = self.known.hops();
        let until = |slice| hops.len() * slice / SLICES;
        let count = (until(self.slice + 1) - until(self.slice)).min(AT_ONCE);
        self.slice = (self.slice + 1) % SLICES;
        let after = hops.iter().filter(|hop| Some(**hop) > self.verified);
        let turn: Vec<_> = after.chain(&hops).take(count).copied().collect();
        self.verified = turn.last().copied();
        for hop in turn {
            match self.known.question(hop) {
                // It may have failed since; then its event is on the way to us.
                Some(Question::Verify) => {
                    if let Err(error) = self.netlink.verify(hop).await {
                        tracing::debug!(%error, "cannot verify a neighbour");
                    }
                }
                Some(Question::Resolve) => resolve(&self.netlink, hop).await,
                None => {}
            }
        }
    }

    fn publish(&self) {
        self.publisher.send_if_modified(|published| {
            let table = self.known.table();
            let differs = **published != table;
            if differs {
                *published = Arc::new(table);
            }
            differs
        });
    }
}

async fn resolve(netlink: &Netlink, neighbour: Neighbour) {
    if let Err(error) = netlink.resolve(neighbour).await {
        tracing::warn!(%error, "a neighbour is not kept resolved");
    }
}

fn slices() -> Interval {
    let mut slices = interval(SLICE);
    slices.set_missed_tick_behavior(MissedTickBehavior::Delay);
    slices
}

fn link(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        mac: MacAddr::default(),
        mtu: 0,
    };
    for attribute in &message.attributes {
        if let LinkAttribute::Address(mac) = attribute {
            link.mac = mac.as_slice().try_into().unwrap_or_default();
        } else if let LinkAttribute::Mtu(mtu) = attribute {
            link.mtu = *mtu;
        }
    }
    link
}
