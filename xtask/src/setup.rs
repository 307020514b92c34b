//! `cargo xtask setup`: what the build and the tests need beyond stable Rust.
//!
//! Looks first, says what is missing and what will be installed, then installs just that.

mod apt;
mod compiler;
mod databases;
mod dependency_rules;
mod linker;
mod peers;
mod virtual_machine;

pub(crate) use databases::install as databases;
pub(crate) use dependency_rules::install as dependency_rules;
pub(crate) use peers::{forwarders, install as peers, trainers};
pub(crate) use virtual_machine::install as virtual_machine;

use anyhow::{Result, bail};

use crate::{
    bpf_toolchain::BpfToolchain,
    shell::{find_program, step},
};

/// Programs the lab, the demo and the tests start, with the Debian package of each.
const PROGRAMS: [(&str, &str); 9] = [
    ("cc", "build-essential"),
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("nginx", "nginx-light"),
    ("bpftool", "bpftool"),
    ("curl", "curl"),
    ("openssl", "openssl"),
    ("h2load", "nghttp2-client"),
    ("nghttp", "nghttp2-client"),
];

/// Makes this machine ready; fast and silent but for one line when it already is.
pub(crate) fn run() -> Result<()> {
    let mut packages: Vec<&str> = Vec::new();
    for (program, package) in PROGRAMS {
        if find_program(program).is_none() && !packages.contains(&package) {
            packages.push(package);
        }
    }
    let need_linker = !linker::is_installed();
    let mut toolchain = BpfToolchain::detect();
    if packages.is_empty() && !need_linker && toolchain.is_some() {
        println!("set-up: everything is installed");
        return Ok(());
    }

    if toolchain.is_none() {
        toolchain = compiler::from_rustup()?;
    }
    if toolchain.is_none() {
        packages.extend(compiler::DEBIAN_PACKAGES);
    }
    if need_linker {
        packages.extend(linker::DEBIAN_PACKAGES);
    }
    packages.retain(|package| !apt::is_installed(package));

    step("set-up will install:");
    if !packages.is_empty() {
        println!("  Debian packages: {}", packages.join(" "));
    }
    if need_linker {
        println!("  {} (cargo install, about 2 minutes)", linker::NAME);
    }
    if !packages.is_empty() {
        apt::install(&packages)?;
    }
    if need_linker {
        linker::install()?;
    }

    for (program, package) in PROGRAMS {
        if find_program(program).is_none() {
            bail!("{package} is installed but has no program {program} on PATH");
        }
    }
    let toolchain = BpfToolchain::find()?;
    println!("\nset-up: done; the packet path is built with {}", toolchain.describe());
    Ok(())
}
