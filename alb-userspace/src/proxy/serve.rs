//! From an accepted connection to the protocol of its listener.

use std::{
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use tokio::{net::TcpStream, time::Instant};

use super::{
    access_log::Record,
    cut::Bond,
    http1, http2,
    peer::{Peer, TlsInfo},
    plain::Plain,
    plan::{Backend, BackendShared, Listener, ListenerShared, Target},
    refusal::Refusal,
    stats::{BackendStats, ListenerStats, UpstreamError},
    tcp::{self, Choose, ConnectError, End, Ended, Follow, Side},
    tls,
    worker::{Current, Slot, Worker},
};
use crate::model::ListenerProtocol;

/// Time for a TLS handshake on listeners that have no time of their own for it.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What is left to do for a connection. Each protocol has a box of its own, and none is there
/// before the handshake is over: a connection takes no more room than what it speaks.
type Work = Pin<Box<dyn Future<Output = ()>>>;

/// Serves a connection to its end. What is served then may change while it is open: nothing of
/// a listener is held longer than it is needed.
pub(super) async fn connection(
    stream: TcpStream,
    client: SocketAddr,
    local: SocketAddr,
    slot: Rc<Slot>,
    worker: Rc<Worker>,
) {
    let listener = slot.get();
    let stream = Plain::from(stream);
    let peer = Peer { client, local, tls: None };
    let work: Work = match listener.protocol {
        ListenerProtocol::Tcp => {
            drop(slot);
            Box::pin(forward(stream, peer, listener, worker))
        }
        ListenerProtocol::Http => {
            drop(listener);
            Box::pin(http1::serve(stream, |stream| tcp::reset(stream), peer, slot, worker))
        }
        ListenerProtocol::Tls | ListenerProtocol::Https => {
            let encrypted: Pin<Box<dyn Future<Output = Option<Work>>>> =
                Box::pin(encrypted(stream, peer, listener, slot, worker));
            let Some(work) = encrypted.await else { return };
            work
        }
    };
    work.await;
}

/// Does the handshake of a connection; what there is to do then.
async fn encrypted(
    stream: Plain,
    mut peer: Peer,
    listener: Rc<Current>,
    slot: Rc<Slot>,
    worker: Rc<Worker>,
) -> Option<Work> {
    let is_tls = listener.protocol == ListenerProtocol::Tls;
    let context = listener.tls.as_ref()?;
    let patience = listener.http.map_or(HANDSHAKE, |http| http.header_timeout);
    match tls::accept(stream, context, patience).await {
        Ok(tls::Accepted { stream, info }) => {
            let is_h2 = info.alpn == Some("h2");
            peer.tls = Some(info);
            Some(if is_tls {
                Box::pin(forward(stream, peer, listener, worker))
            } else if is_h2 {
                Box::pin(http2::serve(stream, peer, slot, worker))
            } else {
                let abort = |stream: &tls::Stream| tcp::reset(stream.get_ref().0);
                Box::pin(http1::serve(stream, abort, peer, slot, worker))
            })
        }
        Err(tls::Refused::PlainHttp(stream)) if !is_tls => {
            let refusal = Refusal::PlainOnTls;
            Some(Box::pin(async move { http1::refuse(stream, peer, &listener, refusal).await }))
        }
        // A refusal is counted where it is found.
        Err(tls::Refused::PlainHttp(_) | tls::Refused::Failed(_)) => None,
    }
}

/// Connects a client to a target of the listener's backend until both sides have ended.
async fn forward(stream: impl Side, peer: Peer, listener: Rc<Current>, worker: Rc<Worker>) {
    let begun = Instant::now();
    let (peer, worker) = (&peer, &*worker);
    let route = Route::of(&listener, worker);
    let idle = listener.idle_timeout;
    let backend = Arc::clone(&listener.backend);
    drop(listener);
    let first = tcp::proxy_line(&backend, peer);
    let reached = tcp::reach(&backend, &mut Turns { backend: &backend, peer, worker }).await;
    let position = match &reached {
        Ok(reached) => Some(reached.position),
        Err(ended) => ended.target,
    };
    let target = position.and_then(|at| backend.targets.get(at)).cloned();
    drop(backend);
    let ended = match reached {
        Ok(reached) => {
            let bond = worker.cuts.bond();
            bond.to(reached.id());
            let mut follower = Follower {
                of_listener: route.of_listener.stats.at(worker.id),
                of_backend: route.of_backend.stats.at(worker.id),
                bond,
            };
            tcp::forward(stream, reached, first.as_deref(), idle, &mut follower).await
        }
        Err(ended) => {
            tcp::reset(stream.socket());
            ended
        }
    };
    route.count(&ended, target.as_deref(), worker);
    if let (Some(log), Some(names)) = (&worker.log, &route.names) {
        log.record(&names.record(&ended, target.as_deref(), peer, begun.elapsed()));
    }
    tracing::trace!(client = %peer.client, ?ended, "connection ended");
}

/// What the end of a connection is told to: of the listener and the backend as they were.
struct Route {
    of_listener: Arc<ListenerShared>,
    of_backend: Arc<BackendShared>,
    /// Only if there is a log.
    names: Option<Names>,
}

/// Ids, for the log.
struct Names {
    balancer: Arc<str>,
    listener: Arc<str>,
    backend: Arc<str>,
}

impl Route {
    fn of(listener: &Listener, worker: &Worker) -> Self {
        let names = || Names {
            balancer: Arc::clone(&listener.balancer),
            listener: Arc::clone(&listener.id),
            backend: Arc::clone(&listener.backend.id),
        };
        Self {
            of_listener: Arc::clone(&listener.shared),
            of_backend: Arc::clone(&listener.backend.shared),
            names: worker.log.is_some().then(names),
        }
    }

    fn count(&self, ended: &Ended, target: Option<&Target>, worker: &Worker) {
        let stats = self.of_listener.stats.at(worker.id);
        match ended.end {
            End::NoTarget | End::ConnectFailed | End::ConnectTimeout | End::Drained => {
                stats.refusals.count(ended.end.word());
            }
            End::Closed | End::ClientReset | End::TargetReset | End::Idle => {}
        }
        let stats = self.of_backend.stats.at(worker.id);
        stats.retries.add(ended.retries.into());
        if ended.end == End::NoTarget {
            stats.no_target.add(1);
        }
        if let (End::TargetReset, Some(target)) = (ended.end, target) {
            self.of_backend.fails(target, worker.id, UpstreamError::Closed);
        }
        if let Some(time) = ended.connect_time {
            stats.connects.add(1);
            stats.connect_time.observe(time);
        }
    }
}

impl Names {
    /// What the access log is told of a connection.
    fn record<'r>(
        &'r self,
        ended: &Ended,
        target: Option<&Target>,
        peer: &'r Peer,
        duration: Duration,
    ) -> Record<'r> {
        Record {
            time: SystemTime::now(),
            load_balancer: &self.balancer,
            listener: &self.listener,
            backend: &self.backend,
            client: peer.client,
            vip: peer.local,
            target: target.map(|target| target.address),
            duration,
            connect_time: ended.connect_time,
            target_time: ended.target_time,
            bytes_received: ended.received,
            bytes_sent: ended.sent,
            error: ended.end.word(),
            retries: ended.retries,
            http: None,
            tls: peer.tls.as_ref().map(TlsInfo::record),
            kernel: None,
        }
    }
}

/// Counts for a connection while it is open, and ends it with its target.
struct Follower<'r> {
    of_listener: &'r ListenerStats,
    of_backend: &'r BackendStats,
    bond: Bond,
}

impl Follow for Follower<'_> {
    /// Bytes count when they move, not when the connection ends: it may be open for weeks.
    fn moved(&mut self, received: u64, sent: u64) {
        self.of_listener.bytes_in.add(received);
        self.of_listener.bytes_out.add(sent);
        self.of_backend.bytes_out.add(received);
        self.of_backend.bytes_in.add(sent);
    }

    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.bond.poll(cx)
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

#[cfg(test)]
mod tests;
