//! Certificate files that change under a running daemon: what is new in them, or why it cannot
//! be used. Whoever asks decides what becomes of it.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::{
    certificate::{Identity, IdentityError},
    model::{Certificate, Model, PrivateKey},
};

/// Largest file that is read, bytes.
const MAX: u64 = 1 << 20;

/// Why a changed file is not served.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{}: cannot be read: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It was read, but cannot be used.
    #[error("{}: {source}", file.display())]
    Identity {
        /// The file with the fault.
        file: PathBuf,
        /// What is wrong.
        source: IdentityError,
    },
}

/// A certificate whose files changed.
#[derive(Debug)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// What to serve from now on, or why the old one goes on being served.
    pub result: Result<Certificate, FileError>,
}

/// What tells whether a file is another one than it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// `None` = the file is not there.
    fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        Some(Self {
            inode: (meta.dev(), meta.ino()),
            length: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

/// What was seen of a certificate's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// They say what the model says, or what was reported.
    Done([Option<Stamp>; 2]),
    /// They could not be used when looked at; a second look decides, since certificate and key
    /// are not replaced at the same moment.
    Faulty([Option<Stamp>; 2]),
}

/// Looks at the files of a model's certificates again and again.
#[derive(Debug, Default)]
pub struct Watch(BTreeMap<String, Seen>);

impl Watch {
    /// What changed since the last look; the first look compares with the model.
    pub fn look(&mut self, model: &Model) -> Vec<Change> {
        let mut before = std::mem::take(&mut self.0);
        let mut changes = Vec::new();
        for certificate in &model.certificates {
            let (chain, key) = &certificate.files;
            let paths = [chain.as_deref(), key.as_deref()];
            if paths == [None, None] {
                continue;
            }
            let stamps = paths.map(|path| path.and_then(Stamp::of));
            let seen = match before.remove(&certificate.id) {
                Some(Seen::Done(known)) if known == stamps => Seen::Done(stamps),
                seen => match read(certificate) {
                    Ok(now) => {
                        if now != *certificate {
                            changes.push(Change { name: now.name.clone(), result: Ok(now) });
                        }
                        Seen::Done(stamps)
                    }
                    Err(error) if seen == Some(Seen::Faulty(stamps)) => {
                        let name = certificate.name.clone();
                        changes.push(Change { name, result: Err(error) });
                        Seen::Done(stamps)
                    }
                    Err(_) => Seen::Faulty(stamps),
                },
            };
            self.0.insert(certificate.id.clone(), seen);
        }
        changes
    }
}

/// The model with its certificates replaced; `None` if nothing could be replaced.
pub fn replaced(model: &Model, changes: Vec<Change>) -> Option<Model> {
    let new: Vec<Certificate> =
        changes.into_iter().filter_map(|change| change.result.ok()).collect();
    if new.is_empty() {
        return None;
    }
    let mut model = model.clone();
    for certificate in new {
        let old = model.certificates.iter_mut().find(|old| old.id == certificate.id);
        if let Some(old) = old {
            *old = certificate;
        }
    }
    Some(model)
}

/// The certificate as its files are now.
fn read(certificate: &Certificate) -> Result<Certificate, FileError> {
    let (chain_file, key_file) = &certificate.files;
    let chain = chain_file.as_deref().map(text).transpose()?;
    let chain = chain.unwrap_or_else(|| certificate.chain.clone());
    let key = key_file.as_deref().map(text).transpose()?;
    let key = key.unwrap_or_else(|| certificate.key.0.clone());
    let identity = Identity::read(&chain, &key).map_err(|source| {
        let file = if source.is_of_the_key() { key_file } else { chain_file };
        let file = file.as_ref().or(chain_file.as_ref()).cloned().unwrap_or_default();
        FileError::Identity { file, source }
    })?;
    Ok(Certificate { chain, key: PrivateKey(key), facts: identity.facts, ..certificate.clone() })
}

fn text(path: &Path) -> Result<String, FileError> {
    let read = || {
        let meta = fs::metadata(path)?;
        if !meta.is_file() || meta.len() > MAX {
            return Err(io::Error::other("is no file of at most 1 MiB"));
        }
        fs::read_to_string(path)
    };
    read().map_err(|source| FileError::Read { file: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
