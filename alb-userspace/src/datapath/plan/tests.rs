//! Plans, applied step by step to a model of the maps: every step must leave them whole.

use std::{
    array,
    sync::LazyLock,
    time::{Duration, Instant},
};

use alb_common::{
    interface::hop_flag,
    local::{self as cache, Held6, Said},
    net::{Be16, Be32, Be128},
};
use proptest::prelude::*;

use super::{
    super::{
        filter::Filter,
        wide::{Key as _, Wide as _},
    },
    *,
};

const SLOTS: u32 = 256;

/// What the packet path would see.
#[derive(Debug, Default)]
struct Maps {
    settings: Settings,
    interfaces: BTreeMap<u32, InterfaceEntry>,
    targets: BTreeMap<u32, TargetEntry>,
    hops: BTreeMap<u32, HopEntry>,
    times: BTreeMap<u32, TargetTimes>,
    slots: BTreeMap<u32, u32>,
    idle: BTreeMap<u16, u32>,
    listeners: BTreeMap<ListenerKey, ListenerEntry>,
    locals: BTreeMap<Addr, u32>,
    local_cache: BTreeMap<Place, Local>,
    filters: BTreeMap<u32, BTreeMap<filter::Prefix, FilterEntry>>,
}

impl Maps {
    fn apply(&mut self, op: &MapOp) {
        match op.clone() {
            MapOp::SetSettings(settings) => self.settings = settings,
            MapOp::SetInterface { slot, entry } => {
                self.interfaces.insert(slot, entry);
            }
            MapOp::ClearInterface { slot, ifindex } => {
                assert_eq!(self.interfaces.remove(&slot).map(|entry| entry.ifindex), Some(ifindex));
            }
            MapOp::SetTarget { index, entry } => {
                self.targets.insert(index, entry);
            }
            MapOp::SetTimes { index, entry } => {
                self.times.insert(index, entry);
            }
            MapOp::SetHop { index, entry } => {
                self.hops.insert(index, entry);
            }
            MapOp::SetSlots { offset, targets } => {
                for listener in self.listeners.values() {
                    let (start, end) = (listener.offset, listener.offset + listener.len);
                    let len = u32::try_from(targets.len()).unwrap();
                    assert!(
                        offset + len <= start || end <= offset || listener.len == 0,
                        "a table in use is written over"
                    );
                }
                self.slots.extend((offset..).zip(targets.iter().copied()));
            }
            MapOp::SetFilter { key, entry } => {
                let (id, prefix) = filter::prefix(&key);
                self.filters.entry(id).or_default().insert(prefix, entry);
            }
            MapOp::RemoveFilter(key) => {
                let (id, prefix) = filter::prefix(&key);
                let of = self.filters.get_mut(&id).unwrap();
                of.remove(&prefix).unwrap();
                if of.is_empty() {
                    self.filters.remove(&id);
                }
            }
            MapOp::SetListenerIdle { index, idle } => {
                self.idle.insert(index, idle);
            }
            MapOp::SetListener { key, entry } => {
                self.listeners.insert(key, entry);
            }
            MapOp::RemoveListener(key) => {
                self.listeners.remove(&key).unwrap();
            }
            MapOp::SetLocal { addr, flags } => {
                self.locals.insert(addr, flags);
            }
            MapOp::SetLocalCache { place, local: None } => {
                self.local_cache.remove(&place).unwrap();
            }
            MapOp::SetLocalCache { place, local: Some(local) } => {
                self.local_cache.insert(place, local);
            }
            MapOp::RemoveLocal(addr) => {
                self.locals.remove(&addr).unwrap();
            }
            MapOp::ClearTarget(index) => {
                self.targets.remove(&index).unwrap();
                self.hops.remove(&index);
                self.times.remove(&index);
            }
        }
    }

    fn check(&self) {
        for flags in self.locals.values() {
            let id = local::filter(*flags);
            assert!(id == 0 || self.filters.contains_key(&id), "a filter that is not there");
        }
        for (index, hop) in &self.hops {
            assert!(
                hop.flags == 0 || self.times.contains_key(index),
                "a flag has moments read that are not there"
            );
        }
        for listener in self.listeners.values() {
            assert!(self.idle.contains_key(&listener.index), "a listener without a timeout");
            let snat = self.locals.values().any(|flags| flags & local::SNAT != 0);
            assert!(listener.len == 0 || snat, "a listener with targets but no SNAT address");
            for slot in listener.offset..listener.offset + listener.len {
                let target = self.slots.get(&slot).expect("a listener names a slot not written");
                assert!(self.targets.contains_key(target), "a slot names a target not set");
                assert!(self.hops.contains_key(target), "a slot names a target without a hop");
            }
        }
    }

