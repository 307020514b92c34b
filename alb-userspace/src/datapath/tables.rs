//! Snapshot and network → what the maps shall hold. Pure but for the memory of which index is
//! whose.

mod choice;
mod drains;
mod error;
mod groups;
mod host;
mod starts;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::SystemTime,
};

use alb_common::{
    expiry::ticks,
    interface::{HopEntry, InterfaceEntry, hop_flag},
    limits::{MAX_LISTENERS, MAX_LOCALS, MAX_PREFIXES, MAX_TARGETS},
    net::{Be16, Be32},
    service::{ListenerKey, algorithm, local},
    target::{TargetEntry, TargetTimes},
};

pub use self::error::{TablesError, TooMuch};
use self::{
    choice::{Candidate, code, identity, select},
    drains::{Drains, allowed, seconds},
    groups::{Groups, Outbound},
    host::{hop, settings, snat, v4},
    starts::Starts,
};
use super::{
    collect::Sweep,
    contents::{Contents, Installed, Selection},
    filter::Filter,
    indices::Indices,
    replies::Replies,
    served::{key, proxied, served},
};
use crate::{
    balance,
    model::{Backend, Listener, LoadBalancer, Model, PortRange, Target},
    net::NextHopTable,
    state::{Health, Snapshot, TargetRef},
};

/// What the compiler needs to know of the host.
#[derive(Clone, Debug)]
pub struct Network {
    /// `node.interfaces` by slot.
    pub interfaces: BTreeMap<u32, InterfaceEntry>,
    /// Ways to the targets.
    pub hops: Arc<NextHopTable>,
    /// Places in the ring of half-open flows, a power of two.
    pub half_open_ring: u32,
    /// Places in the ring of closed flows, a power of two.
    pub closed_ring: u32,
    /// Tick of the packet path's clock.
    pub now: u32,
    /// The same moment by the clock of target states.
    pub time: SystemTime,
}

/// Which targets a selection table names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// Those that can be given new flows now.
    Usable,
    /// All but those known to be unhealthy: what may be needed soon.
    Possible,
}

/// Who a target index belongs to: a hash of backend, target and where it is.
pub type TargetIdentity = u64;

/// Compiles snapshots, remembering indices.
#[derive(Clone, Debug)]
pub struct Compiler {
    targets: Indices<TargetIdentity>,
    listeners: Indices<ListenerKey>,
    /// Entries of all targets in use, so that those that drain keep theirs.
    known: BTreeMap<u32, TargetEntry>,
    /// Their last known hops: better than none while a neighbour is asked for.
    hops: BTreeMap<u32, HopEntry>,
    /// Their ids, as far as this run has seen them in a model.
    names: BTreeMap<u32, TargetRef>,
    /// Which of them drain.
    drains: Drains,
    /// Which of them start slowly.
    starts: Starts,
    /// Security groups as filters.
    groups: Groups,
    /// Targets that outbound rules do not allow.
    refused: BTreeSet<TargetRef>,
    /// SNAT addresses that flows may use, with the last epoch in which a target did.
    snat: BTreeMap<Be32, u64>,
    /// VIPs that the host's stack has connections on, or once had.
    proxied: BTreeSet<Be32>,
    /// Ports that answers may come to beside those of the file.
    replies: Replies,
    /// Added to the host's route generation, so that it goes on where an earlier run was.
    first_generation: u16,
    /// Number of the last compilation.
    epoch: u64,
}

impl Compiler {
    /// Takes over the indices of what is installed.
    pub fn adopt(installed: &Installed) -> Self {
        let mut targets = Indices::new(u32::try_from(MAX_TARGETS).unwrap_or(u32::MAX));
        for (index, entry) in &installed.contents.targets {
            targets.adopt(*index, entry.id);
        }
        let mut listeners = Indices::new(u32::try_from(MAX_LISTENERS).unwrap_or(u32::MAX));
        for (key, entry) in &installed.entries {
            listeners.adopt(u32::from(entry.index), *key);
        }
        let known = installed.contents.targets.clone();
        let local = |flag| {
            let locals = installed.contents.locals.iter();
            locals.filter(move |(_, flags)| *flags & flag != 0).map(|(addr, _)| *addr)
        };
        Self {
            targets,
            listeners,
            known,
            hops: installed.contents.hops.clone(),
            names: BTreeMap::new(),
            drains: Drains::adopt(&installed.contents.times),
            starts: Starts::adopt(&installed.contents.times),
            groups: Groups::default(),
            refused: BTreeSet::new(),
            snat: local(local::SNAT).map(|addr| (addr, 0)).collect(),
            proxied: local(local::PROXY).collect(),
            replies: Replies::adopt(&installed.contents.settings),
            first_generation: installed.contents.settings.route_generation.wrapping_add(1),
            epoch: 0,
        }
    }

