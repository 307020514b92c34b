//! The control socket's file: claimed by one daemon, private to its user, removed at the end.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};
use tracing::debug;

/// A path in a `sockaddr_un` holds 108 bytes with the final zero.
const PATH_MAX: usize = 107;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// How long another daemon may keep a directory's sockets for itself; it takes far less than a
/// millisecond.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(1);

/// Why the control socket cannot be claimed.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another daemon answers on it.
    #[error(
        "another alb is answering on {}: stop it, or give this one its own node.socket and node.bpffs",
        path.display()
    )]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Another daemon is at this point of its start, or of its end, and does not come on.
    #[error("another alb is starting or ending on {}: try again", path.display())]
    Starting {
        /// The socket.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{} exists and is not a socket: move it away or change node.socket", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The kernel's limit on socket paths.
    #[error(
        "node.socket {} has {length} bytes, a socket's path has at most {PATH_MAX}: shorten it",
        path.display()
    )]
    TooLong {
        /// The socket.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
    /// A step failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
}

/// A claimed control socket. The file goes away with it.
#[derive(Debug)]
pub struct ControlSocket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Device and inode: a successor's socket of the same name is not ours to remove.
    identity: (u64, u64),
}

impl ControlSocket {
    /// Claims `path` with mode 0600. A socket there that nobody answers on is replaced. Must run
    /// within a tokio runtime.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let _lock = lock(path)?;
        Self::bind_locked(path)
    }

    fn bind_locked(path: &Path) -> Result<Self, BindError> {
        let length = path.as_os_str().len();
        if length > PATH_MAX {
            return Err(BindError::TooLong { path: path.to_owned(), length });
        }
        let at = |action| move |source| BindError::Io { action, path: path.to_owned(), source };
        clear(path)?;
        let socket =
            Socket::new(Domain::UNIX, Type::STREAM, None).map_err(at("make a socket for"))?;
        let address = SockAddr::unix(path).map_err(at("use the path"))?;
        socket.bind(&address).map_err(at("bind"))?;
        // Nobody can connect before `listen`, so the mode is right from the first connection on.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
            .map_err(at("set the mode of"))?;
        let metadata = fs::symlink_metadata(path).map_err(at("read the metadata of"))?;
        socket.listen(BACKLOG).map_err(at("listen on"))?;
        socket.set_nonblocking(true).map_err(at("make non-blocking"))?;
        let listener = UnixListener::from_std(socket.into()).map_err(at("poll"))?;
        Ok(Self { listener, path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) })
    }

    /// Takes the place of another daemon's socket in one step: whoever connects to `path` finds
    /// one of the two. Connections wait until this one is accepted on.
    pub fn replace(path: &Path) -> Result<Self, BindError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let _lock = lock(path)?;
        let mut socket = Self::bind_locked(Path::new(&name))?;
        fs::rename(&name, path).map_err(|source| BindError::Io {
            action: "take the place of",
            path: path.to_owned(),
            source,
        })?;
        path.clone_into(&mut socket.path);
        Ok(socket)
    }

    /// The next who connects.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Without it a successor's might take its place between the look and the removal; what
        // stays behind is stale, and so in nobody's way.
        let Ok(_lock) = lock(&self.path) else { return };
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            debug!(path = %self.path.display(), %error, "control socket stays behind");
        }
    }
}

/// Keeps others off the sockets of this directory: of two daemons that start at once not both may
/// find a socket stale, and one that ends must not remove another's.
fn lock(path: &Path) -> Result<File, BindError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let at = |action| move |source| BindError::Io { action, path: folder.to_owned(), source };
    let lock = File::open(folder).map_err(at("open the directory of node.socket"))?;
    let until = Instant::now() + PATIENCE;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => {
                return Err(BindError::Starting { path: path.to_owned() });
            }
            Err(TryLockError::Error(source)) => {
                return Err(at("lock the directory of node.socket")(source));
            }
        }
    }
}

/// Makes room at `path`: removes a socket that nobody answers on, refuses anything else.
fn clear(path: &Path) -> Result<(), BindError> {
    let at = |action| move |source| BindError::Io { action, path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => return Err(BindError::NotASocket { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at("read the metadata of")(error)),
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(at("make a socket for"))?;
    // A daemon whose queue is full would make a blocking connect wait.
    probe.set_nonblocking(true).map_err(at("make non-blocking"))?;
    let address = SockAddr::unix(path).map_err(at("use the path"))?;
    match probe.connect(&address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(at("remove the stale socket"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(at("probe")(error)),
        Ok(()) | Err(_) => Err(BindError::InUse { path: path.to_owned() }),
    }
}
