//! Certificate files that change under a running daemon: what is new in them, or why it cannot
//! be used. Whoever asks decides what becomes of it.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{
    certificate::{Identity, IdentityError},
    model::{Certificate, KeyAlgorithm, Model, PrivateKey},
};

/// Largest file that is read, bytes.
const MAX: u64 = 1 << 20;
/// A file that changed so little ago may change again without looking different: file systems
/// keep coarse times.
const YOUNG: Duration = Duration::from_secs(1);

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
    /// It could be used, but not where it is.
    #[error(
        "{}: the key is of kind {algorithm} now, as that of certificate {other} is, and both are default certificates of listener {listener}",
        file.display()
    )]
    SameKind {
        /// The file of the chain.
        file: PathBuf,
        /// What kind.
        algorithm: KeyAlgorithm,
        /// Name of the certificate beside it.
        other: String,
        /// Name of the listener.
        listener: String,
    },
    /// It could be used, but not under the security policy of a listener.
    #[error(
        "{}: the key is of kind {algorithm} now, and none of the ciphers of security policy {policy} of listener {listener} goes with it",
        file.display()
    )]
    Policy {
        /// The file of the chain.
        file: PathBuf,
        /// What kind.
        algorithm: KeyAlgorithm,
        /// Name of the policy.
        policy: String,
        /// Name of the listener.
        listener: String,
    },
}

/// A certificate whose files changed.
#[derive(Debug)]
pub struct Change {
    /// Its id.
    pub id: String,
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

    fn is_young(&self, now: SystemTime) -> bool {
        let changed = Duration::from_secs(self.changed.0.max(0).unsigned_abs());
        // What is of the future may be as young as anything.
        let age = now.duration_since(SystemTime::UNIX_EPOCH + changed);
        age.is_ok_and(|age| age <= YOUNG + Duration::from_secs(1))
    }
}

type Stamps = [Option<Stamp>; 2];

/// What was seen of a certificate's files.
#[derive(Debug)]
enum Seen {
    /// They say what the model says.
    Fit(Stamps),
    /// They cannot be used.
    Faulty {
        stamps: Stamps,
        error: String,
        /// The fault was reported. That is the second look's to do, since certificate and key
        /// are not replaced at the same moment.
        told: bool,
        /// Looking again at the same file can end otherwise.
        again: bool,
    },
}

impl Seen {
    fn stamps(&self) -> &Stamps {
        match self {
            Self::Fit(stamps) | Self::Faulty { stamps, .. } => stamps,
        }
    }
}

/// Looks at the files of a model's certificates again and again.
#[derive(Debug, Default)]
pub struct Watch(BTreeMap<String, Seen>);

impl Watch {
    /// What changed since the last look; the first look compares with the model.
    pub fn look(&mut self, model: &Model, now: SystemTime) -> Vec<Change> {
        let mut known = std::mem::take(&mut self.0);
        let mut kinds: BTreeMap<&str, KeyAlgorithm> = BTreeMap::new();
        let mut read_anew = Vec::new();
        for certificate in &model.certificates {
            kinds.insert(&certificate.id, certificate.facts.algorithm);
            let (chain, key) = &certificate.files;
            let paths = [chain.as_deref(), key.as_deref()];
            if paths == [None, None] {
                continue;
            }
            // Before they are read: what is written meanwhile is another stamp the next time.
            let stamps = paths.map(|path| path.and_then(Stamp::of));
            let before = known.remove(&certificate.id).filter(|seen| *seen.stamps() == stamps);
            match before {
                Some(seen @ (Seen::Fit(_) | Seen::Faulty { told: true, again: false, .. })) => {
                    self.0.insert(certificate.id.clone(), seen);
                }
                before => {
                    let new = read(certificate);
                    if let Ok(new) = &new {
                        kinds.insert(&certificate.id, new.facts.algorithm);
                    }
                    read_anew.push((certificate, stamps, before, new));
                }
            }
        }
        let mut changes = Vec::new();
        for (certificate, stamps, before, new) in read_anew {
            let Certificate { id, name, .. } = certificate;
            let told = matches!(before, Some(Seen::Faulty { told: true, .. }));
            let seen = match new.and_then(|new| suits(model, &kinds, new)) {
                Ok(new) => {
                    if new != *certificate {
                        let (id, name) = (id.clone(), name.clone());
                        changes.push(Change { id, name, result: Ok(new) });
                    }
                    let is_young = stamps.iter().flatten().any(|stamp| stamp.is_young(now));
                    (!is_young).then_some(Seen::Fit(stamps))
                }
                Err(fault) => {
                    let (error, again) = (fault.to_string(), fault.is_of_the_moment());
                    if before.is_some() && !told {
                        let (id, name) = (id.clone(), name.clone());
                        changes.push(Change { id, name, result: Err(fault) });
                    }
                    let told = told || before.is_some();
                    Some(Seen::Faulty { stamps, error, told, again })
                }
            };
            self.0.extend(seen.map(|seen| (id.clone(), seen)));
        }
        changes
    }

    /// Certificates whose files cannot be used as they are, by id, and why.
    pub fn faults(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(id, seen)| match seen {
            Seen::Faulty { error, told: true, .. } => Some((&**id, &**error)),
            Seen::Faulty { .. } | Seen::Fit(_) => None,
        })
    }
}

impl FileError {
    fn is_of_the_moment(&self) -> bool {
        match self {
            Self::Read { .. } | Self::SameKind { .. } | Self::Policy { .. } => true,
            Self::Identity { .. } => false,
        }
    }
}

/// Whether a new certificate can be where the old one is: two defaults of a listener are of
/// different kinds, and its policy has ciphers for each.
fn suits(
    model: &Model,
    kinds: &BTreeMap<&str, KeyAlgorithm>,
    new: Certificate,
) -> Result<Certificate, FileError> {
    let algorithm = new.facts.algorithm;
    let before = model.certificate(&new.id).map(|old| old.facts.algorithm);
    let file = || new.files.0.clone().or_else(|| new.files.1.clone()).unwrap_or_default();
    for listener in model.load_balancers.iter().flat_map(|balancer| &balancer.listeners) {
        let policy = listener.tls.as_ref().and_then(|tls| tls.security_policy.as_ref());
        let policy = policy.and_then(|id| model.security_policy(id));
        let named = listener.tls.iter().flat_map(|tls| &tls.extension_certificates);
        let ids = listener.tls.iter().flat_map(|tls| &tls.certificates);
        let is_here = ids.clone().chain(named.map(|one| &one.certificate)).any(|id| *id == new.id);
        if let Some(policy) = policy.filter(|policy| is_here && !policy.serves(algorithm))
            && before != Some(algorithm)
        {
            let (policy, listener) = (policy.name.clone(), listener.name.clone());
            return Err(FileError::Policy { file: file(), algorithm, policy, listener });
        }
        if !ids.clone().any(|id| *id == new.id) {
            continue;
        }
        let mut others = ids.filter(|id| **id != new.id && kinds.get(&***id) == Some(&algorithm));
        if let Some(other) = others.find_map(|id| model.certificate(id)) {
            let (other, listener) = (other.name.clone(), listener.name.clone());
            return Err(FileError::SameKind { file: file(), algorithm, other, listener });
        }
    }
    Ok(new)
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
