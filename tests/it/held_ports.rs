//! An entry that only holds a port is collected in its time, and nothing of whoever is its client.

use alb_common::{
    abi::map,
    expiry,
    flow::{FlowEntry, FlowKey},
    net::{Be16, Be32},
    tcp::FlowFlags,
};
use alb_tests::{
    packet_path::{lines, now},
    topology::{Lab, Shape, VIP},
    wait,
};
use aya::maps::MapData;

use crate::setting::{PORT, Service, servers};

#[test]
fn a_held_port_is_collected_without_its_client_s_next_flow() {
    const BOTH: u8 = FlowFlags::FIN_CLIENT | FlowFlags::FIN_TARGET;
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let mut daemon = Service::of(&lab).serve(&lab);
    daemon.kill();
    let version = std::fs::read_dir(daemon.instance.bpffs()).expect("pins").flatten().next();
    let path = version.expect("a version").path().join("maps").join(map::FLOWS);
    let data = MapData::from_pin(path).expect("a map");
    let flows = lines(map::FLOWS, &data);

    let [client, target, snat] =
        [200, 201, 202].map(|host| Be32::from(std::net::Ipv4Addr::new(198, 18, 0, host)));
    let vip = Be32::from(VIP);
    let of_client =
        FlowKey { src: client, dst: vip, sport: Be16::new(7_000), dport: Be16::new(PORT) };
    let answers =
        |port| FlowKey { src: target, dst: snat, sport: Be16::new(8_080), dport: Be16::new(port) };
    let [held, next] = [10_000, 10_001].map(answers);
    let is_closed = FlowFlags(FlowFlags::REVERSE | BOTH | FlowFlags::TARGET_FIRST);
    let entry = |key: FlowKey, peer: FlowKey, flags, last| FlowEntry {
        tag: key.tag(),
        src: peer.dst,
        dst: peer.src,
        sport: peer.dport,
        dport: peer.sport,
        flags,
        last,
        ..FlowEntry::default()
    };
    let long_ago = now().wrapping_sub(expiry::TIME_WAIT + 60);
    for (key, entry) in [
        (held, entry(held, of_client, is_closed.held(), long_ago)),
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
