//! The one table of what the proxy answers by itself when a request cannot be served: status,
//! word and what becomes of the connection. Bytes are made in `answer`; whoever meets the
//! failure only names it.

mod answer;
mod malformed;

pub use answer::{Answer, Context};
pub use malformed::Malformed;

/// Why a request is not served. Each has one word, which is its counter, its metric label and
/// its log word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The backend has no targets.
    NoGroup,
    /// No target of the backend may be used: unhealthy, drained or at weight 0.
    NoTarget,
    /// The connection to the target was refused or reset before it stood.
    ConnectFailed,
    /// The target closed or reset the connection before its answer was complete.
    TargetClosed,
    /// What the target answered is not HTTP, or contradicts itself.
    BadResponse,
    /// The head of the target's answer is too large.
    ResponseTooLarge,
    /// The connection to the target did not stand in time.
    ConnectTimeout,
    /// The target did not take the request or did not answer it in time.
    ResponseTimeout,
    /// The target drained, and its time was over before its answer was complete.
    TargetDrained,
    /// More requests a second than the listener allows.
    RateLimited,
    /// More connections than the listener allows: closed without an answer.
    TooManyConnections,
    /// The request breaks the rules of its protocol.
    Malformed(Malformed),
    /// An HTTP version that is not served.
    VersionRefused,
    /// The request line is longer than the listener allows.
    RequestLineTooLong,
    /// Fields are larger or more than the listener allows.
    HeadersTooLarge,
    /// The body is larger than the listener allows.
    BodyTooLarge,
    /// The client took too long for its request head.
    SlowRequest,
    /// The client took too long for the body of its request.
    SlowBody,
    /// The client took too long to read the answer: closed.
    SlowReader,
    /// The authority is none of those the connection's certificate is for.
    Misdirected,
    /// CONNECT and TRACE.
    MethodRefused,
    /// An expectation other than `100-continue`.
    ExpectationRefused,
    /// gRPC: targets are spoken to in HTTP/1.1.
    GrpcRefused,
    /// An extended CONNECT (RFC 8441): targets are spoken to in HTTP/1.1.
    ExtendedConnectRefused,
    /// Plain HTTP on an https listener.
    PlainOnTls,
    /// The client went away; nothing is sent.
    ClientGone,
}

impl Refusal {
    /// Status code of the answer, also for the log where none is sent.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed(_) | Self::PlainOnTls => 400,
            Self::MethodRefused => 405,
            Self::SlowRequest | Self::SlowBody => 408,
            Self::BodyTooLarge => 413,
            Self::RequestLineTooLong => 414,
            Self::ExpectationRefused => 417,
            Self::Misdirected => 421,
            Self::RateLimited => 429,
            Self::HeadersTooLarge => 431,
            Self::ClientGone | Self::SlowReader => 499,
            Self::GrpcRefused | Self::ExtendedConnectRefused => 501,
            Self::ConnectFailed
            | Self::TargetClosed
            | Self::BadResponse
            | Self::ResponseTooLarge => 502,
            Self::NoGroup | Self::NoTarget | Self::TooManyConnections => 503,
            Self::ConnectTimeout | Self::ResponseTimeout | Self::TargetDrained => 504,
            Self::VersionRefused => 505,
        }
    }

    /// Counter, metric label and log word.
    pub fn word(self) -> &'static str {
        match self {
            Self::NoGroup => "no_group",
            Self::NoTarget => "no_target",
            Self::ConnectFailed => "connect_failed",
            Self::TargetClosed => "target_closed",
            Self::BadResponse => "bad_response",
            Self::ResponseTooLarge => "response_too_large",
            Self::ConnectTimeout => "connect_timeout",
            Self::ResponseTimeout => "response_timeout",
            Self::TargetDrained => "target_drained",
            Self::RateLimited => "rate_limited",
            Self::TooManyConnections => "too_many_connections",
            Self::Malformed(reason) => reason.word(),
            Self::VersionRefused => "version_refused",
            Self::RequestLineTooLong => "request_line_too_long",
            Self::HeadersTooLarge => "headers_too_large",
            Self::BodyTooLarge => "body_too_large",
            Self::SlowRequest => "slow_request",
            Self::SlowBody => "slow_body",
            Self::SlowReader => "slow_reader",
            Self::Misdirected => "misdirected",
            Self::MethodRefused => "method_refused",
            Self::ExpectationRefused => "expectation_refused",
            Self::GrpcRefused => "grpc_refused",
            Self::ExtendedConnectRefused => "extended_connect_refused",
            Self::PlainOnTls => "plain_on_tls",
            Self::ClientGone => "client_gone",
        }
    }

    /// Is the HTTP/1 connection closed after it, because what follows on it cannot be trusted
    /// to be a request? (In h2 only the stream ends.) An unread body closes too: that is for
    /// whoever reads bodies to know.
    pub fn closes(self) -> bool {
        match self {
            Self::NoGroup
            | Self::NoTarget
            | Self::ConnectFailed
            | Self::TargetClosed
            | Self::BadResponse
            | Self::ResponseTooLarge
            | Self::ConnectTimeout
            | Self::ResponseTimeout
            | Self::TargetDrained
            | Self::RateLimited
            | Self::Misdirected
            | Self::GrpcRefused => false,
            Self::TooManyConnections
            | Self::Malformed(_)
            | Self::VersionRefused
            | Self::RequestLineTooLong
            | Self::HeadersTooLarge
            | Self::BodyTooLarge
            | Self::SlowRequest
            | Self::SlowBody
            | Self::SlowReader
            | Self::MethodRefused
            | Self::ExpectationRefused
            | Self::ExtendedConnectRefused
            | Self::PlainOnTls
            | Self::ClientGone => true,
        }
    }

    /// Is the client told at all?
    pub fn is_sent(self) -> bool {
        !matches!(self, Self::ClientGone | Self::SlowReader | Self::TooManyConnections)
    }

    /// Is it for want of a target's answer?
    pub fn is_target_fault(self) -> bool {
        matches!(self.status(), 502 | 504)
    }

    /// What the client reads: one sentence that gives nothing away about the inside.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::NoGroup | Self::NoTarget => "No server is available for this request.",
            Self::ConnectFailed | Self::TargetClosed => {
                "The server behind this one could not be reached."
            }
            Self::BadResponse | Self::ResponseTooLarge => {
                "The server behind this one sent an answer that cannot be passed on."
            }
            Self::ConnectTimeout | Self::ResponseTimeout | Self::TargetDrained => {
                "The server behind this one did not answer in time."
            }
            Self::RateLimited => "Too many requests; try again in a moment.",
            Self::TooManyConnections => "Too many connections; try again in a moment.",
            Self::Malformed(reason) => reason.sentence(),
            Self::VersionRefused => "This version of HTTP is not served here.",
            Self::RequestLineTooLong => "The request line is too long.",
            Self::HeadersTooLarge => "The header fields of the request are too large or too many.",
            Self::BodyTooLarge => "The body of the request is too large.",
            Self::SlowRequest | Self::SlowBody => "The request did not arrive in time.",
            Self::SlowReader => "The answer was not read in time.",
            Self::Misdirected => "This host is not served on this connection.",
            Self::MethodRefused => "This method is not allowed.",
            Self::ExpectationRefused => "The only expectation met here is 100-continue.",
            Self::GrpcRefused => "gRPC is not served here.",
            Self::ExtendedConnectRefused => "CONNECT over HTTP/2 is not served here.",
            Self::PlainOnTls => "This port speaks HTTPS: use https:// in the address.",
            Self::ClientGone => "The client went away.",
        }
    }
}