    /// What a packet to this address finds it to be.
    fn local_kind(&self, addr: Addr) -> Option<u32> {
        let held = self.local_cache.get(&Place::of(&addr));
        let said = if addr.is_ipv4() {
            let word = held.map(|of| cache::word(of.addr.narrow(), of.flags));
            cache::says(word.unwrap_or_default(), addr.narrow())
        } else {
            held.map(|of| Held6::new(of.addr, of.flags)).unwrap_or_default().says(addr)
        };
        match said {
            Said::Ours(flags) => Some(flags),
            Said::NotOurs => None,
            Said::Nothing => self.locals.get(&addr).copied(),
        }
    }

    /// What a restarted daemon reads.
    fn installed(&self) -> Installed {
        let listeners = self.listeners.iter().map(|(key, entry)| {
            let slots = entry.offset..entry.offset + entry.len;
            let selection = Selection {
                index: entry.index,
                algorithm: entry.algorithm,
                max: entry.max,
                sibling: entry.sibling,
                idle: self.idle[&entry.index],
                slots: slots.map(|slot| self.slots[&slot]).collect(),
            };
            (*key, selection)
        });
        Installed {
            contents: Contents {
                settings: self.settings,
                interfaces: self.interfaces.clone(),
                targets: self.targets.clone().into_iter().collect(),
                hops: self.hops.clone().into_iter().collect(),
                times: self.times.clone().into_iter().collect(),
                listeners: listeners.collect(),
                locals: self.locals.clone(),
                filters: self
                    .filters
                    .iter()
                    .map(|(id, of)| {
                        let ports = |entry: &FilterEntry| {
                            let slots = entry.offset..entry.offset + entry.len;
                            slots.map(|slot| self.slots[&slot]).collect()
                        };
                        let of = of.iter().map(|(prefix, entry)| (*prefix, ports(entry)));
                        (*id, Arc::new(Filter(of.collect())))
                    })
                    .collect(),
            },
            local_cache: self.local_cache.clone(),
            entries: self.listeners.clone(),
            filters: self.filters.iter().map(|(id, of)| (*id, Arc::new(of.clone()))).collect(),
        }
    }
}

fn key(port: u16) -> ListenerKey {
    ListenerKey { addr: Addr::widen(&Be32(10)), port: Be16::new(port), reserved: 0 }
}

/// Addresses that share two places of the cache of either family.
fn crowded(number: u16) -> Addr {
    static CROWD: LazyLock<[Addr; 8]> = LazyLock::new(|| {
        let four = |n: u32| Addr::widen(&Be32(n));
        let six = |n: u32| Be128([1, 2, 3, n]);
        array::from_fn(|number| {
            let wanted = u32::from(number % 4 > 1);
            let of = |n| if number % 2 == 0 { four(n) } else { six(n) };
            let mut sharing = (0..).map(of).filter(|addr| Place::of(addr).index == wanted);
            sharing.nth(number).unwrap()
        })
    });
    CROWD[usize::from(number)]
}

