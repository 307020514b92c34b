//! Connections that the packet path forwarded, in the access log: a thread of its own takes their
//! records from the kernel's ring buffer and from sweeps. The packet path never waits for it; what
//! it has no room for is counted there, what the log cannot write is counted here.

mod line;
mod names;

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use alb_common::flow_log::FlowRecord;
use tokio::sync::watch;

use self::{line::Clock, names::Names};
use crate::{
    datapath::FlowRing,
    proxy::access_log::{AccessLog, WorkerLog},
    state::Snapshot,
};

/// From one look at the ring to the next. It has room for 32,768 records, so none is lost below
/// 650,000 ends a second.
const PAUSE: Duration = Duration::from_millis(50);

/// The thread. Dropping it writes what is there by then.
#[derive(Debug)]
pub(super) struct FlowLog {
    sweeps: Option<Sender<Vec<FlowRecord>>>,
    thread: Option<JoinHandle<()>>,
}

impl FlowLog {
    /// Starts it.
    pub(super) fn start(
        ring: FlowRing,
        log: &AccessLog,
        snapshots: watch::Receiver<Arc<Snapshot>>,
    ) -> io::Result<Self> {
        let (sweeps, swept) = channel();
        let log = log.worker();
        let run = move || Reader { ring, log, snapshots, names: Names::default() }.run(&swept);
        let thread = Builder::new().name("flow-log".into()).spawn(run)?;
        Ok(Self { sweeps: Some(sweeps), thread: Some(thread) })
    }

    /// Takes in what a sweep has removed.
    pub(super) fn swept(&self, records: &[FlowRecord]) {
        if let Some(sweeps) = self.sweeps.as_ref().filter(|_| !records.is_empty()) {
            // A thread that panicked takes nothing; that is told when it is joined.
            _ = sweeps.send(records.to_vec());
        }
    }
}

impl Drop for FlowLog {
    fn drop(&mut self) {
        drop(self.sweeps.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the log of connections that the kernel forwards panicked");
        }
    }
}

struct Reader {
    ring: FlowRing,
    log: WorkerLog,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    names: Names,
}

impl Reader {
    fn run(mut self, swept: &Receiver<Vec<FlowRecord>>) {
        loop {
            let records = match swept.recv_timeout(PAUSE) {
                Ok(records) => records,
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return self.write(&[]),
            };
            self.write(&records);
        }
    }

    fn write(&mut self, swept: &[FlowRecord]) {
        let Self { ring, log, snapshots, names } = self;
        names.follow(&snapshots.borrow().model);
        let clock = Clock::now();
        let mut tell = |record: &FlowRecord| log.record(&line::of(record, names, &clock));
        swept.iter().for_each(&mut tell);
        ring.take(tell);
        log.flush();
    }
}
