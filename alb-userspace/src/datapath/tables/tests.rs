//! From a file to tables.

use std::{path::Path, time::SystemTime};

use alb_common::{
    expiry::ticks, net::Mac, selection::weighted_weight, service::algorithm, settings::Settings,
};

use super::{host::stride, *};
use crate::{
    config,
    datapath::contents::Selection,
    net::NextHop,
    state::{Health, Store, TargetRef, TargetState, TargetStates},
};

const NOW: u32 = 1_000;

/// A load balancer with one backend of this algorithm and these targets (last byte, weight).
fn model(algorithm: &str, targets: &[(u8, u8)]) -> Model {
    config::parse(&text(algorithm, targets), Path::new("/")).unwrap().model
}

fn text(algorithm: &str, targets: &[(u8, u8)]) -> String {
    let targets: Vec<String> = targets
        .iter()
        .map(|(host, weight)| format!("{{ ipAddress: 198.18.1.{host}, weight: {weight} }}"))
        .collect();
    let targets = targets.join(", ");
    format!(
        "node: {{ interfaces: [eth0, eth1] }}\n\
         subnets: [{{ name: front, addressPrefix: 198.18.0.0/24 }}]\n\
         loadBalancers:\n\
         - name: lb\n\
         \x20 subnet: front\n\
         \x20 privateIpAddress: 198.18.0.10\n\
         \x20 targetGroups: [{{ name: g, type: ip, targets: [{targets}] }}]\n\
         \x20 backends: [{{ name: b, protocol: Tcp, port: 8080, algorithm: {algorithm}, targetGroup: g, \
           healthCheck: {{ protocol: Tcp }} }}]\n\
         \x20 listeners:\n\
         \x20 - {{ name: on, protocol: Tcp, port: 80, backend: b }}\n\
         \x20 - {{ name: off, protocol: Tcp, port: 81, backend: b, status: Off }}\n"
    )
}

/// A snapshot in which these hosts are healthy and the others are not.
fn snapshot(model: Model, healthy: &[u8]) -> Arc<Snapshot> {
    let mut states = TargetStates::default();
    let balancer = &model.load_balancers[0];
    for target in balancer.targets_of(&balancer.backends[0]) {
        let last = wide::addr(target.address).addr().octets()[15];
        let is_healthy = healthy.contains(&last);
        let health = if is_healthy { Health::Healthy } else { Health::Unhealthy };
        let state = TargetState { health, reason: None, since: SystemTime::now(), revision: 0 };
        states.insert(TargetRef::new(&balancer.backends[0].id, &target.id), state);
    }
    Store::new(model, &states).snapshot()
}

/// Two interfaces; every host in 198.18.1.0/24 but .99 is resolved on the second.
fn network() -> Network {
    let entry = |ifindex| InterfaceEntry {
        ifindex,
        mac: Mac::new([2, 0, 0, 0, 0, 9]),
        mtu: 1500,
        flags: 0,
    };
    let hop = |host: u8| NextHop {
        interface: 5,
        gateway: None,
        source: IpAddr::from([198, 18, 1, 1]),
        mac: (host != 99).then_some([2, 0, 0, 0, 1, host]),
    };
    let hops = (1..=100).map(|host| (IpAddr::from([198, 18, 1, host]), hop(host))).collect();
    Network {
        interfaces: [(0, entry(4)), (1, entry(5))].into(),
        hops: Arc::new(NextHopTable { hops, route_generation: 0x1_0007 }),
        room: Room::new(1_024, false),
        cpus: 2,
        syn_key: [1, 2, 3, 4],
        now: NOW,
        time: SystemTime::now(),
    }
}

fn compiler() -> Compiler {
    Compiler::adopt(&Installed::default())
}

/// An IPv4 address as tables have it.
fn four(octets: [u8; 4]) -> Addr {
    wide::addr(octets.into())
}

fn listener(contents: &Contents) -> &Selection {
    let key = ListenerKey { addr: four([198, 18, 0, 10]), port: Be16::new(80), reserved: 0 };
    &contents.listeners[&key]
}

/// The last byte of each slot's target.
fn hosts(contents: &Contents) -> Vec<u16> {
    let host = |index: &u32| u16::from(contents.targets[*index].addr.addr().octets()[15]);
    listener(contents).slots.iter().map(host).collect()
}

