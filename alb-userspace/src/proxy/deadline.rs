//! The one timer of a connection. Moving a deadline later costs nothing: the timer fires at the
//! old time, sees the new one, and is armed again.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// When a connection has waited long enough.
#[derive(Debug)]
pub struct Deadline {
    at: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Default for Deadline {
    fn default() -> Self {
        Self { at: Instant::now(), sleep: None }
    }
}

impl Deadline {
    /// It is `after` from `now`.
    pub fn set(&mut self, now: Instant, after: Duration) {
        self.at = now + after;
        if let Some(sleep) = &mut self.sleep
            && self.at < sleep.deadline()
        {
            sleep.as_mut().reset(self.at);
        }
    }

    /// Whether it has come; wakes the task when it does.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let at = self.at;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= at {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_last_deadline_counts_whether_later_or_earlier() {
        let start = Instant::now();
        let mut deadline = Deadline::default();
        deadline.set(start, 5 * SECOND);
        assert!(poll_fn(|cx| Poll::Ready(deadline.poll(cx))).await.is_pending());
        deadline.set(start, 8 * SECOND);
        poll_fn(|cx| deadline.poll(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 8);
        deadline.set(start, 20 * SECOND);
        assert!(poll_fn(|cx| Poll::Ready(deadline.poll(cx))).await.is_pending());
        deadline.set(start, 10 * SECOND);
        poll_fn(|cx| deadline.poll(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 10);
    }
}
