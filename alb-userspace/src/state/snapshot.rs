//! What is published: one consistent view for every reader.

use std::sync::Arc;

use super::{Health, TargetStates};
use crate::model::Model;

/// The node at one moment. Immutable; whoever needs a newer one takes it from the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Grows by one with every publication, from 1.
    pub generation: u64,
    /// What is to be served.
    pub model: Arc<Model>,
    /// What is known of every target of every backend in `model`.
    pub targets: Arc<TargetStates>,
}

impl Snapshot {
    /// Every target has a verdict: none waits for the first result of its check.
    pub fn is_settled(&self) -> bool {
        self.targets.iter().all(|(_, state)| state.health != Health::Initial)
    }
}
