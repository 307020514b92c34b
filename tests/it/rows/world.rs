//! A small configured packet path, and the frames of a flow through it.

use std::{collections::BTreeMap, net::Ipv4Addr};

use alb_common::{
    Reason,
    abi::{ABI_VERSION, map},
    flow::{FlowEntry, FlowKey, Totals},
    flow_table::{GROUP, lines_for},
    hash,
    interface::{HopEntry, InterfaceEntry},
    net::{Address, Be16, Be32, Be128, Mac},
    reason::Event,
    service::{ListenerEntry, ListenerKey, ListenerState, algorithm, local},
    settings::Settings,
    target::TargetEntry,
    tcp::Direction,
};
use alb_ebpf::builder::Tcp;
use alb_tests::packet_path::{Action, Prog, Sizes};

use super::FAMILY;
use crate::family::{Family, addr6, entry6, flow4, frame6, key6, target6};

pub(super) const VIP: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);
pub(super) const SNAT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 20);
pub(super) const SNAT_TOO: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 21);
pub(super) const CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 18, 0, 100), 12_000);
pub(super) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(super) const BALANCER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Round robin over [`TURNS`].
pub(super) const WEB: u16 = 80;
/// Source-IP hash over targets 0, 1, 2.
pub(super) const HASHED: u16 = 81;
/// Without a healthy target.
pub(super) const DEAD: u16 = 82;
/// Round robin over target 0 alone.
pub(super) const ONE: u16 = 83;

/// The slots of [`WEB`]: weights 2, 1, 1.
pub(super) const TURNS: [u32; 4] = [0, 1, 0, 2];
pub(super) const TARGETS: u32 = 3;
/// Entries that fit into a flow table made for [`LEAST`]: a group of lines.
pub(super) const ROOM: usize = 8;
/// See [`ROOM`].
pub(super) const LEAST: u32 = 4;
const _: () = assert!(lines_for(LEAST) as usize == GROUP as usize + ROOM);
/// Length of IP and TCP headers without options, bytes.
pub(super) const HEADERS: usize = match FAMILY {
    Family::Ipv4 => 40,
    Family::Ipv6 => 60,
};
pub(super) const PORT_FIRST: u16 = 10_000;
pub(super) const PORT_COUNT: u16 = 20_000;
/// Idle timeout, ticks.
pub(super) const IDLE: u32 = 1_000_000;

pub(super) fn target(index: u32) -> (Ipv4Addr, u16) {
    let low = u8::try_from(index).expect("few targets");
    (Ipv4Addr::new(198, 18, 1, 11 + low), 8080 + u16::from(low))
}

pub(super) fn target_mac(index: u32) -> [u8; 6] {
    [2, 0, 0, 0, 1, u8::try_from(index).expect("few targets")]
}

pub(super) fn key(tcp: &Tcp) -> FlowKey {
    FlowKey {
        src: tcp.src.0.into(),
        dst: tcp.dst.0.into(),
        sport: Be16::new(tcp.src.1),
        dport: Be16::new(tcp.dst.1),
    }
}

/// What is expected of one packet.
#[derive(Clone, Debug)]
pub(super) struct Expect {
    pub(super) action: Action,
    pub(super) frame: Vec<u8>,
    pub(super) reason: Reason,
    pub(super) events: Vec<Event>,
}

impl Expect {
    pub(super) fn with(mut self, event: Event) -> Self {
        self.events.push(event);
        self
    }
}

/// The frame leaves by the interface it came in by.
pub(super) fn sent(reason: Reason, tcp: &Tcp) -> Expect {
    Expect { action: Action::Transmit, frame: tcp.frame(), reason, events: vec![] }
}

/// The frame is dropped as it was.
pub(super) fn dropped(reason: Reason, frame: &[u8]) -> Expect {
    Expect { action: Action::Drop, frame: frame.to_vec(), reason, events: vec![] }
}

/// The frame goes to the host as it was.
pub(super) fn passed(reason: Reason, frame: &[u8]) -> Expect {
    Expect { action: Action::Pass, frame: frame.to_vec(), reason, events: vec![] }
}

