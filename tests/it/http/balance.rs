//! Who is asked next: fewest requests in work, and the share of a target that comes into service.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use alb_tests::{
    http::Client,
    origin::{Exchange, Origin},
    topology::Lab,
    wait,
};

use super::setting::{ORIGIN, Site, client, lab};
use crate::seeing::wait_value;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A target that answers while its switch is on, and waits for it.
fn gated(lab: &Lab, at: usize) -> (Origin, Arc<AtomicBool>) {
    let go = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&go);
    let act = move |exchange: &mut Exchange<'_>| {
        wait::within(wait::LONG, || gate.load(Ordering::Relaxed).then_some(()));
        exchange.answer(200, "ok")
    };
    (Origin::start(&lab.targets[at], ORIGIN, act), go)
}

#[test]
fn the_target_with_the_fewest_requests_for_its_weight_is_next() {
    let lab = lab(2);
    let (heavy, go) = gated(&lab, 0);
    let (light, other) = gated(&lab, 1);
    let mut site = Site::of(&lab).backend("algorithm: LeastConn");
    site.node = vec!["workers: 2".to_owned()];
    let address = lab.targets[0].address.to_string();
    let body =
        site.body().replace(&format!("{address}, port"), &format!("{address}, weight: 20, port"));
    let _daemon = site.serve_body(&lab, &body);
    // Each is at its target before the next one comes.
    let begin = |count: usize| -> Vec<Client> {
        let begin = |_| {
            let before = heavy.requests() + light.requests();
            let mut client = client(&lab);
            client.send(GET);
            wait::until("a request", wait::LONG, || {
                (heavy.requests() + light.requests() > before).then_some(())
            });
            client
        };
        (0..count).map(begin).collect()
    };
    let mut waiting = begin(6);
    assert_eq!((heavy.requests(), light.requests()), (4, 2));

    // Where four have ended, the next four go.
    go.store(true, Ordering::Relaxed);
    let in_flight = [("backend", "all"), ("address", &*address)];
    wait_value(&lab, "alb_target_in_flight", &in_flight, 0);
    go.store(false, Ordering::Relaxed);
    waiting.extend(begin(4));
    assert_eq!((heavy.requests(), light.requests()), (8, 2));
    for gate in [go, other] {
        gate.store(true, Ordering::Relaxed);
    }
    for client in &mut waiting {
        assert_eq!(client.response(false).expect("an answer").status, 200);
    }
}

/// Seconds in which a share grows.
const SLOW_START: f64 = 20.0;

/// Answers with its name, and is well while its switch is on.
fn checked(lab: &Lab, at: usize, name: &'static str, is_well: bool) -> (Origin, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(is_well));
    let is_well = Arc::clone(&well);
    let act = move |exchange: &mut Exchange<'_>| match exchange.target() {
        "/healthz" if !is_well.load(Ordering::Relaxed) => exchange.answer(500, ""),
        _ => exchange.answer(200, name),
    };
    (Origin::start(&lab.targets[at], ORIGIN, act), well)
}

#[test]
fn a_target_that_comes_into_service_starts_slowly() {
    let lab = lab(2);
    let (_one, _) = checked(&lab, 0, "one", true);
    let (_two, well) = checked(&lab, 1, "two", false);
    let site = Site::of(&lab).backend(&format!("slowStartSeconds: {SLOW_START}")).backend(
        "healthCheck: { protocol: Http, httpPath: /healthz, healthyThresholdCount: 1, \
         unhealthyThresholdCount: 1 }",
    );
    let daemon = site.serve(&lab);
    daemon.wait_targets("web", "healthy", 1);
    daemon.wait_targets("web", "unhealthy", 1);
    let one_since = Instant::now();
    let mut client = client(&lab);
    let mut of_hundred = || (0..100).filter(|_| client.ask(GET).text() == "two").count();
    assert_eq!(of_hundred(), 0);
    // The older one has a share that tells by now, whatever this machine does besides.
    wait::until("half of its time", wait::LONG, || {
        (one_since.elapsed().as_secs_f64() > SLOW_START / 2.0).then_some(())
    });
    let ahead = one_since.elapsed().as_secs_f64();
    let two_since = Instant::now();
    well.store(true, Ordering::Relaxed);
    daemon.wait_targets("web", "healthy", 2);
    let share = u32::try_from(of_hundred()).expect("of a hundred");
    // Its part, had it been well from the first moment on, of both parts.
    let elapsed = two_since.elapsed().as_secs_f64();
    let part = |seconds: f64| (seconds / SLOW_START).clamp(0.01, 1.0);
    let most = part(elapsed) / (part(elapsed) + part(ahead)) * 100.0 + 5.0;
    assert!(f64::from(share) <= most, "{share} of 100 after {elapsed} s, at most {most}");
    wait::until("its full share", wait::LONG, || (of_hundred() == 50).then_some(()));
}
