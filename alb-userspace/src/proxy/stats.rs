//! What the proxy counts, and how: blocks of counters that one worker writes and everybody may
//! read. Names no listener, backend or target: who owns a block knows whose it is.

mod counter;
mod histogram;
mod per_worker;
mod reasons;
mod totals;
mod words;

pub use counter::{Counter, Level};
pub use histogram::{BOUNDS, Histogram, HistogramTotals};
pub use per_worker::{PerWorker, WorkerId};
pub use reasons::{AcceptError, Mirrored, StatusClass, UpstreamError};
pub use totals::{BackendTotals, ListenerTotals};
pub use words::Words;

use std::marker::PhantomData;

/// What one worker counts for one listener.
#[derive(Debug, Default)]
pub struct ListenerStats {
    /// Connections accepted.
    pub connections: Counter,
    /// Connections open.
    pub open: Level,
    /// Connections closed at once: over `limitation.activeConnections`.
    pub refused_connections: Counter,
    /// Connections closed at once: the security groups do not let the client in.
    pub denied_connections: Counter,
    /// `accept` failed.
    pub accept_errors: PerReason<AcceptError>,
    /// Requests being served.
    pub in_flight: Level,
    /// Requests answered, by the class of the status the client was sent.
    pub requests: PerReason<StatusClass>,
    /// Answers of our own, by `Refusal::word`, and connections that were given no target, by
    /// `tcp::End::word`.
    pub refusals: Words,
    /// From the first byte of a request to the last of its response.
    pub request_time: Histogram,
    /// Bytes from clients, as they left the client's socket (in TLS: decrypted).
    pub bytes_in: Counter,
    /// Bytes to clients.
    pub bytes_out: Counter,
}

/// What one worker counts for one backend.
#[derive(Debug, Default)]
pub struct BackendStats {
    /// Responses of targets, by the class of their status.
    pub responses: PerReason<StatusClass>,
    /// Why a target could not be used.
    pub errors: PerReason<UpstreamError>,
    /// Requests or connections tried on another connection or target.
    pub retries: Counter,
    /// Nobody to send to.
    pub no_target: Counter,
    /// Connects that succeeded.
    pub connects: Counter,
    /// Requests that went over a pooled connection.
    pub reuses: Counter,
    /// Connections idle in the pool.
    pub pool_idle: Level,
    /// From the start of a connect to its end.
    pub connect_time: Histogram,
    /// From the last byte of the request's head sent to the first of the response.
    pub response_time: Histogram,
    /// Bytes to targets.
    pub bytes_out: Counter,
    /// Bytes from targets.
    pub bytes_in: Counter,
    /// Copies of requests that were meant for it as a mirror.
    pub mirrored: PerReason<Mirrored>,
}

/// An enum whose variants are counted separately.
pub trait Reason: Copy + Send + Sync + 'static {
    /// Every variant, in order of its number.
    const ALL: &'static [Self];
    /// Position in [`ALL`](Self::ALL).
    fn index(self) -> usize;
    /// Word for labels and logs.
    fn word(self) -> &'static str;
}

/// A counter for each variant.
#[derive(Debug)]
pub struct PerReason<R: Reason>(Box<[Counter]>, PhantomData<R>);

impl<R: Reason> Default for PerReason<R> {
    fn default() -> Self {
        Self(R::ALL.iter().map(|_| Counter::default()).collect(), PhantomData)
    }
}

impl<R: Reason> PerReason<R> {
    /// Counts one.
    #[inline]
    pub fn count(&self, reason: R) {
        self.0[reason.index()].add(1);
    }

    /// Each variant with its count.
    pub fn iter(&self) -> impl Iterator<Item = (R, u64)> {
        R::ALL.iter().zip(&self.0).map(|(reason, counter)| (*reason, counter.get()))
    }
}
