//! The one published state of the node: the model and what health checks found of its
//! targets, together. Knows nothing of files, probes, packets or sockets.

mod carry;
#[cfg(test)]
pub(crate) mod fixture;
mod snapshot;
mod store;
mod target;

pub use snapshot::Snapshot;
pub use store::{Store, Transition};
pub use target::{Health, TargetRef, TargetState, TargetStates, Unhealthy, UnhealthyReason};
