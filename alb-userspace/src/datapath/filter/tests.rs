//! Filters against the rules that they are made of, and changes of them step by step.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::model::{SecurityGroup, SecurityRule};

fn rules(rules: Vec<SecurityRule>, open: bool) -> Rules {
    let group = |rules, open| SecurityGroup {
        id: "sg-1".into(),
        name: "g".into(),
        vpc: "vpc-1".into(),
        description: String::new(),
        rules,
        open,
    };
    Rules::merge([&group(rules, false), &group(vec![], open)])
}

/// Rules about a few nested prefixes and a few ports, so that most of them meet.
fn rule() -> impl Strategy<Value = SecurityRule> {
    let direction = prop_oneof![4 => Just(Direction::In), 1 => Just(Direction::Out)];
    let protocol = prop_oneof![
        4 => Just(RuleProtocol::Tcp),
        2 => Just(RuleProtocol::All),
        1 => Just(RuleProtocol::Udp),
        1 => Just(RuleProtocol::Icmp)
    ];
    let action = prop_oneof![Just(RuleAction::Allow), Just(RuleAction::Deny)];
    let length = prop_oneof![Just(0u8), Just(1), 8u8..12, 30u8..=32, 120u8..=128];
    (direction, protocol, action, 1u16..6, (0u16..7, 0u16..7), (address(), length)).prop_map(
        |(direction, protocol, action, priority, ports, (address, length))| SecurityRule {
            direction,
            protocol,
            action,
            priority,
            ports: (
                PORTS[usize::from(ports.0.min(ports.1))],
                PORTS[usize::from(ports.0.max(ports.1))],
            ),
            prefix: IpNet::new_assert(address, length.min(most(address))).trunc(),
        },
    )
}

const PORTS: [u16; 7] = [0, 1, 80, 443, 444, 65_534, 65_535];

/// Bits of an address.
fn most(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn address() -> impl Strategy<Value = IpAddr> {
    const SIX: u128 = 0x2001_0db8 << 96;
    prop_oneof![
        (0u32..4).prop_map(|low| Ipv4Addr::from(0xc612_0000 + low).into()),
        (0u32..4).prop_map(|low| Ipv4Addr::from(0xc612_0000 + (low << 20)).into()),
        any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).into()),
        (0u128..4).prop_map(|low| Ipv6Addr::from(SIX + low).into()),
        (0u128..4).prop_map(|low| Ipv6Addr::from(SIX + (low << 98)).into()),
    ]
}

/// What the packet path does: the longest prefix, then its ports.
fn looked_up(
    prefixes: &BTreeMap<Prefix, FilterEntry>,
    slots: &[u32],
    client: IpAddr,
    port: u32,
) -> bool {
    let (most, client) = wide(client.into());
    // Each family has a trie of its own.
    let least = if most == 128 && client >> 32 == MAPPED { MAPPED_BITS } else { 0 };
    let Some(entry) =
        (least..=most).rev().find_map(|length| prefixes.get(&(length, first(client, length))))
    else {
        return false;
    };
    let ports = &slots[entry.offset as usize..(entry.offset + entry.len) as usize];
    let changes = ports.iter().filter(|at| **at <= port).count();
    alb_common::filter::is_open(u32::try_from(changes).unwrap())
}

/// The kernel's maps.
#[derive(Default)]
struct Maps {
    prefixes: BTreeMap<Prefix, FilterEntry>,
    slots: Vec<u32>,
}

impl Maps {
    #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else may come")]
    fn apply(&mut self, op: &MapOp) {
        match op {
            MapOp::SetSlots { offset, targets } => {
                let (first, end) = (*offset as usize, *offset as usize + targets.len());
                self.slots.resize(self.slots.len().max(end), 0);
                self.slots[first..end].copy_from_slice(targets);
            }
            MapOp::SetFilter { key, entry } => {
                self.prefixes.insert(prefix(key).1, *entry);
            }
            MapOp::RemoveFilter(key) => {
                self.prefixes.remove(&prefix(key).1).unwrap();
            }
            other => panic!("{other:?} is no filter's business"),
        }
    }

    fn admits(&self, client: IpAddr, port: u32) -> bool {
        looked_up(&self.prefixes, &self.slots, client, port)
    }
}

