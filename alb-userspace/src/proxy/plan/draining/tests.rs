//! Which targets drain in the plans of a model that changes.

use std::time::Duration;

use super::*;
use crate::{
    model::{self, ListenerProtocol, Model},
    proxy::{lab, plan::Secrets},
    state::{Store, TargetRef, TargetStates},
};

const DRAINING: Duration = Duration::from_mins(1);

fn model() -> Model {
    let targets = ["198.18.1.1:80", "198.18.1.2:80"].map(|address| address.parse().unwrap());
    let mut model = lab::model(&targets, ListenerProtocol::Tcp);
    model.load_balancers[0].backends[0].connection_draining = DRAINING;
    model
}

/// A plan in which the first target is in this state.
fn plan(model: &Model, health: Option<Health>, before: &Plan) -> Plan {
    let store = Store::new(model.clone(), &TargetStates::default());
    let mut snapshot = (*store.snapshot()).clone();
    let balancer = &model.load_balancers[0];
    let backend = &balancer.backends[0];
    if let Some(health) = health {
        let mut states = TargetStates::clone(&snapshot.targets);
        let target = TargetRef::new(&backend.id, &balancer.targets_of(backend)[0].id);
        let mut state = states.get(&target.backend, &target.target).unwrap().clone();
        state.health = health;
        states.insert(target, state);
        snapshot.targets = Arc::new(states);
    }
    Plan::compile(&snapshot, &Secrets::of_a_test(), before)
}

fn targets(model: &mut Model) -> &mut Vec<model::Target> {
    &mut model.load_balancers[0].target_groups[0].targets
}

/// Ids and seconds from now, rounded up to fives.
fn drains(plan: &Plan) -> Vec<(String, u128)> {
    let now = Instant::now();
    let left = |of: &Draining| of.until.saturating_duration_since(now).as_millis();
    let left = |of: &Draining| left(of).div_ceil(5_000) * 5;
    let mut all: Vec<_> =
        plan.draining.iter().map(|of| (of.target.id.to_string(), left(of))).collect();
    all.sort();
    all
}

#[test]
fn a_removed_target_drains_once_and_one_that_comes_back_does_not() {
    let mut model = model();
    let first = plan(&model, None, &Plan::default());
    assert_eq!(drains(&first), []);
    let shared = Arc::clone(&first.listeners[0].backend.targets[1].shared);
    let used = first.listeners[0].backend.targets[1].enter();
    let removed = targets(&mut model).pop().unwrap();
    // What the backend allows then, whatever it allows later.
    model.load_balancers[0].backends[0].connection_draining = Duration::ZERO;
    let second = plan(&model, None, &first);
    assert_eq!(drains(&second), [("t1".to_owned(), 60)]);
    let third = plan(&model, None, &second);
    assert_eq!(third.draining[0].until, second.draining[0].until);
    targets(&mut model).push(removed);
    let fourth = plan(&model, None, &third);
    assert_eq!(drains(&fourth), []);
    assert!(Arc::ptr_eq(&fourth.listeners[0].backend.targets[1].shared, &shared));

    // Without time to drain it is over at once, and forgotten once nobody uses it.
    targets(&mut model).pop();
    let fifth = plan(&model, None, &fourth);
    assert_eq!(drains(&fifth), [("t1".to_owned(), 0)]);
    let sixth = plan(&model, None, &fifth);
    assert_eq!(drains(&sixth), [("t1".to_owned(), 0)], "it is used");
    drop(used);
    assert_eq!(drains(&plan(&model, None, &sixth)), []);
}

#[test]
fn a_target_that_moves_drains_where_it_was() {
    let mut model = model();
    let first = plan(&model, None, &Plan::default());
    targets(&mut model)[0].address = [198, 18, 1, 9].into();
    let second = plan(&model, None, &first);
    assert_eq!(drains(&second), [("t0".to_owned(), 60)]);
    assert_eq!(second.draining[0].target.address, "198.18.1.1:80".parse().unwrap());
    // So do those of a backend that nothing leads to any more.
    model.load_balancers[0].listeners.clear();
    let third = plan(&model, None, &second);
    assert_eq!(drains(&third), ["t0", "t0", "t1"].map(|id| (id.to_owned(), 60)));
}

#[test]
fn without_weight_it_drains_from_then_on_with_what_is_allowed_now() {
    let mut model = model();
    let mut before = plan(&model, None, &Plan::default());
    targets(&mut model)[0].weight = 0;
    for (allowed, left) in [(60, 60), (60, 60), (5, 5), (0, 0), (60, 60)] {
        model.load_balancers[0].backends[0].connection_draining = Duration::from_secs(allowed);
        before = plan(&model, None, &before);
        assert_eq!(drains(&before), [("t0".to_owned(), left)]);
    }
    // Removed meanwhile, it goes on where it was.
    let until = before.draining[0].until;
    let removed = targets(&mut model).remove(0);
    before = plan(&model, None, &before);
    assert_eq!((drains(&before).len(), before.draining[0].until), (1, until));
    targets(&mut model).insert(0, model::Target { weight: 1, ..removed });
    assert_eq!(drains(&plan(&model, None, &before)), []);
}

#[test]
fn a_failed_target_is_given_no_time_if_its_flows_are_to_be_reset() {
    let mut model = model();
    let first = plan(&model, None, &Plan::default());
    for (policy, panic, health, drained) in [
        (UnhealthyFlows::Reset, false, Health::Unhealthy, true),
        (UnhealthyFlows::Reset, false, Health::Initial, false),
        (UnhealthyFlows::Reset, false, Health::Healthy, false),
        (UnhealthyFlows::Keep, false, Health::Unhealthy, false),
    ] {
        let backend = &mut model.load_balancers[0].backends[0];
        (backend.unhealthy_flows, backend.panic_mode) = (policy, panic);
        let wanted = if drained { vec![("t0".to_owned(), 0)] } else { vec![] };
        assert_eq!(drains(&plan(&model, Some(health), &first)), wanted, "{policy:?} {health:?}");
    }
    // In a panic it serves although it failed.
    let backend = &mut model.load_balancers[0].backends[0];
    (backend.unhealthy_flows, backend.panic_mode) = (UnhealthyFlows::Reset, true);
    targets(&mut model).pop();
    let alone = plan(&model, None, &Plan::default());
    assert_eq!(drains(&plan(&model, Some(Health::Unhealthy), &alone)), []);
}
