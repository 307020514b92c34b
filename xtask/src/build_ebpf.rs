//! `cargo xtask build-ebpf`: the packet path from source to one small object, and the
//! programs of `alb capture` to another beside it.

mod source_hash;
mod strip;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    bpf_toolchain::BpfToolchain,
    shell::{self, step},
    workspace,
};

const TARGET: &str = "bpfel-unknown-none";

/// The object of `alb capture`, beside the packet path's: `alb-userspace/build.rs` looks there.
const CAPTURE: &str = "capture.bpf.o";

/// Flags of the BPF compiler.
/// `target-cpu=v3` gives 32-bit jumps and atomics that return the old value (Linux 5.12);
/// debug information is what the linker makes BTF from.
const FLAGS: [&str; 4] =
    ["-Ctarget-cpu=v3", "-Cdebuginfo=2", "-Clink-arg=--btf", "--cfg=bpf_target_arch=\"x86_64\""];

/// Arguments of `build-ebpf`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write the object here and leave the committed one alone.
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    out: Option<PathBuf>,
    /// Build nothing; fail if the committed object is older than its sources.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.check {
        return check();
    }
    if let Some(out) = &args.out {
        return build(out);
    }
    // Taken first: an edit during the build must make the result stale, not fresh.
    let hash = source_hash::of(&workspace::root())?;
    build(&workspace::prebuilt_object())?;
    write(
        &workspace::prebuilt_hash(),
        format!(
            "{hash}
"
        )
        .as_bytes(),
    )
}

/// Builds the packet path from source into `out`, and beside it the programs of `alb capture`.
pub(crate) fn build(out: &Path) -> Result<()> {
    let toolchain = BpfToolchain::find()?;
    step(&format!("building the packet path with {}", toolchain.describe()));
    shell::run(cargo(&toolchain, "build").arg("--bins"))?;
    let linked = workspace::root().join("target/bpf").join(TARGET).join("release");
    let capture = beside(out);
    for (program, out) in [("alb-ebpf", out), ("alb-capture", &capture)] {
        let linked = linked.join(program);
        let object =
            fs::read(&linked).with_context(|| format!("cannot read {}", linked.display()))?;
        let stripped = strip::debug_sections(&object)
            .with_context(|| format!("cannot strip {}", linked.display()))?;
        write(out, &stripped)?;
        println!("{}: {} bytes", out.display(), stripped.len());
    }
    Ok(())
}

/// Where the programs of `alb capture` are, beside this object.
pub(crate) fn beside(object: &Path) -> PathBuf {
    object.with_file_name(CAPTURE)
}

/// Builds the bench's programs; where the object is.
pub(crate) fn build_bench() -> Result<PathBuf> {
    let toolchain = BpfToolchain::find()?;
    let name = "alb-bench";
    shell::run(cargo(&toolchain, "build").args(["--bin", name, "--features", "bench"]))?;
    Ok(workspace::root().join("target/bpf").join(TARGET).join("release").join(name))
}

/// Cargo for the BPF target, up to and including the package.
pub(crate) fn cargo(toolchain: &BpfToolchain, subcommand: &str) -> std::process::Command {
    let mut cargo = toolchain.cargo();
    let flags = FLAGS.into_iter().map(str::to_owned).chain(toolchain.remapped_paths());
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.collect::<Vec<_>>().join("\x1f"));
    cargo.args([subcommand, "--locked", "--package", "alb-ebpf", "--release"]);
    cargo.args(["--target", TARGET, "-Z", "build-std=core", "--target-dir", "target/bpf"]);
    cargo
}

/// Fails if the committed object does not come from the sources as they are.
pub(crate) fn check() -> Result<()> {
    let path = workspace::prebuilt_hash();
    let recorded =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    if recorded.trim() != source_hash::of(&workspace::root())? {
        bail!(
            "the committed object alb-ebpf/prebuilt/alb.bpf.o is older than its sources: run \
             `cargo xtask build-ebpf` and commit alb-ebpf/prebuilt"
        );
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
