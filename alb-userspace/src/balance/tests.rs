//! Shares as they must be, whatever the weights, the health, the workers and the clients.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use alb_common::hash;
use proptest::prelude::*;

use super::*;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 0, 2));

fn settings(algorithm: Algorithm) -> Settings {
    Settings { algorithm, panic: false, slow_start: Duration::ZERO }
}

fn candidate(at: usize, weight: u32, serves: bool) -> Candidate {
    let port = 1_000 + u16::try_from(at).unwrap();
    let service = if serves { Service::In } else { Service::Out };
    Candidate { at: ([198, 18, 1, 1], port).into(), weight, service, since: None }
}

fn candidates(of: &[(u32, bool)]) -> Vec<Candidate> {
    of.iter().enumerate().map(|(at, (weight, serves))| candidate(at, *weight, *serves)).collect()
}

/// All in service.
fn healthy(weights: &[u32]) -> Vec<Candidate> {
    candidates(&weights.iter().map(|weight| (*weight, true)).collect::<Vec<_>>())
}

fn idle(_: usize) -> u32 {
    0
}

/// Clients that differ in every part of their addresses.
fn clients(count: u32) -> impl Iterator<Item = IpAddr> {
    (0..count).map(|n| std::net::Ipv4Addr::from_bits(0xc612_0000 + n).into())
}

/// Picks of each target over `count` picks of as many clients.
fn shares(selector: &Selector, targets: usize, count: u32, now: Option<Instant>) -> Vec<u32> {
    let mut shares = vec![0; targets];
    for client in clients(count) {
        let picked = selector.pick_at(client, idle, &[], || now.unwrap_or_else(Instant::now));
        shares[picked.unwrap()] += 1;
    }
    shares
}

#[test]
fn round_robin_is_exact_across_workers() {
    let weights = [5, 1, 3, 0];
    let selector = Selector::new(settings(Algorithm::RoundRobin), &healthy(&weights), None);
    let taken: [AtomicU32; 4] = Default::default();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..9 * 500 {
                    taken[selector.pick(CLIENT, idle, &[]).unwrap()].fetch_add(1, Relaxed);
                }
            });
        }
    });
    assert_eq!(taken.map(AtomicU32::into_inner), [10_000, 2_000, 6_000, 0]);
}

