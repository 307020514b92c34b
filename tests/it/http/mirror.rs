//! Mirrors: a second backend gets what the first gets, and nobody notices what it does with it.

use std::{
    sync::{Mutex, mpsc},
    time::{Duration, Instant},
};

use alb_tests::{
    origin::{Exchange, Origin, Then},
    topology::Lab,
    wait,
};

use super::setting::{ORIGIN, Site, client, lab};
use crate::seeing::{metrics, value};

/// What goes to the first target is copied to the second, which has so many seconds to connect and
/// to answer.
fn site(lab: &Lab, seconds: u8) -> Site {
    let [target, mirror] = [0, 1].map(|at: usize| lab.targets[at].address);
    let group =
        format!("{{ name: copy, type: ip, targets: [{{ ipAddress: {mirror}, port: {ORIGIN} }}] }}");
    let backend = format!(
        "{{ name: copy, protocol: Http, port: {ORIGIN}, targetGroup: copy, \
         closeHealthCheck: true, responseTimeoutSeconds: {seconds}, \
         connectTimeoutSeconds: {seconds} }}"
    );
    let mut site = Site::of(lab).with("targetGroups", group).with("backends", backend);
    site.targets = vec![target];
    site.balancer.push_str(
        "  urlMaps: [{ name: m, rules: [{ path: /*, backend: all, preActions: \
         [{ mirrorBackend: copy }, { insertHeader: { key: X-Env, value: prod } }] }] }]\n",
    );
    site.listener("urlMap: m")
}

fn counted(lab: &Lab, outcome: &str) -> u64 {
    let labels = [("backend", "copy"), ("outcome", outcome)];
    value(&metrics(lab), "alb_backend_mirrored_total", &labels)
}

fn wait_counted(lab: &Lab, outcome: &str, count: u64) {
    wait::until(&format!("{count} {outcome}"), wait::LONG, || {
        (counted(lab, outcome) >= count).then_some(())
    });
}

#[test]
fn both_get_every_request() {
    let lab = lab(2);
    let origin = Origin::answering(&lab.targets[0], ORIGIN, "ok");
    let mirror = Origin::start(&lab.targets[1], ORIGIN, |exchange: &mut Exchange<'_>| {
        exchange.read_body()?;
        exchange.answer(500, "thrown away")
    });
    let _daemon = site(&lab, 60).serve(&lab);
    let mut client = client(&lab);
    let large = "x".repeat(200_000);
    let requests = [
        "GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        format!("POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n{large}"),
        "PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            .to_owned(),
    ];
    for (count, request) in (1..).zip(&requests) {
        let response = client.ask(request);
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
        wait_counted(&lab, "sent", count);
    }
    let heard = mirror.heard().concat();
    assert_eq!(heard, origin.heard().concat());
    assert!(heard.contains("GET /a?b HTTP/1.1\r\n") && heard.contains("X-Env: prod\r\n"));
    assert_eq!((counted(&lab, "failed"), counted(&lab, "dropped")), (0, 0));
}

#[test]
fn a_mirror_that_is_dead_slow_or_deaf_changes_nothing() {
    let lab = lab(2);
    let _origin = Origin::answering(&lab.targets[0], ORIGIN, "ok");
    let _daemon = site(&lab, 1).serve(&lab);
    let ask = |count: usize, body: usize| {
        let begun = Instant::now();
        let mut client = client(&lab);
        for _ in 0..count {
            let body = "x".repeat(body);
            let length = body.len();
            let response = client.ask(format!(
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
            ));
            assert_eq!((response.status, response.text().as_str()), (200, "ok"));
        }
        begun.elapsed()
    };
    // Nobody listens.
    ask(20, 10);
    wait_counted(&lab, "failed", 20);
    // It takes everything and does not answer.
    let mut silent = Origin::start(&lab.targets[1], ORIGIN, |exchange: &mut Exchange<'_>| {
        while !exchange.is_closed() {}
        Ok(Then::Close)
    });
    let took = ask(20, 10);
    assert!(took < Duration::from_secs(15), "they waited for the mirror: {took:?}");
    silent.wait_requests(20);
    wait_counted(&lab, "failed", 40);
    silent.wait_open(0);
    silent.kill();
    // It reads nothing of a body that is larger than anything on the way holds.
    let (end, ended) = mpsc::channel::<()>();
    let ended = Mutex::new(ended);
    let deaf = Origin::start(&lab.targets[1], ORIGIN, move |_: &mut Exchange<'_>| {
        let _gone = ended.lock().expect("one reader").recv().is_err();
        Ok(Then::Close)
    });
    ask(1, 64 << 20);
    wait_counted(&lab, "dropped", 1);
    drop((end, deaf));
}
