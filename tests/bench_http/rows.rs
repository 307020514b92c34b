//! The rows: which load, and CPU a request of each proxy beside nginx's in the same round.

use std::net::Ipv4Addr;

use crate::{
    arena::Arena,
    cpu::usage,
    load::{self, Done},
    peer::{Kind, Proxy},
    table::Spread,
};

/// One kind of load.
struct Row {
    name: &'static str,
    /// What this project sets itself: at most this much of nginx's CPU.
    must: Option<f64>,
    tcp: bool,
    logging: bool,
    run: fn(&Arena, Ipv4Addr, u32) -> Done,
}

const ROWS: [Row; 8] = [
    Row {
        name: "200 B keep-alive",
        must: Some(1.00),
        tcp: false,
        logging: false,
        run: |arena, to, seconds| load::wrk(arena, &format!("http://{to}/small"), 64, seconds, &[]),
    },
    Row {
        name: "200 B keep-alive, access log",
        must: None,
        tcp: false,
        logging: true,
        run: |arena, to, seconds| load::wrk(arena, &format!("http://{to}/small"), 64, seconds, &[]),
    },
    Row {
        name: "64 KiB",
        must: Some(0.65),
        tcp: false,
        logging: false,
        run: |arena, to, seconds| load::wrk(arena, &format!("http://{to}/64k"), 64, seconds, &[]),
    },
    Row {
        name: "TLS keep-alive",
        must: Some(0.75),
        tcp: false,
        logging: false,
        run: |arena, to, seconds| {
            load::wrk(arena, &format!("https://{to}/small"), 64, seconds, &[])
        },
    },
    Row {
        name: "new TLS 1.3 connections",
        must: Some(0.60),
        tcp: false,
        logging: false,
        run: |arena, to, seconds| {
            load::wrk(arena, &format!("https://{to}/small"), 16, seconds, &["Connection: close"])
        },
    },
    Row {
        name: "h2 over TLS, 8 x 16 streams",
        must: Some(0.70),
        tcp: false,
        logging: false,
        run: |arena, to, seconds| {
            load::h2load(arena, &format!("https://{to}/small"), 8, 16, seconds)
        },
    },
    Row {
        name: "tcp 200 B",
        must: Some(0.98),
        tcp: true,
        logging: false,
        run: |arena, to, seconds| {
            load::wrk(arena, &format!("http://{to}:5432/small"), 64, seconds, &[])
        },
    },
    Row {
        name: "tcp 64 KiB",
        must: Some(0.65),
        tcp: true,
        logging: false,
        run: |arena, to, seconds| {
            load::wrk(arena, &format!("http://{to}:5432/64k"), 64, seconds, &[])
        },
    },
];

/// What one proxy did in one round.
struct Sample {
    micros_per_request: f64,
    requests_per_second: f64,
    failed: u64,
}

/// The row about latency.
const LATENCY: &str = "p99 at equal load";

/// Whether proxies without and with an access log have to be there.
pub(crate) fn needed(wanted: &dyn Fn(&str) -> bool) -> (bool, bool) {
    let any = |logging| ROWS.iter().any(|row| row.logging == logging && wanted(row.name));
    (any(false) || wanted(LATENCY), any(true))
}

/// Prints the rows about CPU.
pub(crate) fn cpu(arena: &Arena, rounds: usize, seconds: u32, wanted: &dyn Fn(&str) -> bool) {
    for row in ROWS.iter().filter(|row| wanted(row.name)) {
        let proxies = if row.logging { &arena.logging } else { &arena.proxies };
        let proxies: Vec<&Proxy> = proxies
            .iter()
            .filter(|proxy| !row.tcp || proxy.contender.kind.forwards_tcp())
            .collect();
        let goal = row.must.map_or(String::new(), |must| format!(" (goal {must:.2})"));
        println!("\n{}{goal}", row.name);
        for proxy in &proxies {
            (row.run)(arena, proxy.address, 1);
        }
        let mut samples: Vec<Vec<Sample>> = proxies.iter().map(|_| vec![]).collect();
        for round in 0..rounds {
            for turn in 0..proxies.len() {
                let index = (turn + round) % proxies.len();
                samples[index].push(measure(arena, row, proxies[index], seconds));
            }
        }
        print(&proxies, &samples);
    }
}

