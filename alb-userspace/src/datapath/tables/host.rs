//! What the node and its network add to the tables: settings, ways to targets, source addresses.

use std::net::{IpAddr, Ipv4Addr};

use alb_common::{
    abi::ABI_VERSION,
    expiry::ticks,
    interface::{HopEntry, hop_flag},
    limits::{MAX_SNAT_ADDRESSES, RST_PER_SECOND},
    net::{Be32, Mac},
    selection::gcd,
    settings::{RST_WINDOW_SHIFT, Settings},
    target::TargetEntry,
};

use super::{Network, Replies};
use crate::{
    model::Node,
    net::{MacAddr, NextHop},
};

/// Source addresses towards a target: those of the file, else the node's own on the way.
pub(super) fn snat(node: &Node, network: &Network, target: Ipv4Addr) -> Vec<Be32> {
    let configured: Vec<Be32> = v4(&node.snat.addresses).map(Be32::from).collect();
    if !configured.is_empty() {
        return configured.into_iter().take(MAX_SNAT_ADDRESSES).collect();
    }
    let way = network.hops.hops.get(&IpAddr::V4(target));
    // Over loopback only if we serve that; else an address of the host is no target.
    let is_ours = |hop: &&NextHop| {
        hop.mac.is_none_or(|mac| mac != MacAddr::default())
            || slot(network, hop.interface).is_some()
    };
    match way.filter(is_ours).map(|hop| hop.source) {
        Some(IpAddr::V4(source)) => vec![source.into()],
        Some(IpAddr::V6(_)) | None => Vec::new(),
    }
}

/// Source addresses towards a target, as its entry has them.
pub(super) fn sources(entry: &TargetEntry) -> impl Iterator<Item = Be32> {
    entry.snat.iter().take(usize::from(entry.snat_count)).copied()
}

/// The way to a target, if it is known and leaves by an interface of ours.
pub(super) fn hop(network: &Network, target: Ipv4Addr) -> Option<HopEntry> {
    let hop = network.hops.hops.get(&IpAddr::V4(target))?;
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
        half_open_mask: network.half_open_ring - 1,
        closed_mask: network.closed_ring - 1,
        draining: u32::try_from(draining).unwrap_or(u32::MAX),
    }
}

/// A step near the golden section of `count` that visits every port before it repeats one.
pub(super) fn stride(count: u16) -> u16 {
    let golden = (u32::from(count) * 618 / 1_000).max(1);
    let coprime = (golden..=u32::from(count)).find(|step| gcd(*step, u32::from(count)) == 1);
    coprime.and_then(|step| u16::try_from(step).ok()).unwrap_or(1)
}

pub(super) fn v4(addresses: &[IpAddr]) -> impl Iterator<Item = Ipv4Addr> {
    addresses.iter().filter_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    })
}