#[test]
fn a_file_becomes_tables() {
    let model = model("RoundRobin", &[(11, 30), (12, 20), (13, 10)]);
    let contents = compiler().compile(&snapshot(model, &[11, 12, 13]), &network()).unwrap();
    assert_eq!(hosts(&contents), [11, 12, 11, 13, 12, 11]);
    assert_eq!(contents.listeners.len(), 1, "a listener that is off is not there");
    assert_eq!(listener(&contents).idle, ticks(1_800));
    let target = contents.targets.values().next().unwrap();
    assert_eq!((target.port.host(), target.snat_count), (8080, 1));
    assert_eq!(target.snat[0], four([198, 18, 1, 1]));
    let hop = contents.hops.values().next().unwrap();
    assert_eq!((hop.interface, hop.mac.bytes()), (1, [2, 0, 0, 0, 1, 11]));
    let locals: Vec<_> = contents.locals.iter().map(|(addr, flags)| (*addr, *flags)).collect();
    assert!(locals.contains(&(four([198, 18, 0, 10]), local::VIP)), "{locals:?}");
    assert!(locals.contains(&(four([198, 18, 1, 1]), local::SNAT)), "{locals:?}");
    let settings = contents.settings;
    assert_eq!((settings.port_first, settings.port_count), (10_000, 20_000));
    assert_eq!((settings.route_generation, settings.half_open_mask), (8, 1_023));
}

#[test]
fn only_healthy_reachable_targets_with_weight_are_selected() {
    for (targets, healthy, selected) in [
        (&[(11, 10), (12, 10)][..], &[11u8, 12][..], &[11u16, 12][..]),
        (&[(11, 10), (12, 10)], &[12], &[12]),
        (&[(11, 10), (12, 0)], &[11, 12], &[11]),
        (&[(11, 10), (99, 10)], &[11, 99], &[11]), // no link-layer address
        (&[(11, 10), (200, 10)], &[11, 200], &[11]), // no route
        (&[(11, 10)], &[], &[]),
    ] {
        let snapshot = snapshot(model("RoundRobin", targets), healthy);
        let contents = compiler().compile(&snapshot, &network()).unwrap();
        assert_eq!(hosts(&contents), selected, "{targets:?} {healthy:?}");
    }
}

#[test]
fn source_ip_uses_the_hash_table() {
    let snapshot = snapshot(model("IpHash", &[(11, 10), (12, 30)]), &[11, 12]);
    let contents = compiler().compile(&snapshot, &network()).unwrap();
    assert_eq!(listener(&contents).algorithm, algorithm::IP_HASH);
    let hosts = hosts(&contents);
    let light = hosts.iter().filter(|host| **host == 11).count();
    assert!((light * 4).abs_diff(hosts.len()) <= 4, "{light} of {}", hosts.len());
}

#[test]
fn least_connections_name_each_target_once_with_its_weight() {
    let targets = [(11, 30), (12, 0), (13, 10), (14, 10)];
    let snapshot = snapshot(model("LeastConn", &targets), &[11, 12, 13]);
    let contents = compiler().compile(&snapshot, &network()).unwrap();
    let selection = listener(&contents);
    assert_eq!(selection.algorithm, algorithm::LEAST_CONN);
    let host = |index: u32| contents.targets[index].addr.addr().octets()[15];
    let hosts: Vec<_> = selection.targets().map(host).collect();
    assert_eq!(hosts, [11, 13]);
    let weights: Vec<_> = selection.slots.iter().map(|slot| weighted_weight(*slot)).collect();
    assert_eq!(weights, [30, 10]);
}

#[test]
fn a_removed_target_keeps_its_index_and_hop_until_no_flow_names_it() {
    let mut compiler = compiler();
    let both = snapshot(model("RoundRobin", &[(11, 10), (12, 10)]), &[11, 12]);
    let one = snapshot(model("RoundRobin", &[(11, 10)]), &[11]);
    let before = compiler.compile(&both, &network()).unwrap();
    let (gone, entry) =
        before.targets.iter().find(|(_, entry)| entry.addr.addr().octets()[15] == 12).unwrap();

    let after = compiler.compile(&one, &network()).unwrap();
    assert_eq!(hosts(&after), [11]);
    let hop = HopEntry { flags: hop_flag::DRAINS, ..before.hops[gone] };
    assert_eq!((after.targets.get(gone), after.hops[gone]), (Some(entry), hop));
    let mut sweep = Sweep::default();
    sweep.targets.entry(gone).or_default();
    let epoch = compiler.epoch();
    assert!(compiler.free(epoch, &sweep).0.is_empty(), "a flow names it");
    assert!(compiler.free(epoch - 1, &Sweep::default()).0.is_empty(), "looked at too early");
    assert_eq!(compiler.draining().count(), 1);

    assert_eq!(compiler.free(epoch, &Sweep::default()).0, [gone]);
    let later = compiler.compile(&one, &network()).unwrap();
    assert!(!later.targets.contains(gone));
    assert_eq!(later.targets.len(), 1);
}

