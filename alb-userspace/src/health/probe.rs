//! One probe: connect, and for HTTP checks one request. Knows nothing of thresholds or time
//! between probes.

use std::{io, time::Duration};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{host, http, plan::Check};
use crate::state::{Unhealthy, UnhealthyReason};

/// A probe that did not pass.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) unhealthy: Unhealthy,
    /// Whether it was the target that did not pass.
    pub(super) left: Left,
}

/// How far a failed probe came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It was on its way to the target.
    Sent,
    /// It could not leave this host (no route, link down).
    Unsent,
    /// This host is out of files, memory or ports: it says nothing of the target.
    Untried,
}

impl From<Unhealthy> for Failed {
    fn from(unhealthy: Unhealthy) -> Self {
        Self { unhealthy, left: Left::Sent }
    }
}

/// Probes once; done within the check's timeout.
///
/// The connection is closed in the normal way, not reset: a reset would show as an error in
/// the log of many servers at every probe, while the sockets that stay behind in TIME-WAIT
/// (twelve per target at the default interval) cost no port towards any other address.
pub(super) async fn probe(check: &Check) -> Result<(), Failed> {
    let deadline = Deadline::after(check.timeout);
    let connect = TcpStream::connect(check.address);
    let stream = deadline.bound(connect, UnhealthyReason::ConnectTimeout, "connect").await?;
    let stream = stream.map_err(|error| {
        let left = match error.raw_os_error() {
            _ if host::is_short(&error) => Left::Untried,
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN) => Left::Unsent,
            _ => Left::Sent,
        };
        Failed { unhealthy: refused(&error), left }
    })?;
    match &check.http {
        None => Ok(()),
        Some(request) => Ok(http::exchange(stream, request, check.address, deadline).await?),
    }
}

fn refused(error: &io::Error) -> Unhealthy {
    let reason = if is_interruption(error) {
        UnhealthyReason::ConnectInterrupt
    } else if error.kind() == io::ErrorKind::TimedOut {
        UnhealthyReason::ConnectTimeout
    } else {
        UnhealthyReason::ConnectFailed
    };
    Unhealthy::new(reason, format!("connect: {error}"))
}

/// The other side ended a connection that had begun.
pub(super) fn is_interruption(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), ConnectionReset | ConnectionAborted | BrokenPipe)
}

/// The moment by which the whole probe must be done.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    at: Instant,
    /// What was allowed, for messages.
    allowed: Duration,
}

impl Deadline {
    fn after(allowed: Duration) -> Self {
        Self { at: Instant::now() + allowed, allowed }
    }

    /// Awaits one step of the probe; `reason` if time runs out in it.
    pub(super) async fn bound<T>(
        self,
        step: impl Future<Output = T>,
        reason: UnhealthyReason,
        doing: &str,
    ) -> Result<T, Unhealthy> {
        match timeout_at(self.at, step).await {
            Ok(done) => Ok(done),
            Err(_elapsed) => {
                let seconds = self.allowed.as_secs_f64();
                Err(Unhealthy::new(reason, format!("{doing}: not done within {seconds} s")))
            }
        }
    }
}

#[cfg(test)]
mod tests;
