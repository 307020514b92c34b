//! `cargo xtask bench`: figures, from a release build.

use std::process::Command;

use anyhow::Result;
use clap::Subcommand;

use crate::{
    build, build_ebpf, setup,
    shell::{self, step},
    workspace,
};

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Nanoseconds per packet beside primitives measured in the same run; needs root.
    Datapath {
        /// Passed on to the bench program.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// CPU per request, latency and memory of the proxy beside nginx, haproxy, Envoy, Traefik and
    /// Caddy, which are installed by apt and pip; needs root and two cores.
    Http {
        /// Passed on to the bench program; `--help` lists what it takes.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// TCP through real namespaces beside plain forwarding, nftables, haproxy and nginx, which are
    /// installed by apt; needs root and two cores.
    E2eTcp {
        /// Passed on to the bench program; `--help` lists what it takes.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// A flood of SYNs from one core while clients connect and connections go on through the other:
    /// before, during and after; needs root and two cores.
    Flood {
        /// Passed on to the bench program; `--help` lists what it takes.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// How long a large configuration takes to load and one change of it to reach the kernel's
    /// tables, and the memory they take; needs root.
    Scale {
        /// Passed on to the bench program; `--help` lists what it takes.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

pub(crate) fn run(args: &Args) -> Result<()> {
    setup::run()?;
    match &args.what {
        What::Datapath { args } => datapath(args),
        What::Http { args } => http(args),
        What::E2eTcp { args } => e2e_tcp(args),
        What::Flood { args } => flood(args),
        What::Scale { args } => scale(args),
    }
}

fn datapath(args: &[String]) -> Result<()> {
    let object = workspace::built_object();
    build_ebpf::build(&object)?;
    let bench = build_ebpf::build_bench()?;
    step("building and running the bench");
    let mut cargo = example("bench_datapath", args);
    shell::run(cargo.env("ALB_BPF_OBJECT", &object).env("ALB_BENCH_OBJECT", &bench))
}

fn flood(args: &[String]) -> Result<()> {
    let object = workspace::built_object();
    build_ebpf::build(&object)?;
    let alb = build::release(Some(&object))?;
    step("building and running the bench");
    shell::run(example("bench_flood", args).env("ALB_BPF_OBJECT", &object).env("ALB_BIN", alb))
}

fn scale(args: &[String]) -> Result<()> {
    let object = workspace::built_object();
    build_ebpf::build(&object)?;
    step("building and running the bench");
    shell::run(example("bench_scale", args).env("ALB_BPF_OBJECT", &object))
}

fn e2e_tcp(args: &[String]) -> Result<()> {
    setup::forwarders()?;
    let object = workspace::built_object();
    build_ebpf::build(&object)?;
    let alb = build::release(Some(&object))?;
    step("building and running the bench");
    shell::run(example("bench_e2e", args).env("ALB_BPF_OBJECT", &object).env("ALB_BIN", alb))
}

fn http(args: &[String]) -> Result<()> {
    let peers = setup::peers(&peers_of(args))?;
    let alb = build::release(None)?;
    step("building and running the bench");
    let mut cargo = example("bench_http", args);
    shell::run(cargo.env("ALB_BINARY", alb).env("ALB_BENCH_PEERS", peers))
}

/// The values of `--peer`.
fn peers_of(args: &[String]) -> Vec<&str> {
    let after = args.iter().zip(args.iter().skip(1));
    let after = after.filter_map(|(option, value)| (option == "--peer").then_some(value.as_str()));
    after.chain(args.iter().filter_map(|arg| arg.strip_prefix("--peer="))).collect()
}

/// One of the bench programs, built with optimizations.
pub(crate) fn example(name: &str, args: &[String]) -> Command {
    let mut cargo = Command::new(workspace::cargo());
    cargo
        .args(["run", "--locked", "--release", "--package", "alb-tests"])
        .args(["--example", name, "--"])
        .args(args)
        .current_dir(workspace::root());
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_read_from_what_is_passed_on() {
        let args = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(peers_of(&args("--rounds 5 --peer alb --peer=envoy")), ["alb", "envoy"]);
        assert!(peers_of(&args("--rounds 5")).is_empty());
    }
}