/// What is said of two targets when so many others are installed already.
fn foreseen(others: u32) -> Result<usize, String> {
    let mut installed = Installed::default();
    for index in 0..others {
        let entry = TargetEntry { id: (u64::from(index) + 1).into(), ..TargetEntry::default() };
        installed.contents.targets.insert(index, entry);
    }
    let snapshot = snapshot(model("RoundRobin", &[(11, 20), (200, 10)]), &[11, 200]);
    let compiler = Compiler::adopt(&installed);
    let before = format!("{compiler:?}");
    let contents = compiler.foresee(&snapshot, &network(), &installed);
    assert_eq!(format!("{compiler:?}"), before, "it changes nothing");
    contents.map(|contents| listener(&contents).slots.len()).map_err(|error| error.to_string())
}

#[test]
fn what_does_not_fit_is_foreseen() {
    let most = u32::try_from(MAX_TARGETS).unwrap();
    assert_eq!(foreseen(0), Ok(3), "a target without a way may have one soon");
    assert_eq!(foreseen(most - 2), Ok(3));
    let said = "131073 targets would be in use, 131071 of them only until what they serve has \
                ended; the packet path holds 131072: take things away first, and add others when \
                connections to them are gone";
    assert_eq!(foreseen(most - 1), Err(said.to_owned()));
}

#[test]
fn addresses_that_go_and_come_must_fit_together() {
    let mut installed = Installed::default();
    for address in 0..u32::try_from(MAX_LOCALS).unwrap() - 1 {
        let address = std::net::Ipv4Addr::from(0xc613_0000 + address);
        installed.contents.locals.insert(wide::addr(address.into()), local::VIP);
    }
    let snapshot = snapshot(model("RoundRobin", &[(11, 10)]), &[11]);
    let compiler = Compiler::adopt(&installed);
    let error = compiler.foresee(&snapshot, &network(), &installed).unwrap_err().to_string();
    assert!(error.starts_with("16385 VIPs and SNAT addresses would be in use, 16383"), "{error}");
}

#[test]
fn indices_survive_a_restart() {
    let snapshot = snapshot(model("RoundRobin", &[(11, 10), (12, 20)]), &[11, 12]);
    let contents = compiler().compile(&snapshot, &network()).unwrap();
    let mut extents = super::super::extents::Extents::new(1_024);
    let installed = super::super::plan::plan(&Installed::default(), contents.clone(), &mut extents)
        .unwrap()
        .installed;
    let mut again = Compiler::adopt(&installed).compile(&snapshot, &network()).unwrap();
    assert_ne!(again.settings, contents.settings, "routes may have changed meanwhile");
    again.settings = contents.settings;
    assert_eq!(again, contents);
}

#[test]
fn what_was_known_of_the_way_serves_until_more_is_known() {
    let snapshot = snapshot(model("RoundRobin", &[(11, 10)]), &[11]);
    let contents = compiler().compile(&snapshot, &network()).unwrap();
    let mut extents = super::super::extents::Extents::new(1_024);
    let installed = super::super::plan::plan(&Installed::default(), contents.clone(), &mut extents)
        .unwrap()
        .installed;

    // A restart that has not resolved anything yet, and another source address after that.
    let mut compiler = Compiler::adopt(&installed);
    let blind = Network { hops: Arc::default(), ..network() };
    let restarted = compiler.compile(&snapshot, &blind).unwrap();
    assert_eq!((&restarted.hops, &restarted.targets), (&contents.hops, &contents.targets));
    let mut moved = (*network().hops).clone();
    let source = IpAddr::from([198, 18, 1, 2]);
    moved.hops.values_mut().for_each(|hop| hop.source = source);
    let moved =
        compiler.compile(&snapshot, &Network { hops: Arc::new(moved), ..network() }).unwrap();
    let is_ours =
        |contents: &Contents, last: u8| contents.locals.contains_key(&four([198, 18, 1, last]));
    assert!(is_ours(&moved, 1) && is_ours(&moved, 2), "flows still use the first");

    let epoch = compiler.epoch();
    let network = Network { hops: Arc::default(), ..network() };
    let used = Sweep { snat: [four([198, 18, 1, 1])].into(), ..Sweep::default() };
    compiler.free(epoch, &used);
    assert!(is_ours(&compiler.compile(&snapshot, &network).unwrap(), 1));
    compiler.free(compiler.epoch(), &Sweep::default());
    let after = compiler.compile(&snapshot, &network).unwrap();
    assert!(!is_ours(&after, 1) && is_ours(&after, 2));
}

