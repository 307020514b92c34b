//! What the daemon can be asked and told while it runs. A request, whatever door it comes through,
//! becomes a [`Command`]; whoever runs the daemon executes it. No HTTP outside `control/`.

pub mod client;
pub mod server;
pub mod socket;

#[cfg(test)]
mod tests;

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::report::StatusReport;

/// Sends commands to whoever runs the daemon.
pub type Commands = mpsc::Sender<Command>;

/// Commands that may wait for execution; more make their senders wait.
pub const QUEUE: usize = 64;

/// Something for whoever runs the daemon to do. Answers go through the `reply`; an asker who has
/// gone away does not matter, so a failed send is ignored.
#[derive(Debug)]
pub enum Command {
    /// Everything the daemon can tell. Legal at any time, before the daemon is ready too.
    Status {
        /// Takes the report.
        reply: oneshot::Sender<StatusReport>,
    },
    /// Whether traffic is served as the file says. Legal at any time; cheap, so it can be asked
    /// often.
    Ready {
        /// Takes the answer.
        reply: oneshot::Sender<Readiness>,
    },
    /// Read the file again and apply it as one diff, exactly as SIGHUP does. Legal at any time;
    /// reloads are executed one after the other. A refused file changes nothing.
    Reload {
        /// Takes what changed or why nothing did.
        reply: oneshot::Sender<Result<Reloaded, ReloadError>>,
    },
}

/// Whether traffic is served as the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It is.
    Ready,
    /// It is not, for this reason.
    NotReady(String),
}

/// A file was applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reloaded {
    /// Of the snapshot that is served now; as before if the file says the same as before.
    pub generation: u64,
    /// What the file asks for that needs attention, one sentence each.
    pub warnings: Vec<String>,
}

/// A file was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// The daemon was started without one.
    #[error("the daemon was started without a file, there is nothing to read again")]
    NoFile,
    /// It cannot be read, does not parse or contradicts itself.
    #[error("{} is refused, nothing changed:\n{errors}", file.display())]
    Refused {
        /// The file.
        file: PathBuf,
        /// All its errors, one a line.
        errors: String,
    },
    /// The file is good, but the kernel did not take it.
    #[error("{} could not be applied: {error}", file.display())]
    NotApplied {
        /// The file.
        file: PathBuf,
        /// What failed.
        error: String,
    },
}

/// Why a command has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoReply {
    /// Whoever runs the daemon is ending.
    #[error("the daemon is shutting down")]
    Ending,
    /// Nobody took the command, or finished it, in time.
    #[error("the daemon did not answer within {} s", .0.as_secs())]
    Late(Duration),
}

/// Sends a command and waits for its answer, `limit` at most.
pub async fn ask<T>(
    commands: &Commands,
    limit: Duration,
    command: impl FnOnce(oneshot::Sender<T>) -> Command,
) -> Result<T, NoReply> {
    let (reply, answer) = oneshot::channel();
    let exchange = async {
        commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    };
    match timeout(limit, exchange).await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(NoReply::Ending),
        Err(_late) => Err(NoReply::Late(limit)),
    }
}
