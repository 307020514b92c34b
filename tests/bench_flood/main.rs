//! `cargo xtask bench flood`: SYNs from addresses that are nobody's, as fast as one core sends them,
//! while clients connect and connections that are open go on: before, during and after.
//!
//! The generator has one core to itself, everything else shares the other: the balancer (whose
//! devices poll in threads for that), the servers and the clients.
#![expect(clippy::print_stdout, reason = "a bench prints")]

mod cores;
mod flood;
mod probe;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use alb_tests::{
    daemon::{Daemon, Instance, Node},
    server::Server,
    topology::{Lab, Shape, VIP},
};
use clap::Parser;

use crate::{
    flood::Flood,
    probe::{Probe, Seen},
};

/// Where clients connect to, and where servers listen.
const PORT: u16 = 8080;
/// What new clients' p99 may be during the flood, times what it was before.
const SLOWER: f64 = 2.0;
/// Part of new clients that have to be served during the flood.
const SERVED: f64 = 0.999;

/// What the bench runs.
#[derive(Debug, Parser)]
struct Args {
    /// Seconds of each of the three phases.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// SYNs a second; 0 = as many as one core sends.
    #[arg(long, default_value_t = 0)]
    rate: u32,
    /// New clients a second.
    #[arg(long, default_value_t = 200)]
    clients: u32,
    /// Servers: each can have as many half-open connections as there are SNAT ports.
    #[arg(long, default_value_t = 3)]
    targets: u8,
}

fn main() {
    let args = Args::parse();
    let lab = Lab::for_xdp(Shape { targets: args.targets, ..Shape::default() });
    cores::keep(cores::WORK);
    let servers: Vec<Server> = (1..)
        .zip(&lab.targets)
        .map(|(number, host)| Server::start(host, PORT, &format!("t{number}")))
        .collect();
    let node = Node { more: vec![], ..Node::on(lab.interfaces(), "xdp") };
    let daemon = Instance::new(&lab.balancer.namespace, node, &service(&lab)).start();
    // A virtual device polls from when it has a program on.
    let before = cores::pollers();
    let threaded = cores::poll_in_threads(&lab.balancer.namespace, lab.interfaces());
    if threaded {
        cores::move_to(cores::WORK, &(&cores::pollers() - &before));
    }
    println!(
        "{} new clients a second and {} open connections to {} servers behind XDP on core {}, SYNs \
         from core {}{}\n",
        args.clients,
        probe::OPEN,
        servers.len(),
        cores::WORK,
        cores::FLOOD,
        if threaded { "" } else { " (the devices cannot poll in threads: they do it there too)" },
    );
    run(&args, &lab, &daemon);
}

fn run(args: &Args, lab: &Lab, daemon: &Daemon<'_>) {
    let probe = Probe::begin(&lab.client.namespace, (VIP, PORT).into(), args.clients);
    let flood = Flood::new(lab, (VIP, PORT));
    let phase = Duration::from_secs(args.seconds);
    let mut rows: Vec<(&str, f64, Seen)> = Vec::new();
    let mut counted = Vec::new();
    for name in ["before", "during", "after"] {
        let stop = AtomicBool::new(false);
        let earlier = counters(daemon);
        let (offered, seen) = thread::scope(|scope| {
            let flooding = (name == "during").then(|| scope.spawn(|| flood.run(args.rate, &stop)));
            let seen = probe.watch(phase);
            stop.store(true, Ordering::Relaxed);
            (flooding.map_or(0.0, |flooding| flooding.join().expect("no panic")), seen)
        });
        if name == "during" {
            counted = since(&earlier, &counters(daemon));
        }
        rows.push((name, offered, seen));
    }
    drop(probe);
    print(&rows);
    println!("\ncounted by the packet path meanwhile: {}", counted.join(", "));
    println!("resident: {} MiB", daemon.resident() >> 20);
}

fn service(lab: &Lab) -> String {
    let targets = lab.targets.iter().map(|host| format!("{{ ipAddress: {} }}", host.address));
    let targets = targets.collect::<Vec<_>>().join(", ");
    format!(
        "subnets: [{{ name: front, addressPrefix: 198.18.0.0/24 }}]\n\
         loadBalancers:\n\
         - name: b\n  subnet: front\n  privateIpAddress: {VIP}\n  \
         targetGroups: [{{ name: g, type: ip, targets: [{targets}] }}]\n  \
         backends: [{{ name: s, protocol: Tcp, port: {PORT}, targetGroup: g, \
         healthCheck: {{ protocol: Tcp }} }}]\n  \
         listeners: [{{ name: l, protocol: Tcp, port: {PORT}, backend: s }}]\n"
    )
}

/// Reasons and events by name.
fn counters(daemon: &Daemon<'_>) -> Vec<(String, u64)> {
    let status = daemon.status();
    let of = |list: &str, name: &str| {
        let each = status[list].as_array().into_iter().flatten();
        let counts = each.map(|each| {
            (
                each[name].as_str().unwrap_or_default().to_owned(),
                each["count"].as_u64().unwrap_or(0),
            )
        });
        counts.collect::<Vec<_>>()
    };
    // An answer is no drop.
    let challenged = ("syn_challenged".to_owned(), daemon.reason("syn_challenged"));
    [of("drops", "reason"), of("events", "event"), vec![challenged]].concat()
}

fn since(before: &[(String, u64)], after: &[(String, u64)]) -> Vec<String> {
    let before = |name: &str| before.iter().find(|each| each.0 == name).map_or(0, |each| each.1);
    let rises = after.iter().map(|(name, count)| (name, count - before(name)));
    rises.filter(|(_, rise)| *rise > 0).map(|(name, rise)| format!("{name} {rise}")).collect()
}

fn print(rows: &[(&str, f64, Seen)]) {
    println!(
        "{:<8} {:>10} {:>12} {:>9} {:>9} {:>9} {:>14} {:>12} {:>7}",
        "",
        "SYNs/s",
        "new clients",
        "served %",
        "p50 us",
        "p99 us",
        "exchanges/s",
        "longest ms",
        "broken"
    );
    for (name, offered, seen) in rows {
        println!(
            "{name:<8} {offered:>10.0} {:>12} {:>9.2} {:>9.0} {:>9.0} {:>14.0} {:>12.1} {:>7}",
            seen.tried,
            seen.served() * 100.0,
            seen.percentile(0.5),
            seen.percentile(0.99),
            seen.exchanges,
            seen.longest.as_secs_f64() * 1e3,
            seen.broken,
        );
    }
    let [(.., before), (.., during), ..] = rows else { return };
    let slower = during.percentile(0.99) / before.percentile(0.99);
    let word = |met: bool| if met { "met" } else { "MISSED" };
    println!(
        "\nserved during the flood: {:.2} % (goal {} %: {}); p99 {slower:.1} x before (goal {SLOWER}: {}); \
         open connections broken: {} (goal 0: {})",
        during.served() * 100.0,
        SERVED * 100.0,
        word(during.served() >= SERVED),
        word(slower <= SLOWER),
        during.broken,
        word(during.broken == 0),
    );
    for (error, count) in &during.errors {
        println!("  {count} x {error}");
    }
}