/// The answer of RFC 9293 §3.5.2.
pub(super) fn reset(reason: Reason, tcp: &Tcp) -> Expect {
    use alb_common::tcp::flag;
    let is_ack = tcp.flags & flag::ACK != 0;
    let syn_fin = (tcp.flags & flag::SYN) >> 1 | tcp.flags & flag::FIN;
    let len = u32::try_from(tcp.data.len()).expect("a packet") + syn_fin.count_ones();
    let (seq, ack, flags) = if is_ack {
        (tcp.ack, 0, flag::RST)
    } else {
        (0, tcp.seq.wrapping_add(len), flag::RST | flag::ACK)
    };
    answer(reason, tcp, (seq, ack, flags))
}

/// An answer of the balancer's own with these numbers and flags.
pub(super) fn answer(reason: Reason, tcp: &Tcp, (seq, ack, flags): (u32, u32, u8)) -> Expect {
    let answer = Tcp {
        to: tcp.from,
        from: tcp.to,
        tags: tcp.tags.clone(),
        tos: 0,
        id: 0,
        fragment: 0x4000,
        ttl: 64,
        src: tcp.dst,
        dst: tcp.src,
        ip_options: vec![],
        seq,
        ack,
        flags,
        window: 0,
        options: vec![],
        data: vec![],
        padding: 0,
    };
    sent(reason, &answer)
}

/// The packet path with its tables filled.
pub(super) struct World {
    pub(super) prog: Prog,
    pub(super) settings: Settings,
}

impl World {
    pub(super) fn new() -> Self {
        Self::sized(Sizes::default())
    }

    pub(super) fn sized(sizes: Sizes) -> Self {
        let mut prog = Prog::load_both(sizes);
        if FAMILY == Family::Ipv6 {
            prog = prog.with_ipv6();
        }
        let settings = Settings {
            abi: ABI_VERSION,
            route_generation: 1,
            port_first: PORT_FIRST,
            port_count: PORT_COUNT,
            reply_first: PORT_FIRST,
            reply_count: PORT_COUNT,
            port_stride: 7,
            rst_per_window: 1_000,
            half_open_mask: sizes.ring - 1,
            closed_mask: sizes.ring - 1,
            half_open_mask6: sizes.ring - 1,
            closed_mask6: sizes.ring - 1,
            draining: 0,
            flow_log: 0,
            syn_limit: 0,
            syn_key: [1, 2, 3, 4],
        };
        prog.set(map::SETTINGS, 0, settings);
        for (addr, kind) in [(VIP, local::VIP), (SNAT, local::SNAT), (SNAT_TOO, local::SNAT)] {
            match FAMILY {
                Family::Ipv4 => prog.local(addr, kind),
                Family::Ipv6 => prog.local6(addr6(addr.into()), kind),
            }
        }
        prog.insert(map::INTERFACE_SLOTS, 1u32, 0u32);
        let loopback =
            InterfaceEntry { ifindex: 1, mac: Mac::new(BALANCER_MAC), mtu: 1500, flags: 0 };
        prog.set(map::INTERFACES, 0, loopback);
        for index in 0..TARGETS {
            let (addr, port) = target(index);
            let mut snat = [Be32(0); 4];
            snat[0] = SNAT.into();
            snat[1] = SNAT_TOO.into();
            let entry = TargetEntry {
                id: (u64::from(index) + 1).into(),
                addr: addr.into(),
                port: Be16::new(port),
                snat_count: 1,
                snat,
            };
            match FAMILY {
                Family::Ipv4 => prog.set(map::TARGETS, index, entry),
                Family::Ipv6 => prog.set(map::TARGETS6, index, target6(&entry)),
            }
            let hop = HopEntry { mac: Mac::new(target_mac(index)), interface: 0, flags: 0 };
            prog.set(map::HOPS, index, hop);
        }
        let slots = TURNS.iter().copied().chain(0..TARGETS);
        for (slot, target) in (0..).zip(slots) {
            prog.set(map::SLOTS, slot, target);
        }
        let mut world = Self { prog, settings };
        for (index, port, offset, len, algorithm) in [
            (0, WEB, 0, 4, algorithm::ROUND_ROBIN),
            (1, HASHED, 4, 3, algorithm::IP_HASH),
            (2, DEAD, 0, 0, algorithm::ROUND_ROBIN),
            (3, ONE, 0, 1, algorithm::ROUND_ROBIN),
        ] {
            world.listen(
                port,
                ListenerEntry { offset, len, index, algorithm, ..ListenerEntry::default() },
            );
            let state = ListenerState { turn: 0, idle: u64::from(IDLE) };
            world.prog.set(map::LISTENER_STATES, index.into(), state);
        }
        world
    }

