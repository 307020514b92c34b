//! Blocks folded into plain numbers: what reports and metrics are made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{BackendStats, HistogramTotals, ListenerStats, PerReason, PerWorker, Reason};

/// What all workers together counted for a listener. Fields as in [`ListenerStats`]; handshakes
/// are those of `proxy::tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of `ListenerStats`, summed")]
pub struct ListenerTotals {
    pub connections: u64,
    pub open: u64,
    pub refused_connections: u64,
    pub denied_connections: u64,
    pub accept_errors: BTreeMap<String, u64>,
    pub in_flight: u64,
    pub requests: BTreeMap<String, u64>,
    pub refusals: BTreeMap<String, u64>,
    pub request_time: HistogramTotals,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub handshakes: BTreeMap<String, u64>,
    pub handshake_failures: BTreeMap<String, u64>,
}

/// What all workers together counted for a backend. Fields as in [`BackendStats`]; in flight is
/// what its targets have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of `BackendStats`, summed")]
pub struct BackendTotals {
    pub in_flight: u64,
    pub responses: BTreeMap<String, u64>,
    pub errors: BTreeMap<String, u64>,
    pub retries: u64,
    pub no_target: u64,
    pub connects: u64,
    pub reuses: u64,
    pub pool_idle: u64,
    pub connect_time: HistogramTotals,
    pub response_time: HistogramTotals,
    pub bytes_out: u64,
    pub bytes_in: u64,
    pub mirrored: BTreeMap<String, u64>,
}

impl PerWorker<ListenerStats> {
    /// The sum over all workers.
    pub fn totals(&self) -> ListenerTotals {
        let mut totals = ListenerTotals::default();
        for ListenerStats {
            connections,
            open,
            refused_connections,
            denied_connections,
            accept_errors,
            in_flight,
            requests,
            refusals,
            request_time,
            bytes_in,
            bytes_out,
        } in self.iter()
        {
            totals.connections += connections.get();
            totals.open = totals.open.wrapping_add(open.get());
            totals.refused_connections += refused_connections.get();
            totals.denied_connections += denied_connections.get();
            add(&mut totals.accept_errors, accept_errors);
            totals.in_flight = totals.in_flight.wrapping_add(in_flight.get());
            add(&mut totals.requests, requests);
            refusals.add_to(&mut totals.refusals);
            totals.request_time.add(request_time);
            totals.bytes_in += bytes_in.get();
            totals.bytes_out += bytes_out.get();
        }
        (totals.open, totals.in_flight) = (level(totals.open), level(totals.in_flight));
        totals
    }
}

impl PerWorker<BackendStats> {
    /// The sum over all workers.
    pub fn totals(&self) -> BackendTotals {
        let mut totals = BackendTotals::default();
        for BackendStats {
            responses,
            errors,
            retries,
            no_target,
            connects,
            reuses,
            pool_idle,
            connect_time,
            response_time,
            bytes_out,
            bytes_in,
            mirrored,
        } in self.iter()
        {
            add(&mut totals.responses, responses);
            add(&mut totals.errors, errors);
            totals.retries += retries.get();
            totals.no_target += no_target.get();
            totals.connects += connects.get();
            totals.reuses += reuses.get();
            totals.pool_idle = totals.pool_idle.wrapping_add(pool_idle.get());
            totals.connect_time.add(connect_time);
            totals.response_time.add(response_time);
            totals.bytes_out += bytes_out.get();
            totals.bytes_in += bytes_in.get();
            add(&mut totals.mirrored, mirrored);
        }
        totals.pool_idle = level(totals.pool_idle);
        totals
    }
}

fn add<R: Reason>(totals: &mut BTreeMap<String, u64>, counts: &PerReason<R>) {
    for (reason, count) in counts.iter() {
        *totals.entry(reason.word().to_owned()).or_default() += count;
    }
}

/// Parts are read one after the other while workers go on: a sum may be caught just below 0.
fn level(sum: u64) -> u64 {
    if sum > u64::MAX / 2 { 0 } else { sum }
}
