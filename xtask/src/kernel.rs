//! `cargo xtask test --kernel debian`: the kernel rings under Debian's stock kernel, in a virtual
//! machine that emulates its processor, so that it needs no virtualization.

mod image;
mod machine;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::{
    build_ebpf, setup,
    shell::{self, step},
    workspace,
};

/// Kernels that the rings can be run under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kernel {
    /// The stock kernel of the Debian release this machine runs (6.1 on Debian 12).
    Debian,
}

/// What is run there unless something is named: every packet row of IPv4, those of IPv6 whose text
/// is IPv6's own or that fill its tables, and traffic through namespaces that an emulated processor gets done in time.
const TESTS: [&str; 19] = [
    "rows::",
    "rows6::closing",
    "rows6::established",
    "rows6::headers",
    "rows6::icmp",
    "rows6::limits",
    "rows6::opening",
    "verifier::",
    "tc::a_kill_and_a_restart",
    "capture::a_connection",
    "capture::ends::whatever_ends_it",
    "path_mtu::on_the_targets_side",
    "round_robin_follows_the_weights",
    "kill_and_restart_during_50_transfers",
    "vips_come_and_go",
    "the_first_connection_after_start",
    "proxied::changes_touch_no_open_connection",
    "proxied::the_end_waits_for_open_connections",
    "exhaustion_is_a_reset_and_a_counter",
];

/// Package whose dependency is the stock kernel for virtual machines.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// Builds everything, boots the kernel and runs the tests whose name contains `filter`.
pub(crate) fn run(kernel: Kernel, filter: Option<&str>) -> Result<()> {
    let Kernel::Debian = kernel;
    setup::run()?;
    setup::virtual_machine()?;
    let object = workspace::built_object();
    build_ebpf::build(&object)?;
    step("building the daemon and the kernel rings");
    let mut build = Command::new(workspace::cargo());
    build.args(["build", "--locked", "--package", "alb-userspace", "--bin", "alb"]);
    shell::run(build.env("ALB_BPF_OBJECT", &object).current_dir(workspace::root()))?;
    let rings = rings(&object)?;

    let dir = workspace::root().join("target/kernel");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let kernel = unpacked_kernel(&dir)?;
    step("packing the machine's files");
    let tests: Vec<&str> = filter.map_or_else(|| TESTS.to_vec(), |filter| vec![filter]);
    let alb = workspace::root().join("target/debug/alb");
    let files = image::Files { kernel: &kernel, alb: &alb, rings: &rings, object: &object };
    let initramfs = image::pack(&dir, &files, &tests)?;
    step("booting it; everything takes some 30 times as long as usual");
    machine::run(&kernel, &initramfs)
}

/// Builds the test program and finds where cargo put it.
fn rings(object: &Path) -> Result<PathBuf> {
    let mut build = Command::new(workspace::cargo());
    build.args(["test", "--locked", "--package", "alb-tests", "--test", "it", "--no-run"]);
    build.args(["--message-format", "json"]);
    build.env("ALB_BPF_OBJECT", object).current_dir(workspace::root());
    let messages = shell::capture(&mut build).context("the kernel rings do not build")?;
    let mut executables = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let of_rings = message["target"]["name"] == "it";
        of_rings.then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    executables.next_back().context("cargo names no test program")
}

/// Downloads the stock kernel if it is not there yet; returns the root it is unpacked in.
fn unpacked_kernel(dir: &Path) -> Result<PathBuf> {
    let depends = shell::capture(Command::new("apt-cache").args(["depends", META_PACKAGE]));
    let depends = depends.with_context(|| format!("apt does not know {META_PACKAGE}"))?;
    let package = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
        .map(|version| format!("linux-image-{version}"))
        .with_context(|| format!("{META_PACKAGE} depends on no kernel"))?;
    let root = dir.join(&package);
    if root.join("boot").exists() {
        return Ok(root);
    }
    step(&format!("downloading {package}"));
    shell::run(Command::new("apt-get").args(["download", &package]).current_dir(dir))?;
    let archive =
        fs::read_dir(dir)?.filter_map(Result::ok).map(|entry| entry.path()).find(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            name.is_some_and(|name| name.starts_with(&format!("{package}_")))
        });
    let Some(archive) = archive else { bail!("apt-get download {package} left no file") };
    let partial = dir.join("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    shell::run(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(&partial))?;
    fs::rename(&partial, &root)?;
    fs::remove_file(&archive)?;
    Ok(root)
}