    /// What the maps shall hold for this snapshot on this host.
    pub fn compile(
        &mut self,
        snapshot: &Snapshot,
        network: &Network,
    ) -> Result<Contents, TablesError> {
        self.tables(snapshot, network, Choice::Usable)
    }

    /// What the maps would have to hold at most for this snapshot beside what they keep; changes
    /// nothing. `installed` is what they hold.
    pub fn foresee(
        &self,
        snapshot: &Snapshot,
        network: &Network,
        installed: &Installed,
    ) -> Result<Contents, TablesError> {
        let targets = self.targets.unbounded();
        let listeners = self.listeners.unbounded();
        let mut unbounded = Self { targets, listeners, ..self.clone() };
        let contents = unbounded.tables(snapshot, network, Choice::Possible)?;
        let within = |what, needed, kept, most| {
            if needed <= most { Ok(()) } else { Err(TooMuch { what, needed, kept, most }) }
        };
        let Self { targets, listeners, .. } = &unbounded;
        within("targets", targets.len(), targets.retired().count(), MAX_TARGETS)?;
        within("listeners", listeners.len(), listeners.retired().count(), MAX_LISTENERS)?;
        let old = &installed.contents.locals;
        let kept = old.keys().filter(|addr| !contents.locals.contains_key(addr)).count();
        let locals = contents.locals.len() + kept;
        within("VIPs and SNAT addresses", locals, kept, MAX_LOCALS)?;
        let prefixes = |of: &BTreeMap<u32, Arc<Filter>>| of.values().map(|of| of.0.len()).sum();
        let (new, kept): (usize, usize) =
            (prefixes(&contents.filters), prefixes(&installed.contents.filters));
        within("prefixes of security groups", new + kept, kept, MAX_PREFIXES)?;
        Ok(contents)
    }

    fn tables(
        &mut self,
        snapshot: &Snapshot,
        network: &Network,
        choice: Choice,
    ) -> Result<Contents, TablesError> {
        let model = &*snapshot.model;
        self.epoch += 1;
        let mut contents =
            Contents { interfaces: network.interfaces.clone(), ..Contents::default() };
        let (mut targets, mut listeners) = (BTreeSet::new(), BTreeSet::new());
        self.refused.clear();
        self.groups.begin();
        for balancer in &model.load_balancers {
            let (filter, mut outbound) = self.groups.of(model, balancer);
            let proxied = proxied(balancer, model.node.datapath);
            for vip in v4(&balancer.vips) {
                let vip = Be32::from(vip);
                if proxied.clone().next().is_some() {
                    self.proxied.insert(vip);
                }
                let proxied = if self.proxied.contains(&vip) { local::PROXY } else { 0 };
                let flags = local::filtered(local::VIP | proxied, filter);
                *contents.locals.entry(vip).or_default() |= flags;
            }
            for listener in proxied {
                for (key, index, _) in self.places(balancer, listener)? {
                    listeners.insert(index);
                    let selection = Selection {
                        index: short(index),
                        algorithm: algorithm::PROXY,
                        idle: 0,
                        max: 0, // the proxy counts its own
                        sibling: short(index),
                        slots: Arc::default(),
                    };
                    contents.listeners.insert(key, selection);
                }
            }
            let mut tables = BTreeMap::new();
            for listener in served(balancer, model.node.datapath) {
                let Some(backend) = balancer.backend(&listener.backend) else { continue };
                if !tables.contains_key(&backend.id) {
                    let candidates = self.candidates(
                        snapshot,
                        network,
                        choice,
                        balancer,
                        backend,
                        &mut outbound,
                    )?;
                    targets.extend(candidates.iter().map(|candidate| candidate.index));
                    tables.insert(backend.id.clone(), select(backend, &candidates));
                }
                let slots = &tables[&backend.id];
                let idle = u32::try_from(listener.idle_timeout.as_secs()).unwrap_or(u32::MAX);
                for (key, index, sibling) in self.places(balancer, listener)? {
                    listeners.insert(index);
                    let selection = Selection {
                        index: short(index),
                        algorithm: code(backend.algorithm),
                        idle: ticks(idle),
                        max: listener.max_connections.unwrap_or(0),
                        sibling: short(sibling),
                        slots: Arc::clone(slots),
                    };
                    contents.listeners.insert(key, selection);
                }
            }
        }
        contents.filters = self.groups.filters();
        self.proxied.retain(|vip| contents.locals.contains_key(vip));
        self.targets.keep(&targets, self.epoch);
        self.listeners.keep(&listeners, self.epoch);
        for (index, _) in self.targets.retired() {
            self.drains.removed(index, network.now);
        }
        contents.settings = settings(
            &model.node,
            network,
            self.first_generation,
            self.replies,
            self.drains.ends().len(),
        );
        self.place_targets(network, &mut contents);
        Ok(contents)
    }