    pub(super) fn listen(&mut self, port: u16, entry: ListenerEntry) {
        let (addr, port) = (VIP.into(), Be16::new(port));
        match FAMILY {
            Family::Ipv4 => {
                let key = ListenerKey { addr, port, reserved: 0 };
                self.prog.insert(map::LISTENERS, key, entry);
            }
            Family::Ipv6 => {
                let key = ListenerKey { addr: addr6(addr), port, reserved: 0 };
                self.prog.insert(map::LISTENERS6, key, entry);
            }
        }
    }

    /// Changes the settings.
    pub(super) fn set(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        self.prog.set(map::SETTINGS, 0, self.settings);
    }

    /// Sets a target's SNAT addresses.
    pub(super) fn set_snat(&mut self, index: u32, addresses: &[Ipv4Addr]) {
        let count = addresses.len().try_into().expect("few addresses");
        match FAMILY {
            Family::Ipv4 => {
                let mut target: TargetEntry = self.prog.get(map::TARGETS, index);
                target.snat_count = count;
                for (place, address) in target.snat.iter_mut().zip(addresses) {
                    *place = (*address).into();
                }
                self.prog.set(map::TARGETS, index, target);
            }
            Family::Ipv6 => {
                let mut target: TargetEntry<Be128> = self.prog.get(map::TARGETS6, index);
                target.snat_count = count;
                for (place, address) in target.snat.iter_mut().zip(addresses) {
                    *place = addr6((*address).into());
                }
                self.prog.set(map::TARGETS6, index, target);
            }
        }
    }

    /// Runs a frame, whatever becomes of it.
    pub(super) fn run(&self, frame: &[u8]) {
        self.prog.run(&of_family(frame));
    }

    /// Runs a frame through both programs, whatever becomes of it.
    pub(super) fn run_both(&self, frame: &[u8]) {
        let frame = of_family(frame);
        self.prog.run(&frame);
        self.prog.run_twin(&frame, None, true);
    }

    /// Runs a frame and compares everything that can be seen of it from outside.
    #[track_caller]
    pub(super) fn step(&self, name: &str, frame: &[u8], expected: &Expect) {
        self.step_on(name, frame, None, expected);
    }

    #[track_caller]
    pub(super) fn step_on(
        &self,
        name: &str,
        frame: &[u8],
        ifindex: Option<u32>,
        expected: &Expect,
    ) {
        let frame = &of_family(frame);
        let expected = &Expect { frame: of_family(&expected.frame), ..expected.clone() };
        let mut counters = self.prog.counters();
        let (action, out) = self.prog.run_on(frame, ifindex);
        let labels = expected.events.iter().map(|event| event.label());
        for label in labels.chain([expected.reason.label()]) {
            *counters.entry(label).or_default() += 1;
        }
        assert_eq!(self.prog.counters(), counters, "{name}: counters");
        assert_eq!(action, expected.action, "{name}");
        assert_eq!(hex(&out), hex(&expected.frame), "{name}: frame");
        self.step_twin(name, frame, ifindex, expected);
    }

    /// The same with the TC program, which must agree. The kernel runs it on a page at most.
    #[track_caller]
    fn step_twin(&self, name: &str, frame: &[u8], ifindex: Option<u32>, expected: &Expect) {
        if frame.len() > 2_900 {
            return;
        }
        let mut counters = self.prog.twin_counters().expect("both are loaded");
        let is_cut = expected.frame.len() < frame.len();
        let Some((action, out)) = self.prog.run_twin(frame, ifindex, is_cut) else { return };
        let labels = expected.events.iter().map(|event| event.label());
        for label in labels.chain([expected.reason.label()]) {
            *counters.entry(label).or_default() += 1;
        }
        assert_eq!(self.prog.twin_counters(), Some(counters), "{name} at TC: counters");
        let wanted = match expected.action {
            Action::Transmit => Action::Redirect,
            other @ (Action::Drop | Action::Pass | Action::Redirect) => other,
        };
        assert_eq!(action, wanted, "{name} at TC");
        assert_eq!(hex(&out), hex(&expected.frame), "{name} at TC: frame");
    }

