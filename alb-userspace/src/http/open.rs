//! The open connections of one listener. When there is no room for a new one, the one that has
//! kept us waiting longest goes, so that no number of silent clients keeps others out.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::task::{AbortHandle, JoinSet};
use tracing::debug;

/// Whether a request of a connection is being worked on.
#[derive(Clone, Debug, Default)]
pub(super) struct Busy(Arc<AtomicBool>);

impl Busy {
    /// Does the work, during which the connection is not the client's to lose.
    pub(super) async fn during<T>(self, work: impl Future<Output = T>) -> T {
        self.0.store(true, Ordering::Relaxed);
        let done = work.await;
        self.0.store(false, Ordering::Relaxed);
        done
    }
}

#[derive(Debug)]
struct Connection {
    busy: Busy,
    task: AbortHandle,
}

/// Tasks that serve a connection each, oldest first. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Open {
    limit: usize,
    tasks: JoinSet<()>,
    order: VecDeque<Connection>,
}

impl Open {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, tasks: JoinSet::new(), order: VecDeque::new() }
    }

    /// Returns when there is room for one more connection. Waits only while every connection has a
    /// request that is being worked on.
    pub(super) async fn make_room(&mut self) {
        loop {
            while self.tasks.try_join_next().is_some() {}
            self.order.retain(|connection| !connection.task.is_finished());
            if self.order.len() < self.limit {
                return;
            }
            let waiting = |of: &Connection| !of.busy.0.load(Ordering::Relaxed);
            if let Some(oldest) = self.order.iter().position(waiting)
                && let Some(connection) = self.order.remove(oldest)
            {
                connection.task.abort();
                debug!(limit = self.limit, "connection cut to make room for a new one");
                return;
            }
            self.tasks.join_next().await;
        }
    }

    /// Runs the task of a new connection.
    pub(super) fn serve<F>(&mut self, task: impl FnOnce(Busy) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let busy = Busy::default();
        let task = self.tasks.spawn(task(busy.clone()));
        self.order.push_back(Connection { busy, task });
    }

    /// Returns when all have ended by themselves.
    pub(super) async fn ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}
