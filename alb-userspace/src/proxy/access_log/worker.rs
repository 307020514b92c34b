//! A worker's part: lines into a buffer, full buffers into the queue.

use std::{
    cell::{Cell, RefCell},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::Notify;

use super::{Batch, Record, Sender, common, json, text, timestamp::Clock};
use crate::model::LogFormat;

/// A buffer beyond this is handed over, bytes.
pub(super) const FULL: usize = 32 * 1024;
/// A line waits this long at most before it is handed over.
const DELAY: Duration = Duration::from_millis(100);

/// How long two clocks are taken to run alike.
const FRESH: Duration = Duration::from_secs(1);

/// The log as one worker uses it; stays on its thread.
#[derive(Debug)]
pub struct WorkerLog {
    format: LogFormat,
    sender: Option<Sender>,
    lines: RefCell<Lines>,
    /// A line came into an empty buffer.
    begun: Notify,
    /// One moment by both clocks.
    moment: Cell<(Instant, SystemTime)>,
}

#[derive(Debug, Default)]
struct Lines {
    batch: Batch,
    clock: Clock,
}

impl WorkerLog {
    pub(super) fn new(format: LogFormat, sender: Option<Sender>) -> Self {
        Self {
            format,
            sender,
            lines: RefCell::default(),
            begun: Notify::new(),
            moment: Cell::new((Instant::now(), SystemTime::now())),
        }
    }

    /// Takes in one line. Never waits and never fails.
    pub fn record(&self, record: &Record<'_>) {
        let mut lines = self.lines.borrow_mut();
        let Lines { batch, clock } = &mut *lines;
        if batch.bytes.is_empty() {
            batch.bytes.reserve(FULL + 4096);
            self.begun.notify_one();
        }
        let time = clock.format(record.time);
        match self.format {
            LogFormat::Json => json::line(record, time, &mut batch.bytes),
            LogFormat::Common => common::line(record, time, &mut batch.bytes),
            LogFormat::Text => text::line(record, time, &mut batch.bytes),
        }
        batch.lines += 1;
        if batch.bytes.len() >= FULL {
            self.hand_over(std::mem::take(batch));
        }
    }

    /// Whether lines have the `Referer` of a request.
    pub fn tells_referer(&self) -> bool {
        self.format == LogFormat::Common
    }

    /// The time of day at a moment just gone. The clock is read once a second: in between, the
    /// two run alike.
    pub fn time(&self, at: Instant) -> SystemTime {
        let (then, time) = self.moment.get();
        let since = at.saturating_duration_since(then);
        if since < FRESH {
            return time + since;
        }
        let time = SystemTime::now();
        self.moment.set((at, time));
        time
    }

    /// Hands over what there is.
    pub fn flush(&self) {
        let batch = std::mem::take(&mut self.lines.borrow_mut().batch);
        if batch.lines > 0 {
            self.hand_over(batch);
        }
    }

    /// Flushes 100 ms after a line; runs as long as its worker does.
    pub async fn flush_regularly(&self) {
        loop {
            self.begun.notified().await;
            tokio::time::sleep(DELAY).await;
            self.flush();
        }
    }

    fn hand_over(&self, batch: Batch) {
        if let Some(sender) = &self.sender {
            sender.send(batch);
        }
    }
}

impl Drop for WorkerLog {
    fn drop(&mut self) {
        self.flush();
    }
}
