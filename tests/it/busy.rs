//! Connections that are busy all the time and must not notice what happens meanwhile.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use alb_tests::{client::Conversation, topology::Lab};

use crate::setting::vip;

const CONVERSATIONS: usize = 50;
/// One retransmission timeout is 200 ms and a round trip at least; the rest is for a busy machine.
const STALL: Duration = Duration::from_millis(450);

/// Conversations that all exchange a little all the time.
pub(crate) struct Busy {
    conversations: Vec<Conversation>,
}

impl Busy {
    pub(crate) fn begin(lab: &Lab) -> Self {
        let open = |_| Conversation::open(&lab.client.namespace, vip()).expect("a connection");
        Self { conversations: (0..CONVERSATIONS).map(open).collect() }
    }

    /// All conversations go on while `work` is done; panics if one is reset or stalls.
    pub(crate) fn during(&mut self, work: impl FnOnce()) {
        let done = AtomicBool::new(false);
        let worst = thread::scope(|scope| {
            let talkers = self.conversations.iter_mut().map(|conversation| {
                let done = &done;
                scope.spawn(move || talk(conversation, done))
            });
            let talkers: Vec<_> = talkers.collect();
            // Set on the way out of a panic too, or the scope would wait for ever.
            let _finish = Finish(&done);
            work();
            done.store(true, Ordering::Relaxed);
            let outcomes = talkers.into_iter().map(|talker| talker.join().expect("no panic"));
            outcomes.map(|outcome| outcome.expect("no connection breaks")).max()
        });
        let worst = worst.unwrap_or_default();
        assert!(worst <= STALL, "a conversation stalled for {worst:?}");
    }
}

struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Exchanges until told to stop; the longest exchange.
fn talk(conversation: &mut Conversation, done: &AtomicBool) -> io::Result<Duration> {
    let mut worst = Duration::ZERO;
    let bytes = [7; 4096];
    while !done.load(Ordering::Relaxed) {
        let begun = Instant::now();
        conversation.exchange(&bytes)?;
        worst = worst.max(begun.elapsed());
        // The pace: 50 conversations at full speed would only measure the scheduler.
        thread::sleep(Duration::from_millis(20));
    }
    Ok(worst)
}
