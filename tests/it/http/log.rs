//! One line for each request, with why it was not served, or not to its end.

use alb_tests::origin::{Exchange, Origin, Then};
use tempfile::TempDir;

use super::setting::{ORIGIN, Site, client, lab};
use crate::seeing::{wait_lines, wait_value};

#[test]
fn every_refusal_and_every_client_that_goes_has_its_reason() {
    let lab = lab(1);
    let act = |exchange: &mut Exchange<'_>| match exchange.target() {
        "/bad" => exchange.say("no http\r\n\r\n"),
        "/close" => Ok(Then::Close),
        "/read" => {
            exchange.read_body()?;
            exchange.answer(200, "ok")
        }
        "/wait" => {
            while !exchange.is_closed() {}
            Ok(Then::Close)
        }
        _ => exchange.answer(200, "ok"),
    };
    let origin = Origin::start(&lab.targets[0], ORIGIN, act);
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("access.jsonl");
    let mut site = Site::of(&lab)
        .listener("timeouts: { headerSeconds: 1, bodyIdleSeconds: 1 }")
        .listener("limits: { bodyBytes: 10, requestLineBytes: 512, headers: 8 }")
        .backend("responseTimeoutSeconds: 3")
        .backend("retries: 0");
    site.node.push(format!("accessLog: {{ file: {} }}", file.display()));
    let _daemon = site.serve(&lab);
    let many = "X: y\r\n".repeat(20);
    let long = "p".repeat(600);
    let rows = [
        ("GET /ok HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 200, ""),
        ("GET /bad HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 502, "bad_response"),
        ("GET /close HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 502, "target_closed"),
        ("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 504, "response_timeout"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n".to_owned(),
            413,
            "body_too_large",
        ),
        (
            "POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc".to_owned(),
            408,
            "slow_body",
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\n".to_owned(), 408, "slow_request"),
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414, "request_line_too_long"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431, "headers_too_large"),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 405, "method_refused"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400, ""),
    ];
    for (request, status, _) in &rows {
        let response = client(&lab).ask(request);
        assert_eq!(response.status, *status, "{request:.40}");
    }
    let before = origin.requests();
    let mut gone = client(&lab);
    gone.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.wait_requests(before + 1);
    gone.reset();
    let lines = wait_lines(&file, rows.len() + 1);
    assert_eq!(lines.len(), rows.len() + 1);
    for ((request, status, word), line) in rows.iter().zip(&lines) {
        assert_eq!(line["status"], *status, "{line}");
        if !word.is_empty() {
            assert_eq!(line["error"], *word, "{request:.40}: {line}");
        }
    }
    let last = &lines[rows.len()];
    assert_eq!((&last["status"], &last["error"]), (&499.into(), &"client_gone".into()), "{last}");
    let gone = [("listener", "web"), ("reason", "client_gone")];
    wait_value(&lab, "alb_refusals_total", &gone, 1);
}
