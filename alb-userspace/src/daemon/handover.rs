//! The running daemon's part of a takeover: it goes on as before until the new one serves, and
//! goes on again if that never comes to it.

use std::{io, os::fd::AsFd as _, time::Duration};

use tokio::{
    net::UnixStream,
    time::{Instant, sleep},
};

use super::{
    RESOLVE,
    packet_path::PacketPath,
    serve::{Daemon, GRACE},
    takeover::{
        Ask, Terms,
        successor::{Stage, Successor},
    },
};
use crate::control::socket::ControlSocket;

/// From one failed accept to the next try.
const PAUSE: Duration = Duration::from_secs(1);

/// What comes from outside about a takeover.
pub(super) enum Wish {
    /// Somebody connected.
    Met(UnixStream),
    /// The one that is connected said this; an error = it is gone.
    Heard(io::Result<Ask>),
}

/// Waits for the next wish. Never ends for a daemon that has given way.
pub(super) async fn wish(successor: &mut Option<Successor>, door: Option<&ControlSocket>) -> Wish {
    if let Some(successor) = successor {
        return Wish::Heard(successor.hear().await);
    }
    match door {
        Some(door) => loop {
            match door.accept().await {
                Ok(stream) => return Wish::Met(stream),
                Err(error) => {
                    tracing::warn!(%error, "cannot meet a daemon that wants to take over");
                    sleep(PAUSE).await;
                }
            }
        },
        None => std::future::pending().await,
    }
}

impl Daemon {
    /// Does what a successor wants. True = the packet path is back.
    pub(super) async fn fulfil(&mut self, wish: Wish) -> bool {
        let done = match wish {
            Wish::Met(stream) => {
                self.successor = Some(Successor::new(stream));
                Ok(())
            }
            Wish::Heard(Ok(ask)) => self.serve_successor(ask).await,
            Wish::Heard(Err(error)) => Err(error),
        };
        let Err(error) = done else { return false };
        let Some(successor) = self.successor.take() else { return false };
        let (pid, stage) = (successor.pid, successor.stage);
        successor.break_off(&error).await;
        if stage == Stage::Met {
            return false;
        }
        tracing::warn!(pid, %error, "the takeover came to nothing; this daemon goes on");
        matches!(stage, Stage::Released | Stage::Told)
    }

    async fn serve_successor(&mut self, ask: Ask) -> io::Result<()> {
        let Some(successor) = &mut self.successor else { return Ok(()) };
        match (ask, successor.stage) {
            (Ask::Hello { version, pid, terms }, Stage::Met) => {
                let snapshot = self.store.snapshot();
                let (has_path, workers) = (self.packet_path.is_there(), self.proxy.workers());
                let ours = Terms::new(&snapshot.model.node, has_path, workers);
                let api = self.api.as_ref().map(|api| api.as_fd());
                let hello = (version, pid, &terms);
                successor.welcome(hello, &ours, &self.proxy, api, &snapshot.targets).await
            }
            (Ask::Release, Stage::Welcomed) => {
                tracing::info!(pid = successor.pid, "another daemon is taking over");
                self.packet_path = PacketPath::away();
                successor.released().await
            }
            (Ask::Ready, Stage::Released) => successor.over().await,
            (Ask::Serving, Stage::Told) => {
                let open = self.proxy.connections();
                let seconds = GRACE.as_secs();
                tracing::info!(
                    pid = successor.pid,
                    "the other daemon serves; {open} connections of the proxy have {seconds} s here"
                );
                self.proxy.drain(true);
                self.vips.stop();
                self.door = None;
                self.closing.send_replace(true);
                self.ending = Some(Instant::now() + GRACE);
                self.handed_to = Some(successor.pid);
                self.successor = None;
                Ok(())
            }
            (ask, stage) => Err(io::Error::other(format!("{ask:?} while {stage:?}"))),
        }
    }

    /// Takes the packet path back from a successor that failed. What does not work is tried
    /// again with the next change or retry: the failed one may not be quite gone.
    pub(super) async fn take_back(&mut self) {
        let snapshot = self.store.snapshot();
        let opened = match self.netlink.interfaces().await {
            Ok(interfaces) => PacketPath::open(&snapshot.model, &interfaces, false).await,
            Err(error) => Err(error.into()),
        };
        match opened {
            Ok(mut path) => {
                if let Err(error) = path.tell(self.log.as_deref(), &self.store) {
                    tracing::error!("connections are not logged: {error:#}");
                }
                // Without their next hops the targets would be taken out until those are known.
                path.resolved(RESOLVE).await;
                self.packet_path = path;
                self.is_away = false;
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(%error, "cannot take the packet path back; trying again");
                self.behind = Some(error);
                self.is_away = true;
            }
        }
    }
}
