//! `cargo xtask lint`: formatting, clippy on the host (fuzz targets too) and for the BPF target,
//! dependency rules.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{
    bpf_toolchain::BpfToolchain,
    build_ebpf, deny,
    shell::{self, step},
    workspace,
};

pub(crate) fn run() -> Result<()> {
    step("cargo fmt --check");
    shell::run(cargo().args(["fmt", "--all", "--check"])).context("run `cargo fmt --all`")?;

    step("cargo clippy, every target of the host");
    shell::run(cargo().args([
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "--deny=warnings",
    ]))?;

    step("cargo clippy, the fuzz targets");
    shell::run(cargo().args([
        "clippy",
        "--locked",
        "--manifest-path=tests/fuzz/Cargo.toml",
        "--no-default-features",
        "--target-dir=target",
        "--",
        "--deny=warnings",
    ]))?;

    let toolchain = BpfToolchain::find()?;
    if toolchain.has_clippy() {
        step("cargo clippy, the BPF target");
        let mut clippy = build_ebpf::cargo(&toolchain, "clippy");
        shell::run(clippy.args(["--", "--deny=warnings"]))?;
    } else {
        step("compiler warnings, the BPF target");
        println!("{} has no clippy; the library was linted on the host", toolchain.describe());
        for target in [&["--lib"][..], &["--bin", "alb-ebpf"], &["--bin", "alb-capture"]] {
            let mut rustc = build_ebpf::cargo(&toolchain, "rustc");
            shell::run(rustc.args(target).args(["--", "--deny=warnings"]))?;
        }
    }

    if deny::is_installed() {
        deny::rules()?;
    } else {
        println!(
            "\ncargo-deny is not installed; dependency rules (deny.toml) are not checked: \
             `cargo xtask test --all` installs it"
        );
    }
    Ok(())
}

/// Lints with the same embedded object as the tests, if there is one, to compile once.
fn cargo() -> Command {
    let mut command = Command::new(workspace::cargo());
    let object = workspace::built_object();
    command.envs(object.exists().then_some(("ALB_BPF_OBJECT", object)));
    command.current_dir(workspace::root());
    command
}