#[test]
fn turns_go_on_in_the_next_selector() {
    let (settings, candidates) = (settings(Algorithm::RoundRobin), healthy(&[1, 1, 1]));
    let mut selector = Selector::new(settings, &candidates, None);
    let mut picked = Vec::new();
    for _ in 0..6 {
        picked.push(selector.pick(CLIENT, idle, &[]).unwrap());
        selector = Selector::new(settings, &candidates, Some(&selector));
    }
    assert_eq!(picked, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_table_is_made_again_only_if_it_would_differ() {
    let settings = settings(Algorithm::IpHash);
    let of = candidates(&[(10, true), (20, true)]);
    let first = Selector::new(settings, &of, None);
    let remade = |settings, candidates: &[Candidate]| {
        let next = Selector::new(settings, candidates, Some(&first));
        let fresh = Selector::new(settings, candidates, None);
        assert_eq!(next.order, fresh.order);
        !Arc::ptr_eq(&next.order, &first.order)
    };
    assert!(!remade(settings, &of));
    assert!(remade(settings, &candidates(&[(10, true), (20, false)])));
    assert!(remade(settings, &candidates(&[(10, true), (30, true)])));
    assert!(remade(Settings { algorithm: Algorithm::RoundRobin, ..settings }, &of));
    let mut moved = of.clone();
    moved[0].at.set_port(9);
    assert!(remade(settings, &moved));
}

#[test]
fn least_connection_without_load_is_by_weight() {
    let selector = Selector::new(settings(Algorithm::LeastConn), &healthy(&[10, 30, 0]), None);
    assert_eq!(shares(&selector, 3, 400, None), [100, 300, 0]);
}

/// Requests that never end fill the targets in proportion to their weights.
#[test]
fn least_connection_fills_by_weight() {
    let weights: Vec<u32> = (0..1_000).map(|at| at % 5).collect();
    let selector = Selector::new(settings(Algorithm::LeastConn), &healthy(&weights), None);
    let mut loads = vec![0; weights.len()];
    for _ in 0..20_000 {
        let picked = selector.pick(CLIENT, |at| loads[at], &[]).unwrap();
        loads[picked] += 1;
    }
    for (load, weight) in loads.iter().zip(&weights) {
        assert!(load.abs_diff(10 * weight) <= 1, "{load} of {weight}");
    }
}

#[test]
fn the_least_loaded_per_weight_is_picked() {
    let selector = Selector::new(settings(Algorithm::LeastConn), &healthy(&[10, 30, 20]), None);
    for (loads, least) in [([10, 30, 19], 2), ([9, 30, 20], 0), ([2, 5, 4], 1)] {
        for _ in 0..60 {
            assert_eq!(selector.pick(CLIENT, |at| loads[at], &[]), Some(least), "{loads:?}");
        }
    }
}

#[test]
fn ties_rotate() {
    let selector = Selector::new(settings(Algorithm::LeastConn), &healthy(&[1, 1, 1]), None);
    let mut taken = [0; 3];
    for _ in 0..30 {
        taken[selector.pick(CLIENT, |_| 7, &[]).unwrap()] += 1;
    }
    assert_eq!(taken, [10; 3]);
}

/// The kernel's formulas over the kernel's table.
#[test]
fn source_ip_meets_the_target_that_the_kernel_picks() {
    let candidates = candidates(&[(10, true), (20, true), (30, false), (1, true)]);
    let weights = weights(false, &candidates);
    let table = order(Algorithm::IpHash, &candidates, &weights);
    let selector = Selector::new(settings(Algorithm::IpHash), &candidates, None);
    for client in clients(10_000) {
        let IpAddr::V4(v4) = client else { panic!("{client}") };
        let slot = hash::slot(hash::client(v4.into()), u32::try_from(table.len()).unwrap());
        assert_eq!(selector.pick(client, idle, &[]), Some(table[slot as usize]));
        let mapped = v4.to_ipv6_mapped().into();
        assert_eq!(selector.pick(mapped, idle, &[]), Some(table[slot as usize]));
    }
}

#[test]
fn source_ip_spreads_ipv6_clients() {
    let selector = Selector::new(settings(Algorithm::IpHash), &healthy(&[10; 4]), None);
    for shift in [0, 32, 64, 96] {
        let mut taken = [0_u32; 4];
        for n in 0..4_000_u128 {
            let client = std::net::Ipv6Addr::from_bits(0x2001_0db8 << 96 ^ n << shift);
            taken[selector.pick(client.into(), idle, &[]).unwrap()] += 1;
        }
        assert!(taken.iter().all(|count| (800..1_200).contains(count)), "{shift}: {taken:?}");
    }
}

#[test]
fn panic_mode() {
    let none = [(10, false), (20, false), (0, false)];
    for (panic, of, serving) in [
        (false, &none[..], 0),
        (true, &none, 2),
        (true, &[(10, false), (20, true)], 1),
        (true, &[(10, false), (0, true)], 1),
        (true, &[(0, false), (0, true)], 0),
    ] {
        for algorithm in [Algorithm::RoundRobin, Algorithm::LeastConn, Algorithm::IpHash] {
            let settings = Settings { panic, ..settings(algorithm) };
            let selector = Selector::new(settings, &candidates(of), None);
            assert_eq!(selector.serving(), serving, "{panic} {of:?}");
            assert_eq!(selector.pick(CLIENT, idle, &[]).is_some(), serving > 0);
        }
    }
}

#[test]
fn the_untried_serve_if_nothing_else_does() {
    use Service::{In, Out, Untried};
    for (panic, of, weights) in [
        (false, [(Untried, 10), (Untried, 20), (Out, 30)], [10, 20, 0]),
        (false, [(Untried, 10), (In, 20), (Out, 30)], [0, 20, 0]),
        (false, [(Untried, 10), (In, 0), (Out, 30)], [10, 0, 0]),
        (true, [(Untried, 10), (Out, 20), (Out, 30)], [10, 0, 0]),
        (true, [(Untried, 0), (Out, 20), (Out, 30)], [0, 20, 30]),
        (false, [(Untried, 0), (Out, 20), (Out, 30)], [0, 0, 0]),
    ] {
        let candidates: Vec<_> = (0..)
            .zip(of)
            .map(|(at, (service, weight))| Candidate { service, ..candidate(at, weight, true) })
            .collect();
        assert_eq!(super::weights(panic, &candidates), weights, "{panic} {of:?}");
    }
}

/// Target 2 recovered; its share is that part of its weight that has passed of the minute.
#[test]
fn a_share_grows_linearly() {
    let since = Instant::now();
    let mut candidates = healthy(&[10, 10, 10]);
    candidates[2].since = Some(since);
    for algorithm in [Algorithm::RoundRobin, Algorithm::LeastConn, Algorithm::IpHash] {
        let settings = Settings { slow_start: Duration::from_mins(1), ..settings(algorithm) };
        let selector = Selector::new(settings, &candidates, None);
        for (seconds, part) in [(6, 0.1), (15, 0.25), (30, 0.5), (45, 0.75), (60, 1.0), (99, 1.0)] {
            let now = since + Duration::from_secs(seconds);
            let mut loads = [0_u32; 3];
            for client in clients(30_000) {
                let picked = selector.pick_at(client, |at| loads[at], &[], || now).unwrap();
                loads[picked] += 1;
            }
            // A hashed client has its slot whatever others weigh: what a target does not take
            // yet is shared by the others.
            let [full, _, growing] = loads.map(f64::from);
            let expected = if algorithm == Algorithm::IpHash {
                part * 10_000.0
            } else {
                30_000.0 * part / (2.0 + part)
            };
            let off = (growing - expected).abs() / expected;
            assert!(off < 0.06, "{algorithm:?} {seconds} s: {growing} not {expected}");
            let halved = (30_000.0 - growing) / 2.0;
            assert!((full - halved).abs() / halved < 0.06, "{algorithm:?} {seconds} s: {loads:?}");
        }
    }
}

/// Requests that are over before the next one begins, as on a balancer that is not busy.
#[test]
fn a_share_grows_without_load_too() {
    let since = Instant::now();
    let mut candidates = healthy(&[10, 10, 20]);
    candidates[2].since = Some(since);
    let settings =
        Settings { slow_start: Duration::from_mins(1), ..settings(Algorithm::LeastConn) };
    let selector = Selector::new(settings, &candidates, None);
    for (seconds, part) in [(6, 0.1), (30, 0.5), (60, 1.0)] {
        let now = since + Duration::from_secs(seconds);
        let shares = shares(&selector, 3, 30_000, Some(now));
        let expected = 30_000.0 * 2.0 * part / (2.0 + 2.0 * part);
        let off = (f64::from(shares[2]) - expected).abs() / expected;
        assert!(off < 0.06, "{seconds} s: {shares:?} not {expected}");
    }
}

#[test]
fn a_growing_target_keeps_the_clients_it_has() {
    let since = Instant::now();
    let mut candidates = healthy(&[10, 10, 10]);
    candidates[0].since = Some(since);
    let settings = Settings { slow_start: Duration::from_mins(1), ..settings(Algorithm::IpHash) };
    let selector = Selector::new(settings, &candidates, None);
    let mut before = BTreeSet::new();
    for seconds in [5, 20, 40, 61] {
        let now = since + Duration::from_secs(seconds);
        let has: BTreeSet<IpAddr> = clients(3_000)
            .filter(|client| selector.pick_at(*client, idle, &[], || now) == Some(0))
            .collect();
        assert!(has.is_superset(&before), "{seconds}");
        before = has;
    }
}

/// When everything recovers together nobody is new, and shares are by weight at once.
#[test]
fn all_new_is_none_new() {
    let since = Instant::now();
    for algorithm in [Algorithm::RoundRobin, Algorithm::LeastConn] {
        let mut candidates = healthy(&[10, 30]);
        for candidate in &mut candidates {
            candidate.since = Some(since);
        }
        let settings = Settings { slow_start: Duration::from_mins(1), ..settings(algorithm) };
        let selector = Selector::new(settings, &candidates, None);
        let now = since + Duration::from_secs(1);
        assert_eq!(shares(&selector, 2, 400, Some(now)), [100, 300]);
    }
}

fn algorithms() -> impl Strategy<Value = Algorithm> {
    prop_oneof![Just(Algorithm::RoundRobin), Just(Algorithm::LeastConn), Just(Algorithm::IpHash)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Retries find every target in service, each once, and nothing else.
    #[test]
    fn exclusion_reaches_everybody(
        algorithm in algorithms(),
        of in prop::collection::vec((0_u32..=100, any::<bool>()), 0..12),
        growing in prop::collection::vec(any::<bool>(), 12),
        client: u32,
        seconds in 0_u64..20,
    ) {
        let since = Instant::now();
        let mut candidates = candidates(&of);
        for (candidate, growing) in candidates.iter_mut().zip(growing) {
            candidate.since = growing.then_some(since);
        }
        let settings = Settings { slow_start: Duration::from_secs(10), ..settings(algorithm) };
        let selector = Selector::new(settings, &candidates, None);
        let client = std::net::Ipv4Addr::from_bits(client).into();
        let now = since + Duration::from_secs(seconds);
        let mut tried = Vec::new();
        while let Some(at) = selector.pick_at(client, |at| u32::try_from(at).unwrap() % 3, &tried, || now) {
            prop_assert!(!tried.contains(&at), "{at} again after {tried:?}");
            prop_assert!(selector.serves(at));
            tried.push(at);
        }
        let mut serving: Vec<usize> =
            (0..of.len()).filter(|at| of[*at].1 && of[*at].0 > 0).collect();
        tried.sort_unstable();
        prop_assert_eq!(&tried, &serving);
        serving.retain(|at| !selector.serves(*at));
        prop_assert!(serving.is_empty());
    }

    /// Least connection never picks a target that another one in service beats.
    #[test]
    fn nobody_has_less(of in prop::collection::vec((0_u32..=100, 0_u32..50), 1..40), turn in 0_usize..100) {
        let weights: Vec<u32> = of.iter().map(|(weight, _)| *weight).collect();
        let selector = Selector::new(settings(Algorithm::LeastConn), &healthy(&weights), None);
        selector.turn.0.store(turn, Relaxed);
        let Some(picked) = selector.pick(CLIENT, |at| of[at].1, &[]) else {
            prop_assert!(weights.iter().all(|weight| *weight == 0));
            return Ok(());
        };
        let (weight, load) = of[picked];
        for (other_weight, other_load) in of.iter().filter(|(weight, _)| *weight > 0) {
            prop_assert!(load * other_weight <= other_load * weight);
        }
    }
}
