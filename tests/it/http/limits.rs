//! Limits of a listener: sizes, connections, requests a second.

use super::setting::{ORIGIN, Site, client, lab};
use alb_tests::{
    http::Client,
    origin::{Exchange, Origin},
    wait,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn sizes_have_answers_of_their_own_and_reach_no_target() {
    let lab = lab(1);
    let origin = Origin::answering(&lab.targets[0], ORIGIN, "ok");
    let limits = "limits: { headerBytes: 2048, headers: 8, requestLineBytes: 512, bodyBytes: 100 }";
    let _daemon = Site::of(&lab).listener(limits).serve(&lab);
    let head = |path: usize, value: usize, count: usize| {
        let (path, value) = ("p".repeat(path), "v".repeat(value));
        let many = "X: y\r\n".repeat(count);
        format!("GET /{path} HTTP/1.1\r\nHost: a\r\nV: {value}\r\n{many}\r\n")
    };
    let body =
        |fields: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}");
    let refused = [
        (414, head(600, 0, 0)),
        (414, head(100_000, 0, 0)),
        (414, "GET /".to_owned() + &"p".repeat(100_000)),
        (431, head(0, 3_000, 0)),
        (431, head(0, 100_000, 0)),
        (431, head(0, 0, 7)),
        (431, head(0, 0, 10_000)),
        (431, "GET / HTTP/1.1\r\nHost: a\r\nV: ".to_owned() + &"v".repeat(100_000)),
        (413, body("Content-Length: 101\r\n", "")),
        (413, body("Content-Length: 9223372036854775807\r\n", "")),
        (413, body("Content-Length: 101\r\nExpect: 100-continue\r\n", "")),
    ];
    for (status, request) in &refused {
        let response = client(&lab).ask(request);
        let begin: String = request.chars().take(60).collect();
        assert_eq!(response.status, *status, "{begin}… of {} bytes", request.len());
        assert_eq!(response.values("connection"), ["close"]);
    }
    assert_eq!(origin.accepted(), 0);

    let passed = [
        head(490, 0, 0),
        head(0, 2_000, 0),
        head(0, 0, 6),
        body("Content-Length: 100\r\n", &"b".repeat(100)),
        body("Transfer-Encoding: chunked\r\n", &format!("64\r\n{}\r\n0\r\n\r\n", "b".repeat(100))),
    ];
    for request in passed {
        assert_eq!(client(&lab).ask(&request).status, 200, "{request}");
    }
    let chunks = "10\r\n0123456789abcdef\r\n".repeat(7);
    let status = client(&lab).ask(body("Transfer-Encoding: chunked\r\n", &chunks)).status;
    assert_eq!(status, 413, "counted as it comes");
}

#[test]
fn connections_beyond_the_limit_are_closed_and_those_within_live() {
    let lab = lab(1);
    let _origin = Origin::answering(&lab.targets[0], ORIGIN, "ok");
    let mut site = Site::of(&lab).listener("limitation: { activeConnections: 100 }");
    site.node = vec!["workers: 2".to_owned()];
    let _daemon = site.serve(&lab);
    let mut open: Vec<Client> = (0..100).map(|_| client(&lab)).collect();
    for client in &mut open {
        assert_eq!(client.ask(GET).status, 200);
    }
    for _ in 0..5 {
        let mut over = client(&lab);
        over.closed();
    }
    for client in &mut open {
        assert_eq!(client.ask(GET).status, 200);
    }
    drop(open.pop());
    wait::until("room for one more", wait::LONG, || {
        let mut again = client(&lab);
        again.send(GET);
        again.response(false).ok().filter(|response| response.status == 200)
    });
}

#[test]
fn requests_beyond_the_rate_are_429_and_the_connection_goes_on() {
    let lab = lab(1);
    let origin = Origin::start(&lab.targets[0], ORIGIN, |exchange: &mut Exchange<'_>| {
        exchange.answer(200, "ok")
    });
    let mut site = Site::of(&lab).listener("limitation: { qps: 100 }");
    site.node = vec!["workers: 2".to_owned()];
    let _daemon = site.serve(&lab);
    let mut clients = [client(&lab), client(&lab), client(&lab), client(&lab)];
    let begun = std::time::Instant::now();
    let mut statuses = Vec::new();
    for turn in 0..400 {
        let response = clients[turn % clients.len()].ask(GET);
        if response.status == 429 {
            assert_eq!(response.values("retry-after"), ["1"]);
            assert!(response.text().starts_with("429 "), "{response:?}");
        }
        statuses.push(response.status);
    }
    let most = 100 + begun.elapsed().as_millis() / 10 + 1;
    let passed = statuses.iter().filter(|status| **status == 200).count();
    assert!((100..=most).contains(&(passed as u128)), "{passed} of 400, at most {most}");
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 400 - passed);
    assert_eq!(origin.requests(), passed);
}

#[test]
fn a_refused_head_request_has_the_head_of_the_answer_alone() {
    let lab = lab(1);
    let _origin = Origin::answering(&lab.targets[0], ORIGIN, "ok");
    let _daemon = Site::of(&lab).listener("limitation: { qps: 100 }").serve(&lab);
    let mut client = client(&lab);
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1_000));
    let mut refused = 0;
    for _ in 0..1_000 {
        // A body would be taken for the beginning of the next head.
        let response = client.response(true).expect("a response");
        assert!(response.head.starts_with("HTTP/1.1 "), "{response:?}");
        if response.status == 429 {
            refused += 1;
            assert_ne!(response.values("content-length"), ["0"], "as GET would have it");
        }
    }
    assert!(refused > 0, "all within the rate");
}
