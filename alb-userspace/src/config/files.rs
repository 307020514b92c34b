//! The files that a file names: certificates, keys, secrets. What is read is never quoted.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::cursor::Field;

/// Largest file that is read, bytes.
const MAX: u64 = 1 << 20;

/// The text of a file.
pub(super) fn read(field: &Field<'_>, path: &Path) -> Option<String> {
    match contents(path) {
        Ok(text) => Some(text),
        Err(error) => {
            field.reject(format!("cannot be read: {error}"));
            None
        }
    }
}

/// The path of a file that is there, for readers that open it themselves.
pub(super) fn existing(field: &Field<'_>) -> Option<PathBuf> {
    let path = field.file()?;
    match regular(&path) {
        Ok(()) => Some(path),
        Err(error) => {
            field.reject(format!("cannot be read: {error}"));
            None
        }
    }
}

fn contents(path: &Path) -> io::Result<String> {
    regular(path)?;
    let mut text = String::new();
    File::open(path)?.take(MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX {
        return Err(io::Error::other("is larger than 1 MiB"));
    }
    Ok(text)
}

/// Pipes and devices may never end, or wait for somebody.
fn regular(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.is_file() { Ok(()) } else { Err(io::Error::other("is not a file")) }
}

/// Warns of a file with a secret that every user of the host may read.
pub(super) fn warn_if_readable(field: &Field<'_>, path: &Path) {
    let mode = fs::metadata(path).map_or(0, |meta| meta.permissions().mode());
    if mode & 0o004 != 0 {
        field.warn("every user of this host can read the file; chmod o-r would keep the secret");
    }
}