#[test]
fn ipv6_becomes_tables_too() {
    let addr = |text: &str| wide::addr(text.parse().unwrap());
    let text = text("RoundRobin", &[(11, 30), (12, 10)])
        .replace("addressPrefix: 198.18.0.0/24", "ipv6AddressPrefix: '2001:db8::/64'")
        .replace("privateIpAddress: 198.18.0.10", "ipv6Address: '2001:db8::10'")
        .replace("ipAddress: 198.18.1.", "ipAddress: '2001:db8:1::")
        .replace(", weight", "', weight");
    let model = config::parse(&text, Path::new("/")).unwrap_or_else(|error| panic!("{error}"));
    let mut ways = NextHopTable::default();
    for host in ["2001:db8:1::11", "2001:db8:1::12"] {
        let source = "2001:db8:1::1".parse().unwrap();
        let hop = NextHop { interface: 5, gateway: None, source, mac: Some([2, 0, 0, 0, 1, 6]) };
        ways.hops.insert(host.parse().unwrap(), hop);
    }
    let room = Room { four: 1_024, six: 65_536 };
    let network = Network { hops: Arc::new(ways), room, ..network() };
    let contents = compiler().compile(&snapshot(model.model, &[0x11, 0x12]), &network).unwrap();
    let key = ListenerKey { addr: addr("2001:db8::10"), port: Be16::new(80), reserved: 0 };
    let hosts: Vec<_> = contents.listeners[&key]
        .slots
        .iter()
        .map(|index| wide::ip(contents.targets[*index].addr).to_string())
        .collect();
    assert_eq!(hosts.len(), 4);
    assert_eq!(hosts.iter().filter(|host| *host == "2001:db8:1::11").count(), 3);
    let target = contents.targets.values().next().unwrap();
    assert_eq!((target.snat_count, target.snat[0]), (1, addr("2001:db8:1::1")));
    assert_eq!(contents.locals[&addr("2001:db8::10")], local::VIP);
    assert_eq!(contents.locals[&addr("2001:db8:1::1")], local::SNAT);
    let Settings { half_open_mask, half_open_mask6, closed_mask6, .. } = contents.settings;
    assert_eq!((half_open_mask, half_open_mask6, closed_mask6), (1_023, 4_095, 16_383));
}

#[test]
fn strides_visit_every_port() {
    for count in [1, 2, 4, 10, 20_000, 22_768, 55_536] {
        let step = u32::from(stride(count));
        let visited: BTreeSet<u32> =
            (0..u32::from(count)).map(|probe| probe * step % u32::from(count)).collect();
        assert_eq!(visited.len(), usize::from(count), "{count} by {step}");
    }
}

#[test]
fn what_the_proxy_serves_is_let_through_and_has_no_targets() {
    let mut proxied = model("RoundRobin", &[(1, 10), (2, 10)]);
    proxied.load_balancers[0].backends[0].proxy_protocol = true;
    let vip = four([198, 18, 0, 10]);
    let key = |port| ListenerKey { addr: vip, port: Be16::new(port), reserved: 0 };

    let mut compiler = Compiler::adopt(&Installed::default());
    let contents = compiler.compile(&snapshot(proxied, &[1, 2]), &network()).unwrap();
    assert_eq!(contents.locals[&vip], local::VIP | local::PROXY);
    assert_eq!(contents.listeners.keys().collect::<Vec<_>>(), [&key(80)]);
    let Selection { algorithm, slots, .. } = &contents.listeners[&key(80)];
    assert_eq!((*algorithm, slots.len()), (algorithm::PROXY, 0));
    assert!(contents.targets.is_empty());

    // The proxy may still have connections on the address.
    let kernel = model("RoundRobin", &[(1, 10), (2, 10)]);
    let contents = compiler.compile(&snapshot(kernel, &[1, 2]), &network()).unwrap();
    assert_eq!(contents.locals[&vip], local::VIP | local::PROXY);
    assert_eq!(contents.listeners[&key(80)].slots.len(), 2);
}

