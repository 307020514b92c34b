//! `cargo xtask run`: the demo, or the daemon on this host.

use std::{path::PathBuf, process::Command};

use anyhow::{Result, bail};

use crate::{
    build_ebpf, setup,
    shell::{self, step},
    workspace,
};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run the daemon on this host with this file, instead of the demo.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Build the daemon with optimizations.
    #[arg(long)]
    release: bool,
    /// Keep the demo up until Ctrl-C, to look around in it.
    #[arg(long, conflicts_with = "config")]
    hold: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("loading packet programs and making network namespaces needs root");
    }
    setup::run()?;
    let object = workspace::built_object();
    build_ebpf::build(&object)?;

    step("building the daemon");
    let profile: &[&str] = if args.release { &["--release"] } else { &[] };
    let build = |words: &[&str]| {
        let mut cargo = cargo(&object);
        shell::run(cargo.args(["build", "--locked"]).args(profile).args(words))
    };
    build(&["--package", "alb-userspace", "--bin", "alb"])?;
    let binaries =
        workspace::root().join("target").join(if args.release { "release" } else { "debug" });
    let daemon = binaries.join("alb");

    if let Some(config) = &args.config {
        let mut alb = Command::new(&daemon);
        alb.args(["run", "--config"]).arg(config);
        return Err(shell::exec(&mut alb).into());
    }
    build(&["--package", "alb-tests", "--example", "demo"])?;
    let mut demo = Command::new(binaries.join("examples/demo"));
    demo.arg(&daemon).arg(workspace::root().join("examples/quickstart.yaml"));
    demo.args(args.hold.then_some("--hold"));
    // The demo takes its signals itself, and is the last thing to do.
    Err(shell::exec(&mut demo).into())
}

fn cargo(object: &std::path::Path) -> Command {
    let mut cargo = Command::new(workspace::cargo());
    cargo.env("ALB_BPF_OBJECT", object).current_dir(workspace::root());
    cargo
}
