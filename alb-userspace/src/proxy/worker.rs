//! What one worker thread has for itself, and its view of the listeners.

mod accept;
mod doors;
mod open;
mod slot;
pub(super) mod thread;

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use tokio::sync::mpsc;

pub use self::{
    open::Open,
    slot::{Current, Slot},
};
use super::{
    access_log::WorkerLog, cut::Cuts, mirror::Mirrors, plan::Plan, stats::WorkerId, upstream::Pool,
};
use crate::health::Passive;

/// A worker's own: pools, buffers, counters. Connections share it by `Rc`.
#[derive(Debug)]
pub struct Worker {
    /// Whose blocks of counters it writes.
    pub id: WorkerId,
    /// Where it says that a target cannot be connected to.
    pub passive: Passive,
    /// Idle connections to http targets.
    pub pool: Pool,
    /// Where it tells what became of requests and connections; `None` = nowhere.
    pub log: Option<WorkerLog>,
    /// Connections it serves now.
    pub open: Open,
    /// Who uses which target, and when that is over.
    pub cuts: Cuts,
    /// Copies of requests for mirrors.
    pub mirrors: Mirrors,
}

/// What a worker is told. It does one after the other.
#[derive(Debug)]
pub(super) enum Order {
    /// Serve this from now on, with these changes to its sockets.
    Serve {
        /// The whole plan.
        plan: Arc<Plan>,
        /// Sockets to accept on.
        opened: Vec<(SocketAddr, TcpListener)>,
        /// Sockets to accept on no more. Each is another handle on one that was opened: what
        /// waits in its queue is served first.
        closed: Vec<(SocketAddr, TcpListener)>,
        /// Dropped once it is done.
        done: mpsc::Sender<()>,
    },
    /// Accept no more, tell connections to end, and end with the last of them.
    Drain {
        /// Sockets whose queues are to be served first; none if a successor has them too.
        closed: Vec<(SocketAddr, TcpListener)>,
    },
}
