//! A copy of the file that the demo serves, with the certificate that it names beside it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use alb_userspace::config;
use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

/// Whom the certificate is for.
pub(crate) const DOMAIN: &str = "shop.test";

/// The directory, gone when dropped.
#[derive(Debug)]
pub(crate) struct Files {
    dir: TempDir,
}

impl Files {
    /// Copies the file and makes the certificate.
    pub(crate) fn make(config: &Path) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("alb-demo-").tempdir()?;
        let files = Self { dir };
        fs::copy(config, files.config())
            .with_context(|| format!("cannot copy {}", config.display()))?;
        let words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 \
                     -addext basicConstraints=critical,CA:FALSE -keyout quickstart.key \
                     -out quickstart.pem";
        let mut openssl = Command::new("openssl");
        openssl.args(words.split_whitespace()).args(["-subj", &format!("/CN={DOMAIN}")]);
        openssl.args(["-addext", &format!("subjectAltName=DNS:{DOMAIN}")]);
        let output = openssl.current_dir(files.dir.path()).output().context("openssl")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "openssl makes no certificate: {}", said.trim());
        // Here rather than in the daemon's log: the file is the demo's to have right.
        config::load(&files.config())?;
        Ok(files)
    }

    /// The file to serve.
    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("quickstart.yaml")
    }

    /// What a client has to trust.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.path().join("quickstart.pem")
    }

    /// Where a client may keep its cookies.
    pub(crate) fn cookies(&self) -> PathBuf {
        self.dir.path().join("cookies")
    }
}
