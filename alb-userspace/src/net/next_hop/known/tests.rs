//! Events in, table out.

use std::net::IpAddr;

use super::{Known, Link, Question};
use crate::net::{
    MacAddr,
    neighbour::{Entry, Neighbour, Phase},
    route::Route,
};

const A: MacAddr = [2, 0, 0, 0, 0, 0xa];
const B: MacAddr = [2, 0, 0, 0, 0, 0xb];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn neighbour(address: &str) -> Neighbour {
    Neighbour { interface: 2, address: ip(address) }
}

fn answers(address: &str, mac: MacAddr) -> Entry {
    Entry { neighbour: neighbour(address), mac: Some(mac), phase: Phase::Resolved, managed: true }
}

fn fails(address: &str) -> Entry {
    Entry { neighbour: neighbour(address), mac: None, phase: Phase::Failed, managed: true }
}

/// .1 is on the link, 203.0.113.1 behind the router .254.
fn known() -> Known {
    let source = ip("198.18.1.100");
    let mut known = Known::default();
    known.set_routes(
        [
            (ip("198.18.1.1"), Route { interface: 2, gateway: None, source, is_here: false }),
            (
                ip("203.0.113.1"),
                Route { interface: 2, gateway: Some(ip("198.18.1.254")), source, is_here: false },
            ),
        ]
        .into(),
    );
    known
}

fn mac(known: &Known, address: &str) -> Option<MacAddr> {
    known.table().hops[&ip(address)].mac
}

#[test]
fn a_gateways_mac_serves_what_is_behind_it() {
    let mut known = known();
    assert_eq!(known.hops(), [neighbour("198.18.1.1"), neighbour("198.18.1.254")].into());
    known.neighbour(answers("198.18.1.254", A));
    assert_eq!(mac(&known, "203.0.113.1"), Some(A));
    assert_eq!(mac(&known, "198.18.1.1"), None);
}

#[test]
fn another_mac_outdates_what_was_learnt_and_a_first_one_does_not() {
    let mut known = known();
    assert!(known.neighbour(answers("198.18.1.1", A)).news);
    assert!(!known.neighbour(answers("198.18.1.1", A)).news);
    assert_eq!(known.table().route_generation, 0);
    known.neighbour(answers("198.18.1.1", B));
    assert_eq!((mac(&known, "198.18.1.1"), known.table().route_generation), (Some(B), 1));
    // A client's router counts as much as a target's.
    known.neighbour(answers("198.18.1.77", A));
    known.neighbour(answers("198.18.1.77", B));
    assert_eq!(known.table().route_generation, 2);
}

#[test]
fn a_hop_that_stops_answering_keeps_its_mac_and_is_asked_again_once() {
    let mut known = known();
    known.neighbour(answers("198.18.1.1", A));
    assert!(known.neighbour(fails("198.18.1.1")).lost);
    assert!(!known.neighbour(fails("198.18.1.1")).lost);
    assert_eq!(mac(&known, "198.18.1.1"), Some(A));
    // The one that answers in its place is a change.
    known.neighbour(answers("198.18.1.1", B));
    assert_eq!((mac(&known, "198.18.1.1"), known.table().route_generation), (Some(B), 1));
}

#[test]
fn who_is_no_hop_may_fail_and_is_forgotten_when_gone() {
    let mut known = known();
    known.neighbour(answers("198.18.1.77", A));
    assert!(!known.neighbour(fails("198.18.1.77")).lost);
    assert!(!known.neighbour_gone(neighbour("198.18.1.77")));
    known.neighbour(answers("198.18.1.77", B));
    assert_eq!(known.table().route_generation, 0);
}

#[test]
fn a_hop_whose_entry_goes_keeps_its_mac_until_its_link_goes() {
    let mut known = known();
    let link = Link { up: true, carrier: true, mac: [2, 0, 0, 0, 0, 1], mtu: 1500 };
    assert!(known.link(2, Some(link)));
    assert!(!known.link(2, Some(link)));
    known.neighbour(answers("198.18.1.1", A));
    assert!(known.neighbour_gone(neighbour("198.18.1.1")));
    assert_eq!(mac(&known, "198.18.1.1"), Some(A));
    assert!(known.link(2, Some(Link { carrier: false, ..link })));
    assert!(known.link(2, Some(Link { carrier: false, mtu: 9000, ..link })));
    assert!(known.link(2, None));
    assert_eq!(mac(&known, "198.18.1.1"), None);
}

#[test]
fn what_is_asked_of_a_hop() {
    let mut known = known();
    let hop = neighbour("198.18.1.1");
    assert_eq!(known.question(hop), None, "no link");
    known.link(2, Some(Link { up: true, carrier: true, mac: A, mtu: 1500 }));
    assert_eq!(known.question(hop), Some(Question::Resolve));
    let rows = [
        (Phase::Unresolved, Some(Question::Resolve)),
        (Phase::Resolved, Some(Question::Verify)),
        (Phase::Verifying, None),
        (Phase::Failed, Some(Question::Resolve)),
        (Phase::Static, None),
    ];
    for (phase, question) in rows {
        known.neighbour(Entry { neighbour: hop, mac: None, phase, managed: true });
        assert_eq!(known.question(hop), question, "{phase:?}");
    }
    known.neighbour_gone(hop);
    assert_eq!(known.question(hop), Some(Question::Resolve));
    known.link(2, Some(Link { up: true, carrier: false, mac: A, mtu: 1500 }));
    assert_eq!(known.question(hop), None, "no carrier");
}
