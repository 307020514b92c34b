//! Health check settings.

use std::{num::NonZeroU16, time::Duration};

/// How a backend's targets are probed. Ranges are those of `HealthCheckSpec`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HealthCheck {
    /// `None` = a TCP connect is the whole check.
    pub http: Option<HttpCheck>,
    /// 2–60 s.
    pub timeout: Duration,
    /// 5–300 s.
    pub interval: Duration,
    /// Consecutive successes that make a target healthy, 1–5.
    pub healthy_threshold: u8,
    /// Consecutive failures that make a target unhealthy, 1–5.
    pub unhealthy_threshold: u8,
    /// `None` = each target's traffic port.
    pub port: Option<NonZeroU16>,
}

/// The HTTP part of a check: a HEAD request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HttpCheck {
    /// HTTP/1.1 instead of 1.0.
    pub http11: bool,
    /// Value of `Host`; `None` = none sent (HTTP/1.0).
    pub domain: Option<String>,
    /// Starts with `/`.
    pub path: String,
    /// Status codes that count as success; never empty.
    pub codes: Vec<CodeRange>,
}

/// An inclusive range of status codes within 200–499.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CodeRange {
    /// First code.
    pub low: u16,
    /// Last code, not below `low`.
    pub high: u16,
}
