//! The claim on a pin directory: one process at a time changes what is in it. A lock on the
//! directory itself, so that it holds across network namespaces and goes with the process,
//! however that ends.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::sys::stat::{major, minor};

use super::pins::{PinsError, failed};

/// Every lock that this process can see, one a line (`proc_locks(5)`).
const LOCKS: &str = "/proc/locks";

/// A pin directory that is this process's alone.
#[derive(Debug)]
pub struct Claim {
    dir: File,
    path: PathBuf,
}

impl Claim {
    /// Claims a directory, which is made if it is not there.
    pub(super) fn of(root: &Path) -> Result<Self, PinsError> {
        loop {
            fs::create_dir_all(root).map_err(failed("create", root))?;
            let dir = match File::open(root) {
                Ok(dir) => dir,
                // Removed since by whoever had it before.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed("open", root)(error)),
            };
            match dir.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(PinsError::Claimed { path: root.to_owned(), holder: holder(&dir) });
                }
                Err(TryLockError::Error(error)) => return Err(failed("claim", root)(error)),
            }
            let claim = Self { dir, path: root.to_owned() };
            // The one before may have removed it between our look and our lock.
            if claim.is_of_what_is_there() {
                return Ok(claim);
            }
        }
    }

    fn is_of_what_is_there(&self) -> bool {
        let identity = |found: fs::Metadata| (found.dev(), found.ino());
        match (self.dir.metadata(), fs::metadata(&self.path)) {
            (Ok(ours), Ok(there)) => identity(ours) == identity(there),
            _ => false,
        }
    }
}

impl Drop for Claim {
    /// A start that was refused leaves no empty directory.
    fn drop(&mut self) {
        if self.is_of_what_is_there()
            && let Err(error) = fs::remove_dir(&self.path)
            && error.kind() != io::ErrorKind::DirectoryNotEmpty
        {
            tracing::debug!(%error, "{} stays", self.path.display());
        }
    }
}

/// The process whose claim a directory is, if there is one that can be seen from here.
pub(super) fn claimed_by(path: &Path) -> Option<u32> {
    holder(&File::open(path).ok()?)
}

/// The process that holds the lock on a directory, if it can be seen from here.
fn holder(dir: &File) -> Option<u32> {
    let found = dir.metadata().ok()?;
    let file = (major(found.dev()), minor(found.dev()), found.ino());
    holder_in(&fs::read_to_string(LOCKS).ok()?, file)
}

/// Finds a line such as `3: FLOCK  ADVISORY  WRITE 1234 00:1b:5678 0 EOF`: process, then the
/// file as major and minor device number (hexadecimal) and inode.
fn holder_in(locks: &str, file: (u64, u64, u64)) -> Option<u32> {
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["FLOCK", _, _, pid, place, ..] = words.get(1..)? else { return None };
        let mut parts = place.split(':');
        let device = |part: Option<&str>| u64::from_str_radix(part?, 16).ok();
        let found = (device(parts.next())?, device(parts.next())?, parts.next()?.parse().ok()?);
        (found == file).then(|| pid.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_claimed_once_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, other) = (dir.path().join("ours"), dir.path().join("other"));
        let claim = Claim::of(&ours).unwrap();
        let error = Claim::of(&ours).unwrap_err();
        let me = std::process::id();
        assert!(
            matches!(error, PinsError::Claimed { holder, .. } if holder == Some(me)),
            "{error:?}"
        );
        assert!(error.to_string().contains(&format!("process {me}")), "{error}");
        assert_eq!(claimed_by(&ours), Some(me));
        Claim::of(&other).unwrap();
        drop(claim);
        assert_eq!(claimed_by(&ours), None, "there is none");
        fs::create_dir(&ours).unwrap();
        assert_eq!(claimed_by(&ours), None, "nobody's");
        Claim::of(&ours).unwrap();
        assert!(!ours.exists(), "an empty directory is left");
    }

    #[test]
    fn a_directory_that_was_made_anew_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("pins");
        let before = Claim::of(&root).unwrap();
        fs::remove_dir(&root).unwrap();
        let after = Claim::of(&root).unwrap();
        assert!(!before.is_of_what_is_there());
        drop(before);
        assert!(after.is_of_what_is_there(), "the former owner removed what is not its own");
    }

    #[test]
    fn the_holder_is_the_one_of_this_file() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 00:1b:5678 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 12 00:1b:5679 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 13 00:1b:5678 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 14 00:1b:5678 0 EOF\n";
        assert_eq!(holder_in(locks, (0, 0x1b, 5_678)), Some(13));
        assert_eq!(holder_in(locks, (1, 0x1b, 5_678)), None);
    }
}
