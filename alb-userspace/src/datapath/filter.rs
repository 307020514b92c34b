//! Security groups as the packet path looks them up: for each prefix that a rule names the ports
//! that are open to whoever has no longer one. Pure; the verdicts are those of [`Rules`].
//!
//! The prefixes that hold an address are nested, so the rules about it are those of its longest
//! prefix and of the prefixes around that one. These are put together ahead, so that a packet costs
//! one lookup by its address and one search by its port, however many rules there are.

use std::{collections::BTreeMap, net::Ipv6Addr, sync::Arc};

use alb_common::filter::{FilterEntry, ICMP, ID_BITS};
use ipnet::IpNet;

use super::{
    extents::{Extents, NoRoom},
    plan::MapOp,
    wide::{FilterKey, MAPPED_BITS},
};
use crate::{
    model::{Direction, RuleAction, RuleProtocol, SecurityRule},
    security::Rules,
};

/// A prefix, of IPv4 a mapped one: length in bits, then the address.
pub type Prefix = (u32, u128);

/// The open ports of one prefix: at each of these the verdict changes, beginning with deny below
/// the first. Ascending, 0–65535, then [`ICMP`] for pings.
pub type Ports = Arc<[u32]>;

/// The verdicts on clients' TCP and pings, by the longest prefix; what has none is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter(pub BTreeMap<Prefix, Ports>);

/// What is installed of a filter, by prefix.
pub type Installed = Arc<BTreeMap<Prefix, FilterEntry>>;

/// A rule's place among all, its ports and what it says.
type Ranked = (usize, (u32, u32), bool);

impl Filter {
    /// Of the inbound rules about TCP and ICMP.
    pub fn of(rules: &Rules) -> Self {
        let otherwise = rules.otherwise() == RuleAction::Allow;
        // Apart: a rule about all of IPv6 is not about IPv4, though its addresses, mapped, are there.
        let mut filter = BTreeMap::new();
        for all in ALL {
            let mut by_prefix: BTreeMap<(u128, u32), Vec<Ranked>> = BTreeMap::new();
            for (rank, rule) in rules.ordered().iter().enumerate() {
                if rule.direction != Direction::In || family(rule.prefix) != Some(all) {
                    continue;
                }
                let (length, address) = wide(rule.prefix);
                for ports in places(rule).into_iter().flatten() {
                    // By address first, then by length: what holds a prefix comes before it.
                    let rule = (rank, ports, rule.action == RuleAction::Allow);
                    by_prefix.entry((address, length)).or_default().push(rule);
                }
            }
            by_prefix.entry((all.1, all.0)).or_default();
            verdicts(&by_prefix, otherwise, &mut filter);
        }
        Self(filter)
    }

    /// Everything is allowed: there is nothing to look up.
    pub fn is_open(&self) -> bool {
        self.0.len() == ALL.len() && self.0.values().all(|ports| **ports == [0])
    }
}

/// The first bits of mapped addresses.
const MAPPED: u128 = 0xffff;
/// All of IPv4, and all of IPv6.
const ALL: [Prefix; 2] = [(MAPPED_BITS, MAPPED << 32), (0, 0)];

/// Which of [`ALL`] a rule's prefix is of. No client has a mapped address, and no IPv6 rule is to be
/// taken for one of IPv4.
fn family(prefix: IpNet) -> Option<Prefix> {
    match prefix {
        IpNet::V4(_) => Some(ALL[0]),
        IpNet::V6(_) => {
            let (length, address) = wide(prefix);
            let is_mapped = length >= MAPPED_BITS && address >> 32 == MAPPED;
            (!is_mapped).then_some(ALL[1])
        }
    }
}

/// A prefix of a rule.
fn wide(prefix: IpNet) -> Prefix {
    match prefix {
        IpNet::V4(prefix) => {
            let address = u128::from(u32::from(prefix.network()));
            (MAPPED_BITS + u32::from(prefix.prefix_len()), ALL[0].1 | address)
        }
        IpNet::V6(prefix) => (prefix.prefix_len().into(), prefix.network().into()),
    }
}

/// Adds the verdicts that follow from the rules about nested prefixes.
fn verdicts(
    by_prefix: &BTreeMap<(u128, u32), Vec<Ranked>>,
    otherwise: bool,
    filter: &mut BTreeMap<Prefix, Ports>,
) {
    // The prefixes around the one at hand, each with its rules and the verdicts in effect.
    let mut around: Vec<(Prefix, &[_], Ports)> = Vec::new();
    for ((address, length), own) in by_prefix {
        let holds = |(of, network): &Prefix| *of < *length && first(*address, *of) == *network;
        while around.last().is_some_and(|(prefix, ..)| !holds(prefix)) {
            around.pop();
        }
        let mut about: Vec<_> =
            around.iter().flat_map(|(_, rules, _)| *rules).chain(own).copied().collect();
        about.sort_unstable();
        let ports = open_ports(&about, otherwise);
        let prefix = (*length, *address);
        // Nothing to say beyond what the next prefix around says.
        if around.last().is_none_or(|(.., outer)| *outer != ports) {
            filter.insert(prefix, ports.clone());
        }
        around.push((prefix, own.as_slice(), ports));
    }
}

