//! The single writer of the snapshot.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use tokio::{sync::watch, time::Instant};

use super::{Health, Snapshot, TargetRef, TargetStates, Unhealthy, carry::carry};
use crate::model::Model;

/// A target's verdict or the reason for it changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Whose.
    pub target: TargetRef,
    /// `TargetState::revision` the check was made for.
    pub revision: u64,
    /// The verdict now.
    pub health: Health,
    /// Why, if unhealthy.
    pub reason: Option<Unhealthy>,
}

/// Holds the published snapshot. Clones share it; whoever writes waits for the other writers,
/// whoever reads takes an `Arc` and never waits for one of them to finish its work.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    published: watch::Sender<Arc<Snapshot>>,
    /// Held from reading the old snapshot to publishing the new one.
    writing: Mutex<()>,
}

impl Store {
    /// Publishes the first snapshot. `adopted` holds the states of targets known from before
    /// a restart, so that one which was serving goes on serving; empty if there are none.
    pub fn new(model: Model, adopted: &TargetStates) -> Self {
        let targets = carry(adopted, None, &model, 1, SystemTime::now());
        let snapshot = Snapshot {
            generation: 1,
            model: Arc::new(model),
            targets: Arc::new(targets),
            published: Instant::now(),
        };
        let published = watch::Sender::new(Arc::new(snapshot));
        Self(Arc::new(Inner { published, writing: Mutex::new(()) }))
    }

    /// The snapshot now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.published.borrow().clone()
    }

    /// Wakes on every publication; the present snapshot counts as seen.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.0.published.subscribe()
    }

    /// What [`Store::apply`] would publish now; publishes nothing.
    pub fn candidate(&self, model: Arc<Model>) -> Snapshot {
        let old = self.snapshot();
        let generation = old.generation + 1;
        let targets = carry(&old.targets, Some(&old.model), &model, generation, SystemTime::now());
        Snapshot { generation, model, targets: Arc::new(targets), published: Instant::now() }
    }

    /// Replaces the model. Targets that stay where they were keep their state, new ones start
    /// as `Initial`. Returns what is published then; an equal model publishes nothing.
    pub fn apply(&self, model: impl Into<Arc<Model>>) -> Arc<Snapshot> {
        let model = model.into();
        let _writing = self.write();
        let old = self.snapshot();
        if old.model == model {
            return old;
        }
        self.publish(self.candidate(model))
    }

    /// Takes in what health checks found, as one publication. Reports for targets that are
    /// gone, that changed since, or that say nothing new are ignored.
    pub fn report(&self, transitions: Vec<Transition>) -> Arc<Snapshot> {
        let _writing = self.write();
        let old = self.snapshot();
        let mut targets = TargetStates::clone(&old.targets);
        let mut changed = false;
        for transition in transitions {
            changed |= take_in(&mut targets, transition, SystemTime::now());
        }
        if !changed {
            return old;
        }
        self.publish(Snapshot {
            generation: old.generation + 1,
            model: old.model.clone(),
            targets: Arc::new(targets),
            published: Instant::now(),
        })
    }

    fn publish(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let snapshot = Arc::new(snapshot);
        self.0.published.send_replace(snapshot.clone());
        snapshot
    }

    /// A writer that panicked published nothing, so what it left behind is whole.
    fn write(&self) -> MutexGuard<'_, ()> {
        self.0.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take_in(targets: &mut TargetStates, transition: Transition, now: SystemTime) -> bool {
    let Transition { target, revision, health, reason } = transition;
    let fresh = targets.get(&target.backend, &target.target).is_some_and(|state| {
        state.revision == revision && (state.health, &state.reason) != (health, &reason)
    });
    if fresh && let Some(state) = targets.get_mut(&target) {
        if state.health != health {
            state.since = now;
        }
        (state.health, state.reason) = (health, reason);
    }
    fresh
}

#[cfg(test)]
mod tests;
