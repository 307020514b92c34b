//! The signals a daemon heeds. Taken before anything else, so that one that comes while the daemon
//! starts waits its turn instead of killing it.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGHUP, SIGTERM and SIGINT; SIGUSR1 is for the access log and does nothing without one.
#[derive(Debug)]
pub(super) struct Signals {
    hang_up: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From here on none of them has its default action.
    pub(super) fn new() -> io::Result<Self> {
        // Whoever else listens for it: its default action, which is to kill, is gone for good.
        drop(signal(SignalKind::user_defined1())?);
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Name of the signal that asks for the end.
    pub(super) async fn end(&mut self) -> &'static str {
        let Self { hang_up: _, terminate, interrupt } = self;
        end(terminate, interrupt).await
    }

    /// The next one: `Some` = the end, by this signal; `None` = the file is to be read again.
    pub(super) async fn next(&mut self) -> Option<&'static str> {
        let Self { hang_up, terminate, interrupt } = self;
        tokio::select! {
            biased;
            ended = end(terminate, interrupt) => Some(ended),
            _ = hang_up.recv() => None,
        }
    }
}

async fn end(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
