//! Which targets drain, and until when what uses them may live. Pure.
//!
//! A target drains that is removed, that has weight 0, or that has failed while its backend's
//! `unhealthyFlows` is `Reset`; the last is given no time. The packet path has the same rules.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Instant,
};

use super::{Backend, Plan, Target};
use crate::{model::UnhealthyFlows, state::Health};

/// A target whose connections and requests are to end.
#[derive(Clone, Debug)]
pub struct Draining {
    /// Id of its backend.
    pub backend: Arc<str>,
    /// As it is, or was.
    pub target: Arc<Target>,
    /// When they are to end.
    pub until: Instant,
}

/// What makes a target the same in two plans.
type Key<'a> = (&'a str, &'a str, SocketAddr);

fn key<'a>(backend: &'a str, target: &'a Target) -> Key<'a> {
    (backend, &target.id, target.address)
}

/// Those of the backends of a new plan, and those that are not in it any more.
pub(super) fn draining(backends: &[Arc<Backend>], before: &Plan, now: Instant) -> Vec<Draining> {
    let all = |backend: &Arc<Backend>| {
        let backend = Arc::clone(backend);
        (0..backend.targets.len()).map(move |at| (Arc::clone(&backend), at))
    };
    let mut found: Vec<Draining> = backends
        .iter()
        .flat_map(all)
        .filter_map(|(backend, at)| {
            let target = Arc::clone(&backend.targets[at]);
            let until = until(&backend, at, now)?;
            Some(Draining { backend: Arc::clone(&backend.id), target, until })
        })
        .collect();
    let keys = |backend| {
        let Backend { id, targets, .. }: &Backend = backend;
        targets.iter().map(|target| key(id, target))
    };
    let present: BTreeSet<Key<'_>> = backends.iter().map(|of| &**of).flat_map(keys).collect();
    let begun: BTreeMap<Key<'_>, &Draining> =
        before.draining.iter().map(|of| (key(&of.backend, &of.target), of)).collect();
    let is_gone = |key: &Key<'_>| !present.contains(key);
    for backend in &before.backends {
        for target in &backend.targets {
            let key = key(&backend.id, target);
            if is_gone(&key) && !begun.contains_key(&key) {
                let (backend_id, target) = (Arc::clone(&backend.id), Arc::clone(target));
                let until = now + backend.connection_draining;
                found.push(Draining { backend: backend_id, target, until });
            }
        }
    }
    for (key, of) in begun {
        // Whoever took it just before it went may come to use it later.
        if is_gone(&key) && (of.until > now || of.target.in_flight() > 0) {
            found.push(of.clone());
        }
    }
    found
}

/// Until when what uses this target of a plan may live; `None` = it does not drain.
fn until(backend: &Backend, at: usize, now: Instant) -> Option<Instant> {
    let target = &backend.targets[at];
    let failed = target.health == Health::Unhealthy && !backend.selector.serves(at);
    if failed && backend.unhealthy_flows == UnhealthyFlows::Reset {
        return Some(now);
    }
    target.zero_since.map(|since| since + backend.connection_draining)
}

#[cfg(test)]
mod tests;
