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
    /// Run the long tests too, those with real databases, the traffic again over TC and over generic
    /// XDP, and the kernel rings under Debian's stock kernel.
    #[arg(long)]
    all: bool,
    /// Run only the kernel rings, under this kernel in a virtual machine.
    #[arg(long, conflicts_with = "all")]
    kernel: Option<Kernel>,
    /// Kernel rings run as many tests at once: they wait most of the time. Tests with deadlines must
    /// not starve each other, so few; fewer still beside other work.
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    test_threads: u8,
    /// Run only tests whose name contains this, and neither lint nor check the committed object.
    filter: Option<String>,
}

/// What has to be seen over TC too whenever the tests are run; `tc::` sees to transfers, weights,
/// `kill -9` and the ways to attach.
const OVER_TC: [&str; 6] =
    ["selection::", "draining::", "reload::", "restart::", "refusal::detach", "path_mtu::"];
/// What all the traffic goes over after native XDP.
const OTHER_DATAPATHS: [&str; 2] = ["tc", "xdp-generic"];
/// Tests that are the same over each: without a device, of a datapath that they name, or of none.
const OF_ONE_DATAPATH: [&str; 9] = [
    "demo::",
    "rows::",
    "verifier::",
    "tc::",
    "transfer::",
    "proxy_alone::",
    "net::",
    "doctor::",
    "databases::",
];

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

    let mut rings = Rings::default();
    step("rings 2 and 3: packets through the kernel, traffic through namespaces");
    let mut kernel = kernel_rings(&[], args.test_threads);
    kernel.args(args.all.then_some("--include-ignored")).args(filter);
    rings.note(shell::run(&mut kernel).context("rings 2 and 3 failed"));
    if filter.is_none() {
        step("what the verifier makes of the programs");
        let mut verifier = kernel_rings(&["--test", "it"], 1);
        verifier.args(["verifier::", "--nocapture"]);
        rings.note(shell::run(&mut verifier).context("the programs are over their budget"));
    }

    if filter.is_none() && !args.all {
        rings.note(over("tc", &OVER_TC, args.test_threads));
    }
    if args.all {
        for datapath in OTHER_DATAPATHS {
            rings.note(over(datapath, filter.as_slice(), args.test_threads));
        }
        rings.note(kernel::run(Kernel::Debian, filter));
    }

    rings.all_passed()?;
    println!("\nall tests passed in {} s", begun.elapsed().as_secs());
    Ok(())
}

/// What became of the rings that take long: one that fails keeps none after it from being run.
#[derive(Debug, Default)]
struct Rings {
    failed: Vec<anyhow::Error>,
}

impl Rings {
    fn note(&mut self, ring: Result<()>) {
        if let Err(error) = ring {
            println!("\n{error:#}; the rings after it are run all the same");
            self.failed.push(error);
        }
    }

    fn all_passed(self) -> Result<()> {
        let failed: Vec<_> = self.failed.iter().map(|error| format!("{error:#}")).collect();
        if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("\n")) }
    }
}

/// The end-to-end tests that leave the choice of a datapath to the harness, all or these.
fn over(datapath: &str, filters: &[&str], test_threads: u8) -> Result<()> {
    let begun = Instant::now();
    step(&format!("ring 3 again, over datapath {datapath}"));
    let mut tests = kernel_rings(&["--test", "it"], test_threads);
    tests.args(filters).env("ALB_TEST_DATAPATH", datapath);
    for apart in OF_ONE_DATAPATH {
        tests.args(["--skip", apart]);
    }
    shell::run(&mut tests).with_context(|| format!("ring 3 over datapath {datapath} failed"))?;
    println!("passed over {datapath} in {} s", begun.elapsed().as_secs());
    Ok(())
}

/// `cargo test` of the kernel rings up to the tests' own arguments.
fn kernel_rings(what: &[&str], test_threads: u8) -> Command {
    let mut command = cargo();
    command
        .args(["test", "--locked", "--package", "alb-tests"])
        .args(what)
        .args(["--".to_owned(), format!("--test-threads={test_threads}")])
        .env("ALB_BIN", workspace::root().join("target/debug/alb"))
        .env("ALB_REQUIRE_KERNEL", "1");
    command
}

/// Every step embeds the same object, so that none makes the next compile again.
fn cargo() -> Command {
    let mut command = Command::new(workspace::cargo());
    command.env("ALB_BPF_OBJECT", workspace::built_object()).current_dir(workspace::root());
    command
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn every_ring_that_fails_is_told() {
        let mut rings = Rings::default();
        rings.note(Ok(()));
        assert!(std::mem::take(&mut rings).all_passed().is_ok());
        rings.note(Err(anyhow!("exit status: 1").context("ring 2 failed")));
        rings.note(Ok(()));
        rings.note(Err(anyhow!("ring 3 failed")));
        let told = rings.all_passed().expect_err("two failed").to_string();
        assert_eq!(told, "ring 2 failed: exit status: 1\nring 3 failed");
    }
}
