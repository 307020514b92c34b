//! An entry that only holds a port is collected in its time, and nothing of whoever is its client; until
//! then it stays, also in tables of another size.

use alb_common::{
    abi::map,
    expiry,
    flow::{FlowEntry, FlowKey},
    limits::MAX_TARGETS,
    net::{Be16, Be32},
    tcp::FlowFlags,
};
use alb_tests::{
    daemon::{Daemon, Node},
    packet_path::{active, lines, now},
    topology::{Lab, Shape, VIP},
    wait,
};
use alb_userspace::datapath::{active::Active, maps::FlowLines};
use aya::maps::MapData;

use crate::setting::{PORT, Service, servers};

/// State of an entry that holds a port after its client's flow has ended.
fn holds() -> FlowFlags {
    const BOTH: u8 = FlowFlags::FIN_CLIENT | FlowFlags::FIN_TARGET;
    FlowFlags(FlowFlags::REVERSE | BOTH | FlowFlags::TARGET_FIRST).held()
}

/// The table of open flows that is pinned.
fn flows(daemon: &Daemon<'_>) -> FlowLines {
    lines(map::FLOWS, &pinned(daemon, map::FLOWS))
}

/// The targets' counters that are pinned.
fn active_flows(daemon: &Daemon<'_>) -> Active {
    active(&pinned(daemon, map::TARGET_ACTIVE))
}

fn pinned(daemon: &Daemon<'_>, name: &str) -> MapData {
    MapData::from_pin(daemon.instance.maps().join(name)).expect("a map")
}

/// Key of a client's packets.
fn of_client() -> FlowKey {
    FlowKey {
        src: host(200),
        dst: Be32::from(VIP),
        sport: Be16::new(7_000),
        dport: Be16::new(PORT),
    }
}

/// Key of a target's answers to a port of ours.
fn answers(port: u16) -> FlowKey {
    FlowKey { src: host(201), dst: host(202), sport: Be16::new(8_080), dport: Be16::new(port) }
}

fn host(number: u8) -> Be32 {
    Be32::from(std::net::Ipv4Addr::new(198, 18, 0, number))
}

fn entry(key: FlowKey, peer: FlowKey, flags: FlowFlags, last: u32) -> FlowEntry {
    FlowEntry {
        tag: key.tag(),
        src: peer.dst,
        dst: peer.src,
        sport: peer.dport,
        dport: peer.sport,
        flags,
        last,
        ..FlowEntry::default()
    }
}

#[test]
fn a_held_port_is_collected_without_its_client_s_next_flow() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let mut daemon = Service::of(&lab).serve(&lab);
    daemon.kill();
    let flows = flows(&daemon);
    let [held, next] = [10_000, 10_001].map(answers);
    let of_client = of_client();
    let long_ago = now().wrapping_sub(expiry::TIME_WAIT + 60);
    for (key, entry) in [
        (held, entry(held, of_client, holds(), long_ago)),
        (next, entry(next, of_client, FlowFlags(FlowFlags::REVERSE), now())),
        (of_client, entry(of_client, next, FlowFlags(0), now())),
    ] {
        assert!(flows.insert(&key, &entry).expect("room"), "{key:?}");
    }
    daemon.restart();
    let is_there = |key| flows.get(key).expect("a table").is_some();
    wait::until("the port to be free", wait::LONG, || (!is_there(&held)).then_some(()));
    assert!(is_there(&of_client) && is_there(&next));
}

#[test]
fn a_held_port_stays_so_in_tables_of_another_size() {
    const SYN: u64 = 0x1234_5678_9abc_def0;
    let unused = u32::try_from(MAX_TARGETS - 1).expect("an index");
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let service = Service::of(&lab);
    let mut daemon = service.serve(&lab);
    daemon.terminate();
    let [held, next] = [10_000, 10_001].map(answers);
    let client = of_client();
    // What a target compares its client's next SYN with.
    let waits = FlowEntry { bytes: SYN, ..entry(held, client, holds(), now()) };
    for (key, entry) in [
        (held, waits),
        (next, entry(next, client, FlowFlags(FlowFlags::REVERSE), now())),
        (client, entry(client, next, FlowFlags(0), now())),
    ] {
        assert!(flows(&daemon).insert(&key, &entry).expect("room"), "{key:?}");
    }
    active_flows(&daemon).set(unused, 7);
    let node = Node { more: vec!["flows: 16384".to_owned()], ..Node::xdp(lab.interfaces()) };
    daemon.instance.change_node(node, &service.body());
    daemon.restart();
    assert_eq!(daemon.status()["datapath"]["flows"]["established"]["capacity"], 16_384);
    // No flow names it, so nobody but the start can have put it there.
    assert_eq!(active_flows(&daemon).get(unused), 7);
    let flows = flows(&daemon);
    let of = |key| flows.get(key).expect("a table").unwrap_or_else(|| panic!("{key:?} is gone"));
    assert_eq!((of(&held).flags, of(&held).bytes), (holds(), SYN));
    assert_eq!(of(&next).flags, FlowFlags(FlowFlags::REVERSE));
    assert_eq!(of(&client).flags, FlowFlags(0));
}
