//! What is known of a target, seen from one backend.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::SystemTime,
};

use crate::balance::Service;

/// A target as one backend uses it: the same server may be healthy for one backend and
/// unhealthy for another, since each has its own check.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetRef {
    /// Id of the backend.
    pub backend: Arc<str>,
    /// Id of the target.
    pub target: Arc<str>,
}

impl TargetRef {
    /// Both ids as the model has them.
    pub fn new(backend: &str, target: &str) -> Self {
        Self { backend: backend.into(), target: target.into() }
    }
}

/// The verdict on a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// Its check has had no result yet; gets new flows only if no target of the backend is known to
    /// serve.
    Initial,
    /// Passed its check.
    Healthy,
    /// Failed its check; gets no new flows.
    Unhealthy,
    /// Its backend has checks closed, so it counts as healthy.
    Unchecked,
}

impl Health {
    /// May be given new flows.
    pub fn serves(self) -> bool {
        match self {
            Self::Healthy | Self::Unchecked => true,
            Self::Initial | Self::Unhealthy => false,
        }
    }

    /// Lower-case word for logs, metrics and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Unchecked => "unchecked",
        }
    }
}

impl From<Health> for Service {
    fn from(health: Health) -> Self {
        match health {
            Health::Healthy | Health::Unchecked => Self::In,
            Health::Initial => Self::Untried,
            Health::Unhealthy => Self::Out,
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// `unhealthReason.reason` of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UnhealthyReason {
    /// The connection was refused or the target cannot be reached.
    ConnectFailed,
    /// No answer to the connection attempt in time.
    ConnectTimeout,
    /// The target closed or reset the connection before it answered.
    ConnectInterrupt,
    /// Reading the response failed.
    ReceiveResponseFailed,
    /// No complete status line in time.
    ReceiveResponseTimeout,
    /// Sending the request failed.
    RequestFailed,
    /// The request could not be sent in time.
    RequestTimeout,
    /// The status code is none of those that count as success.
    HttpCodeMismatch,
    /// What came back is not HTTP.
    ResponseFormatError,
}

impl UnhealthyReason {
    /// The word the API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectFailed => "CONNECT_FAILED",
            Self::ConnectTimeout => "CONNECT_TIMEOUT",
            Self::ConnectInterrupt => "CONNECT_INTERRUPT",
            Self::ReceiveResponseFailed => "RECEIVE_RESPONSE_FAILED",
            Self::ReceiveResponseTimeout => "RECEIVE_RESPONSE_TIMEOUT",
            Self::RequestFailed => "REQUEST_FAILED",
            Self::RequestTimeout => "REQUEST_TIMEOUT",
            Self::HttpCodeMismatch => "HTTP_CODE_MISMATCH",
            Self::ResponseFormatError => "RESPONSE_FORMAT_ERROR",
        }
    }

    /// The `cause` the health log gives after `health check failed`.
    pub fn log_cause(self) -> &'static str {
        match self {
            Self::ConnectTimeout | Self::ReceiveResponseTimeout | Self::RequestTimeout => "timeout",
            Self::ConnectFailed => "connect failed",
            Self::ConnectInterrupt => "peer closed",
            Self::ReceiveResponseFailed => "recv failed",
            Self::RequestFailed => "send failed",
            Self::HttpCodeMismatch | Self::ResponseFormatError => "parse check error",
        }
    }
}

impl fmt::Display for UnhealthyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a target is unhealthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unhealthy {
    /// The class of failure.
    pub reason: UnhealthyReason,
    /// What was seen, for people: the operating system's error, the status code, …
    pub detail: Arc<str>,
}

impl Unhealthy {
    /// A reason with what was seen.
    pub fn new(reason: UnhealthyReason, detail: impl Into<Arc<str>>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, detail } = self;
        write!(f, "{reason}: {detail}")
    }
}

/// What is known of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetState {
    /// The verdict.
    pub health: Health,
    /// Why, if `health` is `Unhealthy`; else `None`.
    pub reason: Option<Unhealthy>,
    /// When `health` became what it is.
    pub since: SystemTime,
    /// Generation in which address, port or check of this target last changed. A report made
    /// for another revision is stale and ignored.
    pub revision: u64,
}

/// What is known of all targets, by backend and target id. Cloning shares; a change copies
/// one backend's targets only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetStates {
    backends: BTreeMap<Arc<str>, Arc<BTreeMap<Arc<str>, TargetState>>>,
}

impl TargetStates {
    /// What is known of a target for a backend.
    pub fn get(&self, backend: &str, target: &str) -> Option<&TargetState> {
        self.backends.get(backend)?.get(target)
    }

    /// May this target be given new flows of this backend? An unknown one may not.
    pub fn serves(&self, backend: &str, target: &str) -> bool {
        self.get(backend, target).is_some_and(|state| state.health.serves())
    }

    /// Ids of the backends of whose targets something else is known than in `before`.
    pub fn changed(&self, before: &Self) -> BTreeSet<Arc<str>> {
        let mut was = before.backends.iter().peekable();
        let mut changed = BTreeSet::new();
        for (id, states) in &self.backends {
            while let Some((gone, _)) = was.next_if(|(was, _)| *was < id) {
                changed.insert(gone.clone());
            }
            // Those that share are equal without a look.
            if was.next_if(|(was, _)| *was == id).is_none_or(|(_, was)| was != states) {
                changed.insert(id.clone());
            }
        }
        changed.extend(was.map(|(gone, _)| gone.clone()));
        changed
    }

    /// Targets of one backend, by target id.
    pub fn of_backend(&self, backend: &str) -> impl Iterator<Item = (&str, &TargetState)> {
        self.backends
            .get(backend)
            .into_iter()
            .flat_map(|targets| targets.iter().map(|(id, state)| (&**id, state)))
    }

    /// All of them, by backend and target id.
    pub fn iter(&self) -> impl Iterator<Item = (TargetRef, &TargetState)> {
        self.backends.iter().flat_map(|(backend, targets)| {
            targets.iter().map(|(target, state)| {
                (TargetRef { backend: backend.clone(), target: target.clone() }, state)
            })
        })
    }

    /// Adds or replaces what is known of a target.
    pub fn insert(&mut self, target: TargetRef, state: TargetState) {
        let TargetRef { backend, target } = target;
        Arc::make_mut(self.backends.entry(backend).or_default()).insert(target, state);
    }

    /// Forgets a backend's targets.
    pub(super) fn forget(&mut self, backend: &str) {
        self.backends.remove(backend);
    }

    pub(super) fn get_mut(&mut self, target: &TargetRef) -> Option<&mut TargetState> {
        Arc::make_mut(self.backends.get_mut(&target.backend)?).get_mut(&target.target)
    }
}
