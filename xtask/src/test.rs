//! `cargo xtask test`: every ring, on an object built from source.

use std::{process::Command, time::Instant};

use anyhow::{Context as _, Result, bail};

use crate::{
    build_ebpf, deny,
    kernel::{self, Kernel},
    lint, setup,
    shell::{self, step},
    workspace,
};

/// Arguments of `test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run the long tests too, those with real databases, and the kernel rings under Debian's stock
    /// kernel.
    #[arg(long)]
    all: bool,
    /// Run only the kernel rings, under this kernel in a virtual machine.
    #[arg(long, conflicts_with = "all")]
    kernel: Option<Kernel>,
    /// Run only tests whose name contains this, and neither lint nor check the committed object.
    filter: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "the kernel rings load packet programs and make network namespaces, which needs root; \
             `cargo test` runs the rest"
        );
    }
    let begun = Instant::now();
    if let Some(kernel) = args.kernel {
        kernel::run(kernel, args.filter.as_deref())?;
        println!("\npassed in {} s", begun.elapsed().as_secs());
        return Ok(());
    }
    setup::run()?;
    if args.all {
        setup::databases()?;
        setup::dependency_rules()?;
    }
    if args.filter.is_none() {
        step("is the committed object up to date");
        build_ebpf::check()?;
        println!("yes");
    }
    let object = workspace::built_object();
    build_ebpf::build(&object)?;
    if args.filter.is_none() {
        lint::run()?;
        if args.all {
            deny::advisories()?;
        }
    }

    let filter = args.filter.as_deref();
    step("ring 1: unit and property tests");
    let mut unit = cargo();
    unit.args(["test", "--locked"]).args(filter.map(|name| ["--", name]).into_iter().flatten());
    shell::run(&mut unit).context("ring 1 failed")?;

    step("building the daemon and the kernel rings");
    let build = ["build", "--locked", "--package", "alb-userspace", "--bin", "alb"];
    shell::run(cargo().args(build))?;

    step("rings 2 and 3: packets through the kernel, traffic through namespaces");
    let mut kernel = cargo();
    kernel
        .args(["test", "--locked", "--package", "alb-tests", "--"])
        // Tests with deadlines must not starve each other on two cores.
        .arg("--test-threads=1")
        .args(args.all.then_some("--include-ignored"))
        .args(filter)
        .env("ALB_BIN", workspace::root().join("target/debug/alb"))
        .env("ALB_REQUIRE_KERNEL", "1");
    shell::run(&mut kernel).context("rings 2 and 3 failed")?;

    if args.all {
        kernel::run(Kernel::Debian, filter)?;
    }

    println!("\nall tests passed in {} s", begun.elapsed().as_secs());
    Ok(())
}

/// Every step embeds the same object, so that none makes the next compile again.
fn cargo() -> Command {
    let mut command = Command::new(workspace::cargo());
    command.env("ALB_BPF_OBJECT", workspace::built_object()).current_dir(workspace::root());
    command
}
