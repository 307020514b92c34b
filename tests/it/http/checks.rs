//! Health checks of targets that the proxy serves: what they send, and who is asked after them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use alb_tests::{
    origin::{Exchange, Origin},
    topology::Lab,
    wait,
};

use super::setting::{ORIGIN, PORT, Site, client, lab};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn each_check_sends_what_it_is_set_to() {
    let lab = lab(1);
    let origin = Origin::answering(&lab.targets[0], ORIGIN, "ok");
    let address = origin.address();
    let rows = [
        ("", "HTTP/1.0\r\n".to_owned()),
        (", httpDomain: shop.test", "HTTP/1.0\r\nHost: shop.test\r\n".to_owned()),
        (", httpVersion: HTTP1.1", format!("HTTP/1.1\r\nHost: {address}\r\n")),
        (
            ", httpVersion: HTTP1.1, httpDomain: shop.test",
            "HTTP/1.1\r\nHost: shop.test\r\n".to_owned(),
        ),
    ];
    let mut site = Site::of(&lab);
    for (number, (settings, _)) in (1..).zip(&rows) {
        let (name, port) = (format!("b{number}"), PORT + number);
        site = site
            .with(
                "backends",
                format!(
                    "{{ name: {name}, protocol: Http, port: {ORIGIN}, targetGroup: all, \
                     healthCheck: {{ protocol: Http, httpPath: /{name}{settings} }} }}"
                ),
            )
            .with(
                "listeners",
                format!("{{ name: {name}, protocol: Http, port: {port}, backend: {name} }}"),
            );
    }
    let daemon = site.serve(&lab);
    for (number, (settings, start)) in (1..).zip(&rows) {
        daemon.wait_targets(&format!("b{number}"), "healthy", 1);
        let expected = format!(
            "HEAD /b{number} {start}User-Agent: alb-health-check\r\nAccept: */*\r\n\
             Connection: close\r\n\r\n"
        );
        let heard = origin.heard();
        assert!(heard.contains(&expected), "{settings:?}: {expected:?} is not in {heard:?}");
    }
}

/// A target that says which one it is, and that it is well while it is.
fn target(lab: &Lab, number: usize, name: &'static str) -> (Origin, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(false));
    let is_well = Arc::clone(&well);
    let act = move |exchange: &mut Exchange<'_>| match exchange.target() {
        "/healthz" if !is_well.load(Ordering::Relaxed) => exchange.answer(500, ""),
        _ => exchange.answer(200, name),
    };
    (Origin::start(&lab.targets[number], ORIGIN, act), well)
}

#[test]
fn in_a_panic_failed_targets_serve_until_one_is_well() {
    let lab = lab(2);
    let (_one, _) = target(&lab, 0, "one");
    let (_two, well) = target(&lab, 1, "two");
    let site = Site::of(&lab).backend(
        "healthCheck: { protocol: Http, httpPath: /healthz, healthyThresholdCount: 1, \
         unhealthyThresholdCount: 1 }",
    );
    let daemon = site.serve(&lab);
    daemon.wait_targets("web", "unhealthy", 2);
    let ask = || {
        let answer = client(&lab).ask(GET);
        if answer.status == 200 { answer.text() } else { answer.status.to_string() }
    };
    // A verdict is published before each worker has it.
    let settles = |wanted: &[&str]| {
        wait::until(&format!("answers {wanted:?}"), wait::LONG, || {
            let mut told: Vec<_> = wanted.iter().map(|_| ask()).collect();
            told.sort_unstable();
            (told == wanted).then_some(())
        });
    };
    settles(&["503", "503"]);
    let with_panic = site.backend("panicMode: true").body();
    assert!(daemon.reload(&with_panic), "{}", daemon.log());
    settles(&["one", "one", "two", "two"]);
    daemon.wait_targets("web", "unhealthy", 2);

    well.store(true, Ordering::Relaxed);
    daemon.wait_targets("web", "healthy", 1);
    settles(&["two", "two", "two", "two"]);
    well.store(false, Ordering::Relaxed);
    daemon.wait_targets("web", "unhealthy", 2);
    settles(&["one", "one", "two", "two"]);
}
