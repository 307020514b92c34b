//! What one load balancer becomes, and what that follows from: as long as none of it changes, the
//! part stays as it is, and a change of one load balancer costs no more however many there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use alb_common::{expiry::ticks, interface::InterfaceEntry, net::Be16, service::algorithm};

use super::{
    Choice, Compiler, Network, TablesError,
    choice::{Candidate, code, identity, select},
    drains::{allowed, seconds},
    groups::Outbound,
    host::{hop, snat, sources},
};
use crate::{
    balance::{self, Service},
    datapath::{
        contents::Selection,
        served::{key, proxied, served},
        wide::{self, Addr, ListenerKey, TargetEntry},
    },
    model::{Backend, DatapathMode, Listener, LoadBalancer, Node, Shared},
    net::NextHop,
    security::Rules,
    state::{Health, Snapshot, TargetRef},
};

/// What every part follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) choice: Choice,
    pub(super) datapath: DatapathMode,
    /// SNAT addresses of the file.
    pub(super) snat: Vec<IpAddr>,
    pub(super) interfaces: BTreeMap<u32, InterfaceEntry>,
}

impl Host {
    pub(super) fn of(node: &Node, network: &Network, choice: Choice) -> Self {
        let (datapath, snat) = (node.datapath, node.snat.addresses.clone());
        Self { choice, datapath, snat, interfaces: network.interfaces.clone() }
    }
}

/// What a part follows from beside the host, the ways to its targets and what is known of them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Basis {
    pub(super) balancer: Shared<LoadBalancer>,
    /// Where it may connect to.
    outbound: Option<Arc<Rules>>,
}

impl Basis {
    pub(super) fn of(balancer: &Shared<LoadBalancer>, outbound: &Outbound) -> Self {
        Self { balancer: balancer.clone(), outbound: outbound.rules().cloned() }
    }
}

/// What a load balancer became.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) basis: Basis,
    /// Some of its listeners are the proxy's.
    pub(super) is_proxied: bool,
    pub(super) listeners: Vec<(ListenerKey, Selection)>,
    /// Indices of its targets.
    pub(super) targets: BTreeSet<u32>,
    /// Addresses of its targets.
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Source addresses of flows to them.
    pub(super) snat: BTreeSet<Addr>,
    /// Targets that outbound rules do not allow.
    pub(super) refused: Vec<TargetRef>,
}

impl Part {
    /// Whether something else is known now of one of its backends' targets, or of the ways to them.
    pub(super) fn is_stale(&self, backends: &BTreeSet<Arc<str>>, ways: &BTreeSet<IpAddr>) -> bool {
        let mut own = self.basis.balancer.backends.iter();
        !backends.is_empty() && own.any(|backend| backends.contains(&*backend.id))
            || ways.iter().any(|address| self.addresses.contains(address))
    }
}

/// Addresses to which the way is another.
pub(super) fn rerouted(
    old: &BTreeMap<IpAddr, NextHop>,
    new: &BTreeMap<IpAddr, NextHop>,
) -> BTreeSet<IpAddr> {
    let differs =
        |(address, hop): (&IpAddr, &NextHop)| (new.get(address) != Some(hop)).then_some(*address);
    let added = new.keys().filter(|address| !old.contains_key(address));
    old.iter().filter_map(differs).chain(added.copied()).collect()
}