    pub(super) fn flows(&self) -> BTreeMap<FlowKey, FlowEntry> {
        match FAMILY {
            Family::Ipv4 => self.table(map::FLOWS),
            Family::Ipv6 => self.table6(map::FLOWS6),
        }
    }

    pub(super) fn half_open(&self) -> BTreeMap<FlowKey, FlowEntry> {
        match FAMILY {
            Family::Ipv4 => self.table(map::HALF_OPEN),
            Family::Ipv6 => self.table6(map::HALF_OPEN6),
        }
    }

    /// A flow table, which the TC program must have filled alike.
    fn table(&self, name: &str) -> BTreeMap<FlowKey, FlowEntry> {
        let table = self.prog.flows(name);
        assert_eq!(self.prog.twin_flows(name).map(timeless), Some(timeless(table.clone())));
        table
    }

    /// The same of IPv6, as the table of IPv4 that it stands for.
    fn table6(&self, name: &str) -> BTreeMap<FlowKey, FlowEntry> {
        let table: BTreeMap<FlowKey<Be128>, _> = self.prog.flows(name);
        assert_eq!(self.prog.twin_flows(name).map(timeless), Some(timeless(table.clone())));
        table.iter().map(|(key, entry)| flow4(*key, entry)).collect()
    }

    /// Totals of a target and of a listener, which must agree where one has only the other.
    #[track_caller]
    pub(super) fn totals(&self, target: u32, listener: u32) -> Totals {
        let totals = self.prog.totals(map::TARGET_TOTALS, target);
        assert_eq!(totals, self.prog.totals(map::LISTENER_TOTALS, listener));
        totals
    }

    /// Changes an entry of the established table.
    pub(super) fn edit(&mut self, key: FlowKey, change: impl FnOnce(&mut FlowEntry)) {
        let mut entry = self.flows()[&key];
        change(&mut entry);
        self.put([map::FLOWS, map::FLOWS6], key, entry);
    }

    /// Changes an entry of the half-open table.
    pub(super) fn edit_half_open(&mut self, key: FlowKey, change: impl FnOnce(&mut FlowEntry)) {
        let mut entry = self.half_open()[&key];
        change(&mut entry);
        self.put([map::HALF_OPEN, map::HALF_OPEN6], key, entry);
    }

    /// Writes an entry to the table of the rows' family.
    pub(super) fn put(&mut self, [table, table6]: [&str; 2], key: FlowKey, entry: FlowEntry) {
        match FAMILY {
            Family::Ipv4 => self.prog.put_flow(table, &key, &entry),
            Family::Ipv6 => self.prog.put_flow(table6, &key6(key), &entry6(key, &entry)),
        }
    }
}

/// A flow table without what depends on when it was filled.
fn timeless<A: Address>(
    table: BTreeMap<FlowKey<A>, FlowEntry<A>>,
) -> BTreeMap<FlowKey<A>, FlowEntry<A>> {
    let mut table = table;
    for entry in table.values_mut() {
        entry.last = 0;
        if entry.flags.direction() == Direction::Forward {
            entry.begin(0);
        }
    }
    table
}

/// The hash by which a client is sent to a target.
pub(super) fn client_hash(client: Ipv4Addr) -> u32 {
    match FAMILY {
        Family::Ipv4 => hash::client(client.into()),
        Family::Ipv6 => hash::client6(addr6(client.into())),
    }
}

fn of_family(frame: &[u8]) -> Vec<u8> {
    match FAMILY {
        Family::Ipv4 => frame.to_vec(),
        Family::Ipv6 => frame6(frame),
    }
}

/// Rows of 16 bytes, so that a difference can be read.
fn hex(frame: &[u8]) -> Vec<String> {
    frame.chunks(16).map(|row| format!("{row:02x?}")).collect()
}
