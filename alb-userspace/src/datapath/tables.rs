//! Snapshot and network → what the maps shall hold. Pure but for the memory of which index is
//! whose.

mod choice;
mod drains;
mod error;
mod groups;
mod host;
mod part;
mod starts;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::SystemTime,
};

use alb_common::{
    interface::{HopEntry, InterfaceEntry, hop_flag},
    limits::{MAX_LISTENERS, MAX_LOCALS, MAX_PREFIXES, MAX_TARGETS},
    net::Be16,
    service::local,
    target::TargetTimes,
};

pub use self::error::{TablesError, TooMuch};
use self::{
    choice::identity,
    drains::Drains,
    groups::Groups,
    host::{hop, settings, sources},
    part::{Basis, Host, Part, rerouted},
    starts::Starts,
};
use super::{
    by_index::ByIndex,
    collect::Sweep,
    contents::{Contents, Installed},
    filter::Filter,
    indices::Indices,
    replies::Replies,
    served::served,
    shape::Room,
    wide::{self, Addr, ListenerKey, TargetEntry},
};
use crate::{
    model::{Backend, Model, PortRange, Target},
    net::NextHopTable,
    state::{Snapshot, TargetRef, TargetStates},
};

/// What the compiler needs to know of the host.
#[derive(Clone, Debug)]
pub struct Network {
    /// `node.interfaces` by slot.
    pub interfaces: BTreeMap<u32, InterfaceEntry>,
    /// Ways to the targets.
    pub hops: Arc<NextHopTable>,
    /// How many flows the tables are made for.
    pub room: Room,
    /// CPUs that packets may come in by.
    pub cpus: u32,
    /// [`Settings::syn_key`](alb_common::settings::Settings::syn_key).
    pub syn_key: [u32; 4],
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
    /// What load balancers became, by id.
    parts: BTreeMap<String, Part>,
    /// The host that they became it on; `None` = compile them again.
    host: Option<Host>,
    /// The ways to targets as they were then.
    ways: Arc<NextHopTable>,
    /// What was known of targets then.
    states: Arc<TargetStates>,
    /// Entries of all targets in use, so that those that drain keep theirs.
    known: ByIndex<TargetEntry>,
    /// Their last known hops: better than none while a neighbour is asked for.
    hops: ByIndex<HopEntry>,
    /// Their moments.
    times: ByIndex<TargetTimes>,
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
    snat: BTreeMap<Addr, u64>,
    /// VIPs that the host's stack has connections on, or once had.
    proxied: BTreeSet<Addr>,
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
        for (index, entry) in installed.contents.targets.iter() {
            targets.adopt(index, entry.id.into());
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
            parts: BTreeMap::new(),
            host: None,
            ways: Arc::default(),
            states: Arc::default(),
            known,
            hops: installed.contents.hops.clone(),
            times: installed.contents.times.clone(),
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
        let host = Host::of(&model.node, network, choice);
        // What cannot be compiled to its end leaves nothing that the next one could go on from.
        let goes_on = self.host.take().is_some_and(|before| before == host);
        let hops = std::mem::replace(&mut self.ways, Arc::clone(&network.hops));
        let rerouted = if Arc::ptr_eq(&hops, &network.hops) {
            BTreeSet::new()
        } else {
            rerouted(&hops.hops, &network.hops.hops)
        };
        let states = std::mem::replace(&mut self.states, Arc::clone(&snapshot.targets));
        let known = snapshot.targets.changed(&states);
        let mut before = std::mem::take(&mut self.parts);
        let mut contents =
            Contents { interfaces: network.interfaces.clone(), ..Contents::default() };
        let mut changed = Vec::new();
        self.groups.begin();
        for balancer in &model.load_balancers {
            let (filter, mut outbound) = self.groups.of(model, balancer);
            let basis = Basis::of(balancer, &outbound);
            let part = match before.remove(&*balancer.id) {
                Some(part)
                    if goes_on && part.basis == basis && !part.is_stale(&known, &rerouted) =>
                {
                    part
                }
                was => {
                    let part = self.part(snapshot, network, choice, basis, &mut outbound)?;
                    changed.extend(part.targets.iter().copied());
                    before.extend(was.map(|was| (balancer.id.clone(), was)));
                    part
                }
            };
            for vip in balancer.vips.iter().map(|vip| wide::addr(*vip)) {
                if part.is_proxied {
                    self.proxied.insert(vip);
                }
                let proxied = if self.proxied.contains(&vip) { local::PROXY } else { 0 };
                let flags = local::filtered(local::VIP | proxied, filter);
                *contents.locals.entry(vip).or_default() |= flags;
            }
            self.parts.insert(balancer.id.clone(), part);
        }
        let listeners = self.parts.values().flat_map(|part| part.listeners.iter().cloned());
        contents.listeners = listeners.collect();
        contents.filters = self.groups.filters();
        self.proxied.retain(|vip| contents.locals.contains_key(vip));
        if goes_on {
            self.retire(&before, &contents);
        } else {
            let targets = self.parts.values().flat_map(|part| &part.targets).copied().collect();
            self.targets.keep(&targets, self.epoch);
            let listeners = contents.listeners.values().map(|of| u32::from(of.index)).collect();
            self.listeners.keep(&listeners, self.epoch);
            changed = self.known.keys().collect();
        }
        self.host = Some(host);
        self.refused = self.parts.values().flat_map(|part| part.refused.iter().cloned()).collect();
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
        self.place_targets(network, changed);
        contents.targets = self.known.clone();
        contents.hops = self.hops.clone();
        contents.times = self.times.clone();
        self.name_sources(&mut contents);
        Ok(contents)
    }

