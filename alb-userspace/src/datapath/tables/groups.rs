//! The security groups of load balancers, compiled once for each set of groups: a filter for what
//! comes from clients, and who may be connected to. Remembers what it compiled.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use alb_common::service::local;
use sha2::{Digest as _, Sha256};

use super::super::filter::Filter;
use crate::{
    model::{Direction, LoadBalancer, Model},
    security::{Gate, Rules},
};

/// Sets of groups, by the id of their filter.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    compiled: BTreeMap<u32, Compiled>,
    /// Ids of the groups of load balancers seen so far in this compilation.
    seen: BTreeMap<Vec<String>, u32>,
}

#[derive(Clone, Debug)]
struct Compiled {
    rules: Arc<Rules>,
    filter: Arc<Filter>,
}

impl Groups {
    /// A compilation begins.
    pub(super) fn begin(&mut self) {
        self.seen.clear();
    }

    /// The filter of a load balancer, 0 = none, and where it may connect to.
    pub(super) fn of(&mut self, model: &Model, balancer: &LoadBalancer) -> (u32, Outbound) {
        let groups = &balancer.security_groups;
        let restricts = |id| model.security_group(id).is_some_and(|group| !group.open);
        if !groups.iter().any(|id| restricts(id)) {
            return (0, Outbound::default());
        }
        let mut groups = groups.clone();
        groups.sort_unstable();
        let id = if let Some(id) = self.seen.get(&groups) {
            *id
        } else {
            let id = self.free_id(&groups);
            self.compile(id, Rules::of(model, balancer));
            self.seen.insert(groups, id);
            id
        };
        let Some(Compiled { rules, filter }) = self.compiled.get(&id) else {
            return (0, Outbound::default());
        };
        let outbound = Outbound { rules: Some(rules.clone()), gates: BTreeMap::new() };
        (if filter.is_open() { 0 } else { id }, outbound)
    }

    /// The same id for the same groups in every run, so that a restart finds its own prefixes:
    /// a hash, or the next free number where two sets have the same.
    fn free_id(&self, groups: &[String]) -> u32 {
        let mut hash = Sha256::new();
        for group in groups {
            hash.update(group);
            hash.update([0]);
        }
        let digest = hash.finalize();
        let hash = u32::from_be_bytes(std::array::from_fn(|index| digest[index]));
        let taken: BTreeSet<u32> = self.seen.values().copied().collect();
        let ids = (0..).map(|step| hash.wrapping_add(step) % local::MAX_FILTER + 1);
        ids.into_iter().find(|id| !taken.contains(id)).unwrap_or(1)
    }

    fn compile(&mut self, id: u32, rules: Rules) {
        if self.compiled.get(&id).is_none_or(|known| *known.rules != rules) {
            let filter = Arc::new(Filter::of(&rules));
            self.compiled.insert(id, Compiled { rules: Arc::new(rules), filter });
        }
    }

    /// The filters of all load balancers of this compilation; others are forgotten.
    pub(super) fn filters(&mut self) -> BTreeMap<u32, Arc<Filter>> {
        let used: BTreeSet<u32> = self.seen.values().copied().collect();
        self.compiled.retain(|id, _| used.contains(id));
        let closed = self.compiled.iter().filter(|(_, of)| !of.filter.is_open());
        closed.map(|(id, of)| (*id, of.filter.clone())).collect()
    }
}

/// Where a load balancer may connect to.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    /// `None` = everywhere.
    rules: Option<Arc<Rules>>,
    gates: BTreeMap<u16, Gate>,
}

impl Outbound {
    /// The rules that say it; `None` = everywhere.
    pub(super) fn rules(&self) -> Option<&Arc<Rules>> {
        self.rules.as_ref()
    }

    /// Whether a target may be connected to.
    pub(super) fn admits(&mut self, target: IpAddr, port: u16) -> bool {
        let Some(rules) = &self.rules else { return true };
        let gate = self.gates.entry(port).or_insert_with(|| rules.gate(Direction::Out, port));
        gate.admits(target)
    }
}
