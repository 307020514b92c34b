//! What one request comes to: counters, and a line of the access log. Written when the request is
//! over, or its connection with it, so that each is accounted for however it ends.

use std::{net::SocketAddr, ops::Range, rc::Rc, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::proxy::{
    access_log::{HttpRecord, Record, WorkerLog},
    http1::request::Request,
    message::Version,
    peer::{Peer, TlsInfo},
    plan::{Backend, ListenerShared},
    refusal::Refusal,
    stats::{ListenerStats, StatusClass},
    worker::{Current, Worker},
};

/// Bytes of a request line that cannot be served that are logged.
const MISREAD: usize = 1024;

/// The account of a connection's request; empty between two.
#[derive(Debug, Default)]
pub(super) struct Account(Option<Entry>);

/// One request.
#[derive(Debug)]
struct Entry {
    worker: Rc<Worker>,
    listener: Held,
    begun: Instant,
    /// 0 = nothing was sent.
    status: u16,
    target_status: Option<u16>,
    /// Why it was not served, or not to its end.
    refusal: Option<Refusal>,
    target: Option<SocketAddr>,
    connect_time: Option<Duration>,
    target_time: Option<Duration>,
    retries: u32,
    received: u64,
    sent: u64,
    /// Only if there is a log.
    words: Words,
}

/// What is told of the listener: the whole of it costs no word that other workers write.
#[derive(Debug)]
enum Held {
    Whole(Rc<Current>),
    Named { id: Arc<str>, balancer: Arc<str>, shared: Arc<ListenerShared> },
}

impl Held {
    fn shared(&self) -> &ListenerShared {
        match self {
            Self::Whole(listener) => &listener.shared,
            Self::Named { shared, .. } => shared,
        }
    }

    fn names(&self) -> (&str, &str) {
        match self {
            Self::Whole(listener) => (&listener.balancer, &listener.id),
            Self::Named { id, balancer, .. } => (balancer, id),
        }
    }
}

/// What of a request the log tells, kept beyond its head.
#[derive(Debug, Default)]
struct Words {
    text: Vec<u8>,
    version: Option<Version>,
    method: Range<usize>,
    host: Range<usize>,
    uri: Range<usize>,
    user_agent: Range<usize>,
    referer: Range<usize>,
    id: Range<usize>,
    backend: Range<usize>,
}

impl Words {
    fn keep(&mut self, word: &[u8]) -> Range<usize> {
        let begin = self.text.len();
        self.text.extend_from_slice(word);
        begin..self.text.len()
    }

    fn get(&self, range: &Range<usize>) -> &[u8] {
        self.text.get(range.clone()).unwrap_or_default()
    }
}

impl Account {
    /// The first byte of a request came.
    pub(super) fn begin(&mut self, worker: &Rc<Worker>, listener: &Rc<Current>, begun: Instant) {
        listener.shared.stats.at(worker.id).in_flight.rise();
        self.0 = Some(Entry {
            worker: Rc::clone(worker),
            listener: Held::Whole(Rc::clone(listener)),
            begun,
            status: 0,
            target_status: None,
            refusal: None,
            target: None,
            connect_time: None,
            target_time: None,
            retries: 0,
            received: 0,
            sent: 0,
            words: Words::default(),
        });
    }

    /// It may go on for longer than the listener is what it is now.
    pub(super) fn outlives(&mut self) {
        if let Some(Entry { listener, .. }) = &mut self.0
            && let Held::Whole(whole) = listener
        {
            let (id, balancer) = (Arc::clone(&whole.id), Arc::clone(&whole.balancer));
            *listener = Held::Named { id, balancer, shared: Arc::clone(&whole.shared) };
        }
    }

    fn words(&mut self) -> Option<&mut Words> {
        let Entry { worker, words, .. } = self.0.as_mut()?;
        worker.log.is_some().then_some(words)
    }

    /// Its head is whole.
    pub(super) fn asks(&mut self, request: &Request<'_>) {
        let Some(Entry { worker, words, .. }) = &mut self.0 else { return };
        let Some(log) = &worker.log else { return };
        let head = &request.head;
        let find = |name| head.fields.iter().find(|field| field.is(name));
        words.text.reserve(256);
        words.version = Some(head.version);
        words.method = words.keep(head.method);
        words.host = words.keep(head.authority);
        words.uri = words.keep(head.target);
        if let Some(agent) = find("user-agent") {
            words.user_agent = words.keep(agent.value);
        }
        if let Some(referer) = find("referer").filter(|_| log.tells_referer()) {
            words.referer = words.keep(referer.value);
        }
    }

    /// Its head cannot be served, or did not come whole: of these bytes, what stands where the
    /// method and the target should is told as it came.
    pub(super) fn misread(&mut self, data: &[u8]) {
        self.received(data.len());
        let Some(words) = self.words() else { return };
        let line = data.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        let line = &line[..line.len().min(MISREAD)];
        let mut parts = line.splitn(3, |byte| *byte == b' ');
        words.method = words.keep(parts.next().unwrap_or_default());
        words.uri = words.keep(parts.next().unwrap_or_default());
    }

    /// Its `X-Request-Id`.
    pub(super) fn named(&mut self, id: &[u8]) {
        if let Some(words) = self.words() {
            words.id = words.keep(id);
        }
    }

    /// Where it goes.
    pub(super) fn goes_to(&mut self, backend: &Backend) {
        if let Some(words) = self.words() {
            words.backend = words.keep(backend.id.as_bytes());
        }
    }

    /// A target is tried; `again` = not the first time.
    pub(super) fn tries(&mut self, target: SocketAddr, again: bool) {
        if let Some(entry) = &mut self.0 {
            entry.target = Some(target);
            entry.retries += u32::from(again);
        }
    }

    /// A connection to the target was made.
    pub(super) fn connected(&mut self, took: Duration) {
        if let Some(entry) = &mut self.0 {
            entry.connect_time = Some(took);
        }
    }

    /// The first byte of the target's answer came after this time.
    pub(super) fn waited(&mut self, took: Duration) {
        if let Some(entry) = &mut self.0 {
            entry.target_time = Some(took);
        }
    }

    /// The target's answer is passed on.
    pub(super) fn answered(&mut self, status: u16) {
        if let Some(entry) = &mut self.0 {
            entry.target_status = Some(status);
            entry.status = status;
        }
    }

    /// It is not served, or not to its end. The first reason stands.
    pub(super) fn refused(&mut self, refusal: Refusal) {
        let Some(entry) = &mut self.0 else { return };
        if entry.refusal.is_some() {
            return;
        }
        entry.refusal = Some(refusal);
        // What the client was sent already stays so, unless it did not stay for it.
        if entry.status == 0 || refusal.status() == Refusal::ClientGone.status() {
            entry.status = refusal.status();
        }
    }

    /// It is answered by the balancer: refused, or redirected.
    pub(super) fn answered_by_us(&mut self, status: u16, refusal: Option<Refusal>) {
        if let Some(refusal) = refusal {
            self.refused(refusal);
        } else if let Some(entry) = &mut self.0 {
            entry.status = status;
        }
    }

    /// Bytes of the request came. They count now: it may go on for days.
    pub(super) fn received(&mut self, bytes: usize) {
        if let Some(entry) = &mut self.0 {
            entry.received += bytes as u64;
            entry.stats().bytes_in.add(bytes as u64);
        }
    }

    /// Bytes of the response were sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        if let Some(entry) = &mut self.0 {
            entry.sent += bytes as u64;
            entry.stats().bytes_out.add(bytes as u64);
        }
    }

    /// The request is over, now.
    pub(super) fn settle(&mut self, peer: &Peer) -> Instant {
        let now = Instant::now();
        if let Some(entry) = self.0.take() {
            entry.settle(peer, now);
        }
        now
    }
}

