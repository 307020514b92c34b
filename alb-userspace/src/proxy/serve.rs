//! From an accepted connection to the protocol of its listener.

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::net::TcpStream;

use super::{
    http1,
    peer::Peer,
    plan::{Backend, Listener},
    stats::UpstreamError,
    tcp::{self, Choose, ConnectError, End, Side},
    tls,
    worker::{Slot, Worker},
};
use crate::{model::ListenerProtocol, state::TargetRef};

/// Time for a TLS handshake on listeners that have no time of their own for it.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Serves a connection to its end.
pub(super) async fn connection(
    stream: TcpStream,
    client: SocketAddr,
    local: SocketAddr,
    slot: Rc<Slot>,
    worker: Rc<Worker>,
) {
    let listener = slot.get();
    let mut peer = Peer { client, local, tls: None };
    match listener.protocol {
        ListenerProtocol::Tcp => forward(stream, &peer, &listener, &worker).await,
        ListenerProtocol::Tls => {
            let Some(context) = &listener.tls else { return };
            // A refusal is counted where it is found.
            let Ok(accepted) = tls::accept(stream, context, HANDSHAKE).await else { return };
            peer.tls = Some(accepted.info);
            forward(accepted.stream, &peer, &listener, &worker).await;
        }
        ListenerProtocol::Http => http1::serve(stream, tcp::reset, peer, slot, worker).await,
        // Refused with the file, until h2 is served too: the handshake offers it.
        ListenerProtocol::Https => {}
    }
}

/// Connects a client to a target of the listener's backend until both sides have ended.
async fn forward(stream: impl Side, peer: &Peer, listener: &Listener, worker: &Worker) {
    let backend = Arc::clone(&listener.backend);
    let mut choose = Turns { backend: &backend, peer, worker };
    let ended = tcp::forward(stream, peer, &backend, &mut choose, listener.idle_timeout).await;
    let stats = listener.shared.stats.at(worker.id);
    stats.bytes_in.add(ended.received);
    stats.bytes_out.add(ended.sent);
    let stats = backend.shared.stats.at(worker.id);
    stats.bytes_out.add(ended.received);
    stats.bytes_in.add(ended.sent);
    stats.retries.add(ended.retries.into());
    if ended.end == End::NoTarget {
        stats.no_target.add(1);
    }
    if let Some(time) = ended.connect_time {
        stats.connects.add(1);
        stats.connect_time.observe(time);
    }
    tracing::trace!(listener = &*listener.name, client = %peer.client, ?ended, "connection ended");
}

/// Targets as the backend's algorithm has them.
struct Turns<'c> {
    backend: &'c Backend,
    peer: &'c Peer,
    worker: &'c Worker,
}

impl Choose for Turns<'_> {
    fn pick(&mut self, tried: &[usize]) -> Option<usize> {
        let Self { backend, peer, .. } = self;
        let load = |at: usize| backend.targets[at].in_flight();
        backend.selector.pick(peer.client.ip(), load, tried)
    }

    fn failed(&mut self, position: usize, error: &ConnectError) {
        let Self { backend, worker, .. } = self;
        let target = &backend.targets[position];
        target.shared.failed.fetch_add(1, Ordering::Relaxed);
        let named = TargetRef { backend: Arc::clone(&backend.id), target: Arc::clone(&target.id) };
        let stats = backend.shared.stats.at(worker.id);
        match error {
            ConnectError::Timeout(_) => {
                stats.errors.count(UpstreamError::ConnectTimeout);
                worker.passive.connect_timed_out(named, target.address.ip());
            }
            ConnectError::Failed(error) => {
                stats.errors.count(UpstreamError::ConnectFailed);
                worker.passive.connect_failed(named, target.address.ip(), error);
            }
        }
    }
}
