//! The real loop over loopback: raw bytes in, a recording origin behind.

mod blame;
mod bulk;
mod draining;
mod ends;
mod framing;
mod halves;
mod lab;
mod mirrors;
mod persistence;
mod refusals;
mod retries;
mod routes;
mod seeing;
mod shares;
mod timeouts;
mod upgrades;