/// The moments at which flows end, by the last byte of the target.
fn ends(contents: &Contents) -> BTreeMap<u8, u32> {
    for (index, hop) in contents.hops.iter() {
        let drains = hop.flags & hop_flag::DRAINS != 0;
        assert_eq!(drains, contents.times[index].cut_at != 0);
    }
    let drains = contents.times.iter().filter(|(_, times)| times.cut_at != 0);
    let ends: BTreeMap<_, _> = drains
        .map(|(index, times)| (contents.targets[index].addr.addr().octets()[15], times.cut_at))
        .collect();
    assert_eq!(contents.settings.draining as usize, ends.len());
    ends
}

#[test]
fn targets_without_weight_drain_and_removed_ones_too() {
    let mut compiler = compiler();
    let after = NOW + ticks(300);
    let mut compile = |targets: &[(u8, u8)], now| {
        let snapshot = snapshot(model("RoundRobin", targets), &[11, 12, 13]);
        ends(&compiler.compile(&snapshot, &Network { now, ..network() }).unwrap())
    };
    assert_eq!(compile(&[(11, 10), (12, 10), (13, 10)], NOW), [].into());
    assert_eq!(compile(&[(11, 10), (12, 0)], NOW), [(12, after), (13, after)].into());
    assert_eq!(compile(&[(11, 10), (12, 0)], NOW + 100), [(12, after), (13, after)].into());
    assert_eq!(compile(&[(11, 10), (12, 1)], NOW + 200), [(13, after)].into());
    // Back again while it drains: nothing is ended.
    assert_eq!(compile(&[(11, 10), (13, 10)], NOW + 300), [(12, after + 300)].into());
}

#[test]
fn a_failed_target_s_flows_end_at_once_if_the_file_says_so() {
    use crate::{
        model::UnhealthyFlows,
        state::{Unhealthy, UnhealthyReason},
    };
    for (policy, failed, expected) in [
        (UnhealthyFlows::Reset, true, Some(NOW + ticks(0))),
        (UnhealthyFlows::Reset, false, None), // adopted so, not found so
        (UnhealthyFlows::Keep, true, None),
    ] {
        let mut model = model("RoundRobin", &[(11, 10), (12, 10)]);
        model.load_balancers[0].backends[0].unhealthy_flows = policy;
        let mut snapshot = Snapshot::clone(&snapshot(model, &[11]));
        if failed {
            let mut states = TargetStates::clone(&snapshot.targets);
            for (target, state) in snapshot.targets.iter() {
                let reason = (state.health == Health::Unhealthy)
                    .then(|| Unhealthy::new(UnhealthyReason::ConnectTimeout, ""));
                states.insert(target, TargetState { reason, ..state.clone() });
            }
            snapshot.targets = Arc::new(states);
        }
        let contents = compiler().compile(&snapshot, &network()).unwrap();
        assert_eq!(ends(&contents).get(&12).copied(), expected, "{policy:?} {failed}");
    }
}

#[test]
fn a_target_that_recovers_starts_slowly_and_only_then() {
    let start = |compiler: &mut Compiler, snapshot: &Snapshot, now| {
        let network = Network { now, time: SystemTime::now(), ..network() };
        let contents = compiler.compile(snapshot, &network).unwrap();
        let starts = contents.hops.iter().filter(|(_, hop)| hop.flags & hop_flag::STARTS != 0);
        let of = starts.map(|(index, _)| {
            let TargetTimes { start, ramp, .. } = contents.times[index];
            (contents.targets[index].addr.addr().octets()[15], start, ramp)
        });
        of.collect::<Vec<_>>()
    };
    let mut model = model("RoundRobin", &[(11, 10), (12, 10)]);
    let mut compiler = compiler();
    assert_eq!(start(&mut compiler, &snapshot(model.clone(), &[11]), NOW), []);
    model.load_balancers[0].backends[0].slow_start = std::time::Duration::from_secs(30);
    let recovered = snapshot(model, &[12]);
    let expected = [(12, NOW + 50, ticks(30))];
    assert_eq!(start(&mut compiler, &recovered, NOW + 50), expected);
    // Whatever else changes meanwhile.
    assert_eq!(start(&mut compiler, &recovered, NOW + 500), expected);
}

#[test]
fn a_listener_on_two_addresses_has_one_limit() {
    let mut model = model("RoundRobin", &[(11, 10)]);
    let balancer = &mut model.load_balancers[0];
    balancer.listeners[0].max_connections = Some(500);
    balancer.vips.push(IpAddr::from([198, 18, 9, 10]));
    let contents = compiler().compile(&snapshot(model, &[11]), &network()).unwrap();
    let of: Vec<_> = contents.listeners.values().collect();
    assert_eq!((of[0].max, of[1].max), (500, 500));
    assert_eq!((of[0].sibling, of[1].sibling), (of[1].index, of[0].index));
}