fn allowed(rules: &Rules, client: IpAddr, port: u32) -> bool {
    let (protocol, port) = match u16::try_from(port) {
        Ok(port) => (RuleProtocol::Tcp, port),
        Err(_) => (RuleProtocol::Icmp, 0),
    };
    let verdict = rules.decide(Direction::In, protocol, client, port);
    verdict == RuleAction::Allow
}

proptest! {
    #[test]
    fn a_filter_says_what_its_rules_say_and_a_change_is_seen_once(
        before in proptest::collection::vec(rule(), 0..12),
        after in proptest::collection::vec(rule(), 0..12),
        open in any::<bool>(),
        clients in proptest::collection::vec(address(), 1..12),
        more in proptest::collection::vec(any::<u16>(), 0..4),
    ) {
        let (before, after) = (rules(before, open), rules(after, open));
        let places: Vec<u32> =
            PORTS.iter().chain(&more).map(|port| (*port).into()).chain([ICMP]).collect();
        let asked: Vec<(IpAddr, u32)> = clients
            .iter()
            .flat_map(|client| places.iter().map(|port| (*client, *port)))
            .collect();
        let mut extents = Extents::new(10_000);
        let mut maps = Maps::default();
        let nothing = BTreeMap::new();
        let old: BTreeMap<_, _> = [(7, Arc::new(Filter::of(&before)))].into();
        let first = changes(&BTreeMap::new(), &nothing, &old, &mut extents).unwrap();
        prop_assert!(first.after.is_empty());
        for op in &first.before {
            maps.apply(op);
        }
        for (client, port) in &asked {
            prop_assert_eq!(maps.admits(*client, *port), allowed(&before, *client, *port));
        }

        let new: BTreeMap<_, _> = [(7, Arc::new(Filter::of(&after)))].into();
        let second = changes(&first.installed, &old, &new, &mut extents).unwrap();
        let mut seen: Vec<Vec<bool>> = asked.iter().map(|(c, p)| vec![maps.admits(*c, *p)]).collect();
        for op in second.before.iter().chain(&second.after) {
            maps.apply(op);
            for ((client, port), seen) in asked.iter().zip(&mut seen) {
                seen.push(maps.admits(*client, *port));
            }
        }
        for ((client, port), mut seen) in asked.iter().zip(seen) {
            prop_assert_eq!(maps.admits(*client, *port), allowed(&after, *client, *port));
            seen.dedup();
            prop_assert!(seen.len() <= 2, "{client}:{port} flickered: {seen:?}");
        }
        prop_assert_eq!(&maps.prefixes, &*second.installed[&7]);

        let third = changes(&second.installed, &new, &nothing, &mut extents).unwrap();
        for op in third.before.iter().chain(&third.after) {
            maps.apply(op);
        }
        prop_assert!(maps.prefixes.is_empty() && third.installed.is_empty());
    }
}

#[test]
fn ten_thousand_prefixes_are_as_many_entries_and_one_list_of_ports() {
    let rule = |n: u32| SecurityRule {
        direction: Direction::In,
        protocol: RuleProtocol::Tcp,
        action: RuleAction::Allow,
        priority: 100,
        ports: (443, 443),
        prefix: IpNet::new_assert(Ipv4Addr::from(0x0a00_0000 + (n << 8)).into(), 24),
    };
    let filter = Filter::of(&rules((0..10_000).map(rule).collect(), false));
    let new: BTreeMap<_, _> = [(1, Arc::new(filter))].into();
    let mut extents = Extents::new(16);
    let plan = changes(&BTreeMap::new(), &BTreeMap::new(), &new, &mut extents).unwrap();
    let lists = plan.before.iter().filter(|op| matches!(op, MapOp::SetSlots { .. })).count();
    assert_eq!((plan.before.len(), lists), (10_003, 1));

    // One more is one more entry.
    let more = Filter::of(&rules((0..10_001).map(rule).collect(), false));
    let next: BTreeMap<_, _> = [(1, Arc::new(more))].into();
    let change = changes(&plan.installed, &new, &next, &mut extents).unwrap();
    assert_eq!((change.before.len(), change.after.len()), (1, 0));
}

#[test]
fn open_and_closed_filters() {
    assert!(Filter::of(&rules(vec![], true)).is_open());
    let closed = Filter::of(&rules(vec![], false));
    assert!(!closed.is_open());
    assert_eq!(closed.0.values().map(|ports| ports.len()).sum::<usize>(), 0);
}
