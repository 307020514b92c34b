//! Where maps and links are pinned: `DIR/vN/maps/NAME` and `DIR/vN/links/IFINDEX-MODE`, `N`
//! being the ABI version. Knows files; nothing of what is in the maps.

use std::{
    fs, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener},
    },
    path::{Path, PathBuf},
};

use alb_common::abi::ABI_VERSION;
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use crate::report::AttachMode;

/// The usual place of the bpffs.
const BPFFS: &str = "/sys/fs/bpf";

/// A file operation on the pin directory failed.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    /// See `action`.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Another daemon uses the directory.
    #[error("node.bpffs: another alb uses {}; give this one a directory of its own", path.display())]
    Claimed {
        /// The directory.
        path: PathBuf,
    },
    /// The directory is on another file system.
    #[error(
        "node.bpffs: {}: not on a bpf file system; use a directory under {BPFFS}, or mount one there \
         (`mount -t bpf bpf {}`)", path.display(), path.display()
    )]
    NotBpffs {
        /// The directory.
        path: PathBuf,
    },
}

/// A pin directory that is this process's alone.
#[derive(Debug)]
pub struct Claim(#[expect(dead_code, reason = "held, not used")] UnixListener);

/// The pin directory of one instance.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

/// A pinned link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkPin {
    /// Its file.
    pub path: PathBuf,
    /// Interface it is attached to.
    pub ifindex: u32,
    /// How it is attached.
    pub mode: AttachMode,
    /// ABI version it was pinned under.
    pub version: u32,
}

impl Pins {
    /// The directory, which need not be there yet; the bpffs under it is mounted if it is at
    /// its usual place and not mounted.
    pub fn at(root: &Path) -> Result<Self, PinsError> {
        if root.starts_with(BPFFS) && !is_bpffs(Path::new(BPFFS)) {
            mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), None::<&str>)
                .map_err(|errno| failed("mount the bpf file system on", BPFFS)(errno.into()))?;
            tracing::info!("mounted the bpf file system on {BPFFS}");
        }
        // Nothing is made before it is known that the place is right.
        let there = root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        if !is_bpffs(there) {
            return Err(PinsError::NotBpffs { path: root.to_owned() });
        }
        Ok(Self { root: root.to_owned() })
    }

    /// Claims the directory for as long as the result lives: two daemons over the same maps
    /// would take each other's programs off. The claim is an abstract socket, so it goes with
    /// the process, however that ends, and needs no place of its own.
    pub fn claim(&self) -> Result<Claim, PinsError> {
        let name = format!("alb {}", self.root.display());
        SocketAddr::from_abstract_name(name)
            .and_then(|address| UnixListener::bind_addr(&address))
            .map(Claim)
            .map_err(|error| {
                if error.kind() == io::ErrorKind::AddrInUse {
                    PinsError::Claimed { path: self.root.clone() }
                } else {
                    failed("claim", &self.root)(error)
                }
            })
    }

    /// Makes the directories.
    pub fn create(&self) -> Result<(), PinsError> {
        for dir in [self.maps_dir(), self.links_dir()] {
            fs::create_dir_all(&dir).map_err(failed("create", &dir))?;
        }
        Ok(())
    }

    /// The directory if it is there already.
    pub fn existing(root: &Path) -> Option<Self> {
        root.is_dir().then(|| Self { root: root.to_owned() })
    }

    fn version_dir(&self) -> PathBuf {
        self.root.join(format!("v{ABI_VERSION}"))
    }

    fn maps_dir(&self) -> PathBuf {
        self.version_dir().join("maps")
    }

    fn links_dir(&self) -> PathBuf {
        self.version_dir().join("links")
    }

    /// File of a map of this ABI version.
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps_dir().join(name)
    }

    /// File of a link of this ABI version.
    pub fn link(&self, ifindex: u32, mode: AttachMode) -> PathBuf {
        self.links_dir().join(format!("{ifindex}-{}", mode.label()))
    }

    /// Every pinned link, of other ABI versions too.
    pub fn links(&self) -> Result<Vec<LinkPin>, PinsError> {
        let mut links = Vec::new();
        for (version, dir) in self.versions()? {
            for path in entries(&dir.join("links"))? {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let Some((ifindex, mode)) = name.split_once('-') else { continue };
                let Ok(ifindex) = ifindex.parse() else { continue };
                let modes = [AttachMode::Xdp, AttachMode::XdpGeneric, AttachMode::Tc];
                let Some(mode) = modes.into_iter().find(|known| known.label() == mode) else {
                    continue;
                };
                links.push(LinkPin { path, ifindex, mode, version });
            }
        }
        links.sort_by_key(|link| (link.version, link.ifindex));
        Ok(links)
    }

    fn versions(&self) -> Result<Vec<(u32, PathBuf)>, PinsError> {
        Ok(entries(&self.root)?
            .into_iter()
            .filter_map(|path| {
                let name = path.file_name()?.to_str()?;
                Some((name.strip_prefix('v')?.parse().ok()?, path))
            })
            .collect())
    }

    /// Removes what other ABI versions have left. Their links must have been taken over.
    pub fn remove_other_versions(&self) -> Result<(), PinsError> {
        for (version, dir) in self.versions()? {
            if version != ABI_VERSION {
                fs::remove_dir_all(&dir).map_err(failed("remove", &dir))?;
            }
        }
        Ok(())
    }

    /// Removes everything: programs that only pins held are gone from the kernel then.
    pub fn remove(self) -> Result<(), PinsError> {
        fs::remove_dir_all(&self.root).map_err(failed("remove", &self.root))
    }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, PinsError> {
    let read = match fs::read_dir(dir) {
        Ok(read) => read,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("list", dir)(error)),
    };
    read.map(|entry| entry.map(|entry| entry.path()).map_err(failed("list", dir))).collect()
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC)
}

pub(super) fn failed(
    action: &'static str,
    path: impl AsRef<Path>,
) -> impl FnOnce(io::Error) -> PinsError {
    let path = path.as_ref().to_owned();
    move |source| PinsError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_claimed_once_at_a_time() {
        let of =
            |name: &str| Pins { root: PathBuf::from(name).join(std::process::id().to_string()) };
        let (ours, other) = (of("/ours"), of("/other"));
        let claim = ours.claim().unwrap();
        let error = ours.claim().unwrap_err();
        assert!(matches!(error, PinsError::Claimed { .. }), "{error}");
        other.claim().unwrap();
        drop(claim);
        ours.claim().unwrap();
    }
}
