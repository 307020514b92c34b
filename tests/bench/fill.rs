//! Tables: a listener, targets, and flows in both directions in an order that is neither that
//! of their numbers nor that of their packets.

use std::net::Ipv4Addr;

use alb_common::{
    abi::{ABI_VERSION, map},
    filter::{FilterEntry, FilterKey, ID_BITS},
    flow::{FlowEntry, FlowKey},
    interface::{HopEntry, InterfaceEntry},
    limits::MAX_LEAST_CONN_TARGETS,
    net::{Address, Be16, Be32, Be128, Mac},
    selection::weighted,
    service::{ListenerEntry, ListenerKey, ListenerState, algorithm, local},
    settings::Settings,
    target::TargetEntry,
    tcp::FlowFlags,
};
use alb_ebpf::{
    bench::{Field, Plan},
    rewrite::check_delta,
};
use alb_tests::packet_path::{Raw, now};
use alb_userspace::datapath::maps::FlowLines;
use aya::maps::{HashMap, MapData};

use crate::runner::Runner;

pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);
pub(crate) const SNAT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 20);
pub(crate) const TARGET: Ipv4Addr = Ipv4Addr::new(198, 18, 64, 0);
/// Address of the first client with established flows.
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 0);
/// Target of new flows: no established flow has it.
pub(crate) const NEW_TARGET: u32 = 64;
pub(crate) const STATION: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PORTS: u16 = 16_384;
const IDLE: u64 = 10_000_000;

/// Addresses and ports of one direction's packets, as the wrapper makes them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuple {
    pub(crate) src: Field,
    pub(crate) sport: Field,
    pub(crate) dst: Field,
    pub(crate) dport: Field,
}

impl Tuple {
    /// As the bench's programs make it.
    fn key(&self, flow: u32) -> FlowKey {
        let Self { src, sport, dst, dport } = *self;
        for port in [sport, dport] {
            assert!(u16::try_from(port.of(flow)).is_ok(), "ports are below 65,536");
        }
        Plan { src, sport, dst, dport, ..Plan::default() }.key(flow)
    }

    /// The same of IPv6: the last words of its addresses are IPv4's.
    fn key6(&self, flow: u32) -> FlowKey<Be128> {
        let FlowKey { src, dst, sport, dport } = self.key(flow);
        FlowKey { src: addr6(src), dst: addr6(dst), sport, dport }
    }

    /// Established, from the client: 64 ports of 16,384 clients.
    pub(crate) fn forward() -> Self {
        Self {
            src: Field { base: CLIENT.into(), mask: 0x3fff, shift: 6 },
            sport: Field { base: 40_000, mask: 63, shift: 0 },
            dst: Field::fixed(VIP.into()),
            dport: Field::fixed(80),
        }
    }

    /// The same flows' answers: 16,384 ports towards 64 targets.
    pub(crate) fn reverse() -> Self {
        Self {
            src: Field { base: TARGET.into(), mask: 63, shift: 0 },
            sport: Field::fixed(8080),
            dst: Field::fixed(SNAT.into()),
            dport: Field { base: 10_000, mask: 0x3fff, shift: 6 },
        }
    }

    /// New flows: as many as there are ports, all to one target under their own ports.
    pub(crate) fn new_forward() -> Self {
        Self {
            src: Field::fixed(Ipv4Addr::new(198, 18, 200, 1).into()),
            sport: Field { base: 10_000, mask: 0x3fff, shift: 0 },
            dst: Field::fixed(VIP.into()),
            dport: Field::fixed(80),
        }
    }

    /// As [`Tuple::new_forward`], to the listener with least-connection.
    pub(crate) fn new_least_conn() -> Self {
        Self { dport: Field::fixed(LEAST_CONN.into()), ..Self::new_forward() }
    }

    /// As [`Tuple::new_forward`], to most of the listeners that [`widen`] adds.
    pub(crate) fn new_wide() -> Self {
        let dport = Field { base: FIRST_PORT.into(), mask: 0x1fff, shift: 0 };
        Self { dport, ..Self::new_forward() }
    }

