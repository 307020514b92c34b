//! Which requests are sent again, and which must not be: by method, and by what was sent.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use alb_tests::{
    origin::{Exchange, Origin, Then},
    topology::Lab,
    wait,
};

use super::setting::{ORIGIN, Site, client, lab};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";

/// Answers the first request of each connection and closes it at the second, as a server does
/// whose idle time has just run out.
fn once(exchange: &mut Exchange<'_>) -> std::io::Result<Then> {
    exchange.read_body()?;
    exchange.answer(200, "ok")?;
    Ok(Then::Close)
}

/// Connections to origins of whose end the balancer's host has not heard.
fn established(lab: &Lab) -> usize {
    let read = || fs::read_to_string("/proc/thread-self/net/tcp").expect("the connections");
    let text = lab.balancer.namespace.enter(read);
    // Local address, remote address, state (`proc_net_tcp(5)`).
    let is_one = |line: &&str| {
        let words: Vec<_> = line.split_whitespace().collect();
        words[2].ends_with(&format!(":{ORIGIN:04X}")) && words[3] == "01"
    };
    text.lines().filter(is_one).count()
}

#[test]
fn a_pooled_connection_that_grew_stale_costs_nobody_an_answer() {
    let lab = lab(1);
    let origin = Origin::start(&lab.targets[0], ORIGIN, once);
    let _daemon = Site::of(&lab).serve(&lab);
    let mut client = client(&lab);
    for turn in 0..20 {
        // What may not be sent twice is safe only once the end has been seen.
        let request = if turn % 2 == 0 {
            GET
        } else {
            origin.wait_open(0);
            wait::until("the end to arrive", wait::LONG, || (established(&lab) == 0).then_some(()));
            POST
        };
        assert_eq!(client.ask(request).status, 200, "request {turn}");
    }
    assert_eq!(origin.requests(), 20, "none was served twice");
}

/// Reads a request and resets the connection, the first `count` times; then answers.
fn failing(count: usize) -> impl alb_tests::origin::Act {
    let left = Arc::new(AtomicUsize::new(count));
    move |exchange: &mut Exchange<'_>| {
        exchange.read_body()?;
        let take = |left: usize| left.checked_sub(1);
        if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            return Ok(Then::Reset);
        }
        exchange.answer(200, "ok")
    }
}

#[test]
fn what_may_be_repeated_goes_to_another_target_and_what_may_not_does_not() {
    let lab = lab(2);
    let bad = Origin::start(&lab.targets[0], ORIGIN, failing(usize::MAX));
    let good = Origin::answering(&lab.targets[1], ORIGIN, "ok");
    let _daemon = Site::of(&lab).serve(&lab);
    for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
        for _ in 0..2 {
            let mut client = client(&lab);
            let length = if method == "PUT" { "Content-Length: 0\r\n" } else { "" };
            client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n{length}\r\n"));
            assert_eq!(client.response(method == "HEAD").expect("a response").status, 200);
        }
    }
    assert!(bad.requests() >= 4, "the bad one had its turns: {}", bad.requests());
    assert_eq!(good.requests(), 10);

    let (before_bad, before_good) = (bad.requests(), good.requests());
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(client(&lab).ask(POST).status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 502, 502]);
    assert_eq!(bad.requests() + good.requests() - before_bad - before_good, 4, "each sent once");
}

#[test]
fn a_target_that_refuses_connections_is_passed_over_whatever_the_method() {
    let lab = lab(2);
    let origin = Origin::answering(&lab.targets[1], ORIGIN, "ok");
    let _daemon = Site::of(&lab).serve(&lab);
    for turn in 0..10 {
        let request = if turn % 2 == 0 { GET } else { POST };
        assert_eq!(client(&lab).ask(request).status, 200, "request {turn}");
    }
    assert_eq!(origin.requests(), 10);
}

#[test]
fn nothing_is_repeated_once_an_answer_has_begun() {
    let lab = lab(2);
    let act = |exchange: &mut Exchange<'_>| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")?;
        Ok(Then::Reset)
    };
    let one = Origin::start(&lab.targets[0], ORIGIN, act);
    let other = Origin::start(&lab.targets[1], ORIGIN, act);
    let _daemon = Site::of(&lab).serve(&lab);
    let mut client = client(&lab);
    client.send(GET);
    let error = client.response(false).expect_err("a body that is cut short is no answer");
    assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(one.requests() + other.requests(), 1);
}

#[test]
fn nobody_there_is_502_and_no_targets_is_503() {
    let lab = lab(2);
    let site = Site::of(&lab);
    let daemon = site.serve(&lab);
    let mut talk = client(&lab);
    assert_eq!(talk.ask(GET).status, 502);
    let none = Site { targets: Vec::new(), ..site };
    assert!(daemon.reload(&none.body()), "{}", daemon.log());
    // The connection goes on over refusals and over a reload.
    assert_eq!(talk.ask(GET).status, 503);
}

#[test]
fn answers_that_are_not_http_are_502_and_the_connection_is_thrown_away() {
    let lab = lab(1);
    let garbage = [
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/1.1 99 Low\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/2 200\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
    ];
    let turn = AtomicUsize::new(0);
    let act = move |exchange: &mut Exchange<'_>| {
        let at = turn.fetch_add(1, Ordering::Relaxed);
        exchange.send(garbage[at % garbage.len()])?;
        Ok(Then::Next)
    };
    let origin = Origin::start(&lab.targets[0], ORIGIN, act);
    let _daemon = Site::of(&lab).serve(&lab);
    let mut client = client(&lab);
    for row in garbage {
        assert_eq!(client.ask(POST).status, 502, "{row:?}");
    }
    assert_eq!(origin.accepted(), garbage.len(), "none of the connections was used again");
}
