//! Time limits: of the client's head and body, of the target's connection and answer, of silence.

use std::{
    thread,
    time::{Duration, Instant},
};

use alb_tests::origin::{Exchange, Origin, Then};

use super::setting::{ORIGIN, Site, client, lab};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Reads on until the peer closes.
#[expect(clippy::unnecessary_wraps, reason = "what an origin does has this shape")]
fn silent(exchange: &mut Exchange<'_>) -> std::io::Result<Then> {
    while !exchange.is_closed() {}
    Ok(Then::Close)
}

/// It took the second that is set, not the default; the rest is for a busy machine.
fn a_second(time: Duration, default: u64) {
    let allowed = Duration::from_millis(900)..=Duration::from_millis(default * 1_000 - 500);
    assert!(allowed.contains(&time), "took {time:?}, allowed {allowed:?}");
}

#[test]
fn a_silent_target_is_504_and_its_connection_ends() {
    let lab = lab(1);
    let origin = Origin::start(&lab.targets[0], ORIGIN, silent);
    let _daemon = Site::of(&lab).backend("responseTimeoutSeconds: 1").serve(&lab);
    let mut client = client(&lab);
    let begun = Instant::now();
    assert_eq!(client.ask(GET).status, 504);
    a_second(begun.elapsed(), 60);
    origin.wait_open(0);
    assert_eq!(origin.requests(), 1, "a timeout is not a reason to send it again");
}

#[test]
fn a_target_that_cannot_be_reached_is_504() {
    let lab = lab(1);
    // Nobody answers SYNs: the network drops them.
    lab.targets[0].namespace.ip("route add blackhole 198.18.0.1/32");
    let _daemon = Site::of(&lab).backend("connectTimeoutSeconds: 1").serve(&lab);
    let begun = Instant::now();
    assert_eq!(client(&lab).ask(GET).status, 504);
    a_second(begun.elapsed(), 5);
}

#[test]
fn slow_heads_are_408_however_they_trickle() {
    let lab = lab(1);
    let origin = Origin::answering(&lab.targets[0], ORIGIN, "ok");
    let _daemon = Site::of(&lab).listener("timeouts: { headerSeconds: 1 }").serve(&lab);
    let client = || client(&lab);
    let begun = Instant::now();
    let mut clients: Vec<_> = (0..50).map(|_| client()).collect();
    let mut text = "GET / HTTP/1.1\r\nHost: a\r\n".to_owned();
    for client in &mut clients {
        client.send(&text);
    }
    text = "X: y\r\n".to_owned();
    // Each byte in time, the head not: only the time of the whole counts.
    while begun.elapsed() < Duration::from_millis(800) {
        for client in &mut clients {
            client.send(&text);
        }
        thread::park_timeout(Duration::from_millis(50));
    }
    for client in &mut clients {
        assert_eq!(client.response(false).expect("a 408").status, 408);
    }
    a_second(begun.elapsed(), 10);
    assert_eq!(origin.accepted(), 0);
}

#[test]
fn slow_bodies_are_408_and_the_target_is_let_go() {
    let lab = lab(1);
    let origin = Origin::answering(&lab.targets[0], ORIGIN, "ok");
    let _daemon = Site::of(&lab).listener("timeouts: { bodyIdleSeconds: 1 }").serve(&lab);
    for fields in ["Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n5\r\nabc"] {
        let mut client = client(&lab);
        let begun = Instant::now();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}"));
        assert_eq!(client.response(false).expect("a 408").status, 408);
        a_second(begun.elapsed(), 60);
        origin.wait_open(0);
    }
}

#[test]
fn connections_that_say_nothing_are_closed_after_the_idle_time() {
    let lab = lab(1);
    let _origin = Origin::answering(&lab.targets[0], ORIGIN, "ok");
    let _daemon = Site::of(&lab).listener("connectionIdleTimeSeconds: 1").serve(&lab);
    let begun = Instant::now();
    client(&lab).closed();
    a_second(begun.elapsed(), 60);
    let begun = Instant::now();
    let mut used = client(&lab);
    assert_eq!(used.ask(GET).status, 200);
    used.closed();
    a_second(begun.elapsed(), 60);
}

#[test]
fn a_target_that_stops_in_a_body_ends_the_answer_visibly() {
    let lab = lab(1);
    let act = |exchange: &mut Exchange<'_>| {
        let head = match exchange.target() {
            "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
            "/length" => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
            _ => "HTTP/1.1 200 OK\r\n\r\nab",
        };
        exchange.send(head)?;
        silent(exchange)
    };
    let origin = Origin::start(&lab.targets[0], ORIGIN, act);
    let _daemon = Site::of(&lab).listener("connectionIdleTimeSeconds: 1").serve(&lab);
    for path in ["/chunked", "/length", "/close"] {
        let mut client = client(&lab);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client.response(false).expect_err(path);
        origin.wait_open(0);
    }
}
