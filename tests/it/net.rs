//! Interfaces, VIPs, ARP and next hops against the kernel, in namespaces of their own.

#![expect(clippy::unwrap_used, reason = "a test panics where it stands")]

pub(crate) mod pair;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use alb_tests::wait;
use alb_userspace::net::{
    Netlink, NextHop, NextHopTable, NextHops, Vip, VipKeeper, VipStatus, arp,
};
use pair::Pair;

const NEAR: [u8; 6] = [2, 0, 0, 0, 0, 1];
const FAR: [u8; 6] = [2, 0, 0, 0, 0, 2];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 3];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn set(addresses: &[&str]) -> BTreeSet<IpAddr> {
    addresses.iter().map(|address| ip(address)).collect()
}

/// Waits for a table; panics with the last one.
async fn until(hops: &NextHops, is: impl FnMut(&Arc<NextHopTable>) -> bool) -> Arc<NextHopTable> {
    let mut tables = hops.subscribe();
    let found = tokio::time::timeout(wait::LONG, tables.wait_for(is)).await;
    match found {
        Ok(table) => table.unwrap().clone(),
        Err(elapsed) => panic!("{elapsed}: {:?}", hops.subscribe().borrow()),
    }
}

/// Looks again and again.
async fn eventually(is: impl Fn() -> bool) {
    let deadline = Instant::now() + wait::LONG;
    while !is() {
        assert!(Instant::now() < deadline, "it never came true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn mac(table: &NextHopTable, address: &str) -> Option<[u8; 6]> {
    table.hops.get(&ip(address)).and_then(|hop| hop.mac)
}

#[test]
fn interfaces_are_those_of_the_namespace() {
    let pair = Pair::new();
    pair.on_near(async || {
        let interfaces = Netlink::open().unwrap().interfaces().await.unwrap();
        let names: Vec<_> = interfaces.0.iter().map(|i| i.name.as_str()).collect();
        assert_eq!(names, ["lo", "near"]);
        let near = interfaces.named("near").unwrap();
        assert_eq!((near.mac, near.mtu, near.up), (NEAR, 1500, true));
        assert_eq!(near.kind.as_deref(), Some("veth"));
        assert!(near.addresses.contains(&"198.18.1.1/24".parse().unwrap()));
        assert_eq!(near.xdp, Vec::<u32>::new());
    });
}

#[test]
fn vips_come_and_go_and_foreign_addresses_stay() {
    let pair = Pair::new();
    pair.near.ip("address add 198.18.1.20/32 dev near");
    pair.near.ip("address add 198.18.1.30/32 dev lo");
    pair.on_near(async || {
        let netlink = Netlink::open().unwrap();
        let near = netlink.interfaces().await.unwrap().named("near").unwrap().index;
        let vip = |address| Vip { interface: near, address: ip(address) };
        let (ours, all) = (BTreeSet::from([near]), |list: &[Vip]| list.iter().copied().collect());

        let wanted = all(&[vip("198.18.1.10"), vip("198.18.1.20"), vip("2001:db8::10")]);
        let changes = netlink.sync_vips(&ours, &wanted).await.unwrap();
        assert_eq!(changes.added, [vip("198.18.1.10"), vip("2001:db8::10")]);
        assert_eq!(changes.foreign, [vip("198.18.1.20")]);
        let shown = pair.near.ip("address show dev near");
        assert!(shown.contains("198.18.1.10/32 scope global noprefixroute near"), "{shown}");
        // Not waited for, and never the source of the host's own connections.
        let six = shown.lines().find(|line| line.contains("2001:db8::10/128 scope global"));
        for flag in ["nodad", "deprecated", "noprefixroute"] {
            assert!(six.is_some_and(|line| line.contains(flag)), "{flag}: {shown}");
        }

        let again = netlink.sync_vips(&ours, &wanted).await.unwrap();
        assert_eq!((again.added, again.removed), (vec![], vec![]));

        // A later run, which knows nothing of the first, wants another one.
        let later = Netlink::open().unwrap();
        let changes = later.sync_vips(&ours, &all(&[vip("198.18.1.11")])).await.unwrap();
        assert_eq!(changes.removed, [vip("198.18.1.10"), vip("2001:db8::10")]);
        assert_eq!(changes.added, [vip("198.18.1.11")]);

        let other = BTreeSet::from([near + 100]);
        assert_eq!(later.sync_vips(&other, &all(&[])).await.unwrap().removed, []);
        let changes = later.sync_vips(&ours, &all(&[])).await.unwrap();
        assert_eq!(changes.removed, [vip("198.18.1.11")]);
        let shown = pair.near.ip("address show");
        for kept in ["198.18.1.1/24", "198.18.1.20/32", "198.18.1.30/32"] {
            assert!(shown.contains(kept), "{kept} in {shown}");
        }
    });
}

#[test]
fn vips_are_kept_unless_another_host_has_them() {
    let pair = Pair::new();
    pair.far.ip("address add 198.18.1.11/32 dev far");
    pair.far.ip("address add 2001:db8::11/128 dev far nodad");
    pair.far.ip("neighbour add 198.18.1.10 lladdr 02:00:00:00:00:99 nud stale dev far");
    pair.on_near(async || {
        let keeper = VipKeeper::spawn().unwrap();
        let want = |addresses: &[&str]| keeper.want(vec!["near".into()], set(addresses));
        let has = |address: &str| pair.near.ip("address").contains(&format!(" {address}/"));
        let until = async |is: fn(&Arc<VipStatus>) -> bool| {
            let mut status = keeper.subscribe();
            let found = tokio::time::timeout(wait::LONG, status.wait_for(is)).await;
            found.unwrap().unwrap().clone()
        };

        let (free, taken) = (["198.18.1.10", "2001:db8::10"], ["198.18.1.11", "2001:db8::11"]);
        want(&[free, taken].concat());
        let status = keeper.settled(wait::LONG).await;
        assert_eq!(status.on.keys().copied().collect::<BTreeSet<_>>(), set(&free));
        for taken in taken {
            assert_eq!(status.conflicts.get(&ip(taken)), Some(&FAR), "{taken}");
            assert!(!has(taken), "{taken}");
        }
        assert!(free.into_iter().all(has));
        let cache = || pair.far.ip("neighbour show 198.18.1.10");
        eventually(|| cache().contains("02:00:00:00:00:01")).await;

        pair.far.ip("address delete 198.18.1.11/32 dev far");
        pair.far.ip("address delete 2001:db8::11/128 dev far");
        until(|status| status.conflicts.is_empty()).await;
        eventually(|| taken.into_iter().all(has)).await;

        // Taken off by hand, it is put back.
        pair.near.ip("address delete 198.18.1.10/32 dev near");
        eventually(|| has("198.18.1.10")).await;

        want(&["198.18.1.11"]);
        until(|status| status.on.len() == 1).await;
        drop(keeper);
        assert!(has("198.18.1.11") && !has("198.18.1.10"));
    });
}

#[test]
fn an_announcement_moves_an_address_in_the_caches_of_others() {
    let pair = Pair::new();
    pair.far.ip("neighbour add 198.18.1.10 lladdr 02:00:00:00:00:99 nud stale dev far");
    pair.on_near(async || {
        let interfaces = Netlink::open().unwrap().interfaces().await.unwrap();
        let near = interfaces.named("near").unwrap();
        arp::announce(near, &[ip("198.18.1.10"), ip("2001:db8::10")]).await.unwrap();
    });
    wait::until("the far host to hear of it", wait::LONG, || {
        let cache = pair.far.ip("neighbour show 198.18.1.10");
        cache.contains("02:00:00:00:00:01").then_some(())
    });
}

#[test]
fn an_address_in_use_is_found_with_its_holder() {
    let pair = Pair::new();
    for (host, address) in [(&pair.near, "::1/64 dev near"), (&pair.far, "::2/64 dev far")] {
        host.ip(&format!("address add 2001:db8:1{address} nodad"));
    }
    pair.on_near(async || {
        let interfaces = Netlink::open().unwrap().interfaces().await.unwrap();
        let near = interfaces.named("near").unwrap();
        let asked = async |address, within| arp::in_use(near, ip(address), within).await.unwrap();
        assert_eq!(asked("198.18.1.2", wait::LONG).await, Some(FAR));
        assert_eq!(asked("2001:db8:1::2", wait::LONG).await, Some(FAR));
        let short = Duration::from_millis(300);
        // Nobody's, and our own, which is no conflict.
        for free in ["198.18.1.3", "198.18.1.1", "2001:db8:1::3", "2001:db8:1::1"] {
            assert_eq!(asked(free, short).await, None, "{free}");
        }
    });
}

#[test]
fn next_hops_are_resolved_without_any_traffic_and_follow_routes() {
    let pair = Pair::new();
    pair.near.ip("route add 198.19.0.0/16 via 198.18.1.2");
    pair.on_near(async || {
        let hops = NextHops::spawn().await.unwrap();
        hops.want(set(&["198.18.1.2", "198.19.5.5", "198.18.1.1", "198.18.9.9"]));
        let missing = hops.resolved(Duration::from_secs(5)).await;
        assert_eq!(missing, set(&["198.18.9.9"]), "nothing leads there");

        let table = hops.subscribe().borrow().clone();
        let (interface, source) = (table.hops[&ip("198.18.1.2")].interface, ip("198.18.1.1"));
        let direct = NextHop { interface, gateway: None, source, mac: Some(FAR) };
        assert_eq!(table.hops[&ip("198.18.1.2")], direct);
        let routed = NextHop { gateway: Some(ip("198.18.1.2")), ..direct };
        assert_eq!(table.hops[&ip("198.19.5.5")], routed);
        let own = table.hops[&ip("198.18.1.1")];
        assert!(own.interface != interface && own.mac == Some([0; 6]), "over loopback: {own:?}");
        let shown = pair.near.ip("neighbour show");
        assert!(shown.contains("managed"), "kept by the kernel too: {shown}");

        pair.near.ip("route delete 198.19.0.0/16");
        let after = until(&hops, |table| !table.hops.contains_key(&ip("198.19.5.5"))).await;
        assert!(after.route_generation > table.route_generation);
    });
}

#[test]
fn a_mac_that_is_announced_is_published_at_once() {
    let pair = Pair::new();
    pair.on_near(async || {
        let hops = NextHops::spawn().await.unwrap();
        hops.want(set(&["198.18.1.2"]));
        let before = until(&hops, |table| mac(table, "198.18.1.2") == Some(FAR)).await;
        pair.far.sysctl("ipv4/conf/far/arp_notify", "1");
        let told = Instant::now();
        pair.far.ip("link set far address 02:00:00:00:00:03");
        let after = until(&hops, |table| mac(table, "198.18.1.2") == Some(OTHER)).await;
        let took = told.elapsed();
        assert!(took < Duration::from_secs(2), "published after {took:?}");
        assert!(after.route_generation > before.route_generation);
    });
}

#[test]
fn a_mac_that_changes_without_a_word_heals() {
    let pair = Pair::new();
    pair.on_near(async || {
        let hops = NextHops::spawn().await.unwrap();
        hops.want(set(&["198.18.1.2"]));
        let before = until(&hops, |table| mac(table, "198.18.1.2") == Some(FAR)).await;
        let changed = Instant::now();
        pair.far.ip("link set far address 02:00:00:00:00:03");
        let after = until(&hops, |table| mac(table, "198.18.1.2") == Some(OTHER)).await;
        let took = changed.elapsed();
        assert!(took < Duration::from_secs(14), "healed after {took:?}");
        assert!(after.route_generation > before.route_generation);
    });
}

#[test]
fn a_link_that_returns_is_resolved_again() {
    let pair = Pair::new();
    pair.on_near(async || {
        let hops = NextHops::spawn().await.unwrap();
        hops.want(set(&["198.18.1.2"]));
        until(&hops, |table| mac(table, "198.18.1.2") == Some(FAR)).await;
        pair.near.ip("link set near down");
        until(&hops, |table| table.hops.is_empty()).await;
        pair.far.ip("link set far address 02:00:00:00:00:03");
        let returned = Instant::now();
        pair.near.ip("link set near up");
        until(&hops, |table| mac(table, "198.18.1.2") == Some(OTHER)).await;
        let took = returned.elapsed();
        assert!(took < Duration::from_secs(14), "resolved after {took:?}");
    });
}

#[test]
fn a_neighbour_set_by_hand_is_used_and_left_alone() {
    let pair = Pair::new();
    pair.near.ip("neighbour add 198.18.1.2 lladdr 02:00:00:00:00:03 nud permanent dev near");
    pair.on_near(async || {
        let hops = NextHops::spawn().await.unwrap();
        hops.want(set(&["198.18.1.2", "198.18.1.9"]));
        until(&hops, |table| mac(table, "198.18.1.2") == Some(OTHER)).await;
        // The one that nobody has was looked for, so the other had its turn too.
        eventually(|| pair.near.ip("neighbour show 198.18.1.9").contains("FAILED")).await;
        let shown = pair.near.ip("neighbour show 198.18.1.2");
        assert!(shown.contains("02:00:00:00:00:03") && shown.contains("PERMANENT"), "{shown}");
    });
}

#[test]
fn neighbours_are_released_when_nobody_wants_them() {
    let pair = Pair::new();
    pair.on_near(async || {
        let hops = NextHops::spawn().await.unwrap();
        hops.want(set(&["198.18.1.2", "198.18.1.9"]));
        until(&hops, |table| mac(table, "198.18.1.2") == Some(FAR)).await;
        let managed = || pair.near.ip("neighbour").matches("managed").count();
        eventually(|| managed() == 2).await;
        hops.want(set(&["198.18.1.2"]));
        eventually(|| managed() == 1).await;
        drop(hops);
        assert_eq!(managed(), 1, "the kernel goes on without us");

        let netlink = Netlink::open().unwrap();
        let near = netlink.interfaces().await.unwrap().named("near").unwrap().index;
        assert_eq!(netlink.release_neighbours(&[near + 100].into()).await.unwrap(), 0);
        assert_eq!(netlink.release_neighbours(&[near].into()).await.unwrap(), 1);
        let shown = pair.near.ip("neighbour");
        assert!(!shown.contains("managed"), "{shown}");
        assert!(shown.contains("198.18.1.2 dev near lladdr 02:00:00:00:00:02"), "{shown}");
    });
}
