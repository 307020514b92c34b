//! What is known of routes, links and neighbours, and the table that follows: pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{NextHop, NextHopTable};
use crate::net::{
    MacAddr,
    neighbour::{Entry, Neighbour, Phase},
    route::Route,
};

/// What matters of a link for the ways over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) up: bool,
    pub(super) carrier: bool,
    pub(super) mac: MacAddr,
    /// Largest packet without the link header, bytes.
    pub(super) mtu: u32,
}

/// What the kernel can be asked about a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Is it still there, with the same MAC?
    Verify,
    /// Where is it?
    Resolve,
}

/// What an entry told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    /// The neighbour has a MAC that was not known.
    pub(super) news: bool,
    /// A hop stopped answering: it has to be asked by broadcast at once.
    pub(super) lost: bool,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    routes: BTreeMap<IpAddr, Route>,
    /// The last MAC of every neighbour that had one.
    macs: BTreeMap<Neighbour, MacAddr>,
    /// Those that have an entry, and where the kernel is with them.
    phases: BTreeMap<Neighbour, Phase>,
    links: BTreeMap<u32, Link>,
    generation: u32,
}

impl Known {
    pub(super) fn set_routes(&mut self, routes: BTreeMap<IpAddr, Route>) {
        self.routes = routes;
    }

    /// Ways learnt earlier may be wrong now.
    pub(super) fn outdate(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// Neighbours that packets to wanted addresses go to.
    pub(super) fn hops(&self) -> BTreeSet<Neighbour> {
        let first = |(to, route): (&IpAddr, &Route)| Neighbour {
            interface: route.interface,
            address: route.gateway.unwrap_or(*to),
        };
        self.routes.iter().filter(|(_, route)| !route.is_here).map(first).collect()
    }

    /// Takes in an entry.
    pub(super) fn neighbour(&mut self, entry: Entry) -> Heard {
        let Entry { neighbour, mac, phase, managed: _ } = entry;
        let mut news = false;
        if let Some(mac) = mac {
            let before = self.macs.insert(neighbour, mac);
            news = before != Some(mac);
            if news && before.is_some() {
                self.outdate();
            }
        }
        let was = self.phases.insert(neighbour, phase);
        let had = matches!(was, Some(Phase::Resolved | Phase::Verifying));
        let lost = had && phase == Phase::Failed && self.hops().contains(&neighbour);
        Heard { news, lost }
    }

    /// Takes in that an entry is gone. True if it was that of a hop.
    pub(super) fn neighbour_gone(&mut self, neighbour: Neighbour) -> bool {
        self.phases.remove(&neighbour);
        let is_hop = self.hops().contains(&neighbour);
        if !is_hop {
            self.macs.remove(&neighbour);
        }
        is_hop
    }

    /// Takes in a link; `None` = it is gone. True if that changes ways over it.
    pub(super) fn link(&mut self, index: u32, link: Option<Link>) -> bool {
        if let Some(link) = link {
            return self.links.insert(index, link) != Some(link);
        }
        self.macs.retain(|neighbour, _| neighbour.interface != index);
        self.phases.retain(|neighbour, _| neighbour.interface != index);
        self.links.remove(&index).is_some()
    }

    /// What to have the kernel do about a hop now; `None` = leave it alone.
    pub(super) fn question(&self, hop: Neighbour) -> Option<Question> {
        if !self.links.get(&hop.interface).is_some_and(|link| link.up && link.carrier) {
            return None;
        }
        match self.phases.get(&hop) {
            Some(Phase::Resolved) => Some(Question::Verify),
            Some(Phase::Verifying | Phase::Static) => None,
            Some(Phase::Failed | Phase::Unresolved) | None => Some(Question::Resolve),
        }
    }

    /// Neighbours that had an entry, for comparison with a fresh listing.
    pub(super) fn neighbours(&self) -> BTreeSet<Neighbour> {
        self.phases.keys().copied().collect()
    }

    pub(super) fn table(&self) -> NextHopTable {
        let hop = |(to, route): (&IpAddr, &Route)| {
            let Route { interface, gateway, source, is_here } = *route;
            let neighbour = Neighbour { interface, address: gateway.unwrap_or(*to) };
            let learnt = self.macs.get(&neighbour).copied();
            let mac = if is_here { Some(MacAddr::default()) } else { learnt };
            (*to, NextHop { interface, gateway, source, mac })
        };
        NextHopTable {
            hops: self.routes.iter().map(hop).collect(),
            route_generation: self.generation,
        }
    }
}

#[cfg(test)]
mod tests;
