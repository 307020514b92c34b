//! Where maps and links are pinned: `DIR/vN/maps/NAME` and `DIR/vN/links/IFINDEX-MODE`, `N`
//! being the ABI version. Maps are pinned whole or not at all: first in `maps-new`, which then
//! changes places with `maps`. Of an interface with a filter instead of a link its program is
//! pinned. A capture has `DIR/capture` (see `capture`). Knows files; nothing of what is in the maps.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use alb_common::abi::ABI_VERSION;
use nix::{
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::{
    claim::Claim,
    sys::{filter, link},
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
    /// Another daemon uses the directory, in whatever network namespace.
    #[error(
        "node.bpffs: another alb{} uses {}; end it, or give this one a directory of its own",
        holder.map(|id| format!(" (process {id})")).unwrap_or_default(), path.display()
    )]
    Claimed {
        /// The directory.
        path: PathBuf,
        /// Its process, if that can be seen from here.
        holder: Option<u32>,
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

/// What to try where nothing is pinned.
pub(super) const ELSEWHERE: &str = "--config or --bpffs names another directory, and `ip netns \
     exec` hides what is pinned (`nsenter --net=/run/netns/NAME` does not)";

/// The pin directory of one instance.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

/// Which of the two places for maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapSet {
    /// `maps`: complete, or not there.
    Current,
    /// `maps-new`: there only while one set takes the place of another. (A bpffs takes no dots.)
    Next,
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

impl LinkPin {
    /// Takes the link off its device; the pin stays. A filter holds its program itself, and a link the
    /// kernel else takes off some time after its pin is gone.
    fn take_off(&self) -> Result<(), PinsError> {
        if self.mode == AttachMode::TcFilter {
            filter::remove(self.ifindex).map_err(failed("remove the filter of", &self.path))?;
        } else if let Ok(link) = link::open(&self.path) {
            // Its device may be gone. If it is not, it goes with its pin.
            drop(link::detach(link.as_fd()));
        }
        Ok(())
    }

    /// Takes it off, and its pin away.
    pub fn remove(&self) -> Result<(), PinsError> {
        self.take_off()?;
        fs::remove_file(&self.path).map_err(failed("remove", &self.path))
    }
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
    /// would take each other's programs off.
    pub fn claim(&self) -> Result<Claim, PinsError> {
        Claim::of(&self.root)
    }

    /// Claims the packet path for a capture, for as long as the result lives.
    pub(super) fn claim_capture(&self) -> Result<Claim, PinsError> {
        Claim::of(&self.capture_dir())
    }

    /// Keeps others from changing what runs on the links, for as long as the result lives; `None` =
    /// there are no links. What replaces a program by another looks what runs there first.
    pub(super) fn hold_links(&self) -> Result<Option<File>, PinsError> {
        let dir = self.links_dir();
        let held = match File::open(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed("open", &dir))?,
        };
        held.lock().map_err(failed("lock", &dir))?;
        Ok(Some(held))
    }

    /// Makes the directory of the links.
    pub fn create_links(&self) -> Result<(), PinsError> {
        let dir = self.links_dir();
        fs::create_dir_all(&dir).map_err(failed("create", &dir))
    }

    /// Makes an empty directory for the next maps.
    pub fn create_next(&self) -> Result<(), PinsError> {
        self.remove_next()?;
        let dir = self.maps_dir(MapSet::Next);
        fs::create_dir_all(&dir).map_err(failed("create", &dir))
    }

    /// Removes the next maps, or the former ones after [`Pins::exchange`].
    pub fn remove_next(&self) -> Result<(), PinsError> {
        let dir = self.maps_dir(MapSet::Next);
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &dir)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Whether there are next maps, be they complete or not.
    pub fn has_next(&self) -> bool {
        self.maps_dir(MapSet::Next).exists()
    }

    /// Makes the next maps the current ones and the other way round, in one step.
    pub fn exchange(&self) -> Result<(), PinsError> {
        let (next, current) = (self.maps_dir(MapSet::Next), self.maps_dir(MapSet::Current));
        if !current.exists() {
            return fs::rename(&next, &current).map_err(failed("rename", &next));
        }
        renameat2(AT_FDCWD, &next, AT_FDCWD, &current, RenameFlags::RENAME_EXCHANGE)
            .map_err(|errno| failed("exchange", &next)(errno.into()))
    }

    /// The directory if it is there already.
    pub fn existing(root: &Path) -> Option<Self> {
        root.is_dir().then(|| Self { root: root.to_owned() })
    }

    /// The directory itself.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn version_dir(&self) -> PathBuf {
        self.root.join(format!("v{ABI_VERSION}"))
    }

    fn maps_dir(&self, set: MapSet) -> PathBuf {
        self.version_dir().join(match set {
            MapSet::Current => "maps",
            MapSet::Next => "maps-new",
        })
    }

    fn links_dir(&self) -> PathBuf {
        self.version_dir().join("links")
    }

    /// What a capture needs while it runs, whatever becomes of its process.
    pub(super) fn capture_dir(&self) -> PathBuf {
        self.root.join("capture")
    }

    /// File of a map of this ABI version.
    pub fn map(&self, set: MapSet, name: &str) -> PathBuf {
        self.maps_dir(set).join(name)
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
                let modes = AttachMode::ALL;
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

    /// Removes everything: no program runs then.
    pub fn remove(self) -> Result<(), PinsError> {
        let _held = self.hold_links()?;
        self.links()?.iter().try_for_each(LinkPin::take_off)?;
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
    fn the_next_maps_take_the_place_of_the_current_ones() {
        let dir = tempfile::tempdir().unwrap();
        let pins = Pins { root: dir.path().to_owned() };
        let there = |set| fs::read_to_string(pins.map(set, "M")).ok();
        for (text, before) in [("1", None), ("2", Some("1".to_owned()))] {
            pins.create_next().unwrap();
            fs::write(pins.map(MapSet::Next, "M"), text).unwrap();
            pins.exchange().unwrap();
            assert_eq!(
                (there(MapSet::Current).as_deref(), there(MapSet::Next)),
                (Some(text), before)
            );
        }
        assert!(pins.has_next());
        pins.remove_next().unwrap();
        pins.remove_next().unwrap();
        assert!(!pins.has_next());
    }
}