/// Contents with these listeners, each a list of targets, and whatever they need.
fn contents(listeners: &BTreeMap<u16, Vec<u32>>, mtu: u16) -> Contents {
    let used = listeners.values().flatten().copied();
    let entry =
        |index: u32| TargetEntry { addr: Addr::widen(&Be32(index + 1)), ..TargetEntry::default() };
    // All of them drain, now until one moment and now until another.
    let slot = mtu.to_le_bytes()[0];
    let hop = HopEntry { interface: slot, flags: hop_flag::DRAINS, ..HopEntry::default() };
    let times = TargetTimes { cut_at: u32::from(mtu), ..TargetTimes::default() };
    // Two filters that change places, or share one address after the other.
    let open = |port: u32| -> Arc<Filter> {
        Arc::new(Filter([((0, 0), [port, port + 1].into()), ((8, 10 << 24), [].into())].into()))
    };
    let id = u32::from(mtu % 2) + 1;
    Contents {
        settings: Settings { port_count: mtu, ..Settings::default() },
        interfaces: [(
            0,
            InterfaceEntry { ifindex: u32::from(mtu), mtu, ..InterfaceEntry::default() },
        )]
        .into(),
        targets: used.clone().map(|index| (index, entry(index))).collect(),
        hops: used.clone().map(|index| (index, hop)).collect(),
        times: used.map(|index| (index, times)).collect(),
        filters: [(id, open(u32::try_from(listeners.len()).unwrap()))].into(),
        listeners: listeners
            .iter()
            .map(|(port, targets)| {
                let (index, idle) = (*port, u32::from(mtu));
                let slots = targets.clone().into();
                let selection =
                    Selection { index, algorithm: 0, idle, max: idle, sibling: index, slots };
                (key(*port), selection)
            })
            .collect(),
        locals: listeners
            .keys()
            .map(|port| (crowded(*port), local::filtered(local::VIP, id)))
            // Now on an address of its own, now on one that is a VIP too.
            .chain([(crowded(mtu), local::VIP | local::SNAT)])
            .collect(),
    }
}

fn listeners() -> impl Strategy<Value = BTreeMap<u16, Vec<u32>>> {
    proptest::collection::btree_map(1u16..6, proptest::collection::vec(0u32..8, 0..12), 0..5)
}

proptest! {
    #[test]
    fn every_step_is_whole(steps in proptest::collection::vec((listeners(), 1u16..3), 1..12)) {
        let mut maps = Maps::default();
        let mut installed = Installed::default();
        let mut extents = Extents::new(SLOTS);
        let mut now = Instant::now();
        for (listeners, mtu) in steps {
            let desired = contents(&listeners, mtu);
            extents.keep(installed.extents(), now);
            let plan = plan(&installed, desired.clone(), &mut extents).unwrap();
            for op in &plan.ops {
                let before = maps.locals.clone();
                maps.apply(op);
                maps.check();
                let staying = |addr: &Addr| desired.locals.contains_key(addr);
                for (addr, flags) in maps.locals.iter().filter(|(addr, _)| staying(addr)) {
                    let found = maps.local_kind(*addr);
                    // What was just written is not in the cache yet.
                    let just = MapOp::SetLocal { addr: *addr, flags: *flags };
                    let was = before.get(addr).copied();
                    prop_assert!(found == Some(*flags) || (*op == just && found == was), "{op:?}");
                }
            }
            installed = plan.installed;
            prop_assert_eq!(&installed.contents, &desired);
            prop_assert_eq!(&maps.installed(), &installed);

            let again = super::plan(&maps.installed(), desired, &mut extents.clone()).unwrap();
            prop_assert!(again.ops.is_empty(), "{:?}", again.ops);
            now += Duration::from_millis(700);
        }
    }
}

#[test]
fn one_listener_s_change_touches_no_other() {
    let before: BTreeMap<u16, Vec<u32>> =
        (1..=5).map(|port| (port, vec![u32::from(port), u32::from(port) + 10])).collect();
    let mut after = before.clone();
    after.insert(3, vec![3]);
    let mut extents = Extents::new(SLOTS);
    let first = plan(&Installed::default(), contents(&before, 1), &mut extents).unwrap();
    let second = plan(&first.installed, contents(&after, 1), &mut extents).unwrap();
    let entry = ListenerEntry {
        offset: 12,
        len: 1,
        index: 3,
        max: 1,
        sibling: 3,
        ..ListenerEntry::default()
    };
    assert_eq!(
        second.ops,
        [
            MapOp::SetSlots { offset: 12, targets: [3].into() },
            MapOp::SetListener { key: key(3), entry },
            MapOp::ClearTarget(13),
        ]
    );
}

#[test]
fn equal_tables_share_an_extent() {
    let same: BTreeMap<u16, Vec<u32>> = (1..=3).map(|port| (port, vec![1, 2, 1])).collect();
    let mut extents = Extents::new(SLOTS);
    let plan = plan(&Installed::default(), contents(&same, 1), &mut extents).unwrap();
    let written = plan.ops.iter().filter(|op| matches!(op, MapOp::SetSlots { .. })).count();
    // And the filter's list of ports.
    assert_eq!(written, 2);
}