    pub(crate) fn new_reverse() -> Self {
        Self {
            src: Field::fixed(u32::from(TARGET) + NEW_TARGET),
            sport: Field::fixed(8080),
            dst: Field::fixed(SNAT.into()),
            dport: Field { base: 10_000, mask: 0x3fff, shift: 0 },
        }
    }
}

/// Words of all IPv6 addresses before the last.
pub(crate) const PREFIX6: [u32; 3] = [0x2001_0db8u32.to_be(), 0, 0];

fn addr6(last: Be32) -> Be128 {
    let [a, b, c] = PREFIX6;
    Be128([a, b, c, last.0])
}

/// Puts so many established IPv6 flows in their table, in another order than that of their packets.
pub(crate) fn fill6(runner: &mut Runner, flows: u32) {
    let now = now();
    for (addr, kind) in [(VIP, local::VIP), (SNAT, local::SNAT)] {
        runner.path.local6(addr6(addr.into()), kind);
    }
    let table = runner.path.lines::<Be128>(map::FLOWS6);
    for flow in (0..flows).map(|n| n.wrapping_mul(0x9e37_79b1) & (flows - 1)) {
        let keys = (Tuple::forward().key6(flow), Tuple::reverse().key6(flow));
        let (forward, reverse) = pair(keys, flow, now);
        for (key, entry) in [reverse, forward] {
            table.set(&key, &entry).expect("room");
        }
    }
}

/// Port of a listener with least-connection.
pub(crate) const LEAST_CONN: u16 = 81;
/// Its targets: as many as it may have.
pub(crate) const MANY: u32 = 1_000;
const _: () = assert!(MANY as usize == MAX_LEAST_CONN_TARGETS);

/// Everything but flows.
pub(crate) fn configure(runner: &mut Runner) {
    let path = &mut runner.path;
    path.set(
        map::SETTINGS,
        0,
        Settings {
            abi: ABI_VERSION,
            route_generation: 1,
            port_first: 10_000,
            port_count: PORTS,
            reply_first: 10_000,
            reply_count: PORTS,
            port_stride: 7,
            rst_per_window: 1_000,
            half_open_mask: 0xffff,
            closed_mask: 0xffff,
            half_open_mask6: 0,
            closed_mask6: 0,
            draining: 0,
            flow_log: 0,
            // Counted, and never too many.
            syn_limit: u32::MAX,
            syn_key: [1, 2, 3, 4],
        },
    );
    path.local(VIP, local::VIP);
    path.local(SNAT, local::SNAT);
    path.insert(map::INTERFACE_SLOTS, 1u32, 0u32);
    let interface =
        InterfaceEntry { ifindex: 1, mac: Mac::new([2, 0, 0, 0, 0, 2]), mtu: 1500, flags: 0 };
    path.set(map::INTERFACES, 0, interface);
    let key = ListenerKey { addr: Be32::from(VIP), port: Be16::new(80), reserved: 0 };
    path.insert(map::LISTENERS, key, ListenerEntry { len: 1, ..ListenerEntry::default() });
    path.set(map::LISTENER_STATES, 0, ListenerState { turn: 0, idle: IDLE });
    path.set(map::SLOTS, 0, NEW_TARGET);
    let key = ListenerKey { port: Be16::new(LEAST_CONN), ..key };
    let algorithm = algorithm::LEAST_CONN;
    path.insert(
        map::LISTENERS,
        key,
        ListenerEntry { offset: 1, len: MANY, index: 1, algorithm, ..ListenerEntry::default() },
    );
    path.set(map::LISTENER_STATES, 1, ListenerState { turn: 0, idle: IDLE });
    // With connections open everywhere, so that none is the obvious one.
    for place in 0..MANY {
        let active = 5 + u64::from(place % 3);
        path.set_active(NEW_TARGET + place, active);
        path.set(map::SLOTS, 1 + place, weighted(NEW_TARGET + place, 10));
    }
    for target in 0..NEW_TARGET + MANY {
        path.set(map::TARGETS, target, target_entry(target));
        path.set(map::HOPS, target, HOP);
    }
}

