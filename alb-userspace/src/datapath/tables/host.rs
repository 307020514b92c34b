//! What the node and its network add to the tables: settings, ways to targets, source addresses.

use std::net::IpAddr;

use alb_common::{
    abi::ABI_VERSION,
    expiry::ticks,
    interface::{HopEntry, hop_flag},
    limits::{MAX_SNAT_ADDRESSES, RST_PER_SECOND, closed_ring_for, half_open_for},
    net::Mac,
    selection::gcd,
    settings::{RST_WINDOW_SHIFT, Settings},
};

use super::{Network, Replies};
use crate::{
    datapath::wide::{self, Addr, TargetEntry},
    model::Node,
    net::{MacAddr, NextHop},
};

/// Source addresses towards a target: those of its family in the file, else the node's own on the
/// way.
pub(super) fn snat(node: &Node, network: &Network, target: IpAddr) -> Vec<Addr> {
    let is_its = |address: &IpAddr| address.is_ipv4() == target.is_ipv4();
    let configured = node.snat.addresses.iter().copied().filter(is_its);
    let configured: Vec<Addr> = configured.map(wide::addr).take(MAX_SNAT_ADDRESSES).collect();
    if !configured.is_empty() {
        return configured;
    }
    let way = network.hops.hops.get(&target);
    // Over loopback only if we serve that; else an address of the host is no target.
    let is_ours = |hop: &&NextHop| {
        hop.mac.is_none_or(|mac| mac != MacAddr::default())
            || slot(network, hop.interface).is_some()
    };
    let source = way.filter(is_ours).map(|hop| hop.source);
    // What is link-local is not the balancer's to send from: the target may be behind a router.
    let source = source.filter(|source| match source {
        IpAddr::V4(_) => is_its(source),
        IpAddr::V6(source) => target.is_ipv6() && !source.is_unicast_link_local(),
    });
    source.map(wide::addr).into_iter().collect()
}

/// Source addresses towards a target, as its entry has them.
pub(super) fn sources(entry: &TargetEntry) -> impl Iterator<Item = Addr> {
    entry.snat.iter().take(usize::from(entry.snat_count)).copied()
}

/// The way to a target, if it is known and leaves by an interface of ours.
pub(super) fn hop(network: &Network, target: IpAddr) -> Option<HopEntry> {
    let hop = network.hops.hops.get(&target)?;
    let mac = Mac::new(hop.mac?);
    let slot = slot(network, hop.interface)?;
    let flags = if mac.is_unset() { hop_flag::HERE } else { 0 };
    Some(HopEntry { mac, interface: u8::try_from(slot).ok()?, flags })
}

fn slot(network: &Network, ifindex: u32) -> Option<u32> {
    let mut slots = network.interfaces.iter();
    slots.find(|(_, entry)| entry.ifindex == ifindex).map(|(slot, _)| *slot)
}

pub(super) fn settings(
    node: &Node,
    network: &Network,
    first_generation: u16,
    replies: Replies,
    draining: usize,
) -> Settings {
    let range = node.snat.port_range;
    let port_count = (range.last - range.first).saturating_add(1);
    let replies = replies.with(range);
    let windows_per_second = ticks(1) >> RST_WINDOW_SHIFT;
    Settings {
        abi: ABI_VERSION,
        // The packet path keeps 16 bits of it; only a difference counts.
        route_generation: u16::try_from(network.hops.route_generation & 0xffff)
            .unwrap_or(0)
            .wrapping_add(first_generation),
        port_first: range.first,
        port_count,
        reply_first: replies.first,
        reply_count: (replies.last - replies.first).saturating_add(1),
        port_stride: stride(port_count),
        rst_per_window: RST_PER_SECOND / windows_per_second,
        half_open_mask: half_open_for(network.room.four) - 1,
        closed_mask: closed_ring_for(network.room.four) - 1,
        half_open_mask6: half_open_for(network.room.six) - 1,
        closed_mask6: closed_ring_for(network.room.six) - 1,
        draining: u32::try_from(draining).unwrap_or(u32::MAX),
        syn_limit: syn_limit(network),
        syn_key: network.syn_key,
        flow_log: node.access_log.as_ref().is_some_and(|log| log.tcp_flows).into(),
    }
}

/// SYNs that may come to nothing in about a second on each CPU: together a quarter of the places
/// for half-open flows, so that those that are under way are not pushed out by a flood before
/// it is seen. Never so few that a burst of clients far away is taken for one.
fn syn_limit(network: &Network) -> u32 {
    const LEAST: u32 = 256;
    let places = half_open_for(network.room.four);
    (places / 4 / network.cpus.max(1)).max(LEAST)
}

/// A step near the golden section of `count` that visits every port before it repeats one.
pub(super) fn stride(count: u16) -> u16 {
    let golden = (u32::from(count) * 618 / 1_000).max(1);
    let coprime = (golden..=u32::from(count)).find(|step| gcd(*step, u32::from(count)) == 1);
    coprime.and_then(|step| u16::try_from(step).ok()).unwrap_or(1)
}
