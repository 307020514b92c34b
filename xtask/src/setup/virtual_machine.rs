//! What a virtual machine with another kernel needs; only `test --kernel` and `test --all` do.

use anyhow::Result;

use super::apt;

const PACKAGES: [&str; 4] = ["binutils", "busybox-static", "cpio", "qemu-system-x86"];

/// Installs what is missing.
pub(crate) fn install() -> Result<()> {
    let missing: Vec<&str> =
        PACKAGES.into_iter().filter(|package| !apt::is_installed(package)).collect();
    if missing.is_empty() { Ok(()) } else { apt::install(&missing) }
}
