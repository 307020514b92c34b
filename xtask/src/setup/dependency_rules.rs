//! cargo-deny, which checks dependencies; only `test --all` installs it.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{
    deny,
    shell::{self, step},
    workspace,
};

/// Known to read `deny.toml` as it is.
const VERSION: &str = "0.20.2";

/// Builds and installs it if it is missing.
pub(crate) fn install() -> Result<()> {
    if deny::is_installed() {
        return Ok(());
    }
    step(&format!("cargo install cargo-deny {VERSION}, about 5 minutes"));
    let mut cargo = Command::new(workspace::cargo());
    cargo.args(["install", "cargo-deny", "--locked", "--version", VERSION]);
    // Not a member of this workspace: its own profile, its own target directory.
    cargo.env_remove("CARGO_TARGET_DIR").current_dir("/");
    shell::run(&mut cargo).context("cargo-deny could not be built")
}
