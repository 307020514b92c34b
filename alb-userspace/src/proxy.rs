//! Listeners served in userspace: http, https, tls, and tcp where the packet path does not
//! serve it. Thread per core; a worker shares nothing with the others but the plan and a few
//! atomics. Knows nothing of files, probes or BPF.

pub mod access_log;
pub mod buffer;
pub mod cut;
pub mod deadline;
pub mod drain;
pub mod forward;
mod handle;
pub mod http1;
pub mod http2;
#[cfg(test)]
mod lab;
pub mod limits;
pub mod message;
pub mod mirror;
pub mod peer;
mod pipe;
pub mod plain;
pub mod plan;
pub mod refusal;
pub mod route;
mod serve;
mod socket;
pub mod stats;
pub mod sticky;
pub mod tcp;
pub mod tls;
pub mod upstream;
#[cfg(test)]
mod wakes;
pub mod way;
pub mod worker;

pub use handle::{Proxy, ProxyError, workers};
pub use socket::BindError;
