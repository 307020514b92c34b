//! Bodies on their way: piece by piece, both ways, in any size, to their end or not.

use std::{io::Write as _, sync::mpsc};

use alb_tests::{
    client::bulk,
    origin::{Exchange, Origin, Then},
    wait,
};

use super::setting::{ORIGIN, Site, client, lab};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn events_reach_the_client_one_by_one() {
    let lab = lab(1);
    let (go, next) = mpsc::channel::<()>();
    let next = std::sync::Mutex::new(next);
    let act = move |exchange: &mut Exchange<'_>| {
        exchange.send(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
             Transfer-Encoding: chunked\r\n\r\n",
        )?;
        let next = next.lock().expect("one reader");
        // The next event only after the one before has arrived.
        while next.recv().is_ok() {
            exchange.send("9\r\ndata: x\n\n\r\n")?;
        }
        exchange.send("0\r\nX-Last: yes\r\n\r\n")?;
        Ok(Then::Next)
    };
    let _origin = Origin::start(&lab.targets[0], ORIGIN, act);
    let _daemon = Site::of(&lab).serve(&lab);
    let mut client = client(&lab);
    client.send(GET);
    let head = client.head().expect("the head comes before any event");
    assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
    for _ in 0..20 {
        go.send(()).expect("the origin listens");
        assert_eq!(client.exactly(14).expect("an event"), b"9\r\ndata: x\n\n\r\n");
    }
    drop(go);
    let last = b"0\r\nX-Last: yes\r\n\r\n";
    assert_eq!(client.exactly(last.len()).expect("the end with its trailer"), last);
}

#[test]
fn pieces_of_a_body_reach_the_target_one_by_one_and_so_does_its_trailer() {
    let lab = lab(1);
    let (told, came) = mpsc::channel();
    let act = move |exchange: &mut Exchange<'_>| {
        loop {
            let line = exchange.line()?;
            told.send(line.clone()).expect("the test listens");
            if line == "T: v\r\n" {
                exchange.line()?;
                return exchange.answer(200, "ok");
            }
        }
    };
    let _origin = Origin::start(&lab.targets[0], ORIGIN, act);
    let _daemon = Site::of(&lab).serve(&lab);
    let mut client = client(&lab);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let patience = wait::LONG;
    for _ in 0..5 {
        client.send("3\r\nabc\r\n");
        for line in ["3\r\n", "abc\r\n"] {
            assert_eq!(came.recv_timeout(patience).expect("a piece"), line);
        }
    }
    client.send("0\r\nT: v\r\n\r\n");
    assert_eq!(client.response(false).expect("a response").status, 200);
    assert_eq!(came.try_iter().collect::<Vec<_>>(), ["0\r\n", "T: v\r\n"]);
}

#[test]
fn expect_100_continue_is_the_target_s_to_answer() {
    let lab = lab(1);
    let act = |exchange: &mut Exchange<'_>| {
        if exchange.target() == "/no" {
            return exchange.answer(403, "no").map(|_| Then::Close);
        }
        exchange.send("HTTP/1.1 100 Continue\r\n\r\n")?;
        let body = exchange.read_body()?;
        exchange.answer(200, body)
    };
    let origin = Origin::start(&lab.targets[0], ORIGIN, act);
    let _daemon = Site::of(&lab).serve(&lab);
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    let mut patient = client(&lab);
    assert_eq!(patient.ask(head("/yes")).status, 100);
    patient.send("abc");
    let response = patient.response(false).expect("a response");
    assert_eq!((response.status, response.text().as_str()), (200, "abc"));
    assert_eq!(patient.ask(head("/no")).status, 403);
    assert!(!origin.heard().concat().ends_with("abc"), "a body that was not wanted was not sent");
}

#[test]
fn interim_responses_pass_and_http_1_0_clients_are_spared_them() {
    let lab = lab(1);
    let act = |exchange: &mut Exchange<'_>| {
        exchange.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")?;
        exchange.send("HTTP/1.1 102 Processing\r\n\r\n")?;
        exchange.answer(200, "ok")
    };
    let _origin = Origin::start(&lab.targets[0], ORIGIN, act);
    let _daemon = Site::of(&lab).serve(&lab);
    let mut modern = client(&lab);
    let hint = modern.ask(GET);
    assert_eq!((hint.status, hint.values("link")), (103, vec!["</a.css>"]));
    assert_eq!(modern.response(false).expect("another").status, 102);
    assert_eq!(modern.response(false).expect("the last").text(), "ok");
    let old = client(&lab).ask("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!((old.status, old.text().as_str()), (200, "ok"));
}

