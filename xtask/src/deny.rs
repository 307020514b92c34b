//! cargo-deny: licences, sources and versions of dependencies (`deny.toml`), and known
//! vulnerabilities where their list can be had.

use std::{process::Command, time::Duration};

use anyhow::Result;

use crate::{
    shell::{self, find_program, run_within, step},
    workspace,
};

/// Long enough for the list of vulnerabilities, a few MB.
const FETCH_LIMIT: Duration = Duration::from_mins(1);

/// Whether it is installed.
pub(crate) fn is_installed() -> bool {
    find_program("cargo-deny").is_some()
}

/// Checks what needs no network.
pub(crate) fn rules() -> Result<()> {
    step("cargo deny check");
    shell::run(deny().args(["--offline", "check", "bans", "licenses", "sources"]))
}

/// Checks for known vulnerabilities, unless their list is out of reach.
pub(crate) fn advisories() -> Result<()> {
    step("cargo deny check advisories");
    if !run_within(FETCH_LIMIT, deny().args(["fetch", "db"]))? {
        println!("no list of known vulnerabilities to be had; not checked");
        return Ok(());
    }
    shell::run(deny().args(["--offline", "check", "advisories"]))
}

fn deny() -> Command {
    let program = find_program("cargo-deny").unwrap_or_else(|| "cargo-deny".into());
    let mut command = Command::new(program);
    command.env("CARGO", workspace::cargo()).current_dir(workspace::root());
    command
}
