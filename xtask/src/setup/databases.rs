//! The databases and clients of the long tests, with what stands between them there; only
//! `test --all` needs them.

use anyhow::Result;

use super::apt;
use crate::shell::step;

/// redis-server brings a service, which is not started; socat speaks TLS for psql.
const PACKAGES: [&str; 8] = [
    "haproxy",
    "postgresql",
    "postgresql-client",
    "python3-websockets",
    "redis-server",
    "redis-tools",
    "socat",
    "wrk",
];

/// Installs what is missing.
pub(crate) fn install() -> Result<()> {
    let missing: Vec<&str> =
        PACKAGES.into_iter().filter(|package| !apt::is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    step(&format!("the long tests' databases and clients: Debian packages {}", missing.join(" ")));
    apt::install(&missing)
}