/// Prints a line for each proxy: its CPU relative to that of nginx in the same rounds, and with
/// other builds of this project beside the first, relative to that too.
fn print(proxies: &[&Proxy], samples: &[Vec<Sample>]) {
    let of_kind = |kind| proxies.iter().position(|proxy| proxy.contender.kind == kind);
    let builds = proxies.iter().filter(|proxy| proxy.contender.kind == Kind::Alb).count();
    let alb = of_kind(Kind::Alb).filter(|_| builds > 1);
    let Some(nginx) = of_kind(Kind::Nginx) else { return };
    let column = if alb.is_some() { "CPU / alb" } else { "" };
    println!(
        "  {:<12} {:>18} {column:>18} {:>20} {:>12}",
        "", "CPU / nginx", "us CPU a request", "requests/s"
    );
    for (proxy, own) in proxies.iter().zip(samples) {
        let beside = |other: usize| {
            let pairs = own.iter().zip(&samples[other]);
            let ratios = pairs.map(|(own, its)| own.micros_per_request / its.micros_per_request);
            Spread::of(&ratios.collect::<Vec<f64>>()).to_string()
        };
        let of = |field: fn(&Sample) -> f64| Spread::of(&own.iter().map(field).collect::<Vec<_>>());
        let failed: u64 = own.iter().map(|sample| sample.failed).sum();
        let note = if failed > 0 { format!("  {failed} FAILED") } else { String::new() };
        println!(
            "  {:<12} {:>18} {:>18} {:>20} {:>12.0}{note}",
            proxy.contender.name,
            beside(nginx),
            alb.map(beside).unwrap_or_default(),
            of(|sample| sample.micros_per_request).to_string(),
            of(|sample| sample.requests_per_second).median,
        );
    }
}

fn measure(arena: &Arena, row: &Row, proxy: &Proxy, seconds: u32) -> Sample {
    let before = usage(proxy.group());
    let done = (row.run)(arena, proxy.address, seconds);
    let after = usage(proxy.group());
    let cpu = after.cpu.saturating_sub(before.cpu);
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let requests = done.requests.max(1) as f64;
    Sample {
        micros_per_request: cpu.as_secs_f64() * 1e6 / requests,
        requests_per_second: requests / f64::from(seconds),
        failed: done.failed,
    }
}

/// Prints the 99th percentile at a load that every proxy can carry.
pub(crate) fn latency(arena: &Arena, rounds: usize, seconds: u32, wanted: &dyn Fn(&str) -> bool) {
    /// Part of what the slowest of the three that matter most carries.
    const SHARE: f64 = 0.5;
    if !wanted(LATENCY) {
        return;
    }
    let url = |proxy: &Proxy| format!("http://{}/small", proxy.address);
    let fast = [Kind::Alb, Kind::Nginx, Kind::Haproxy];
    let carried =
        arena.proxies.iter().filter(|proxy| fast.contains(&proxy.contender.kind)).map(|proxy| {
            let done = load::wrk(arena, &url(proxy), 64, 2, &[]);
            done.requests / 2
        });
    let carried = carried.min().unwrap_or_default();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate far below 2^31"
    )]
    let rate = (carried as f64 * SHARE) as u32;
    println!("\n{LATENCY}: 200 B keep-alive, 32 connections, {rate} requests/s; microseconds");
    let mut times: Vec<Vec<f64>> = arena.proxies.iter().map(|_| vec![]).collect();
    for round in 0..rounds {
        for turn in 0..arena.proxies.len() {
            let index = (turn + round) % arena.proxies.len();
            let proxy = &arena.proxies[index];
            let (_, p99) = load::paced(arena, &url(proxy), 32, rate, seconds);
            times[index].push(p99.as_secs_f64() * 1e6);
        }
    }
    for (proxy, times) in arena.proxies.iter().zip(&times) {
        let Spread { median, min, max } = Spread::of(times);
        println!("  {:<12} {median:>8.0} [{min:.0} {max:.0}]", proxy.contender.name);
    }
}
