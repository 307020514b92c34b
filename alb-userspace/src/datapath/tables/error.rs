//! Why a snapshot does not fit into the tables.

use alb_common::limits::{MAX_LISTENERS, MAX_TARGETS};

use super::super::indices::Exhausted;

/// The snapshot does not fit.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    /// More targets than the tables hold, draining ones included.
    #[error("more than {MAX_TARGETS} targets over all backends, those that drain included")]
    Targets(#[source] Exhausted),
    /// More listeners than the tables hold.
    #[error("more than {MAX_LISTENERS} listeners, counted once for each address")]
    Listeners(#[source] Exhausted),
    /// It would not fit beside what the tables have to keep.
    #[error(transparent)]
    TooMuch(#[from] TooMuch),
}

/// A change would not fit beside what the tables have to keep.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{needed} {what} would be in use, {kept} of them only until what they serve has ended; the packet \
     path holds {most}: take things away first, and add others when connections to them are gone"
)]
pub struct TooMuch {
    pub(super) what: &'static str,
    pub(super) needed: usize,
    pub(super) kept: usize,
    pub(super) most: usize,
}
