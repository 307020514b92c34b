//! The compiler for the BPF target: which one this machine has, and how cargo is called with it.
//!
//! `core` has no prebuilt form for that target, so the compiler needs its own sources, and the
//! linker needs an LLVM at least as new as the compiler's.

use std::{env, path::Path, process::Command};

use anyhow::{Result, bail};

use crate::{
    shell::{capture, find_program},
    workspace,
};

/// LLVM that the linker is built with; a compiler with a newer one cannot be used.
pub(crate) const LLVM: u32 = 22;
/// The linker's version; later ones may want a later LLVM.
pub(crate) const LINKER: &str = "0.13.0";

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

/// A compiler that can build the packet path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BpfToolchain {
    /// A rustup nightly with the `rust-src` component, by its name.
    Nightly(String),
    /// The distribution's own compiler and sources.
    Debian,
}

impl BpfToolchain {
    /// The compiler to use, or what to do about having none.
    pub(crate) fn find() -> Result<Self> {
        if find_program("bpf-linker").is_none() {
            bail!("bpf-linker is not installed: run `cargo xtask setup`");
        }
        match Self::detect() {
            Some(toolchain) => Ok(toolchain),
            None => bail!(
                "no compiler for the BPF target (a nightly with rust-src, or Debian's rustc with \
                 its sources): run `cargo xtask setup`"
            ),
        }
    }

    /// The compiler this machine has, if any; `ALB_BPF_TOOLCHAIN` chooses one, `debian` or a
    /// rustup toolchain's name.
    pub(crate) fn detect() -> Option<Self> {
        match env::var("ALB_BPF_TOOLCHAIN").as_deref() {
            Ok("debian") => return debian_is_complete().then_some(Self::Debian),
            Ok(name) => return Some(Self::Nightly(name.to_owned())),
            Err(_) => {}
        }
        let usable =
            |name: &String| sysroot_has_core(&mut rustup_rustc(name)) && llvm_of(name).is_some();
        match nightlies().into_iter().find(usable) {
            Some(name) => Some(Self::Nightly(name)),
            None => debian_is_complete().then_some(Self::Debian),
        }
    }

    /// Cargo with this compiler, run at the top of the repository.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = match self {
            Self::Nightly(name) => {
                let mut command = Command::new("rustup");
                command.args(["run", name, "cargo"]);
                command.env_remove("RUSTC").env_remove("RUSTC_BOOTSTRAP");
                command
            }
            Self::Debian => {
                let mut command = Command::new(DEBIAN_CARGO);
                // A release compiler, allowed to build `core` from source.
                command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                command
            }
        };
        for inherited in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTFLAGS", "RUSTC_WRAPPER"] {
            command.env_remove(inherited);
        }
        if let Some(linker) = find_program("bpf-linker")
            && let Some(dir) = linker.parent()
        {
            let path = env::var_os("PATH").unwrap_or_default();
            let dirs = std::iter::once(dir.to_owned()).chain(env::split_paths(&path));
            if let Ok(path) = env::join_paths(dirs) {
                command.env("PATH", path);
            }
        }
        command.current_dir(workspace::root());
        command
    }

    /// Flags that keep this machine's directories out of the object's line information: paths are
    /// relative to the repository, to a crate's own directory or to the compiler's sources.
    pub(crate) fn remapped_paths(&self) -> Vec<String> {
        let mut rustc = match self {
            Self::Nightly(name) => rustup_rustc(name),
            Self::Debian => Command::new(DEBIAN_RUSTC),
        };
        let core = capture(rustc.args(["--print", "sysroot"]))
            .map(|sysroot| Path::new(sysroot.trim()).join("lib/rustlib/src/rust"));
        let registries = workspace::cargo_bin()
            .and_then(|bin| std::fs::read_dir(bin.parent()?.join("registry/src")).ok());
        let registries = registries.into_iter().flatten().filter_map(Result::ok);
        // Of several prefixes that fit, the compiler takes the last.
        std::iter::once(format!("--remap-path-prefix={}/=", workspace::root().display()))
            .chain(core.map(|dir| format!("--remap-path-prefix={}/=rust/", dir.display())))
            .chain(
                registries.map(|entry| format!("--remap-path-prefix={}/=", entry.path().display())),
            )
            .collect()
    }

    /// Whether clippy comes with it.
    pub(crate) fn has_clippy(&self) -> bool {
        match self {
            Self::Nightly(name) => {
                capture(Command::new("rustup").args(["run", name, "clippy-driver", "-V"])).is_some()
            }
            Self::Debian => Path::new("/usr/bin/clippy-driver").exists(),
        }
    }

    /// What to call it when talking to people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Nightly(name) => format!("rustup's {name}"),
            Self::Debian => format!("Debian's {DEBIAN_RUSTC}"),
        }
    }
}

/// Installed nightlies whose LLVM the linker can read.
pub(crate) fn nightlies() -> Vec<String> {
    let Some(listed) = capture(Command::new("rustup").args(["toolchain", "list"])) else {
        return Vec::new();
    };
    let names = listed.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|name| name.starts_with("nightly")).map(str::to_owned).collect()
}

/// The LLVM version of a rustup toolchain if the linker can read it.
pub(crate) fn llvm_of(toolchain: &str) -> Option<u32> {
    llvm_version(&capture(rustup_rustc(toolchain).arg("-vV"))?).filter(|&version| version <= LLVM)
}

/// The LLVM version that `rustc -vV` says.
pub(crate) fn llvm_version(verbose: &str) -> Option<u32> {
    let version = verbose.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}

fn rustup_rustc(toolchain: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", toolchain, "rustc"]);
    command
}

fn sysroot_has_core(rustc: &mut Command) -> bool {
    capture(rustc.args(["--print", "sysroot"])).is_some_and(|sysroot| {
        Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml").exists()
    })
}

fn debian_is_complete() -> bool {
    let verbose = capture(Command::new(DEBIAN_RUSTC).arg("-vV"));
    let llvm = verbose.as_deref().and_then(llvm_version);
    llvm.is_some_and(|version| version <= LLVM)
        && Path::new(DEBIAN_CARGO).exists()
        && sysroot_has_core(&mut Command::new(DEBIAN_RUSTC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_is_read_from_verbose_version() {
        let text = "rustc 1.96.0 (ac68faa20 2026-05-25)\nbinary: rustc\nLLVM version: 22.1.4\n";
        assert_eq!(llvm_version(text), Some(22));
        assert_eq!(llvm_version("rustc 1.96.0"), None);
    }
}
