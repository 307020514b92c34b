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

use crate::{
    arena::Arena,
    peer::{Contender, Kind},
};

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
    /// Another build of this project, measured beside the one that was just built; may be repeated.
    #[arg(long, value_name = "PATH")]
    alb: Vec<PathBuf>,
    /// The binary to measure.
    #[arg(long, env = "ALB_BINARY", value_name = "PATH")]
    binary: PathBuf,
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
    let contenders = Contender::all(&kinds, &args.binary, &args.alb, &args.peers);
    let needed = rows::needed(&wanted);
    if needed != (false, false) {
        let arena = Arena::new(&contenders, needed);
        println!(
            "CPU a request, relative to nginx in the same round: median [min max] of {} rounds of {} s",
            args.rounds, args.seconds
        );
        for contender in &contenders {
            println!("  {:<12} {}", contender.name, contender.version());
        }
        rows::cpu(&arena, args.rounds, args.seconds, &wanted);
        rows::latency(&arena, args.rounds, args.seconds, &wanted);
    }
    memory::rows(&contenders, &wanted);
}

/// Thousands of connections need descriptors, here and in every child.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("reading a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("raising a limit to what is allowed");
}
