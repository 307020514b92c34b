//! `cargo xtask bench e2e-tcp`: TCP through real namespaces: the packet path beside plain forwarding by
//! the kernel without a balancer, nftables, haproxy in tcp mode and nginx's stream, alternating.
#![expect(clippy::print_stdout, reason = "a bench prints")]

mod load;
mod path;
#[path = "../bench_http/table.rs"]
mod table;
mod way;

use clap::Parser;

use crate::{
    load::Sample,
    path::{Devices, Path},
    table::Spread,
    way::Way,
};

/// Closer than this is a tie: the noise of the machines this runs on.
const TIE: f64 = 0.08;
/// What this project sets itself, relative to plain forwarding.
const GOAL: f64 = 0.95;

/// What the bench runs.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds; the ways alternate within each.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of load a way gets in each round of a row.
    #[arg(long, default_value_t = 1)]
    seconds: u32,
    /// Only rows whose name contains this; may be repeated.
    #[arg(long)]
    row: Vec<String>,
    /// Only these ways; may be repeated. Plain forwarding is always there.
    #[arg(long)]
    way: Vec<way::Kind>,
}

/// One kind of load.
struct Row {
    name: &'static str,
    unit: &'static str,
    run: fn(&Way<'_>, u32) -> Sample,
    /// What counts of a sample.
    value: fn(&Sample) -> f64,
    less_is_better: bool,
}

const ROWS: [Row; 5] = [
    Row {
        name: "new connections",
        unit: "1/s",
        run: |way, seconds| load::wrk(way, "small", 16, seconds, true),
        value: |sample| sample.rate,
        less_is_better: false,
    },
    Row {
        name: "requests, 32 kept-alive connections",
        unit: "1/s",
        run: |way, seconds| load::wrk(way, "small", 32, seconds, false),
        value: |sample| sample.rate,
        less_is_better: false,
    },
    Row {
        name: "latency p50, 1 connection",
        unit: "us",
        run: |way, seconds| load::wrk(way, "small", 1, seconds, false),
        value: |sample| sample.p50,
        less_is_better: true,
    },
    Row {
        name: "latency p99, 1 connection",
        unit: "us",
        run: |way, seconds| load::wrk(way, "small", 1, seconds, false),
        value: |sample| sample.p99,
        less_is_better: true,
    },
    Row {
        name: "bulk, 4 connections",
        unit: "MiB/s",
        run: |way, seconds| load::wrk(way, "large", 4, seconds, false),
        value: |sample| sample.rate,
        less_is_better: false,
    },
];

fn main() {
    let args = Args::parse();
    let mut kinds = way::Kind::ALL.to_vec();
    kinds
        .retain(|kind| *kind == way::Kind::Plain || args.way.is_empty() || args.way.contains(kind));
    println!(
        "client on one core, server on the other\nmedian [min max] of {} rounds of {} s; a difference \
         below {:.0} % is a tie",
        args.rounds,
        args.seconds,
        TIE * 100.0
    );
    println!("\n=== the devices of client and server as XDP needs them: GRO on, TX checksums off");
    compare(&args, &kinds, Devices::ForXdp);
    kinds.retain(|kind| kind.takes_offloads());
    if kinds.len() > 1 {
        println!("\n=== the devices of client and server as they are made");
        compare(&args, &kinds, Devices::Usual);
    }
}

fn compare(args: &Args, kinds: &[way::Kind], devices: Devices) {
    let paths: Vec<Path> = kinds.iter().map(|_| Path::new(devices)).collect();
    let ways: Vec<Way<'_>> =
        kinds.iter().zip(&paths).map(|(&kind, path)| Way::new(kind, path)).collect();
    for way in &ways {
        load::wrk(way, "small", 1, 1, false);
    }
    let wanted = |row: &&Row| {
        args.row.is_empty() || args.row.iter().any(|part| row.name.contains(part.as_str()))
    };
    for row in ROWS.iter().filter(wanted) {
        let mut samples: Vec<Vec<Sample>> = ways.iter().map(|_| vec![]).collect();
        for round in 0..args.rounds {
            for turn in 0..ways.len() {
                let index = (turn + round) % ways.len();
                samples[index].push((row.run)(&ways[index], args.seconds));
            }
        }
        print(row, &ways, &samples);
        print_peers(row, &ways, &samples);
    }
}

impl Row {
    /// How much better one is than another, by round; above 1 is better, whichever way the row
    /// counts.
    fn better(&self, own: &[Sample], other: &[Sample]) -> Spread {
        let pairs = own.iter().zip(other);
        let ratios = pairs.map(|(own, other)| {
            let (own, other) = ((self.value)(own), (self.value)(other));
            if self.less_is_better { other / own } else { own / other }
        });
        Spread::of(&ratios.collect::<Vec<_>>())
    }
}

/// Ours beside each peer.
fn print_peers(row: &Row, ways: &[Way<'_>], samples: &[Vec<Sample>]) {
    let all = || ways.iter().zip(samples);
    for (way, own) in all().filter(|(way, _)| way.kind.is_ours()) {
        let peers = all().filter(|(peer, _)| peer.kind.is_peer());
        let peers = peers.map(|(peer, other)| {
            let ratio = row.better(own, other).median;
            let word = match ratio {
                _ if (ratio - 1.0).abs() < TIE => "tie",
                _ if ratio > 1.0 => "ahead",
                _ => "BEHIND",
            };
            format!("{} {ratio:.2} {word}", peer.kind.name())
        });
        let peers: Vec<String> = peers.collect();
        if !peers.is_empty() {
            println!("  {} beside {}", way.kind.name(), peers.join("; "));
        }
    }
}

fn print(row: &Row, ways: &[Way<'_>], samples: &[Vec<Sample>]) {
    let Some(plain) = ways.iter().position(|way| way.kind == way::Kind::Plain) else { return };
    println!("\n{} ({})", row.name, row.unit);
    println!("  {:<18} {:>28} {:>22}   CPU of both cores", "", row.unit, "of plain forwarding");
    for (way, own) in ways.iter().zip(samples) {
        let values: Vec<f64> = own.iter().map(row.value).collect();
        let ratio = row.better(own, &samples[plain]);
        let cpu = Spread::of(&own.iter().map(|sample| sample.cpu * 100.0).collect::<Vec<_>>());
        let failed: u64 = own.iter().map(|sample| sample.failed).sum();
        let goal = match (way.kind.is_ours(), ratio.median >= GOAL) {
            (true, true) => "  goal 0.95 met",
            (true, false) => "  goal 0.95 MISSED",
            (false, _) => "",
        };
        let is_tie = way.kind != way::Kind::Plain && (ratio.median - 1.0).abs() < TIE;
        let tie = if is_tie { "  tie" } else { "" };
        let failed = if failed > 0 { format!("  {failed} FAILED") } else { String::new() };
        let Spread { median, min, max } = Spread::of(&values);
        println!(
            "  {:<18} {:>28} {:>22}   {:.0} %{goal}{tie}{failed}",
            way.kind.name(),
            format!("{median:.0} [{min:.0} {max:.0}]"),
            ratio.to_string(),
            cpu.median
        );
    }
}