impl Compiler {
    /// Compiles one load balancer.
    pub(super) fn part(
        &mut self,
        snapshot: &Snapshot,
        network: &Network,
        choice: Choice,
        basis: Basis,
        outbound: &mut Outbound,
    ) -> Result<Part, TablesError> {
        let datapath = snapshot.model.node.datapath;
        let balancer = basis.balancer.clone();
        let mut part = Part {
            basis,
            is_proxied: false,
            listeners: Vec::new(),
            targets: BTreeSet::new(),
            addresses: BTreeSet::new(),
            snat: BTreeSet::new(),
            refused: Vec::new(),
        };
        for listener in proxied(&balancer, datapath) {
            part.is_proxied = true;
            for (key, index, _) in self.places(&balancer, listener)? {
                let selection = Selection {
                    index: short(index),
                    algorithm: algorithm::PROXY,
                    idle: 0,
                    max: 0, // the proxy counts its own
                    sibling: short(index),
                    slots: Arc::default(),
                };
                part.listeners.push((key, selection));
            }
        }
        let mut tables = BTreeMap::new();
        for listener in served(&balancer, datapath) {
            let Some(backend) = balancer.backend(&listener.backend) else { continue };
            if !tables.contains_key(&*backend.id) {
                let found =
                    self.candidates(snapshot, network, choice, backend, outbound, &mut part)?;
                tables.insert(&*backend.id, select(backend, &found));
            }
            let slots = &tables[&*backend.id];
            let idle = u32::try_from(listener.idle_timeout.as_secs()).unwrap_or(u32::MAX);
            for (key, index, sibling) in self.places(&balancer, listener)? {
                let selection = Selection {
                    index: short(index),
                    algorithm: code(backend.algorithm),
                    idle: ticks(idle),
                    max: listener.max_connections.unwrap_or(0),
                    sibling: short(sibling),
                    slots: Arc::clone(slots),
                };
                part.listeners.push((key, selection));
            }
        }
        Ok(part)
    }

    /// A listener on each of its addresses: key, index, index on the other address.
    fn places(
        &mut self,
        balancer: &LoadBalancer,
        listener: &Listener,
    ) -> Result<Vec<(ListenerKey, u32, u32)>, TablesError> {
        let mut places = Vec::new();
        for vip in &balancer.vips {
            let key = key(*vip, listener);
            let index = self.listeners.take(&key).map_err(TablesError::Listeners)?;
            places.push((key, index));
        }
        // The private address and the elastic one: there are no more than two.
        let first = places.first().map(|(_, index)| *index);
        let last = places.last().map(|(_, index)| *index);
        let sibling = |index| if Some(index) == first { last } else { first };
        let with = |(key, index)| (key, index, sibling(index).unwrap_or(index));
        Ok(places.into_iter().map(with).collect())
    }

    fn candidates(
        &mut self,
        snapshot: &Snapshot,
        network: &Network,
        choice: Choice,
        backend: &Backend,
        outbound: &mut Outbound,
        of: &mut Part,
    ) -> Result<Vec<Candidate>, TablesError> {
        let balancer = of.basis.balancer.clone();
        let mut candidates = Vec::new();
        for target in balancer.targets_of(backend) {
            of.addresses.insert(target.address);
            let address = target.address;
            let id = identity(backend, target);
            let index = self.targets.take(&id).map_err(TablesError::Targets)?;
            of.targets.insert(index);
            let snat = snat(&snapshot.model.node, network, address);
            let port = target.port_for(backend).get();
            let entry = TargetEntry {
                id: id.into(),
                addr: wide::addr(address),
                port: Be16::new(port),
                snat_count: u16::try_from(snat.len()).unwrap_or_default(),
                snat: std::array::from_fn(|slot| snat.get(slot).copied().unwrap_or_default()),
            };
            // Without a route there is no source address; what was known before still serves
            // the flows that are open.
            if entry.snat_count > 0 || !self.known.contains(index) {
                self.known.insert(index, entry);
            }
            of.snat.extend(self.known.get(index).into_iter().flat_map(sources));
            let name = TargetRef::new(&backend.id, &target.id);
            let state = snapshot.targets.get(&backend.id, &target.id);
            let given = allowed(backend, target, state);
            self.drains.present(index, seconds(backend), given, network.now);
            self.starts.present(index, backend.slow_start, state, network);
            let (reachable, service) = match choice {
                Choice::Usable => (
                    entry.snat_count > 0 && hop(network, address).is_some(),
                    state.map_or(Service::Untried, |state| state.health.into()),
                ),
                Choice::Possible => {
                    let is_out = state.is_some_and(|state| state.health == Health::Unhealthy);
                    (true, if is_out { Service::Out } else { Service::In })
                }
            };
            let admitted = outbound.admits(address, port);
            if !admitted {
                of.refused.push(name.clone());
            }
            self.names.insert(index, name);
            let candidate = balance::Candidate {
                at: SocketAddr::from((address, port)),
                weight: if reachable && admitted { u32::from(target.weight) } else { 0 },
                service,
                since: None,
            };
            candidates.push(Candidate { index, of: candidate });
        }
        Ok(candidates)
    }
}

/// A listener index as the kernel has it; larger ones are only reckoned with.
fn short(index: u32) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
