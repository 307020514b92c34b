//! `cargo xtask bench`: figures, from a release build.

use std::process::Command;

use anyhow::Result;
use clap::Subcommand;

use crate::{
    build_ebpf, setup,
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
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let What::Datapath { args } = &args.what;
    setup::run()?;
    let object = workspace::built_object();
    build_ebpf::build(&object)?;
    let bench = build_ebpf::build_bench()?;
    step("building and running the bench");
    let mut cargo = Command::new(workspace::cargo());
    cargo
        .args(["run", "--locked", "--release", "--package", "alb-tests"])
        .args(["--example", "bench_datapath", "--"])
        .args(args)
        .env("ALB_BPF_OBJECT", &object)
        .env("ALB_BENCH_OBJECT", &bench)
        .current_dir(workspace::root());
    shell::run(&mut cargo)
}
