//! The real loop over loopback: raw bytes in, a recording origin behind.

mod bulk;
mod framing;
mod lab;
mod refusals;
mod retries;
mod timeouts;
mod upgrades;
