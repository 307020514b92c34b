//! The thread that writes. Alone it waits for the disk.

use std::sync::{
    Arc,
    atomic::Ordering::Relaxed,
    mpsc::{Receiver, TryRecvError},
};

use super::{Batch, Message, Shared, file::LogFile};
use crate::model;

pub(super) struct Writer {
    file: LogFile,
    shared: Arc<Shared>,
}

impl Writer {
    pub(super) fn new(settings: &model::AccessLog, shared: Arc<Shared>) -> Self {
        Self { file: LogFile::new(settings), shared }
    }

    /// Writes what comes until the log is closed, and then what is left.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        // So that a wrong path shows at the start, not at the first request.
        let opened = self.file.open();
        self.note(opened.as_ref().err(), 0);
        while let Ok(message) = messages.recv() {
            self.take(message);
            if self.shared.closing.load(Relaxed) {
                break;
            }
        }
        loop {
            match messages.try_recv() {
                Ok(message) => self.take(message),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    fn take(&mut self, message: Message) {
        if self.shared.reopen.swap(false, Relaxed) {
            self.file.close();
            let opened = self.file.open();
            self.note(opened.as_ref().err(), 0);
        }
        let Message::Batch(Batch { bytes, lines }) = message else { return };
        let written = self.file.append(&bytes);
        self.note(written.as_ref().err(), lines);
    }

    /// Counts, and logs the first failure of a row and its end.
    fn note(&self, error: Option<&std::io::Error>, lines: u64) {
        let counter = if error.is_some() { &self.shared.lost } else { &self.shared.written };
        counter.fetch_add(lines, Relaxed);
        let was_failing = self.shared.failing.swap(error.is_some(), Relaxed);
        let path = self.file.path().display();
        match error {
            Some(error) if !was_failing => tracing::error!(
                file = %path, %error,
                "the access log cannot be written, lines are lost and counted until it can"
            ),
            None if was_failing => {
                let lost = self.shared.lost.load(Relaxed);
                tracing::warn!(file = %path, lost, "the access log is written again");
            }
            Some(_) | None => {}
        }
    }
}
