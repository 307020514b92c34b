//! `cargo xtask build`: the program as it is to be installed; with `--pgo`, compiled by a profile of
//! itself under the bench's load.

mod profdata;

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use self::profdata::Profdata;
use crate::{
    bench, setup,
    shell::{self, capture, step},
    workspace,
};

/// Every row of the bench about CPU: what the program does when it is busy, in every protocol.
const TRAINING: [&str; 5] = ["200 B", "64 KiB", "TLS keep-alive", "new TLS", "h2 over"];

/// Arguments of `build`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Build it, let it record what it does under the load of `bench http`, and build it again by
    /// that (profile-guided optimization): takes minutes, and needs root and two cores.
    #[arg(long)]
    pgo: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let program = if args.pgo { guided()? } else { release(None)? };
    println!("\nbuilt: {}", program.display());
    Ok(())
}

/// Builds the program, with this packet path or the committed one; returns where it is.
pub(crate) fn release(object: Option<&Path>) -> Result<PathBuf> {
    step("building alb");
    let mut build = cargo();
    shell::run(build.envs(object.map(|object| ("ALB_BPF_OBJECT", object))))?;
    Ok(workspace::root().join("target/release/alb"))
}

fn cargo() -> Command {
    let mut build = Command::new(workspace::cargo());
    build.args(["build", "--locked", "--release", "--package", "alb-userspace", "--bin", "alb"]);
    build.current_dir(workspace::root());
    build
}

fn guided() -> Result<PathBuf> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the load that the profile is taken under runs in a network namespace: needs root");
    }
    let rustc = Rustc::ask()?;
    let profdata = Profdata::find(&rustc)?;
    setup::run()?;
    setup::trainers()?;

    let dir = workspace::root().join("target/pgo");
    let profiles = dir.join("profiles");
    remove(&profiles)?;
    step("building an alb that records what it does");
    let recording = with(&rustc, "-Cprofile-generate=", &profiles, &dir.join("recording"))?;

    step("recording it under load");
    let rows = TRAINING.iter().flat_map(|row| ["--row", row]);
    let words = "--rounds 1 --seconds 3 --peer alb".split_whitespace().chain(rows);
    let words: Vec<String> = words.map(str::to_owned).collect();
    let mut bench = bench::example("bench_http", &words);
    // No program of another project is asked for.
    shell::run(bench.env("ALB_BINARY", recording).env("ALB_BENCH_PEERS", &dir))?;

    let profile = dir.join("alb.profdata");
    profdata.merge(&profiles, &profile)?;

    step("building alb by that");
    let target = dir.join("guided");
    // Cargo does not see that the profile is another one.
    remove(&target)?;
    let built = with(&rustc, "-Cprofile-use=", &profile, &target)?;
    let program = dir.join("alb");
    // Not written over: it may be running.
    if program.exists() {
        fs::remove_file(&program)
            .with_context(|| format!("cannot remove {}", program.display()))?;
    }
    fs::copy(&built, &program).with_context(|| format!("cannot write {}", program.display()))?;
    Ok(program)
}

fn remove(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    Ok(())
}

/// Builds the program into a target directory of its own, with one more flag of the compiler and
/// its value.
fn with(rustc: &Rustc, flag: &str, value: &Path, target: &Path) -> Result<PathBuf> {
    // Flags in which spaces are nothing special; they replace those of the plain variable.
    const SEPARATOR: &str = "\x1f";
    let mut flags: OsString = env::var_os("CARGO_ENCODED_RUSTFLAGS").unwrap_or_else(|| {
        let plain = env::var("RUSTFLAGS").unwrap_or_default();
        plain.split_whitespace().collect::<Vec<_>>().join(SEPARATOR).into()
    });
    if !flags.is_empty() {
        flags.push(SEPARATOR);
    }
    flags.push(flag);
    flags.push(value);
    let mut build = cargo();
    // The flags are for the target, and not for what runs while building.
    build.args(["--target", &rustc.host]).arg("--target-dir").arg(target);
    shell::run(build.env("CARGO_ENCODED_RUSTFLAGS", flags))?;
    Ok(target.join(&rustc.host).join("release/alb"))
}

/// The compiler that cargo will use.
#[derive(Debug)]
struct Rustc {
    /// The target it builds for if it is told nothing.
    host: String,
    /// Its LLVM.
    llvm: u32,
    sysroot: PathBuf,
}

impl Rustc {
    fn ask() -> Result<Self> {
        let program = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let ask = |words: &[&str]| {
            let said = capture(Command::new(&program).args(words).current_dir(workspace::root()));
            said.with_context(|| format!("{} does not run", program.display()))
        };
        let sysroot = ask(&["--print", "sysroot"])?.trim().into();
        Self::read(&ask(&["-vV"])?, sysroot)
    }

    fn read(verbose: &str, sysroot: PathBuf) -> Result<Self> {
        let host = verbose.lines().find_map(|line| line.strip_prefix("host: "));
        let llvm = crate::bpf_toolchain::llvm_version(verbose);
        match (host, llvm) {
            (Some(host), Some(llvm)) => Ok(Self { host: host.to_owned(), llvm, sysroot }),
            _ => bail!("the compiler does not say its host and its LLVM, but: {verbose}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_says_what_it_is() {
        let verbose = "rustc 1.95.0\nhost: x86_64-unknown-linux-gnu\nLLVM version: 22.1.2\n";
        let rustc = Rustc::read(verbose, PathBuf::new()).unwrap();
        assert_eq!((rustc.host.as_str(), rustc.llvm), ("x86_64-unknown-linux-gnu", 22));
        let error = Rustc::read("gcc", PathBuf::new()).unwrap_err().to_string();
        assert_eq!(error, "the compiler does not say its host and its LLVM, but: gcc");
    }
}
