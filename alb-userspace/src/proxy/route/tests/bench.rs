//! What a lookup and a head cost. Run with
//! `cargo test --release -p alb-userspace --lib proxy::route::tests::bench -- --ignored --nocapture`.

use std::{hint::black_box, time::Instant};

use super::*;
use crate::{
    model::Forwarded,
    proxy::{
        forward::{Outgoing, RequestIds, write_request},
        message::Field,
        peer::Peer,
    },
};

const TIMES: u32 = 200_000;

/// Nanoseconds of one call; the least of five rounds.
fn time(mut call: impl FnMut(u32)) -> f64 {
    let round = |call: &mut dyn FnMut(u32)| {
        let start = Instant::now();
        (0..TIMES).for_each(call);
        start.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)
    };
    (0..5).map(|_| round(&mut call)).fold(f64::INFINITY, f64::min)
}

#[test]
#[ignore = "a bench"]
fn lookups_cost_the_same_whatever_the_number_of_rules() {
    let mut costs = Vec::new();
    for count in [1, 50, 10_000] {
        let names: Vec<_> = (0..count)
            .map(|n| (format!("h{}.shop.test", n % 100), format!("/s{n}/api/")))
            .collect();
        let rules = names.iter().map(|(host, path)| forward(host, &format!("{path}*"))).collect();
        let routes = routes(rules);
        let asked: Vec<_> =
            names.iter().map(|(host, path)| (host, format!("{path}item/7"))).collect();
        let cost = time(|n| {
            // Not in the order they were made in.
            let (host, path) = &asked[(n as usize * 7919) % asked.len()];
            black_box(routes.find(black_box(host.as_bytes()), black_box(path.as_bytes())));
        });
        eprintln!("{count:>6} rules: {cost:.0} ns a lookup");
        costs.push(cost);
    }
    // Cold lines, not comparisons: reading every rule would cost 200 times as much.
    assert!(costs[2] < 20.0 * costs[1], "{costs:?}");
}

#[test]
#[ignore = "a bench"]
fn heads() {
    let fields = [
        ("Host", "shop.test"),
        ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
        ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("Accept-Language", "en-US,en;q=0.5"),
        ("Accept-Encoding", "gzip, deflate, br"),
        ("Connection", "keep-alive"),
        ("Cookie", "session=0123456789abcdef; theme=dark"),
        ("X-Forwarded-For", "203.0.113.1"),
    ]
    .map(|(name, value)| Field { name: name.as_bytes(), value: value.as_bytes() });
    let head = RequestHead { fields: &fields, ..head(Scheme::Http, "shop.test", "/a/b/c?d=e") };
    let peer = Peer { client: "203.0.113.7:50123".parse().unwrap(), local: local(), tls: None };
    let forwarded =
        Forwarded { protocol: true, port: true, host: true, vip: true, client_port: true };
    let (mut ids, mut out) = (RequestIds::default(), Vec::with_capacity(4096));
    let cost = time(|_| {
        out.clear();
        let id = ids.of(&fields);
        let to = Outgoing {
            peer: &peer,
            forwarded,
            edits: None,
            request_id: id.as_bytes(),
            cookie: Some(b"ALB-0123456789"),
            upgrade: None,
            expect: false,
        };
        write_request(black_box(&head), &to, &mut out);
        black_box(&out);
    });
    eprintln!("a head of {} bytes: {cost:.0} ns", out.len());
}
