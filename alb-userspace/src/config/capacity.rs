//! What the packet path can hold: a file that does not fit is refused before it is started.

use alb_common::limits::{
    MAX_INTERFACES, MAX_LISTENERS, MAX_LOCALS, MAX_SNAT_ADDRESSES, MAX_TARGETS,
};

use super::cursor::Field;
use crate::model::{Listener, ListenerProtocol, LoadBalancer, Model};

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
    let listeners = all.iter().map(|balancer| served(balancer).count() * balancer.vips.len()).sum();
    within(&balancers, listeners, MAX_LISTENERS, "Tcp listeners, counted once per VIP");
    let targets = all.iter().map(targets).sum();
    within(&balancers, targets, MAX_TARGETS, "targets, counted once per Tcp listener");
}

/// The listeners that the packet path serves.
fn served(balancer: &LoadBalancer) -> impl Iterator<Item = &Listener> {
    let tcp = |listener: &&Listener| listener.protocol == ListenerProtocol::Tcp;
    balancer.listeners.iter().filter(tcp)
}

fn targets(balancer: &LoadBalancer) -> usize {
    served(balancer)
        .filter_map(|listener| balancer.backend(&listener.backend))
        .map(|backend| balancer.targets_of(backend).len())
        .sum()
}
