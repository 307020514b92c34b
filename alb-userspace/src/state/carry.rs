//! What survives a change of the model: pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    num::NonZeroU16,
    time::SystemTime,
};

use super::{Health, TargetRef, TargetState, TargetStates};
use crate::model::{HealthCheck, LoadBalancer, Model, Shared};

/// The states of `new`'s targets, given what was known before.
///
/// A target that is still at the same address and port keeps its verdict, also when only the
/// settings of its check changed: a reload must not take serving targets out, and the new
/// check decides within its thresholds. `old` = `None` (a start) trusts `known` by id.
pub(super) fn carry(
    known: &TargetStates,
    old: Option<&Model>,
    new: &Model,
    generation: u64,
    now: SystemTime,
) -> TargetStates {
    let same = old.map(|old| unchanged(old, new)).unwrap_or_default();
    let differs = |balancer: &&Shared<LoadBalancer>| !same.contains(&*balancer.id);
    let before = old.map(|old| uses(old.load_balancers.iter().filter(differs)));
    let mut states = TargetStates::default();
    if let Some(old) = old {
        // Those of load balancers that stay are shared.
        states.clone_from(known);
        for balancer in old.load_balancers.iter().filter(differs) {
            balancer.backends.iter().for_each(|backend| states.forget(&backend.id));
        }
    }
    for (target, is) in uses(new.load_balancers.iter().filter(differs)) {
        let was = before.as_ref().map(|before| before.get(&target));
        let kept = match was {
            Some(None) => None,
            Some(Some(was)) if !was.same_server(&is) || !was.bound => None,
            None | Some(Some(_)) => known.get(&target.backend, &target.target),
        };
        let unchanged = matches!(was, Some(Some(was)) if *was == is);
        states.insert(target, next(kept, &is, unchanged, generation, now));
    }
    states
}

fn next(
    kept: Option<&TargetState>,
    is: &Use<'_>,
    unchanged: bool,
    generation: u64,
    now: SystemTime,
) -> TargetState {
    let fresh = |health| TargetState { health, reason: None, since: now, revision: generation };
    // The product's rule: what nobody checks since nobody uses it is unhealthy.
    if is.check.is_some() && !is.bound {
        return fresh(Health::Unhealthy);
    }
    let Some(kept) = kept else {
        return fresh(if is.check.is_some() { Health::Initial } else { Health::Unchecked });
    };
    let mut state = match (is.check, kept.health) {
        (None, Health::Unchecked)
        | (Some(_), Health::Initial | Health::Healthy | Health::Unhealthy) => kept.clone(),
        (None, Health::Initial | Health::Healthy | Health::Unhealthy) => fresh(Health::Unchecked),
        // It has been serving; checks that were just opened take it out if it fails them.
        (Some(_), Health::Unchecked) => fresh(Health::Healthy),
    };
    state.revision = if unchanged { kept.revision } else { generation };
    state
}

/// How a backend uses a target.
#[derive(PartialEq)]
struct Use<'a> {
    address: IpAddr,
    port: NonZeroU16,
    check: Option<&'a HealthCheck>,
    /// A listener or a rule uses the backend.
    bound: bool,
}

impl Use<'_> {
    fn same_server(&self, other: &Self) -> bool {
        (self.address, self.port) == (other.address, other.port)
    }
}

/// Ids of the load balancers that are the same in both. A node has thousands of backends, and one
/// change leaves most of them alone.
fn unchanged<'a>(old: &Model, new: &'a Model) -> BTreeSet<&'a str> {
    let before: BTreeMap<&str, &Shared<LoadBalancer>> =
        old.load_balancers.iter().map(|balancer| (&*balancer.id, balancer)).collect();
    let same = |balancer: &&Shared<LoadBalancer>| before.get(&*balancer.id) == Some(balancer);
    new.load_balancers.iter().filter(same).map(|balancer| &*balancer.id).collect()
}

fn uses<'a>(
    balancers: impl Iterator<Item = &'a Shared<LoadBalancer>>,
) -> BTreeMap<TargetRef, Use<'a>> {
    let mut uses = BTreeMap::new();
    for balancer in balancers {
        for backend in &balancer.backends {
            let bound = balancer.is_bound(backend);
            for target in balancer.targets_of(backend) {
                let (address, port) = (target.address, target.port_for(backend));
                let check = backend.health_check.as_ref();
                uses.insert(
                    TargetRef::new(&backend.id, &target.id),
                    Use { address, port, check, bound },
                );
            }
        }
    }
    uses
}

#[cfg(test)]
mod tests;
