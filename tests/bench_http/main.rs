//! `cargo xtask bench http`: the CPU a request costs the proxy, beside nginx, haproxy, Envoy, Traefik
//! and Caddy in the same run. The proxy has one core; the load generator and the origin share the other.
#![expect(clippy::print_stdout, reason = "a bench prints")]

mod arena;
mod clients;
mod config;
mod cpu;
mod load;
mod memory;
mod peer;
mod rows;
mod table;

use std::path::PathBuf;

use clap::Parser;

use crate::{arena::Arena, peer::Kind};

/// What the bench runs.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds; the proxies alternate within each.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of load a proxy gets in each round of a row.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Only rows whose name contains this; may be repeated.
    #[arg(long)]
    row: Vec<String>,
    /// Only these proxies; may be repeated. nginx is always there: it is what the others are compared with.
    #[arg(long)]
    peer: Vec<Kind>,
    /// The binary to measure.
    #[arg(long, env = "ALB_BINARY")]
    alb: PathBuf,
    /// Directory with the programs installed by pip.
    #[arg(long, env = "ALB_BENCH_PEERS")]
    peers: PathBuf,
}

fn main() {
    let args = Args::parse();
    raise_open_files();
    let wanted = |name: &str| {
        args.row.is_empty() || args.row.iter().any(|part| name.contains(part.as_str()))
    };
    let mut kinds: Vec<Kind> = Kind::ALL.to_vec();
    kinds.retain(|kind| *kind == Kind::Nginx || args.peer.is_empty() || args.peer.contains(kind));
    let needed = rows::needed(&wanted);
    if needed != (false, false) {
        let arena = Arena::new(&args.alb, &args.peers, &kinds, needed);
        println!(
            "CPU a request, relative to nginx in the same round: median [min max] of {} rounds of {} s",
            args.rounds, args.seconds
        );
        for proxy in if needed.0 { &arena.proxies } else { &arena.logging } {
            println!("  {:<12} {}", proxy.kind.name(), proxy.version());
        }
        rows::cpu(&arena, args.rounds, args.seconds, &wanted);
        rows::latency(&arena, args.rounds, args.seconds, &wanted);
    }
    memory::rows(&args.alb, &args.peers, &kinds, &wanted);
}

/// Thousands of connections need descriptors, here and in every child.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("reading a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("raising a limit to what is allowed");
}
