//! From an accepted connection to the protocol of its listener.

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{net::TcpStream, time::Instant};

use super::{
    access_log::Record,
    http1, http2,
    peer::{Peer, TlsInfo},
    plan::{Backend, Listener},
    refusal::Refusal,
    stats::UpstreamError,
    tcp::{self, Choose, ConnectError, End, Ended, Side},
    tls,
    worker::{Slot, Worker},
};
use crate::model::ListenerProtocol;

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
        ListenerProtocol::Https => {
            let Some(context) = &listener.tls else { return };
            let patience = listener.http.map_or(HANDSHAKE, |http| http.header_timeout);
            // Boxed: the connection lives much longer than its handshake.
            match Box::pin(tls::accept(stream, context, patience)).await {
                Ok(accepted) => {
                    let is_h2 = accepted.info.alpn == Some("h2");
                    peer.tls = Some(accepted.info);
                    if is_h2 {
                        http2::serve(accepted.stream, peer, slot, worker).await;
                    } else {
                        let abort = |stream: &tls::Stream| tcp::reset(stream.get_ref().0);
                        http1::serve(accepted.stream, abort, peer, slot, worker).await;
                    }
                }
                Err(tls::Refused::PlainHttp(stream)) => {
                    http1::refuse(stream, peer, &listener, Refusal::PlainOnTls).await;
                }
                Err(tls::Refused::Failed(_)) => {}
            }
        }
    }
}

/// Connects a client to a target of the listener's backend until both sides have ended.
async fn forward(stream: impl Side, peer: &Peer, listener: &Listener, worker: &Worker) {
    let begun = Instant::now();
    let backend = Arc::clone(&listener.backend);
    let mut choose = Turns { backend: &backend, peer, worker };
    let ended = tcp::forward(stream, peer, &backend, &mut choose, listener.idle_timeout).await;
    count(&ended, listener, &backend, worker);
    if let Some(log) = &worker.log {
        log.record(&record(&ended, peer, listener, &backend, begun.elapsed()));
    }
    tracing::trace!(listener = &*listener.name, client = %peer.client, ?ended, "connection ended");
}

fn count(ended: &Ended, listener: &Listener, backend: &Backend, worker: &Worker) {
    let stats = listener.shared.stats.at(worker.id);
    stats.bytes_in.add(ended.received);
    stats.bytes_out.add(ended.sent);
    match ended.end {
        End::NoTarget | End::ConnectFailed | End::ConnectTimeout => {
            stats.refusals.count(ended.end.word());
        }
        End::Closed | End::ClientReset | End::TargetReset | End::Idle => {}
    }
    let stats = backend.shared.stats.at(worker.id);
    stats.bytes_out.add(ended.received);
    stats.bytes_in.add(ended.sent);
    stats.retries.add(ended.retries.into());
    if ended.end == End::NoTarget {
        stats.no_target.add(1);
    }
    let target = ended.target.and_then(|at| backend.targets.get(at));
    if let (End::TargetReset, Some(target)) = (ended.end, target) {
        backend.fails(target, worker.id, UpstreamError::Closed);
    }
    if let Some(time) = ended.connect_time {
        stats.connects.add(1);
        stats.connect_time.observe(time);
    }
}

/// What the access log is told of a connection.
fn record<'r>(
    ended: &Ended,
    peer: &'r Peer,
    listener: &'r Listener,
    backend: &'r Backend,
    duration: Duration,
) -> Record<'r> {
    Record {
        time: SystemTime::now(),
        load_balancer: &listener.balancer,
        listener: &listener.id,
        backend: &backend.id,
        client: peer.client,
        vip: peer.local,
        target: ended.target.and_then(|at| backend.targets.get(at)).map(|target| target.address),
        duration,
        connect_time: ended.connect_time,
        target_time: ended.target_time,
        bytes_received: ended.received,
        bytes_sent: ended.sent,
        error: ended.end.word(),
        retries: ended.retries,
        http: None,
        tls: peer.tls.as_ref().map(TlsInfo::record),
    }
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
        let named = backend.named(target);
        match error {
            ConnectError::Timeout(_) => {
                backend.fails(target, worker.id, UpstreamError::ConnectTimeout);
                worker.passive.connect_timed_out(named, target.address.ip());
            }
            ConnectError::Failed(error) => {
                backend.fails(target, worker.id, UpstreamError::ConnectFailed);
                worker.passive.connect_failed(named, target.address.ip(), error);
            }
        }
    }
}
