//! What the packet path can hold: a file that does not fit is refused before it is started.

use std::collections::BTreeSet;

use alb_common::{
    limits::{
        MAX_INTERFACES, MAX_LEAST_CONN_TARGETS, MAX_LISTENERS, MAX_LOCALS, MAX_SLOTS,
        MAX_SNAT_ADDRESSES, MAX_TARGETS,
    },
    selection::{ip_hash_slots, round_robin_slots},
};

use super::cursor::Field;
use crate::model::{Algorithm, Backend, DatapathMode, Engine, LoadBalancer, Model};

/// Reports everything that is too much; `document` is the whole file.
pub(super) fn check(document: &Field<'_>, model: &Model) {
    let node = document.glance("node").unwrap_or_else(|| document.clone());
    let snat = node.glance("snat").unwrap_or_else(|| node.clone());
    let balancers = document.glance("loadBalancers").unwrap_or_else(|| document.clone());
    let within = |at: &Field<'_>, count: usize, most: usize, what: &str| {
        if count > most {
            at.complain(format!("{count} {what}, the packet path holds {most}"));
        }
    };
    let interfaces = node.glance("interfaces").unwrap_or_else(|| node.clone());
    within(&interfaces, model.node.interfaces.len(), MAX_INTERFACES, "interfaces");
    let addresses = snat.glance("addresses").unwrap_or(snat);
    let snat_count = model.node.snat.addresses.len();
    within(&addresses, snat_count, MAX_SNAT_ADDRESSES, "SNAT addresses");

    let all = &model.load_balancers;
    let vips: usize = all.iter().map(|balancer| balancer.vips.len()).sum();
    within(&balancers, vips + snat_count, MAX_LOCALS, "VIPs and SNAT addresses");
    // Those that the proxy serves too: the packet path must know them to let them pass.
    let listeners = all.iter().map(|balancer| balancer.listeners.len() * balancer.vips.len()).sum();
    within(&balancers, listeners, MAX_LISTENERS, "listeners, counted once per VIP");
    let used = || all.iter().flat_map(|balancer| used(balancer, model.node.datapath));
    let targets = used().map(|(balancer, backend)| balancer.targets_of(backend).len()).sum();
    within(&balancers, targets, MAX_TARGETS, "targets, counted once per backend of Tcp listeners");
    let slots = used().map(|(balancer, backend)| slots(balancer, backend)).sum();
    let what = "slots in the selection tables of the backends of Tcp listeners (fewer targets, or \
                weights with a common divisor, need less)";
    within(&balancers, slots, MAX_SLOTS, what);
    for (balancer, backend) in used().filter(|(_, of)| of.algorithm == Algorithm::LeastConn) {
        let count = balancer.targets_of(backend).len();
        let what = format!("targets of backend {} with LeastConn", backend.name);
        within(&balancers, count, MAX_LEAST_CONN_TARGETS, &what);
    }
}

/// The backends that listeners of the packet path lead to, each once: listeners of one share its
/// table.
fn used(
    balancer: &LoadBalancer,
    datapath: DatapathMode,
) -> impl Iterator<Item = (&LoadBalancer, &Backend)> {
    let served = balancer
        .listeners
        .iter()
        .filter(|listener| balancer.engine(listener, datapath) == Engine::Kernel);
    let ids: BTreeSet<&str> = served.map(|listener| &*listener.backend).collect();
    ids.into_iter().filter_map(move |id| Some((balancer, balancer.backend(id)?)))
}

/// Slots of a backend's table when all of its targets serve: it never needs more.
fn slots(balancer: &LoadBalancer, backend: &Backend) -> usize {
    let targets = balancer.targets_of(backend);
    let weights = targets.iter().map(|target| u32::from(target.weight));
    match backend.algorithm {
        Algorithm::RoundRobin => usize::try_from(round_robin_slots(weights)).unwrap_or(usize::MAX),
        Algorithm::LeastConn => weights.filter(|weight| *weight > 0).count(),
        Algorithm::IpHash if weights.sum::<u32>() == 0 => 0,
        Algorithm::IpHash => ip_hash_slots(targets.len()) as usize,
    }
}
