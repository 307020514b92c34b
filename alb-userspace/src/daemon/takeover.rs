//! How a running daemon hands its work to a new one: the messages, and the sockets with them.
//! They meet on `takeover.sock` in the state directory. A message is its length (u32, little
//! endian) and that much JSON. The order: Hello – Welcome with the sockets – Release – Released –
//! Ready – Over – Serving. A new daemon that goes away before Serving leaves the old one serving;
//! an old one that dies after Welcome leaves the new one to serve. An old one that lives says
//! Refused before it breaks off: an end without that is its death.

pub(super) mod predecessor;
pub(super) mod successor;

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    path::{Path, PathBuf},
};

use nix::{
    cmsg_space,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, Interest},
    net::UnixStream,
};

use crate::model::Node;

/// Of these messages; daemons with different ones cannot talk.
const VERSION: u32 = 2;
/// The socket's name in the state directory.
const SOCKET: &str = "takeover.sock";
/// Longer messages are not believed.
const LONGEST: usize = 64 << 20;
/// Descriptors in one message; the kernel takes 253 (`SCM_MAX_FD`).
const AT_ONCE: usize = 200;

/// Where daemons of this state directory meet.
pub(super) fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join(SOCKET)
}

/// What both must have in common, by its name in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Terms {
    bpffs: PathBuf,
    state_dir: PathBuf,
    socket: PathBuf,
    has_packet_path: bool,
    workers: usize,
    api: Option<SocketAddr>,
}

impl Terms {
    /// Of a node whose proxy has so many workers.
    pub(super) fn new(node: &Node, has_packet_path: bool, workers: usize) -> Self {
        Self {
            bpffs: node.bpffs.clone(),
            state_dir: node.state_dir.clone(),
            socket: node.socket.clone(),
            has_packet_path,
            workers,
            api: node.api.as_ref().map(|api| api.listen),
        }
    }

    /// The settings that differ.
    fn differ(&self, other: &Self) -> Vec<&'static str> {
        let checks = [
            ("node.bpffs", self.has_packet_path && self.bpffs != other.bpffs),
            ("node.stateDir", self.state_dir != other.state_dir),
            ("node.socket", self.socket != other.socket),
            ("node.datapath", self.has_packet_path != other.has_packet_path),
            ("node.workers", self.workers != other.workers),
            ("node.api", self.api != other.api),
        ];
        checks.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
    }
}

/// What the new daemon says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// Who it is.
    Hello { version: u32, pid: u32, terms: Terms },
    /// It is about to take over the packet path: no more writing to its maps.
    Release,
    /// It could serve.
    Ready,
    /// It does.
    Serving,
}

/// What the running daemon answers.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Welcome(Welcome),
    /// Why not, for people.
    Refused(String),
    Released,
    /// The new one is to serve; the old one gives way as soon as it hears that it does.
    Over,
}

/// What the new daemon needs to go on from. The sockets follow: the API's if there is one, then
/// those of each address, one a worker.
#[derive(Debug, Serialize, Deserialize)]
struct Welcome {
    pid: u32,
    has_api: bool,
    addresses: Vec<SocketAddr>,
    targets: Vec<Verdict>,
}

/// The state of one target.
#[derive(Debug, Serialize, Deserialize)]
struct Verdict {
    backend: String,
    target: String,
    is_healthy: bool,
}

/// One side of the conversation.
#[derive(Debug)]
struct Channel {
    stream: UnixStream,
    /// The beginning of a message.
    read: Vec<u8>,
}

impl Channel {
    fn new(stream: UnixStream) -> Self {
        Self { stream, read: Vec::new() }
    }

    async fn say(&mut self, message: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let length = u32::try_from(text.len()).map_err(io::Error::other)?;
        self.stream.write_all(&length.to_le_bytes()).await?;
        self.stream.write_all(&text).await
    }

    /// The next message; `None` = the other side is gone. Not a byte beyond it is read, since
    /// descriptors may come with that. Dropped half-way, it goes on where it was.
    async fn hear<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        loop {
            let length = self.read.first_chunk().map(|length| u32::from_le_bytes(*length));
            let wanted = 4 + length.map_or(0, |length| usize::try_from(length).unwrap_or(LONGEST));
            if wanted > LONGEST {
                return Err(io::Error::other("a message of more than 64 MiB"));
            }
            if length.is_some() && self.read.len() == wanted {
                let message = serde_json::from_slice(&self.read[4..]).map_err(io::Error::from);
                self.read.clear();
                return message.map(Some);
            }
            let mut piece = vec![0; (wanted - self.read.len()).min(1 << 16)];
            match self.stream.read(&mut piece).await? {
                0 => return Ok(None),
                length => self.read.extend_from_slice(&piece[..length]),
            }
        }
    }

    async fn give(&mut self, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        let sockets: Vec<RawFd> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
        for part in sockets.chunks(AT_ONCE) {
            let send = || {
                let message = [ControlMessage::ScmRights(part)];
                let fd = self.stream.as_raw_fd();
                let byte = [IoSlice::new(b"F")];
                Ok(sendmsg::<()>(fd, &byte, &message, MsgFlags::MSG_NOSIGNAL, None)?)
            };
            self.stream.async_io(Interest::WRITABLE, send).await?;
        }
        Ok(())
    }

    async fn take(&mut self, count: usize) -> io::Result<Vec<OwnedFd>> {
        let mut sockets = Vec::with_capacity(count);
        while sockets.len() < count {
            let receive = || receive(self.stream.as_raw_fd());
            let part = self.stream.async_io(Interest::READABLE, receive).await?;
            if part.is_empty() {
                return Err(io::Error::other("fewer sockets came than were announced"));
            }
            sockets.extend(part);
        }
        Ok(sockets)
    }
}

/// The descriptors that come with the next byte.
fn receive(stream: RawFd) -> io::Result<Vec<OwnedFd>> {
    let mut space = cmsg_space!([RawFd; AT_ONCE]);
    let mut byte = [0];
    let mut place = [IoSliceMut::new(&mut byte)];
    let message = recvmsg::<()>(stream, &mut place, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut received = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = part {
            #[expect(unsafe_code, reason = "descriptors come as numbers")]
            // SAFETY: the kernel has just made them for this process; nobody else knows them.
            received.extend(descriptors.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok(received)
}

#[cfg(test)]
mod tests;
