//! Debian packages, installed without starting any service they bring.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::shell::{self, capture, find_program, step};

/// Asked by `invoke-rc.d` before a maintainer script starts a service; 101 = not allowed.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Whether dpkg has this package installed.
pub(super) fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    capture(query.args(["-W", "-f", "${db:Status-Status}", package]))
        .is_some_and(|status| status == "installed")
}

/// Updates the lists and installs the packages.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    if find_program("apt-get").is_none() {
        bail!("this machine has no apt-get: install the equivalents of {}", packages.join(" "));
    }
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "installing packages needs root: run `cargo xtask setup` as root, or \
             `sudo apt-get install --no-install-recommends {}`",
            packages.join(" ")
        );
    }
    step("apt-get update");
    shell::run(apt_get().arg("update"))?;
    step(&format!("apt-get install {}", packages.join(" ")));
    let _policy = NoServices::begin()?;
    shell::run(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(packages))
        .with_context(|| {
            format!(
                "the packages are those of Debian 12 with its security updates; on another \
                 distribution install the equivalents of {}",
                packages.join(" ")
            )
        })
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// While it lives, packages may not start services. Leaves a policy of the host's own alone.
struct NoServices {
    ours: Option<PathBuf>,
}

impl NoServices {
    fn begin() -> Result<Self> {
        let path = Path::new(POLICY);
        if path.exists() {
            return Ok(Self { ours: None });
        }
        fs::write(path, "#!/bin/sh\nexit 101\n")
            .with_context(|| format!("cannot write {POLICY}"))?;
        let policy = Self { ours: Some(path.to_owned()) };
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        Ok(policy)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(path) = &self.ours
            && let Err(error) = fs::remove_file(path)
        {
            eprintln!("cannot remove {}: {error}", path.display());
        }
    }
}