const HOP: HopEntry = HopEntry { mac: Mac::new([2, 0, 0, 0, 1, 1]), interface: 0, flags: 0 };

fn target_entry(target: u32) -> TargetEntry {
    let mut snat = [Be32(0); 4];
    snat[0] = SNAT.into();
    TargetEntry {
        id: (u64::from(target) + 1).into(),
        addr: Be32((u32::from(TARGET) + target).to_be()),
        port: Be16::new(8080),
        snat_count: 1,
        snat,
    }
}

/// Listeners and targets of a large site.
pub(crate) const LISTENERS: u32 = 10_000;
pub(crate) const TARGETS: u32 = 100_000;
/// Port of the first of the listeners; the others follow.
const FIRST_PORT: u16 = 1_000;
/// Slots of their selection tables: ten targets each.
const WIDE: u32 = 2_048;

/// Adds the listeners and targets of a large site, and hands the flows there are to them all.
pub(crate) fn widen(runner: &mut Runner, flows: u32) {
    let path = &mut runner.path;
    let most = (NEW_TARGET + MANY)..TARGETS;
    for target in most {
        path.set(map::TARGETS, target, target_entry(target));
        path.set(map::HOPS, target, HOP);
    }
    let each = TARGETS / LISTENERS;
    for (number, port) in (0..LISTENERS).zip(FIRST_PORT..) {
        // Targets next to each other are not next to each other in the tables.
        let offset = WIDE + number * each;
        for place in 0..each {
            path.set(map::SLOTS, offset + place, far(number * each + place));
        }
        let index = u16::try_from(number + 2).expect("a listener");
        let key = ListenerKey { addr: Be32::from(VIP), port: Be16::new(port), reserved: 0 };
        let entry = ListenerEntry { offset, len: each, index, ..ListenerEntry::default() };
        path.insert(map::LISTENERS, key, entry);
        path.set(map::LISTENER_STATES, number + 2, ListenerState { turn: 0, idle: IDLE });
    }
    let now = now();
    let table = path.lines::<Be32>(map::FLOWS);
    for flow in 0..flows {
        let (forward, reverse) = entries(flow, now);
        let (target, listener) = (far(flow), far(flow) / each + 2);
        let listener = u16::try_from(listener).expect("a listener");
        for (key, entry) in [forward, reverse] {
            table.set(&key, &FlowEntry { target, listener, ..entry }).expect("room");
        }
    }
}

/// A target for a number, far from that of the next; none that established flows hold ports to.
fn far(number: u32) -> u32 {
    NEW_TARGET + number.wrapping_mul(48_271) % (TARGETS - NEW_TARGET)
}

/// Prefixes of the guarded listener's security group.
pub(crate) const PREFIXES: u32 = 10_000;
const FILTER: u32 = 1;
/// Slots of its lists of ports.
const LIST: u32 = 1 + MANY;

/// Guards the address with a security group of many prefixes: every client of the bench has one
/// of its own or one near it.
pub(crate) fn guard(runner: &mut Runner, prefixes: u32) {
    let path = &mut runner.path;
    for (slot, port) in (LIST..).zip([80_u32, 82]) {
        path.set(map::SLOTS, slot, port);
    }
    let entry = FilterEntry { offset: LIST, len: 2 };
    let mut allow = |addr: u32, length: u32| {
        let bits = ID_BITS + length;
        path.allow(FilterKey { bits, id: FILTER, addr: Be32(addr.to_be()) }, entry);
    };
    // The new flows' client has the last step of a way of four.
    for length in [8, 16, 24, 32] {
        let addr = u32::from(Ipv4Addr::new(198, 18, 200, 1));
        allow(addr & (u32::MAX << (32 - length)), length);
    }
    for n in 4..prefixes {
        // Multiples of the golden section lie all over the address space.
        allow(n.wrapping_mul(0x9e37_79b1) & !0xff, 24);
    }
    path.local(VIP, local::filtered(local::VIP, FILTER));
}

