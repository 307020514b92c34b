//! What is published: one consistent view for every reader.

use std::sync::Arc;

use tokio::time::Instant;

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
    /// When it was published.
    pub published: Instant,
}

impl Snapshot {
    /// Every target has a verdict: none waits for the first result of its check.
    pub fn is_settled(&self) -> bool {
        self.targets.iter().all(|(_, state)| state.health != Health::Initial)
    }

    /// How many targets take new connections, and how many there are, of the backends that a
    /// listener or a rule uses.
    pub fn serving(&self) -> (usize, usize) {
        let balancers = self.model.load_balancers.iter();
        let bound = balancers.flat_map(|balancer| {
            let bound = balancer.backends.iter().filter(|backend| balancer.is_bound(backend));
            bound.map(|backend| &*backend.id)
        });
        let states = bound.flat_map(|backend| self.targets.of_backend(backend));
        states.fold((0, 0), |(serving, all), (_, state)| {
            (serving + usize::from(state.health.serves()), all + 1)
        })
    }
}
