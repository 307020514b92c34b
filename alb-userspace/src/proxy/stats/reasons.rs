//! The closed sets of reasons that are counted.

use super::Reason;
use crate::proxy::refusal::Refusal;

/// Class of a status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusClass {
    /// 100–199; only 101 is ever counted.
    Informational,
    /// 200–299.
    Success,
    /// 300–399.
    Redirection,
    /// 400–499, also 499: the client went away.
    ClientError,
    /// 500–599.
    ServerError,
}

impl Reason for StatusClass {
    const ALL: &'static [Self] = &[
        Self::Informational,
        Self::Success,
        Self::Redirection,
        Self::ClientError,
        Self::ServerError,
    ];

    fn index(self) -> usize {
        self as usize
    }

    fn word(self) -> &'static str {
        match self {
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
        }
    }
}

impl StatusClass {
    /// The class of a code; anything out of range is the target's fault.
    pub fn of(status: u16) -> Self {
        match status {
            100..=199 => Self::Informational,
            200..=299 => Self::Success,
            300..=399 => Self::Redirection,
            400..=499 => Self::ClientError,
            _ => Self::ServerError,
        }
    }
}

/// What went wrong with a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamError {
    /// The connection was refused or the target cannot be reached.
    ConnectFailed,
    /// No connection within `connectTimeoutSeconds`.
    ConnectTimeout,
    /// The connection broke while the request was being sent.
    SendFailed,
    /// Closed or reset before a response came.
    Closed,
    /// No response within `responseTimeoutSeconds`, or one that stood still for the idle time.
    ResponseTimeout,
    /// What came is not a valid response, its head or its body.
    BadResponse,
    /// The response ended before its end.
    Truncated,
}

impl UpstreamError {
    /// What a request that ended so means for its target; `None` = it is not to blame.
    pub fn of(refusal: Refusal) -> Option<Self> {
        let faults = [
            (Refusal::ConnectFailed, Self::ConnectFailed),
            (Refusal::ConnectTimeout, Self::ConnectTimeout),
            (Refusal::TargetClosed, Self::Closed),
            (Refusal::ResponseTimeout, Self::ResponseTimeout),
            (Refusal::BadResponse, Self::BadResponse),
            (Refusal::ResponseTooLarge, Self::BadResponse),
        ];
        faults.into_iter().find(|(fault, _)| *fault == refusal).map(|(_, error)| error)
    }

    /// The same of a request whose response had begun.
    pub fn of_body(refusal: Refusal) -> Option<Self> {
        Self::of(refusal).map(|error| if error == Self::Closed { Self::Truncated } else { error })
    }
}

impl Reason for UpstreamError {
    const ALL: &'static [Self] = &[
        Self::ConnectFailed,
        Self::ConnectTimeout,
        Self::SendFailed,
        Self::Closed,
        Self::ResponseTimeout,
        Self::BadResponse,
        Self::Truncated,
    ];

    fn index(self) -> usize {
        self as usize
    }

    fn word(self) -> &'static str {
        match self {
            Self::ConnectFailed => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::SendFailed => "send_failed",
            Self::Closed => "closed",
            Self::ResponseTimeout => "response_timeout",
            Self::BadResponse => "bad_response",
            Self::Truncated => "truncated",
        }
    }
}

/// What became of the copy of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mirrored {
    /// It was sent whole, and answered.
    Sent,
    /// The target could not be connected to, closed, or did not answer in time.
    Failed,
    /// It was not sent, or not to its end: too much was waiting, or the request itself did not
    /// come to its end.
    Dropped,
}

impl Reason for Mirrored {
    const ALL: &'static [Self] = &[Self::Sent, Self::Failed, Self::Dropped];

    fn index(self) -> usize {
        self as usize
    }

    fn word(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

/// Why a connection could not be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptError {
    /// No file descriptor left (EMFILE, ENFILE).
    FileLimit,
    /// No memory left (ENOBUFS, ENOMEM).
    Memory,
    /// The client was gone already (ECONNABORTED and network errors).
    Aborted,
    /// Anything else.
    Other,
}

impl AcceptError {
    /// What an error of `accept` means (accept(2)).
    pub fn of(error: &std::io::Error) -> Self {
        use nix::errno::Errno;
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EMFILE | Errno::ENFILE) => Self::FileLimit,
            Some(Errno::ENOBUFS | Errno::ENOMEM) => Self::Memory,
            Some(
                Errno::ECONNABORTED
                | Errno::ECONNRESET
                | Errno::EHOSTUNREACH
                | Errno::ENETDOWN
                | Errno::ENETUNREACH
                | Errno::EPROTO,
            ) => Self::Aborted,
            Some(_) | None => Self::Other,
        }
    }
}

impl Reason for AcceptError {
    const ALL: &'static [Self] = &[Self::FileLimit, Self::Memory, Self::Aborted, Self::Other];

    fn index(self) -> usize {
        self as usize
    }

    fn word(self) -> &'static str {
        match self {
            Self::FileLimit => "file_limit",
            Self::Memory => "memory",
            Self::Aborted => "aborted",
            Self::Other => "other",
        }
    }
}
