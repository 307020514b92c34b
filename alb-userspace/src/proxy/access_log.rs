//! The access log: a line for each request and each proxied connection, written off the hot
//! path. Workers make lines in buffers of their own; one thread writes them. What it cannot
//! write is counted and lost: traffic never waits for it.

mod common;
mod escape;
mod file;
mod json;
mod number;
mod record;
mod text;
mod timestamp;
mod worker;
mod writer;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};

pub use record::{HttpRecord, KernelRecord, Record, TlsRecord};
pub use worker::WorkerLog;

use crate::model;

/// Batches on their way to the writer: at [`worker::FULL`] bytes each 8 MiB.
const QUEUE: usize = 256;

/// The access log of a node. Dropping it writes what was handed over until then.
#[derive(Debug)]
pub struct AccessLog {
    format: model::LogFormat,
    shared: Arc<Shared>,
    queue: Option<SyncSender<Message>>,
    writer: Option<JoinHandle<()>>,
}

/// What is known of the log: counts since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LogReport {
    /// Lines that are in the file.
    pub written: u64,
    /// Lines that are in no file: it could not be written, or not as fast as they came.
    pub lost: u64,
    /// Whether the last write failed.
    pub failing: bool,
}

#[derive(Debug, Default)]
struct Shared {
    written: AtomicU64,
    lost: AtomicU64,
    failing: AtomicBool,
    reopen: AtomicBool,
    /// What is in the queue is to be written, and no more waited for.
    closing: AtomicBool,
}

/// Whole lines.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
}

#[derive(Debug)]
enum Message {
    Batch(Batch),
    /// Look at the flags.
    Wake,
}

/// A worker's end of the queue.
#[derive(Clone, Debug)]
struct Sender {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
}

impl AccessLog {
    /// Starts the writer. A file that cannot be opened is logged, counted and tried again: the
    /// log is no reason not to serve.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(settings: &model::AccessLog) -> std::io::Result<Self> {
        let (queue, messages): (_, Receiver<Message>) = sync_channel(QUEUE);
        let shared = Arc::new(Shared::default());
        let writer = writer::Writer::new(settings, shared.clone());
        let writer = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || writer.run(&messages))?;
        Ok(Self { format: settings.format, shared, queue: Some(queue), writer: Some(writer) })
    }

    /// The log as one worker uses it.
    pub fn worker(&self) -> WorkerLog {
        let sender = self.queue.clone().map(|queue| Sender { queue, shared: self.shared.clone() });
        WorkerLog::new(self.format, sender)
    }

    /// Closes the file and opens its name again, for those who rotate it themselves
    /// (SIGUSR1). Returns at once.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Relaxed);
        if let Some(queue) = &self.queue {
            // A full queue wakes the writer as well.
            drop(queue.try_send(Message::Wake));
        }
    }

    /// Reopens at every SIGUSR1. From the first poll on the signal has no default action, which
    /// would be to end the process.
    ///
    /// # Errors
    /// The signal cannot be taken.
    pub async fn reopen_on_signal(&self) -> std::io::Result<()> {
        let mut signals = signal(SignalKind::user_defined1())?;
        while signals.recv().await.is_some() {
            self.reopen();
        }
        Ok(())
    }

    /// Ends it: what was handed over is written, unless the file takes longer than `patience`.
    pub async fn end(self: Arc<Self>, patience: Duration) {
        let (done, is_done) = tokio::sync::oneshot::channel();
        // A thread of its own, which a file that is stuck may keep for ever.
        let ending = std::thread::Builder::new().name("access-log-end".into()).spawn(move || {
            drop(self);
            // Nobody may be waiting any more.
            _ = done.send(());
        });
        if ending.is_err() || tokio::time::timeout(patience, is_done).await.is_err() {
            tracing::warn!("the end of the access log could not be written in time");
        }
    }

    /// Counts until now.
    pub fn report(&self) -> LogReport {
        LogReport {
            written: self.shared.written.load(Relaxed),
            lost: self.shared.lost.load(Relaxed),
            failing: self.shared.failing.load(Relaxed),
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.shared.closing.store(true, Relaxed);
        if let Some(queue) = self.queue.take() {
            drop(queue.try_send(Message::Wake));
        }
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the writer of the access log panicked");
        }
    }
}

impl Sender {
    /// Hands a batch over, or counts it as lost. Never waits.
    fn send(&self, batch: Batch) {
        let lines = batch.lines;
        match self.queue.try_send(Message::Batch(batch)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.shared.lost.fetch_add(lines, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests;
