//! Real clients: new ones at a steady pace, and connections that are open all the time.
#![expect(clippy::cast_precision_loss, reason = "counts of what happens within seconds")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use alb_tests::{
    client::{Conversation, who_here},
    netns::Namespace,
};

/// Connections that are open all the time.
pub(crate) const OPEN: usize = 20;
/// Pause between two exchanges of one of them.
const PACE: Duration = Duration::from_millis(20);
const BYTES: [u8; 4096] = [7; 4096];

/// What clients have seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Who has connected.
    pub(crate) tried: usize,
    /// Microseconds from connecting to the answer, of those that were answered.
    times: Vec<f64>,
    /// Why the others were not.
    pub(crate) errors: BTreeMap<String, usize>,
    /// Exchanges of open connections a second.
    pub(crate) exchanges: f64,
    /// The longest of them.
    pub(crate) longest: Duration,
    /// Open connections that broke.
    pub(crate) broken: usize,
}

impl Seen {
    /// Part of the new clients that were answered.
    pub(crate) fn served(&self) -> f64 {
        if self.tried == 0 { 0.0 } else { self.times.len() as f64 / self.tried as f64 }
    }

    /// Of the times of those that were answered, microseconds.
    pub(crate) fn percentile(&self, part: f64) -> f64 {
        let mut times = self.times.clone();
        times.sort_by(f64::total_cmp);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a place in the list"
        )]
        let place = ((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1));
        times.get(place).copied().unwrap_or(f64::NAN)
    }
}

/// Clients at work.
pub(crate) struct Probe {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Probe {
    /// Opens the connections and has the first client connect.
    pub(crate) fn begin(namespace: &Namespace, to: SocketAddr, clients: u32) -> Self {
        let (seen, stop) =
            (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
        let open = (0..OPEN).map(|_| Conversation::open(namespace, to).expect("a connection"));
        let open: Vec<_> = open.collect();
        let mut threads: Vec<_> = open
            .into_iter()
            .map(|talk| {
                let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
                thread::spawn(move || go_on(talk, &seen, &stop))
            })
            .collect();
        // One that waits must not keep the next from coming.
        let each = 8u32;
        let pause = Duration::from_secs(each.into()) / clients.max(1);
        threads.extend((0..each).map(|_| {
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            namespace.enter(|| thread::spawn(move || come(to, pause, &seen, &stop)))
        }));
        Self { seen, stop, threads }
    }

    /// What is seen from now on for so long.
    pub(crate) fn watch(&self, length: Duration) -> Seen {
        drop(std::mem::take(&mut *self.seen.lock().expect("no panic")));
        thread::sleep(length);
        let mut seen = std::mem::take(&mut *self.seen.lock().expect("no panic"));
        seen.exchanges /= length.as_secs_f64();
        seen
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

fn go_on(mut talk: Conversation, seen: &Mutex<Seen>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let outcome = talk.exchange(&BYTES);
        let mut seen = seen.lock().expect("no panic");
        if outcome.is_err() {
            seen.broken += 1;
            return;
        }
        seen.exchanges += 1.0;
        seen.longest = seen.longest.max(begun.elapsed());
        drop(seen);
        thread::sleep(PACE);
    }
}

fn come(to: SocketAddr, pause: Duration, seen: &Mutex<Seen>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let outcome = who_here(None, to);
        let took = begun.elapsed();
        let mut seen = seen.lock().expect("no panic");
        seen.tried += 1;
        match outcome {
            Ok(_) => seen.times.push(took.as_secs_f64() * 1e6),
            Err(error) => *seen.errors.entry(error.to_string()).or_default() += 1,
        }
        drop(seen);
        thread::sleep(pause.saturating_sub(took));
    }
}
