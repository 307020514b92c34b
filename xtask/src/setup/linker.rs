//! The BPF linker, built against Debian's LLVM.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{
    bpf_toolchain::{LINKER, LLVM},
    shell::{self, capture, find_program, step},
    workspace,
};

/// What it is called when talking to people.
pub(super) const NAME: &str = "bpf-linker 0.13.0";

/// LLVM and what its static libraries need.
pub(super) const DEBIAN_PACKAGES: [&str; 5] =
    ["build-essential", "llvm-22-dev", "libpolly-22-dev", "zlib1g-dev", "libzstd-dev"];

/// Whether the wanted version, or any that works, is there.
pub(super) fn is_installed() -> bool {
    find_program("bpf-linker")
        .is_some_and(|path| capture(Command::new(path).arg("--version")).is_some())
}

/// Builds and installs it with the stable toolchain.
pub(super) fn install() -> Result<()> {
    step(&format!("cargo install {NAME}, against LLVM {LLVM}"));
    let prefix = format!("/usr/lib/llvm-{LLVM}");
    let mut cargo = Command::new(workspace::cargo());
    cargo
        .args(["install", "bpf-linker", "--locked", "--version", LINKER])
        .args(["--no-default-features", "--features", &format!("llvm-{LLVM}")])
        .env("RUSTFLAGS", format!("-L native={prefix}/lib"))
        .env("LLVM_PREFIX", &prefix)
        // Not a member of this workspace: its own profile, its own target directory.
        .env_remove("CARGO_TARGET_DIR")
        .current_dir("/");
    shell::run(&mut cargo).context("the linker for the BPF target could not be built")
}