/// The packet path's table of open flows, and the kernel's hash table beside it, which holds the same.
pub(crate) struct Tables<'a> {
    pub(crate) lines: &'a FlowLines,
    pub(crate) hash: HashMap<&'a mut MapData, Raw<FlowKey>, Raw<FlowEntry>>,
}

impl Tables<'_> {
    fn insert(&mut self, elements: [Element<Be32>; 2]) {
        for (key, entry) in elements {
            assert!(self.lines.insert(&key, &entry).expect("room"), "{key:?}");
            self.hash.insert(Raw(key), Raw(entry), 0).expect("room");
        }
    }

    fn remove(&mut self, flow: u32) {
        for key in [Tuple::forward(), Tuple::reverse()].map(|tuple| tuple.key(flow)) {
            assert!(self.lines.remove(&key).expect("a mapped table"), "{key:?}");
            self.hash.remove(&Raw(key)).expect("a flow");
        }
    }
}

/// Established flows in the table.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Filled {
    flows: u32,
}

impl Filled {
    /// Fills up to `flows`, a power of two, then removes every other one and puts it back in
    /// another order.
    pub(crate) fn grow(&mut self, runner: &mut Runner, flows: u32) {
        let (from, mask) = (self.flows, flows - 1);
        let order = |multiplier: u32| (0..flows).map(move |n| n.wrapping_mul(multiplier) & mask);
        let fresh = move |flow: &u32| *flow >= from;
        let now = now();
        let mut tables = runner.tables();
        for flow in order(0x9e37_79b1).filter(fresh) {
            let (forward, reverse) = entries(flow, now);
            tables.insert([reverse, forward]);
        }
        for flow in order(0x85eb_ca6b).filter(|flow| flow % 2 == 1) {
            tables.remove(flow);
        }
        for flow in order(0xc2b2_ae35).filter(|flow| flow % 2 == 1) {
            let (forward, reverse) = entries(flow, now);
            tables.insert([forward, reverse]);
        }
        self.flows = flows;
    }

    /// Removes flows, so that as many others find room; how many are left.
    pub(crate) fn make_room(&mut self, runner: &mut Runner, flows: u32) -> u32 {
        let mut tables = runner.tables();
        for flow in 0..flows {
            tables.remove(flow);
        }
        self.flows -= flows;
        self.flows
    }
}

fn entries(flow: u32, now: u32) -> ((FlowKey, FlowEntry), (FlowKey, FlowEntry)) {
    pair((Tuple::forward().key(flow), Tuple::reverse().key(flow)), flow, now)
}

type Element<A> = (FlowKey<A>, FlowEntry<A>);

/// Both elements of the flow with these keys.
fn pair<A: Address>(
    (key, back): (FlowKey<A>, FlowKey<A>),
    flow: u32,
    now: u32,
) -> (Element<A>, Element<A>) {
    let entry = |own: FlowKey<A>, peer: FlowKey<A>, flags: u8| {
        let after = FlowKey { src: peer.dst, dst: peer.src, sport: peer.dport, dport: peer.sport };
        FlowEntry {
            tag: own.tag(),
            route_generation: 1,
            src: after.src,
            dst: after.dst,
            sport: after.sport,
            dport: after.dport,
            check_delta: check_delta(&own, &after),
            flags: FlowFlags(flags),
            mac: Mac::new(STATION),
            target: flow & 63,
            last: now,
            ..FlowEntry::default()
        }
    };
    ((key, entry(key, back, 0)), (back, entry(back, key, FlowFlags::REVERSE)))
}

/// Removes new flows, established or half-open.
pub(crate) fn forget(runner: &mut Runner, flows: u32) {
    for name in [map::FLOWS, map::HALF_OPEN] {
        let table = runner.path.lines::<Be32>(name);
        for flow in 0..flows {
            for tuple in [Tuple::new_forward(), Tuple::new_reverse()] {
                // It is in one of the two tables only.
                table.remove(&tuple.key(flow)).expect("a mapped table");
            }
        }
    }
}
