//! Connections of tcp and tls listeners: one to a target for each client, bytes both ways until
//! both sides have ended. Knows nothing of what the bytes mean.

mod buffer;
mod connect;
mod direction;
mod line;
mod relay;
pub(in crate::proxy) mod ring;
mod side;

use std::{
    io,
    task::{Context, Poll},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{net::TcpStream, time::Instant};

use self::relay::Relayed;
pub use self::{connect::ConnectError, side::Side};
use crate::proxy::{
    peer::Peer,
    plain::Plain,
    plan::{Backend, InFlight, SharedId},
};

/// Why a connection ended other than by both sides closing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides closed it.
    Closed,
    /// No target may be given it.
    NoTarget,
    /// No target could be connected to.
    ConnectFailed,
    /// No target answered in time.
    ConnectTimeout,
    /// The client reset it.
    ClientReset,
    /// The target reset it.
    TargetReset,
    /// Nobody sent anything for the listener's idle time.
    Idle,
    /// The target drained, and its time is over.
    Drained,
}

impl End {
    /// Counter, metric label and log word; empty for the good end.
    pub fn word(self) -> &'static str {
        match self {
            Self::Closed => "",
            Self::NoTarget => "no_target",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::ClientReset => "client_reset",
            Self::TargetReset => "target_reset",
            Self::Idle => "idle",
            Self::Drained => "target_drained",
        }
    }
}

/// What became of a connection, for the log.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Why it ended.
    pub end: End,
    /// Position of the target that was used or tried last.
    pub target: Option<usize>,
    /// How long connecting took; `None` if it did not succeed.
    pub connect_time: Option<Duration>,
    /// How long the connection to the target was open.
    pub target_time: Option<Duration>,
    /// Bytes from the client.
    pub received: u64,
    /// Bytes to the client.
    pub sent: u64,
    /// Targets tried beyond the first.
    pub retries: u32,
}

/// How targets are chosen, and who wants to know how they do.
pub trait Choose {
    /// A target's position, not one of `tried`; `None` if there is none.
    fn pick(&mut self, tried: &[usize]) -> Option<usize>;
    /// The target could not be connected to.
    fn failed(&mut self, _position: usize, _error: &ConnectError) {}
    /// The target was connected to.
    fn connected(&mut self, _position: usize) {}
}

/// Who follows a connection while it is open.
pub trait Follow {
    /// So many more bytes came from the client, and from the target.
    fn moved(&mut self, received: u64, sent: u64);
    /// Ready = it is to end, for its target's time is over.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// A target that was connected to.
#[derive(Debug)]
pub struct Reached {
    /// The connection.
    pub stream: Plain,
    /// Position of the target.
    pub position: usize,
    /// How long connecting took.
    time: Duration,
    /// Targets that were tried before.
    tried: usize,
    counted: InFlight,
}

impl Reached {
    /// Whose counts it is in.
    pub fn id(&self) -> SharedId {
        self.counted.id()
    }
}

/// Connects to one of the backend's targets. One that cannot be connected to costs a try of the
/// next one, as often as the backend allows; the error is what becomes of the client then.
pub async fn reach(backend: &Backend, choose: &mut impl Choose) -> Result<Reached, Ended> {
    let mut tried = smallvec::SmallVec::<[usize; 4]>::new();
    let mut end = End::NoTarget;
    loop {
        let may = tried.len() <= usize::from(backend.retries);
        let position = if may { choose.pick(&tried) } else { None };
        let target = position.and_then(|at| Some((at, backend.targets.get(at)?)));
        let Some((position, target)) = target else {
            return Err(Ended {
                end,
                target: tried.last().copied(),
                connect_time: None,
                target_time: None,
                received: 0,
                sent: 0,
                retries: count(tried.len().saturating_sub(1)),
            });
        };
        // Counted while connecting too, so that two clients do not choose the same idle target.
        let counted = target.enter();
        let began = Instant::now();
        match connect::connect(target.address, backend.connect_timeout).await {
            Ok(stream) => {
                choose.connected(position);
                let (time, tried) = (began.elapsed(), tried.len());
                return Ok(Reached { stream, position, time, tried, counted });
            }
            Err(error) => {
                choose.failed(position, &error);
                end = match error {
                    ConnectError::Timeout(_) => End::ConnectTimeout,
                    ConnectError::Failed(_) => End::ConnectFailed,
                };
                tried.push(position);
            }
        }
    }
}

/// Forwards a client's connection to a target, to its end. `first` goes to the target before
/// anything else.
///
/// Not an `async fn`: that would keep room for the client twice, where it was given and where it is
/// used, for as long as it lasts.
pub fn forward<C: Side>(
    client: C,
    reached: Reached,
    first: Option<&[u8]>,
    idle: Duration,
    follow: &mut impl Follow,
) -> impl Future<Output = Ended> {
    let Reached { stream, position, time, tried, counted } = reached;
    let mut sides = Some((client, stream));
    async move {
        let _counted = counted;
        let began = Instant::now();
        let Relayed { end, received, sent } =
            relay::relay(&mut sides, first.unwrap_or_default(), idle, follow).await;
        match end {
            End::ClientReset | End::TargetReset | End::Idle | End::Drained => {
                if let Some((client, target)) = &sides {
                    reset(client.socket());
                    reset(target);
                }
            }
            End::Closed | End::NoTarget | End::ConnectFailed | End::ConnectTimeout => {}
        }
        Ended {
            end,
            target: Some(position),
            connect_time: Some(time),
            target_time: Some(began.elapsed()),
            received,
            sent,
            retries: count(tried),
        }
    }
}

/// What targets of a backend that wants it are told of a client, before anything else.
pub fn proxy_line(backend: &Backend, peer: &Peer) -> Option<Vec<u8>> {
    backend.proxy_protocol.then(|| line::header(peer.client, peer.local))
}

fn count(tries: usize) -> u32 {
    u32::try_from(tries).unwrap_or(u32::MAX)
}

/// What is closed after this is reset: the other side learns that it was no good end.
pub(super) fn reset(socket: &TcpStream) {
    // A socket that cannot be told so is closed the other way; nothing more can be done.
    let _set = socket.set_zero_linger().is_ok();
}

/// Sets what connections inherit from a listening socket: no delay for small messages, and probes
/// that find a peer which is gone before the idle time ends.
pub fn prepare_listener(socket: &impl std::os::fd::AsFd) -> io::Result<()> {
    prepare(&SockRef::from(socket))
}

fn prepare(socket: &SockRef<'_>) -> io::Result<()> {
    const IDLE: Duration = Duration::from_mins(2);
    const INTERVAL: Duration = Duration::from_secs(30);
    const PROBES: u32 = 4;
    socket.set_tcp_nodelay(true)?;
    let probes = TcpKeepalive::new().with_time(IDLE).with_interval(INTERVAL).with_retries(PROBES);
    socket.set_tcp_keepalive(&probes)
}

#[cfg(test)]
mod tests;