#[test]
fn an_answer_before_the_end_of_the_body_is_relayed_then_closed() {
    let lab = lab(1);
    let act = |exchange: &mut Exchange<'_>| {
        let status = exchange.target()[1..].parse().expect("a status");
        exchange.answer(status, "who are you?")?;
        while !exchange.is_closed() {}
        Ok(Then::Close)
    };
    let origin = Origin::start(&lab.targets[0], ORIGIN, act);
    let _daemon = Site::of(&lab).serve(&lab);
    for status in [401, 413] {
        let mut client = client(&lab);
        client.send(format!(
            "POST /{status} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n"
        ));
        client.send(vec![b'x'; 100_000]);
        let response = client.response(false).expect("it is there though the body is not");
        assert_eq!((response.status, response.text().as_str()), (status, "who are you?"));
        assert_eq!(response.values("connection"), ["close"]);
        client.closed();
        drop(client);
        origin.wait_open(0);
    }
}

#[test]
fn a_client_that_goes_away_ends_its_request_at_the_target() {
    let lab = lab(1);
    let act = |exchange: &mut Exchange<'_>| {
        match exchange.target() {
            "/body" => exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nab")?,
            "/chunk" => exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?,
            _ => {}
        }
        while !exchange.is_closed() {}
        Ok(Then::Close)
    };
    let origin = Origin::start(&lab.targets[0], ORIGIN, act);
    let _daemon = Site::of(&lab).serve(&lab);
    for (count, path) in (1..).zip(["/wait", "/body", "/chunk"]) {
        let mut client = client(&lab);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        origin.wait_requests(count);
        if path != "/wait" {
            client.head().expect("the head");
        }
        client.reset();
        origin.wait_open(0);
    }
    // One that breaks off in its body is not waiting for anything either.
    let mut client = client(&lab);
    client.send("POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc");
    origin.wait_requests(4);
    drop(client);
    origin.wait_open(0);
}

#[test]
fn whoever_only_listens_any_more_is_answered_and_whoever_is_gone_is_found_out_by_writing() {
    let lab = lab(1);
    let (go, next) = mpsc::channel::<()>();
    let next = std::sync::Mutex::new(next);
    let act = move |exchange: &mut Exchange<'_>| {
        if exchange.target() == "/events" {
            exchange.send("HTTP/1.1 200 OK\r\n\r\n")?;
            // Ends when the connection does.
            loop {
                exchange.send("data: x\n\n")?;
            }
        }
        let body = exchange.read_body()?;
        next.lock().expect("one reader").recv().expect("a word of the test");
        exchange.answer(200, body)
    };
    let origin = Origin::start(&lab.targets[0], ORIGIN, act);
    let _daemon = Site::of(&lab).serve(&lab);
    for (count, body) in (1..).zip(["", "abc"]) {
        let mut client = client(&lab);
        let length = body.len();
        client
            .send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"));
        client.finish();
        origin.wait_requests(count);
        go.send(()).expect("the origin listens");
        let response = client.response(false).expect("an answer");
        assert_eq!((response.status, response.text().as_str()), (200, body));
        client.closed();
    }
    let mut gone = client(&lab);
    gone.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    gone.head().expect("the head");
    drop(gone);
    origin.wait_requests(3);
    wait::until("the end of what goes to nobody", wait::LONG, || {
        (origin.open() <= 1).then_some(())
    });
}

#[test]
fn bulk_bodies_arrive_whole_both_ways_with_flat_memory() {
    const BYTES: u64 = 256 << 20;
    let lab = lab(1);
    let act = |exchange: &mut Exchange<'_>| {
        if exchange.method() == "GET" {
            exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n"))?;
            let mut to = exchange.writer();
            bulk::send(&mut to, BYTES)?;
            return Ok(Then::Next);
        }
        let mut hasher = bulk::Hash::default();
        exchange.copy_body(&mut hasher)?;
        exchange.answer(200, hasher.finish())
    };
    let _origin = Origin::start(&lab.targets[0], ORIGIN, act);
    let daemon = Site::of(&lab).serve(&lab);
    let expected = bulk::send(&mut std::io::sink(), BYTES).expect("a sink takes all");
    let mut client = client(&lab);
    let before = daemon.resident();

    client.send(GET);
    client.head().expect("a response");
    assert_eq!(client.hash(BYTES).expect("the whole body"), expected);

    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BYTES}\r\n\r\n"));
    bulk::send(&mut client.stream(), BYTES).expect("the body is taken");
    assert_eq!(client.response(false).expect("a response").text(), expected);

    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut hasher = bulk::Hash::default();
    let block = vec![7; 100_000];
    for _ in 0..100 {
        hasher.write_all(&block).expect("a hash takes all");
        client.send(format!("{:x}\r\n", block.len()));
        client.send(&block);
        client.send("\r\n");
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.response(false).expect("a response").text(), hasher.finish());
    let grown = daemon.resident().saturating_sub(before);
    // What a debug build touches for the first time is some megabytes.
    assert!(grown < BYTES / 8, "the daemon grew by {grown} bytes");
}
