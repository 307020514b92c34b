//! Who is waited for before a response has begun: a client that owes a body, or the target. Each
//! has its own time and its own refusal.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

use super::{exchange::Job, upload::Upload};
use crate::proxy::{deadline::Deadline, refusal::Refusal};

/// The times of one wait for a response head. What moves the body begins them anew; what the
/// target sends of an unfinished head does not.
#[derive(Debug)]
pub(super) struct Patience {
    /// It is the client that is waited for.
    starved: bool,
    /// The client waits for 100 before it sends the body.
    expects: bool,
    body_idle: Duration,
    response: Duration,
}

impl Patience {
    /// Begins with the target's time.
    pub(super) fn begin(job: &Job, deadline: &mut Deadline) -> Self {
        let response = job.backend.response_timeout;
        deadline.set(Instant::now(), response);
        let body_idle = job.listener.http.map(|http| http.body_idle_timeout).unwrap_or_default();
        Self { starved: false, expects: job.expects, body_idle, response }
    }

    /// To be asked after the upload was polled; ready = somebody took too long.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        deadline: &mut Deadline,
        upload: &mut Upload,
    ) -> Poll<Refusal> {
        // Who is waited for can change with every byte of the body.
        let starved = upload.starved && (upload.begun || !self.expects);
        let moved = upload.take_moved();
        if moved.is_some() || starved != self.starved {
            self.starved = starved;
            let limit = if starved { self.body_idle } else { self.response };
            deadline.set(moved.unwrap_or_else(Instant::now), limit);
        }
        deadline
            .poll(cx)
            .map(|()| if self.starved { Refusal::SlowBody } else { Refusal::ResponseTimeout })
    }
}
