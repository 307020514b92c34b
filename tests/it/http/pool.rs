//! Connections to targets between two requests: kept, used again, and closed when their time is
//! over.

use std::time::Duration;

use alb_tests::{origin::Origin, topology::Lab, wait};

use super::setting::{ORIGIN, Site, client, lab};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Two requests of one client; before the second one the target waits for the end of the connection
/// that had the first, if that is to come. How many connections it had.
fn connections(lab: &Lab, origin: &Origin, seconds: u32, ends: bool) -> usize {
    let before = origin.accepted();
    let daemon = Site::of(lab).backend(&format!("poolIdleSeconds: {seconds}")).serve(lab);
    let mut client = client(lab);
    assert_eq!(client.ask(GET).status, 200);
    if ends {
        origin.wait_open(0);
    }
    assert_eq!(client.ask(GET).status, 200, "the client's own connection goes on");
    drop(daemon);
    origin.wait_open(0);
    origin.accepted() - before
}

#[test]
fn idle_connections_to_targets_live_for_their_time() {
    let lab = lab(1);
    let origin = Origin::answering(&lab.targets[0], ORIGIN, "ok");
    assert_eq!(connections(&lab, &origin, 3600, false), 1, "used again");
    assert_eq!(connections(&lab, &origin, 1, true), 2, "closed after a second");
    assert_eq!(connections(&lab, &origin, 0, true), 2, "closed at once");
}

#[test]
fn a_pool_follows_a_reload() {
    let lab = lab(1);
    let origin = Origin::answering(&lab.targets[0], ORIGIN, "ok");
    let site = Site::of(&lab);
    let daemon = site.clone().backend("poolIdleSeconds: 3600").serve(&lab);
    let mut client = client(&lab);
    assert_eq!(client.ask(GET).status, 200);
    origin.wait_open(1);
    assert!(daemon.reload(&site.backend("poolIdleSeconds: 1").body()), "{}", daemon.log());
    // What is kept from now on is kept for less; a worker hears of it some moments later.
    wait::until("the end of the connection", 10 * wait::LONG, || {
        assert_eq!(client.ask(GET).status, 200);
        wait::within(Duration::from_secs(10), || (origin.open() == 0).then_some(()))
    });
    assert_eq!(origin.accepted(), 1, "until then it was used again");
}
