//! The running daemon's side: who takes over, and how far that has come.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd as _, BorrowedFd},
    process,
    time::Duration,
};

use tokio::{
    net::UnixStream,
    time::{Instant, timeout, timeout_at},
};

use super::{Answer, Ask, Channel, Terms, VERSION, Verdict, Welcome};
use crate::{
    proxy::Proxy,
    state::{Health, TargetStates},
};

/// How long a successor may take to read what it is told.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take to say who it is, or that it serves once it may.
const PROMPT: Duration = Duration::from_secs(10);
/// How long it may take to prepare: to bind what is new, to adopt full tables, to wait for the
/// first checks of new targets (60 s at most).
const PREPARES: Duration = Duration::from_mins(2);

/// How far a takeover has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Stage {
    /// It has not said who it is, or was refused.
    Met,
    /// It has the sockets, and does not accept on them.
    Welcomed,
    /// The packet path's maps are its to write.
    Released,
    /// It is ready, and told to serve.
    Told,
}

impl Stage {
    fn patience(self) -> Duration {
        match self {
            Self::Met | Self::Told => PROMPT,
            Self::Welcomed | Self::Released => PREPARES,
        }
    }
}

/// A daemon that wants to take over.
#[derive(Debug)]
pub(in crate::daemon) struct Successor {
    channel: Channel,
    /// Its process; 0 = it has not said.
    pub(in crate::daemon) pid: u32,
    /// How far it is.
    pub(in crate::daemon) stage: Stage,
    /// It must have said the next thing by then.
    deadline: Instant,
}

impl Successor {
    /// Somebody connected.
    pub(in crate::daemon) fn new(stream: UnixStream) -> Self {
        let deadline = Instant::now() + Stage::Met.patience();
        Self { channel: Channel::new(stream), pid: 0, stage: Stage::Met, deadline }
    }

    /// What it says next; an error = it is gone, or makes no sense.
    pub(in crate::daemon) async fn hear(&mut self) -> io::Result<Ask> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "it takes too long");
        let heard = timeout_at(self.deadline, self.channel.hear()).await;
        let heard = heard.map_err(|_elapsed| late())??;
        heard.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Gives it the sockets, or refuses it.
    pub(in crate::daemon) async fn welcome(
        &mut self,
        (version, pid, theirs): (u32, u32, &Terms),
        ours: &Terms,
        proxy: &Proxy,
        api: Option<BorrowedFd<'_>>,
        targets: &TargetStates,
    ) -> io::Result<()> {
        self.pid = pid;
        let differ = ours.differ(theirs);
        if version != VERSION || !differ.is_empty() {
            let why = if version == VERSION {
                format!("{} changes at a restart only", differ.join(", "))
            } else {
                format!("it speaks version {VERSION} of takeovers, the new one version {version}")
            };
            tracing::warn!(pid, "a takeover is refused: {why}");
            return self.say(&Answer::Refused(why)).await;
        }
        let listening: Vec<(SocketAddr, _)> = proxy.listening().collect();
        let targets = targets.iter().filter_map(|(target, state)| {
            let is_healthy = match state.health {
                Health::Healthy => true,
                Health::Unhealthy => false,
                Health::Initial | Health::Unchecked => return None,
            };
            let (backend, target) = (target.backend.to_string(), target.target.to_string());
            Some(Verdict { backend, target, is_healthy })
        });
        let welcome = Welcome {
            pid: process::id(),
            has_api: api.is_some(),
            addresses: listening.iter().map(|(address, _)| *address).collect(),
            targets: targets.collect(),
        };
        self.say(&Answer::Welcome(welcome)).await?;
        let of_proxy = listening.iter().flat_map(|(_, sockets)| *sockets);
        let sockets: Vec<_> =
            api.into_iter().chain(of_proxy.map(|socket| socket.as_fd())).collect();
        timeout(PATIENCE, self.channel.give(&sockets)).await??;
        self.reach(Stage::Welcomed);
        Ok(())
    }

    /// The packet path is released.
    pub(in crate::daemon) async fn released(&mut self) -> io::Result<()> {
        self.reach(Stage::Released);
        self.say(&Answer::Released).await
    }

    /// It is to serve.
    pub(in crate::daemon) async fn over(&mut self) -> io::Result<()> {
        self.reach(Stage::Told);
        self.say(&Answer::Over).await
    }

    /// Tells it that nothing comes of it, as far as it can still be told.
    pub(in crate::daemon) async fn break_off(mut self, why: &io::Error) {
        if let Err(error) = self.say(&Answer::Refused(why.to_string())).await {
            tracing::debug!(pid = self.pid, %error, "the successor is gone");
        }
    }

    fn reach(&mut self, stage: Stage) {
        self.stage = stage;
        self.deadline = Instant::now() + stage.patience();
    }

    async fn say(&mut self, answer: &Answer) -> io::Result<()> {
        timeout(PATIENCE, self.channel.say(answer)).await?
    }
}