impl Entry {
    fn stats(&self) -> &ListenerStats {
        self.listener.shared().stats.at(self.worker.id)
    }

    fn settle(mut self, peer: &Peer, now: Instant) {
        if self.status == 0 {
            // Nobody is left to be told anything.
            self.refusal.get_or_insert(Refusal::ClientGone);
            self.status = Refusal::ClientGone.status();
        }
        let duration = now.saturating_duration_since(self.begun);
        let stats = self.stats();
        stats.in_flight.fall();
        stats.requests.count(StatusClass::of(self.status));
        stats.request_time.observe(duration);
        if let Some(refusal) = self.refusal {
            stats.refusals.count(refusal.word());
        }
        if let Some(log) = &self.worker.log {
            self.tell(log, peer, now, duration);
        }
    }

    fn tell(&self, log: &WorkerLog, peer: &Peer, now: Instant, duration: Duration) {
        let words = &self.words;
        let protocol = match words.version {
            Some(Version::Http10) => "HTTP/1.0",
            Some(Version::Http11) => "HTTP/1.1",
            Some(Version::H2) => "HTTP/2.0",
            None => "",
        };
        let (load_balancer, listener) = self.listener.names();
        log.record(&Record {
            time: log.time(now.into_std()),
            load_balancer,
            listener,
            backend: str::from_utf8(words.get(&words.backend)).unwrap_or_default(),
            client: peer.client,
            vip: peer.local,
            target: self.target,
            duration,
            connect_time: self.connect_time,
            target_time: self.target_time,
            bytes_received: self.received,
            bytes_sent: self.sent,
            error: self.refusal.map_or("", Refusal::word),
            retries: self.retries,
            http: Some(HttpRecord {
                status: self.status,
                target_status: self.target_status,
                method: words.get(&words.method),
                host: words.get(&words.host),
                uri: words.get(&words.uri),
                protocol,
                user_agent: words.get(&words.user_agent),
                referer: words.get(&words.referer),
                request_id: words.get(&words.id),
            }),
            tls: peer.tls.as_ref().map(TlsInfo::record),
            kernel: None,
        });
    }
}
