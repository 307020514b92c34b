//! What one request comes to, for counters and the access log. Written when it is dropped, so
//! that every request is accounted for however it ends.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{
    HeaderMap, header,
    request::Parts,
    uri::{Authority, PathAndQuery},
};
use tokio::time::Instant;

use super::stream::{Id, Shared};
use crate::proxy::{
    access_log::{HttpRecord, Record, WorkerLog},
    message::Version,
    peer::TlsInfo,
    plan::Backend,
    refusal::Refusal,
    stats::{ListenerStats, StatusClass},
    worker::Current,
};

/// Bytes that a field of a head counts beyond its name and its value: what stands around them in
/// HTTP/1. How the client's compression happened to write it tells nothing of the message.
const FIELD: usize = 4;

/// The same for the name of the one pseudo-field of a response and for its value.
const STATUS: u64 = (":status".len() + 3 + FIELD) as u64;

/// Bytes of a list of fields, before compression.
pub(super) fn size(fields: &HeaderMap) -> u64 {
    let sizes = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD);
    sizes.sum::<usize>() as u64
}

/// Bytes of a request's head, before compression, pseudo-fields too.
fn head_size(parts: &Parts) -> u64 {
    let uri = &parts.uri;
    let pseudo = [
        (":method", Some(parts.method.as_str())),
        (":scheme", uri.scheme_str()),
        (":authority", uri.authority().map(Authority::as_str)),
        (":path", uri.path_and_query().map(PathAndQuery::as_str)),
    ];
    let pseudo = pseudo.into_iter().filter_map(|(name, value)| Some(name.len() + value?.len()));
    pseudo.map(|len| (len + FIELD) as u64).sum::<u64>() + size(&parts.headers)
}

/// One request.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) shared: Rc<Shared>,
    pub(super) listener: Rc<Current>,
    pub(super) parts: Parts,
    began: Instant,
    status: Cell<u16>,
    refusal: Cell<Option<Refusal>>,
    target_status: Cell<Option<u16>>,
    backend: RefCell<Option<Arc<Backend>>>,
    target: Cell<Option<SocketAddr>>,
    connect_time: Cell<Option<Duration>>,
    target_time: Cell<Option<Duration>>,
    received: Cell<u64>,
    sent: Cell<u64>,
    tries: Cell<u32>,
    id: RefCell<Id>,
}

impl Account {
    /// A request whose head has come.
    pub(super) fn new(shared: Rc<Shared>, listener: Rc<Current>, parts: Parts) -> Self {
        listener.shared.stats.at(shared.worker_id()).in_flight.rise();
        Self {
            began: shared.clock.now(),
            received: Cell::new(head_size(&parts)),
            shared,
            listener,
            parts,
            status: Cell::new(Refusal::ClientGone.status()),
            refusal: Cell::new(Some(Refusal::ClientGone)),
            target_status: Cell::new(None),
            backend: RefCell::new(None),
            target: Cell::new(None),
            connect_time: Cell::new(None),
            target_time: Cell::new(None),
            sent: Cell::new(0),
            tries: Cell::new(0),
            id: RefCell::default(),
        }
    }

    /// A target is tried.
    pub(super) fn tries(&self, target: SocketAddr) {
        self.target.set(Some(target));
        self.tries.set(self.tries.get() + 1);
    }

    /// What it is called in logs.
    pub(super) fn is_called(&self, id: &Id) {
        self.id.replace(id.clone());
    }

    /// Where the request goes.
    pub(super) fn chose(&self, backend: &Arc<Backend>) {
        self.backend.replace(Some(Arc::clone(backend)));
    }

    /// A connection to the target was made.
    pub(super) fn connected(&self, took: Duration) {
        self.connect_time.set(Some(took));
    }

    /// The target answered.
    pub(super) fn answered(&self, status: u16) {
        self.target_status.set(Some(status));
    }

    /// The first byte of a response came.
    pub(super) fn waited(&self, took: Duration) {
        self.target_time.set(Some(took));
    }

    /// More bytes of the request came than those of its head, as [`size`] has them.
    pub(super) fn received(&self, bytes: u64) {
        self.received.set(self.received.get() + bytes);
    }

    /// Bytes of the response's body, or of fields after it, were sent.
    pub(super) fn sent(&self, bytes: u64) {
        self.sent.set(self.sent.get() + bytes);
    }

    /// A head of the response with these fields was sent.
    pub(super) fn sent_head(&self, fields: u64) {
        self.sent(STATUS + fields);
    }

    /// Bytes went to a target.
    pub(super) fn to_target(&self, bytes: usize) {
        if let Some(backend) = &*self.backend.borrow() {
            let stats = backend.shared.stats.at(self.shared.worker_id());
            stats.bytes_out.add(bytes as u64);
        }
    }

    /// Bytes came from a target.
    pub(super) fn got_from_target(&self, bytes: usize) {
        if let Some(backend) = &*self.backend.borrow() {
            let stats = backend.shared.stats.at(self.shared.worker_id());
            stats.bytes_in.add(bytes as u64);
        }
    }

    /// The status that the client was sent.
    pub(super) fn status(&self, status: u16) {
        self.status.set(status);
    }

    /// The response went out whole (`None`), or why it did not or is one of our own.
    pub(super) fn ends(&self, refusal: Option<Refusal>) {
        self.refusal.set(refusal);
        if let Some(refusal @ (Refusal::ClientGone | Refusal::SlowReader)) = refusal {
            self.status.set(refusal.status());
        }
    }

    fn record(&self, log: &WorkerLog, duration: Duration) {
        let Self { shared, listener, parts, .. } = self;
        let field = |name| parts.headers.get(name).map_or(&[][..], |value| value.as_bytes());
        let host = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
        let backend = self.backend.borrow();
        log.record(&Record {
            time: SystemTime::now(),
            load_balancer: &listener.balancer,
            listener: &listener.id,
            backend: backend.as_ref().map_or("", |backend| &backend.id),
            client: shared.peer.client,
            vip: shared.peer.local,
            target: self.target.get(),
            duration,
            connect_time: self.connect_time.get(),
            target_time: self.target_time.get(),
            bytes_received: self.received.get(),
            bytes_sent: self.sent.get(),
            error: self.refusal.get().map_or("", Refusal::word),
            retries: self.tries.get().saturating_sub(1),
            http: Some(HttpRecord {
                status: self.status.get(),
                target_status: self.target_status.get(),
                method: parts.method.as_str().as_bytes(),
                host: host.unwrap_or_else(|| field(header::HOST)),
                uri: parts.uri.path_and_query().map_or("", |path| path.as_str()).as_bytes(),
                protocol: Version::H2.as_str(),
                user_agent: field(header::USER_AGENT),
                referer: field(header::REFERER),
                request_id: &self.id.borrow(),
            }),
            tls: shared.peer.tls.as_ref().map(TlsInfo::record),
            kernel: None,
        });
    }

    fn count(&self, stats: &ListenerStats, duration: Duration) {
        stats.in_flight.fall();
        stats.requests.count(StatusClass::of(self.status.get()));
        stats.request_time.observe(duration);
        if let Some(refusal) = self.refusal.get() {
            stats.refusals.count(refusal.word());
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let duration = self.shared.clock.now().saturating_duration_since(self.began);
        let stats = self.listener.shared.stats.at(self.shared.worker_id());
        self.count(stats, duration);
        if let Some(log) = &self.shared.worker.log {
            self.record(log, duration);
        }
    }
}
