//! Accepting: one task for each socket of a worker.

use std::{
    cell::RefCell, io, net::SocketAddr, panic::AssertUnwindSafe, rc::Rc, sync::Arc, time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    net::{TcpListener, TcpStream},
    task::spawn_local,
    time::sleep,
};

use super::{Slot, Worker};
use crate::proxy::{limits::Admission, serve, stats::AcceptError};

/// How long accepting pauses when the process or the host is out of files or memory.
const PAUSE: Duration = Duration::from_millis(50);

/// What a socket leads to; the listener behind an address can become another one.
pub(super) type Way = Rc<RefCell<Rc<Slot>>>;

/// Tries until it succeeds to make a socket known to the runtime. The kernel gives connections to
/// every socket that listens: one that is left alone would let them hang.
pub(super) async fn registered<T>(
    local: SocketAddr,
    mut register: impl FnMut() -> io::Result<T>,
) -> T {
    let mut told = false;
    loop {
        match register() {
            Ok(registered) => return registered,
            Err(error) => {
                if !told {
                    let seconds = PAUSE.as_secs_f32();
                    tracing::error!(%error, listener = %local, "a worker cannot accept connections; trying again every {seconds} s");
                    told = true;
                }
                sleep(PAUSE).await;
            }
        }
    }
}

/// Accepts until the task is aborted.
pub(super) async fn run(listener: TcpListener, local: SocketAddr, way: Way, worker: Rc<Worker>) {
    let mut told = false;
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                told = false;
                admit(stream, client, local, &way, &worker);
            }
            Err(error) if is_of_the_client(&error) => count(&error, &way, &worker),
            Err(error) => {
                count(&error, &way, &worker);
                if !told {
                    let seconds = PAUSE.as_secs_f32();
                    tracing::error!(%error, listener = %local, "cannot accept connections; trying again every {seconds} s");
                    told = true;
                }
                sleep(PAUSE).await;
            }
        }
    }
}

/// Serves what waits in the queue of a socket that is about to be closed.
pub(super) fn drain(
    listener: &std::net::TcpListener,
    local: SocketAddr,
    way: &Way,
    worker: &Rc<Worker>,
) {
    loop {
        let accepted = listener.accept().and_then(|(stream, client)| {
            stream.set_nonblocking(true)?;
            Ok((TcpStream::from_std(stream)?, client))
        });
        match accepted {
            Ok((stream, client)) => admit(stream, client, local, way, worker),
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    tracing::warn!(%error, listener = %local, "closed before all of its queue was served");
                }
                return;
            }
        }
    }
}

fn count(error: &io::Error, way: &Way, worker: &Worker) {
    let listener = way.borrow().get();
    listener.shared.stats.at(worker.id).accept_errors.count(AcceptError::of(error));
}

/// The connection failed before it was accepted; the socket is as good as before (accept(2)).
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
        NetworkUnreachable, PermissionDenied,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | PermissionDenied
    )
}

/// Serves a connection in a task of its own if the listener's limit lets it.
fn admit(stream: TcpStream, client: SocketAddr, local: SocketAddr, way: &Way, worker: &Rc<Worker>) {
    let slot = Rc::clone(&way.borrow());
    let listener = slot.get();
    let stats = listener.shared.stats.at(worker.id);
    if !listener.lets_in(client.ip()) {
        stats.denied_connections.add(1);
        return;
    }
    let Some(admission) = Admission::take(&listener.shared, listener.max_connections) else {
        stats.refused_connections.add(1);
        return;
    };
    stats.connections.add(1);
    stats.open.rise();
    let counted = worker.open.enter();
    // Not the listener: it may be another one long before the connection ends.
    let (shared, name) = (Arc::clone(&listener.shared), Arc::clone(&listener.name));
    let worker_id = worker.id;
    let worker = Rc::clone(worker);
    spawn_local(async move {
        let serving = serve::connection(stream, client, local, slot, worker);
        // A defect met by one connection is no reason to end the others.
        if AssertUnwindSafe(serving).catch_unwind().await.is_err() {
            shared.panics.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tracing::error!(%client, listener = &*name, "a defect ended this connection; please report what was printed above");
        }
        shared.stats.at(worker_id).open.fall();
        drop((admission, counted));
    });
}

#[cfg(test)]
mod tests;