/// The first `length` bits of an address.
fn first(address: u128, length: u32) -> u128 {
    address & u128::MAX.checked_shl(u128::BITS - length).unwrap_or_default()
}

/// The ports that a rule is about, and the place of pings if it is about them.
fn places(rule: &SecurityRule) -> [Option<(u32, u32)>; 2] {
    let (from, to) = rule.ports;
    let is = |protocol| [protocol, RuleProtocol::All].contains(&rule.protocol);
    let ports = is(RuleProtocol::Tcp).then_some((from.into(), to.into()));
    // What has no port counts as port 0.
    let ping = (is(RuleProtocol::Icmp) && from == 0).then_some((ICMP, ICMP));
    [ports, ping]
}

/// The ports that rules open, the first that decides coming first.
fn open_ports(rules: &[Ranked], otherwise: bool) -> Ports {
    // The verdict from each port on; painted over from the last rule to the first.
    let mut painted: BTreeMap<u32, bool> = [(0, otherwise)].into();
    for (_, (from, to), allow) in rules.iter().rev() {
        let (from, after) = (*from, *to + 1);
        let behind = painted.range(..=after).next_back().is_some_and(|(_, allow)| *allow);
        painted.retain(|port, _| !(from..after).contains(port));
        painted.insert(from, *allow);
        if after <= ICMP {
            painted.insert(after, behind);
        }
    }
    let mut before = false;
    let changes =
        painted.into_iter().filter(|(_, allow)| std::mem::replace(&mut before, *allow) != *allow);
    changes.map(|(port, _)| port).collect()
}

/// How the packet path sees a prefix of a filter.
pub fn key(id: u32, (length, address): Prefix) -> FilterKey {
    FilterKey { bits: ID_BITS + length, id, addr: Ipv6Addr::from(address).into() }
}

/// A prefix and the filter that it is of.
pub fn prefix(key: &FilterKey) -> (u32, Prefix) {
    (key.id, (key.bits - ID_BITS, key.addr.addr().into()))
}

/// What changes filters: first and last part of a plan.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Adds and replaces, to be done before addresses name a filter.
    pub(super) before: Vec<MapOp>,
    /// Removes, to be done after.
    pub(super) after: Vec<MapOp>,
    /// What is installed then.
    pub(super) installed: BTreeMap<u32, Installed>,
}

/// The way from installed filters to desired ones. Between any two steps every client has the
/// verdict that it had before or the one that it has afterwards, and each changes once: new
/// prefixes come before the change of those that hold them, the longest first; those that go
/// leave after it, the shortest first.
pub(super) fn changes(
    installed: &BTreeMap<u32, Installed>,
    old: &BTreeMap<u32, Arc<Filter>>,
    new: &BTreeMap<u32, Arc<Filter>>,
    extents: &mut Extents,
) -> Result<Changes, NoRoom> {
    let mut changes = Changes::default();
    let mut replaced = Vec::new();
    let mut removed = Vec::new();
    let nothing = Arc::<Filter>::default();
    for (id, filter) in new {
        let before = old.get(id).unwrap_or(&nothing);
        let entries = installed.get(id).cloned().unwrap_or_default();
        if Arc::ptr_eq(before, filter) || before == filter {
            changes.installed.insert(*id, entries);
            continue;
        }
        let mut placed: BTreeMap<&[u32], FilterEntry> = BTreeMap::new();
        for (prefix, ports) in &before.0 {
            placed.extend(entries.get(prefix).map(|entry| (&**ports, *entry)));
        }
        let mut after = BTreeMap::new();
        for (prefix, ports) in filter.0.iter().rev() {
            let entry = if let Some(entry) = placed.get(&**ports) {
                *entry
            } else {
                let entry = place(ports, extents, &mut changes.before)?;
                placed.insert(ports, entry);
                entry
            };
            after.insert(*prefix, entry);
            let op = MapOp::SetFilter { key: key(*id, *prefix), entry };
            match entries.get(prefix) {
                None => changes.before.push(op),
                Some(known) if *known != entry => replaced.push(op),
                Some(_) => {}
            }
        }
        let gone = entries.keys().filter(|prefix| !after.contains_key(prefix));
        removed.extend(gone.map(|prefix| (*id, *prefix)));
        changes.installed.insert(*id, Arc::new(after));
    }
    for (id, entries) in installed.iter().filter(|(id, _)| !new.contains_key(id)) {
        removed.extend(entries.keys().map(|prefix| (*id, *prefix)));
    }
    changes.before.append(&mut replaced);
    removed.sort_unstable_by_key(|(_, prefix)| *prefix);
    changes.after =
        removed.into_iter().map(|(id, prefix)| MapOp::RemoveFilter(key(id, prefix))).collect();
    Ok(changes)
}

/// Writes a list of ports to where there is room.
fn place(
    ports: &Ports,
    extents: &mut Extents,
    ops: &mut Vec<MapOp>,
) -> Result<FilterEntry, NoRoom> {
    let len = u32::try_from(ports.len()).unwrap_or(u32::MAX);
    if len == 0 {
        return Ok(FilterEntry::default());
    }
    let offset = extents.take(len)?;
    ops.push(MapOp::SetSlots { offset, targets: ports.clone() });
    Ok(FilterEntry { offset, len })
}

#[cfg(test)]
mod tests;