    /// Retires what parts had that are no more and no other has.
    fn retire(&mut self, before: &BTreeMap<String, Part>, contents: &Contents) {
        for part in before.values() {
            for index in &part.targets {
                if !self.parts.values().any(|part| part.targets.contains(index)) {
                    self.targets.retire(*index, self.epoch);
                }
            }
            for (key, selection) in &part.listeners {
                if !contents.listeners.contains_key(key) {
                    self.listeners.retire(u32::from(selection.index), self.epoch);
                }
            }
        }
    }

    /// The hops and the moments of targets of changed parts, and of those that are retired.
    fn place_targets(&mut self, network: &Network, changed: Vec<u32>) {
        let retired = self.targets.retired().map(|(index, _)| index);
        for index in changed.into_iter().chain(retired) {
            let Some(entry) = self.known.get(index) else { continue };
            let (start, ramp) = self.starts.of(index);
            let times = TargetTimes { start, ramp, ..self.drains.times(index) };
            let known = || self.hops.get(index).copied().unwrap_or_default();
            let mut hop = hop(network, wide::ip(entry.addr)).unwrap_or_else(known);
            let flag = |is_set, flag| if is_set { flag } else { 0 };
            hop.flags &= !(hop_flag::DRAINS | hop_flag::STARTS);
            hop.flags |=
                flag(times.cut_at != 0, hop_flag::DRAINS) | flag(times.ramp != 0, hop_flag::STARTS);
            self.hops.insert(index, hop);
            self.times.insert(index, times);
        }
    }

    /// Every source address that flows may have.
    fn name_sources(&mut self, contents: &mut Contents) {
        let retired = self.targets.retired().filter_map(|(index, _)| self.known.get(index));
        let parts = self.parts.values().flat_map(|part| &part.snat).copied();
        for snat in parts.chain(retired.flat_map(sources)) {
            self.snat.insert(snat, self.epoch);
        }
        for snat in self.snat.keys() {
            *contents.locals.entry(*snat).or_default() |= local::SNAT;
        }
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
            self.known.remove(*index);
            self.hops.remove(*index);
            self.times.remove(*index);
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
    pub fn listener(&self, vip: IpAddr, port: u16) -> Option<u32> {
        let key = ListenerKey { addr: wide::addr(vip), port: Be16::new(port), reserved: 0 };
        self.listeners.get(&key)
    }

    /// Targets that are gone from the model but may have flows.
    pub fn draining(&self) -> impl Iterator<Item = (u32, &TargetEntry, &TargetRef)> {
        self.targets
            .retired()
            .filter_map(|(index, _)| Some((index, self.known.get(index)?, self.names.get(&index)?)))
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
        let datapath = model.node.datapath;
        let same = self.host.as_ref().is_some_and(|host| host.datapath == datapath);
        let mut addresses = BTreeSet::new();
        for balancer in &model.load_balancers {
            let part = self.parts.get(&*balancer.id);
            if part.is_some_and(|part| same && part.basis.balancer.is(balancer)) {
                continue;
            }
            let backends =
                served(balancer, datapath).filter_map(|of| balancer.backend(&of.backend));
            let targets = backends.flat_map(|backend| balancer.targets_of(backend));
            addresses.extend(targets.map(|target| target.address));
        }
        // And those of the tables as they are.
        addresses.extend(self.parts.values().flat_map(|part| &part.addresses));
        let retired = self.targets.retired().filter_map(|(index, _)| self.known.get(index));
        addresses.extend(retired.map(|entry| wide::ip(entry.addr)));
        addresses
    }
}

#[cfg(test)]
mod tests;
