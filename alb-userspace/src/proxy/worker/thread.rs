//! The thread of a worker: its runtime, and the loop that takes orders.

use std::{io, panic::AssertUnwindSafe, process, rc::Rc, sync::mpsc::sync_channel, thread};

use tokio::{
    runtime::{Builder, LocalOptions, LocalRuntime},
    sync::mpsc,
    task::spawn_local,
};

use super::{Open, Order, Worker, doors::Doors};
use crate::{
    health::Passive,
    proxy::{
        access_log::WorkerLog, cut::Cuts, mirror::Mirrors, stats::WorkerId, tcp, upstream::Pool,
    },
};

/// Handle on a running worker. It ends when it was told to drain and has no connections left,
/// or when this is dropped.
#[derive(Debug)]
pub(in crate::proxy) struct Handle {
    pub(in crate::proxy) orders: mpsc::UnboundedSender<Order>,
}

/// Starts a worker. `alive` is dropped with it.
pub(in crate::proxy) fn spawn(
    index: usize,
    passive: Passive,
    log: Option<WorkerLog>,
    alive: mpsc::Sender<()>,
) -> io::Result<Handle> {
    let (orders, incoming) = mpsc::unbounded_channel();
    let (outcome, started) = sync_channel(1);
    thread::Builder::new().name(format!("proxy-{index}")).spawn(move || {
        // Made here since it cannot change threads; a `LocalSet` would be a second queue.
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let runtime = match runtime {
            Ok(runtime) => {
                // Who started it waits; nothing else can receive.
                let _told = outcome.send(Ok(())).is_ok();
                runtime
            }
            Err(error) => {
                let _told = outcome.send(Err(error)).is_ok();
                return;
            }
        };
        let work = AssertUnwindSafe(|| {
            let id = WorkerId(index);
            let (pool, open, cuts) = (Pool::of(id), Open::default(), Cuts::default());
            let mirrors = Mirrors::default();
            run(&runtime, Worker { id, passive, pool, log, open, cuts, mirrors }, incoming);
        });
        if std::panic::catch_unwind(work).is_err() {
            // New connections would go on being queued for it. Better a new start: what the
            // kernel forwards does not notice.
            tracing::error!(worker = index, "a worker failed by a defect; giving up");
            process::abort();
        }
        // With it go the connections that were cut, and what they have to say for the log.
        drop(runtime);
        drop(alive);
    })?;
    started.recv().map_err(io::Error::other)??;
    Ok(Handle { orders })
}

fn run(runtime: &LocalRuntime, worker: Worker, mut orders: mpsc::UnboundedReceiver<Order>) {
    runtime.block_on(async {
        tcp::ring::allow();
        let worker = Rc::new(worker);
        if worker.log.is_some() {
            let worker = Rc::clone(&worker);
            spawn_local(async move {
                if let Some(log) = &worker.log {
                    log.flush_regularly().await;
                }
            });
        }
        let mut doors = Doors::new(Rc::clone(&worker));
        loop {
            match orders.recv().await {
                Some(Order::Serve { plan, opened, closed, done }) => {
                    doors.serve(&plan, opened, closed);
                    drop(done);
                }
                Some(Order::Drain { closed }) => {
                    doors.drain(closed);
                    break;
                }
                None => return,
            }
        }
        let ended = async {
            doors.closed().await;
            worker.open.none().await;
        };
        tokio::select! {
            () = ended => {}
            // Nothing is ordered any more; that nobody can is the end.
            _ = orders.recv() => {}
        }
    });
}
