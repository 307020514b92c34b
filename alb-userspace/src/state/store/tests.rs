//! What is published when, and what is not.

use std::sync::Arc;

use super::{Snapshot, Store, Transition};
use crate::{
    model::Model,
    state::{
        Health, TargetRef, TargetStates, Unhealthy, UnhealthyReason,
        fixture::{model, target, tcp_check},
    },
};

fn one_target(port: u16) -> Model {
    let target = target("target-1", ([198, 18, 1, 1], port).into());
    model(&[("backend-1", Some(tcp_check()))], &[target])
}

fn healthy(revision: u64) -> Transition {
    Transition {
        target: TargetRef::new("backend-1", "target-1"),
        revision,
        health: Health::Healthy,
        reason: None,
    }
}

#[test]
fn a_report_is_published_once_and_only_if_it_says_something_new() {
    let store = Store::new(one_target(80), &TargetStates::default());
    let mut published = store.subscribe();
    assert!(!store.snapshot().is_settled());
    assert_eq!(store.report(vec![healthy(1)]).generation, 2);
    assert!(published.has_changed().unwrap());
    assert!(published.borrow_and_update().is_settled());
    assert_eq!(store.report(vec![healthy(1)]).generation, 2);
    assert!(!published.has_changed().unwrap());
}

#[test]
fn another_reason_is_news_but_the_target_is_unhealthy_since_the_first() {
    let store = Store::new(one_target(80), &TargetStates::default());
    let failed = |reason| Transition {
        health: Health::Unhealthy,
        reason: Some(Unhealthy::new(reason, "seen")),
        ..healthy(1)
    };
    let first = store.report(vec![failed(UnhealthyReason::ConnectTimeout)]);
    let second = store.report(vec![failed(UnhealthyReason::ConnectFailed)]);
    let state = |snapshot: &crate::state::Snapshot| {
        snapshot.targets.get("backend-1", "target-1").cloned().unwrap()
    };
    assert_eq!(state(&first).since, state(&second).since);
    assert_eq!(state(&second).reason.unwrap().to_string(), "CONNECT_FAILED: seen".to_owned());
}

#[test]
fn a_stale_report_or_one_for_a_target_that_is_gone_changes_nothing() {
    let store = Store::new(one_target(80), &TargetStates::default());
    store.apply(one_target(81));
    let snapshot = store.report(vec![
        healthy(1),
        Transition { target: TargetRef::new("backend-1", "target-9"), ..healthy(2) },
        Transition { target: TargetRef::new("backend-9", "target-1"), ..healthy(2) },
    ]);
    assert_eq!(snapshot.generation, 2);
    assert!(!snapshot.targets.serves("backend-1", "target-1"));
    assert!(store.report(vec![healthy(2)]).targets.serves("backend-1", "target-1"));
}

#[test]
fn an_equal_model_publishes_nothing() {
    let store = Store::new(one_target(80), &TargetStates::default());
    let published = store.subscribe();
    assert_eq!(store.apply(one_target(80)).generation, 1);
    assert!(!published.has_changed().unwrap());
}

#[test]
fn a_snapshot_once_taken_never_changes() {
    let store = Store::new(one_target(80), &TargetStates::default());
    let taken = store.snapshot();
    store.report(vec![healthy(1)]);
    assert_eq!(taken.targets.get("backend-1", "target-1").unwrap().health, Health::Initial);
}

#[test]
fn a_candidate_is_what_would_be_published() {
    let store = Store::new(one_target(80), &TargetStates::default());
    store.report(vec![healthy(1)]);
    let published = store.subscribe();
    let model = Arc::new(one_target(81));
    let candidate = store.candidate(model.clone());
    assert!(!published.has_changed().unwrap());
    let state =
        |snapshot: &Snapshot| snapshot.targets.iter().map(|(_, s)| s.health).collect::<Vec<_>>();
    assert_eq!(state(&candidate), [Health::Initial]);
    let applied = store.apply(model);
    assert_eq!((candidate.generation, state(&candidate)), (applied.generation, state(&applied)));
}
