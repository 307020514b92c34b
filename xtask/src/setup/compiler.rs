//! The compiler for the BPF target: rustup's if it can be had, else the distribution's.

use std::{process::Command, time::Duration};

use anyhow::Result;

use crate::{
    bpf_toolchain::{self, BpfToolchain},
    shell::{find_program, run_within, step},
};

/// A compiler whose LLVM the linker can read, with the sources of `core`.
pub(super) const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// A nightly known to fit the linker, for machines that have none.
const NIGHTLY: &str = "nightly-2026-05-20";

/// Long enough for a download of 3 MB, short enough not to be annoying without a network.
const COMPONENT_LIMIT: Duration = Duration::from_secs(30);
const TOOLCHAIN_LIMIT: Duration = Duration::from_mins(3);

/// Completes a rustup nightly, or installs one; `None` if rustup or its server has none to give.
pub(super) fn from_rustup() -> Result<Option<BpfToolchain>> {
    if find_program("rustup").is_none() {
        return Ok(None);
    }
    let fitting = |name: &String| bpf_toolchain::llvm_of(name).is_some();
    let (limit, command) = match bpf_toolchain::nightlies().into_iter().find(fitting) {
        Some(name) => (COMPONENT_LIMIT, format!("component add rust-src --toolchain {name}")),
        None => (
            TOOLCHAIN_LIMIT,
            format!("toolchain install {NIGHTLY} --profile minimal --component rust-src"),
        ),
    };
    step(&format!("trying rustup {command}"));
    let mut rustup = Command::new("rustup");
    if !run_within(limit, rustup.args(command.split_whitespace()))? {
        println!("not available from rustup; Debian's compiler will do");
    }
    Ok(BpfToolchain::detect())
}
