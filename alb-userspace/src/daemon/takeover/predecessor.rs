//! The new daemon's side: what it gets from the one that runs.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixStream,
    process,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use serde::Deserialize;
use socket2::Socket;
use tokio::time::timeout;

use super::{Answer, Ask, Channel, Terms, VERSION, Verdict, Welcome, socket};
use crate::{
    model::{DatapathMode, Node},
    proxy,
    state::{Health, TargetRef, TargetState, TargetStates},
};

/// How long it may take to answer; a sweep over full tables may have to end first.
const PATIENCE: Duration = Duration::from_secs(30);

/// The daemon that runs, as the one that takes over sees it. Dropping it before
/// [`Predecessor::give_way`] leaves it serving. One that dies meanwhile is no reason to stop: then
/// nobody else serves.
#[derive(Debug)]
pub(in crate::daemon) struct Predecessor {
    channel: Channel,
    /// It died.
    is_gone: bool,
    /// Its process.
    pub(in crate::daemon) pid: u32,
    /// Listening sockets of its proxy, one for each worker.
    pub(in crate::daemon) sockets: BTreeMap<SocketAddr, Vec<Socket>>,
    /// Listener of `node.api`.
    pub(in crate::daemon) api: Option<TcpListener>,
    /// What it knows of the targets.
    pub(in crate::daemon) states: TargetStates,
}

impl Predecessor {
    /// Asks the daemon of this node's state directory for what it has.
    pub(in crate::daemon) async fn meet(node: &Node) -> anyhow::Result<Self> {
        let path = socket(&node.state_dir);
        let stream = UnixStream::connect(&path).with_context(|| {
            format!(
                "--takeover: no daemon runs with node.stateDir {}: start without --takeover, or name \
                 the running daemon's directory",
                node.state_dir.display()
            )
        })?;
        stream.set_nonblocking(true)?;
        let mut channel = Channel::new(tokio::net::UnixStream::from_std(stream)?);
        let workers = proxy::workers(node.workers);
        let terms = Terms::new(node, node.datapath != DatapathMode::Proxy, workers);
        channel.say(&Ask::Hello { version: VERSION, pid: process::id(), terms }).await?;
        let answer = hear(&mut channel).await?;
        let answer = answer.context("--takeover: the running daemon broke off")?;
        let Answer::Welcome(Welcome { pid, has_api, addresses, targets }) = answer else {
            return Err(out_of_turn());
        };
        let count = usize::from(has_api) + addresses.len() * workers;
        let taken = timeout(PATIENCE, channel.take(count)).await;
        let taken = taken.context("--takeover: the sockets did not come")?;
        let mut taken = taken.context("--takeover: cannot receive the sockets")?.into_iter();
        let api = if has_api { taken.next().map(TcpListener::from) } else { None };
        let own = |address| (address, taken.by_ref().take(workers).map(Socket::from).collect());
        let sockets = addresses.into_iter().map(own).collect();
        Ok(Self { channel, is_gone: false, pid, sockets, api, states: states(targets) })
    }

    /// It writes to the packet path's maps no more, and gives up its claim on them.
    pub(in crate::daemon) async fn release(&mut self) -> anyhow::Result<()> {
        match self.ask(&Ask::Release).await? {
            Some(Answer::Released) | None => Ok(()),
            Some(Answer::Welcome(_) | Answer::Refused(_) | Answer::Over) => Err(out_of_turn()),
        }
    }

    /// It accepts no more, ends what it has, and then itself.
    pub(in crate::daemon) async fn give_way(mut self) -> anyhow::Result<()> {
        match self.ask(&Ask::Ready).await? {
            Some(Answer::Over) => {}
            None => return Ok(()),
            Some(Answer::Welcome(_) | Answer::Refused(_) | Answer::Released) => {
                return Err(out_of_turn());
            }
        }
        // No answer follows. If it cannot be told, it broke off (and says so) or is dead.
        if self.channel.say(&Ask::Serving).await.is_err()
            && hear(&mut self.channel).await?.is_some()
        {
            return Err(out_of_turn());
        }
        Ok(())
    }

    /// Its answer; `None` = it is dead, and this daemon is the only one.
    async fn ask(&mut self, ask: &Ask) -> anyhow::Result<Option<Answer>> {
        if self.is_gone {
            return Ok(None);
        }
        // If it broke off, its last word can still be read.
        if let Err(error) = self.channel.say(ask).await {
            tracing::debug!(%error, "the running daemon does not listen");
        }
        let answer = hear(&mut self.channel).await?;
        if answer.is_none() {
            tracing::warn!(pid = self.pid, "the running daemon is gone; this one goes on alone");
            self.is_gone = true;
        }
        Ok(answer)
    }
}

fn out_of_turn() -> anyhow::Error {
    anyhow::anyhow!("--takeover: the running daemon answers out of turn")
}

/// What it says next; `None` = it died.
async fn hear(channel: &mut Channel) -> anyhow::Result<Option<Answer>> {
    let heard = timeout(PATIENCE, channel.hear::<serde_json::Value>()).await;
    let heard = heard.context("--takeover: the running daemon does not answer")?;
    let value = match heard {
        Ok(Some(value)) => value,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
        Err(error) => return Err(error).context("--takeover: cannot hear the running daemon"),
    };
    match Answer::deserialize(value) {
        Ok(Answer::Refused(why)) => anyhow::bail!("--takeover: the running daemon refuses: {why}"),
        answer => answer.map(Some).context(
            "--takeover: the running daemon is of a version that cannot talk with this one: stop it \
             and start this one instead",
        ),
    }
}

fn states(verdicts: Vec<Verdict>) -> TargetStates {
    let mut states = TargetStates::default();
    for Verdict { backend, target, is_healthy } in verdicts {
        let health = if is_healthy { Health::Healthy } else { Health::Unhealthy };
        let state = TargetState { health, reason: None, since: SystemTime::now(), revision: 0 };
        states.insert(TargetRef::new(&backend, &target), state);
    }
    states
}