    /// Every target that flows may have, with its hop, its moments and its source addresses.
    fn place_targets(&mut self, network: &Network, contents: &mut Contents) {
        for index in self.known.keys() {
            let (start, ramp) = self.starts.of(*index);
            let times = TargetTimes { start, ramp, ..self.drains.times(*index) };
            contents.times.insert(*index, times);
        }
        for (index, entry) in &self.known {
            contents.targets.insert(*index, *entry);
            if let Some(hop) = hop(network, entry.addr.addr()) {
                self.hops.insert(*index, hop);
            }
            let mut hop = self.hops.get(index).copied().unwrap_or_default();
            let times = contents.times[index];
            let flag = |is_set, flag| if is_set { flag } else { 0 };
            hop.flags &= !(hop_flag::DRAINS | hop_flag::STARTS);
            hop.flags |=
                flag(times.cut_at != 0, hop_flag::DRAINS) | flag(times.ramp != 0, hop_flag::STARTS);
            contents.hops.insert(*index, hop);
            for snat in entry.snat.iter().take(usize::from(entry.snat_count)) {
                self.snat.insert(*snat, self.epoch);
            }
        }
        for snat in self.snat.keys() {
            *contents.locals.entry(*snat).or_default() |= local::SNAT;
        }
    }

    /// A listener on each of its addresses: key, index, index on the other address.
    fn places(
        &mut self,
        balancer: &LoadBalancer,
        listener: &Listener,
    ) -> Result<Vec<(ListenerKey, u32, u32)>, TablesError> {
        let mut places = Vec::new();
        for vip in v4(&balancer.vips) {
            let key = key(vip, listener);
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
        balancer: &LoadBalancer,
        backend: &Backend,
        outbound: &mut Outbound,
    ) -> Result<Vec<Candidate>, TablesError> {
        let mut candidates = Vec::new();
        for target in balancer.targets_of(backend) {
            let IpAddr::V4(address) = target.address else { continue };
            let id = identity(backend, target);
            let index = self.targets.take(&id).map_err(TablesError::Targets)?;
            let snat = snat(&snapshot.model.node, network, address);
            let port = target.port_for(backend).get();
            let entry = TargetEntry {
                id,
                addr: address.into(),
                port: Be16::new(port),
                snat_count: u16::try_from(snat.len()).unwrap_or_default(),
                snat: std::array::from_fn(|slot| snat.get(slot).copied().unwrap_or_default()),
            };
            // Without a route there is no source address; what was known before still serves
            // the flows that are open.
            if entry.snat_count > 0 || !self.known.contains_key(&index) {
                self.known.insert(index, entry);
            }
            self.names.insert(index, TargetRef::new(&backend.id, &target.id));
            let state = snapshot.targets.get(&backend.id, &target.id);
            let given = allowed(backend, target, state);
            self.drains.present(index, seconds(backend), given, network.now);
            self.starts.present(index, backend.slow_start, state, network);
            let (reachable, serves) = match choice {
                Choice::Usable => (
                    entry.snat_count > 0 && hop(network, address).is_some(),
                    snapshot.targets.serves(&backend.id, &target.id),
                ),
                Choice::Possible => {
                    (true, state.is_none_or(|state| state.health != Health::Unhealthy))
                }
            };
            let admitted = outbound.admits(address, port);
            if !admitted {
                self.refused.insert(TargetRef::new(&backend.id, &target.id));
            }
            let of = balance::Candidate {
                at: SocketAddr::from((address, port)),
                weight: if reachable && admitted { u32::from(target.weight) } else { 0 },
                serves,
                since: None,
            };
            candidates.push(Candidate { index, of });
        }
        Ok(candidates)
    }

    /// Number of the last compilation; a sweep that starts now sees every flow that began
    /// before the next.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Frees what is gone from the model and what no flow names, as a sweep found that began in
    /// this epoch. Returns the indices of targets and listeners.
    pub fn free(&mut self, epoch: u64, sweep: &Sweep) -> (Vec<u32>, Vec<u32>) {
        let targets = self.targets.free(epoch, |index| sweep.names_target(index));
        for index in &targets {
            self.known.remove(index);
            self.hops.remove(index);
            self.names.remove(index);
            self.drains.forget(*index);
            self.starts.forget(*index);
        }
        let listeners = self.listeners.free(epoch, |index| {
            u16::try_from(index).is_ok_and(|index| sweep.names_listener(index))
        });
        if epoch > 0 {
            self.replies = sweep.ports;
        }
        let now = self.epoch;
        self.snat.retain(|addr, used| *used == now || *used > epoch || sweep.snat.contains(addr));
        (targets, listeners)
    }

    /// Ports that answers may come to, `range` being the file's.
    pub fn reply_ports(&self, range: PortRange) -> PortRange {
        self.replies.with(range)
    }

    /// How many SNAT addresses flows may use.
    pub fn snat_addresses(&self) -> usize {
        self.snat.len()
    }

    /// Keeps listener indices that flows of an earlier run name, whosever they are.
    pub fn reserve_listeners(&mut self, named: impl Iterator<Item = u32>) {
        for index in named {
            let nobody = ListenerKey { reserved: 1, ..ListenerKey::default() };
            self.listeners.reserve(index, nobody);
        }
    }

    /// Index of a target of a backend.
    pub fn target(&self, backend: &Backend, target: &Target) -> Option<u32> {
        self.targets.get(&identity(backend, target))
    }

    /// Index of a listener on an address.
    pub fn listener(&self, vip: Ipv4Addr, port: u16) -> Option<u32> {
        let key = ListenerKey { addr: vip.into(), port: Be16::new(port), reserved: 0 };
        self.listeners.get(&key)
    }

    /// Targets that are gone from the model but may have flows.
    pub fn draining(&self) -> impl Iterator<Item = (u32, &TargetEntry, &TargetRef)> {
        self.targets.retired().filter_map(|(index, _)| {
            Some((index, self.known.get(&index)?, self.names.get(&index)?))
        })
    }

    /// Targets that outbound rules do not allow, as of the last compilation.
    pub fn refused(&self) -> &BTreeSet<TargetRef> {
        &self.refused
    }

    /// When the flows of targets that drain are ended, ticks by target index.
    pub fn cuts(&self) -> &BTreeMap<u32, u32> {
        self.drains.ends()
    }

    /// Indices in use, draining ones included: targets and listeners.
    pub fn in_use(&self) -> (Vec<u32>, Vec<u32>) {
        let indices = |all: &mut dyn Iterator<Item = u32>| all.collect();
        (
            indices(&mut self.targets.all().map(|(index, _)| index)),
            indices(&mut self.listeners.all().map(|(index, _)| index)),
        )
    }

    /// Addresses that must be kept resolved: the model's targets and those that drain.
    pub fn addresses(&self, model: &Model) -> BTreeSet<IpAddr> {
        let of_model = model.load_balancers.iter().flat_map(|balancer| {
            let served = served(balancer, model.node.datapath);
            let backends = served.filter_map(|of| balancer.backend(&of.backend));
            backends.flat_map(|backend| balancer.targets_of(backend)).map(|target| target.address)
        });
        of_model.chain(self.known.values().map(|entry| entry.addr.addr().into())).collect()
    }
}

/// A listener index as the kernel has it; larger ones are only reckoned with.
fn short(index: u32) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
