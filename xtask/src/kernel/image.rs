//! The machine's whole file system: programs with their libraries, modules, and a first process
//! that runs the tests and ends.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    build_ebpf,
    shell::{self, find_program},
};

/// What goes in.
#[derive(Debug)]
pub(super) struct Files<'a> {
    /// Root the kernel's package is unpacked in.
    pub(super) kernel: &'a Path,
    /// The daemon.
    pub(super) alb: &'a Path,
    /// The test program.
    pub(super) rings: &'a Path,
    /// The BPF object under test.
    pub(super) object: &'a Path,
}

/// Programs the tests start.
const PROGRAMS: [&str; 5] = ["ip", "tc", "ethtool", "bpftool", "nginx"];
/// Modules the lab needs, in the order of their dependencies.
const MODULES: [&str; 6] = [
    "net/llc/llc.ko",
    "net/802/stp.ko",
    "net/bridge/bridge.ko",
    "drivers/net/veth.ko",
    "net/sched/sch_ingress.ko",
    "net/sched/cls_bpf.ko",
];

/// Writes the archive and returns its path.
pub(super) fn pack(dir: &Path, files: &Files<'_>, tests: &[&str]) -> Result<PathBuf> {
    let root = dir.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for made in ["bin", "dev", "etc", "lib/modules", "proc", "run", "sys", "tmp", "var/lib"] {
        fs::create_dir_all(root.join(made))?;
    }
    strip(files.alb, &root.join("bin/alb"))?;
    strip(files.rings, &root.join("bin/rings"))?;
    copy(files.object, &root.join("alb.bpf.o"))?;
    copy(&build_ebpf::beside(files.object), &root.join("capture.bpf.o"))?;
    let mut programs = vec![root.join("bin/alb"), root.join("bin/rings")];
    for name in PROGRAMS {
        let path = find_program(name).with_context(|| format!("{name} is not installed"))?;
        copy(&path, &root.join("bin").join(name))?;
        programs.push(path);
    }
    let busybox = find_program("busybox").context("busybox is not installed")?;
    copy(&busybox, &root.join("bin/busybox"))?;
    for library in libraries(&programs)? {
        copy(&library, &inside(&root, &library))?;
    }
    let modules = modules(files.kernel)?;
    for module in &modules {
        let name = module.file_name().context("a module has a name")?;
        copy(module, &root.join("lib/modules").join(name))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    let init = root.join("init");
    fs::write(&init, script(&modules, tests))?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;

    let archive = dir.join("initramfs.gz");
    let mut pack = Command::new("sh");
    pack.args(["-c", "find . | cpio --create --format=newc --quiet | gzip -1 > \"$1\"", "sh"]);
    shell::run(pack.arg(&archive).current_dir(&root))?;
    Ok(archive)
}

fn script(modules: &[PathBuf], tests: &[&str]) -> String {
    let mut load = String::new();
    for module in modules.iter().filter_map(|path| path.file_name()) {
        writeln!(load, "insmod /lib/modules/{}", module.display()).expect("writing to a string");
    }
    // What it prints is of interest even if it passes.
    let shown = tests.iter().find(|test| test.starts_with("verifier"));
    let shown = shown.map(|test| format!("rings --nocapture {test}\n")).unwrap_or_default();
    format!(
        "#!/bin/busybox sh\n\
         export PATH=/bin:/applets\n\
         /bin/busybox mkdir -p /applets\n\
         /bin/busybox --install -s /applets\n\
         mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev\n\
         mount -t tmpfs none /run; mount -t tmpfs none /tmp; mount -t bpf none /sys/fs/bpf\n\
         mkdir -p /run/netns\n\
         {load}\
         ip link set lo up\n\
         echo 1 > /proc/sys/net/core/bpf_jit_enable\n\
         uname -r\n\
         export ALB_BIN=/bin/alb ALB_REQUIRE_KERNEL=1 ALB_BPF_OBJECT=/alb.bpf.o TMPDIR=/tmp\n\
         export ALB_TEST_PATIENCE=5\n\
         {shown}\
         rings --test-threads 2 {}\n\
         echo \"{}$?\"\n\
         poweroff -f\n",
        tests.join(" "),
        super::machine::RESULT
    )
}

fn strip(from: &Path, to: &Path) -> Result<()> {
    shell::run(Command::new("strip").arg("-o").arg(to).arg(from))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// The shared libraries of all of them, the dynamic loader included.
fn libraries(programs: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for program in programs {
        let list = shell::capture(Command::new("ldd").arg(program));
        let list = list.with_context(|| format!("ldd cannot read {}", program.display()))?;
        let words = list.split_whitespace().filter(|word| word.starts_with('/'));
        found.extend(words.map(PathBuf::from));
    }
    Ok(found)
}

fn modules(kernel: &Path) -> Result<Vec<PathBuf>> {
    let versions = kernel.join("lib/modules");
    let version = fs::read_dir(&versions)?.next().context("the package has no modules")??;
    Ok(MODULES.iter().map(|module| version.path().join("kernel").join(module)).collect())
}
