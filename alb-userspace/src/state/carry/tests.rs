//! Rows: what was known, what changes, what is known then.

use std::time::{Duration, SystemTime};

use super::carry;
use crate::{
    model::{HealthCheck, LoadBalancer, Model, Target},
    state::{
        Health::{self, Healthy, Initial, Unchecked, Unhealthy},
        TargetRef, TargetState, TargetStates,
        fixture::{model, target, tcp_check},
    },
};

fn at(last: u8, port: u16) -> Target {
    target("target-1", ([198, 18, 1, last], port).into())
}

fn known(health: Health) -> TargetStates {
    let state = TargetState { health, reason: None, since: SystemTime::UNIX_EPOCH, revision: 3 };
    let mut states = TargetStates::default();
    states.insert(TargetRef::new("backend-1", "target-1"), state);
    states
}

#[track_caller]
fn check(
    before: (Health, Option<HealthCheck>, Target),
    after: (Option<HealthCheck>, Target),
    expected: (Health, u64),
) {
    let (health, old_check, old_target) = before;
    let (new_check, new_target) = after;
    let old = model(&[("backend-1", old_check)], &[old_target]);
    let new = model(&[("backend-1", new_check)], &[new_target]);
    let states = carry(&known(health), Some(&old), &new, 9, SystemTime::now());
    let state = states.get("backend-1", "target-1").unwrap();
    assert_eq!((state.health, state.revision), expected);
}

#[test]
fn a_target_that_stays_keeps_its_state() {
    let open = || Some(tcp_check());
    for health in [Initial, Healthy, Unhealthy] {
        check((health, open(), at(1, 80)), (open(), at(1, 80)), (health, 3));
    }
    check((Unchecked, None, at(1, 80)), (None, at(1, 80)), (Unchecked, 3));
}

#[test]
fn a_weight_is_no_reason_to_check_anew() {
    let heavier = Target { weight: 100, ..at(1, 80) };
    check((Healthy, Some(tcp_check()), at(1, 80)), (Some(tcp_check()), heavier), (Healthy, 3));
}

#[test]
fn another_address_or_port_starts_anew() {
    let open = || Some(tcp_check());
    check((Healthy, open(), at(1, 80)), (open(), at(2, 80)), (Initial, 9));
    check((Healthy, open(), at(1, 80)), (open(), at(1, 81)), (Initial, 9));
    check((Unhealthy, open(), at(1, 80)), (None, at(2, 80)), (Unchecked, 9));
}

#[test]
fn another_check_keeps_the_verdict_under_a_new_revision() {
    let slower = HealthCheck { interval: Duration::from_mins(1), ..tcp_check() };
    let after = || (Some(slower.clone()), at(1, 80));
    check((Healthy, Some(tcp_check()), at(1, 80)), after(), (Healthy, 9));
    check((Unhealthy, Some(tcp_check()), at(1, 80)), after(), (Unhealthy, 9));
}

#[test]
fn opening_and_closing_checks_never_takes_a_serving_target_out() {
    check((Unchecked, None, at(1, 80)), (Some(tcp_check()), at(1, 80)), (Healthy, 9));
    check((Healthy, Some(tcp_check()), at(1, 80)), (None, at(1, 80)), (Unchecked, 9));
    check((Unhealthy, Some(tcp_check()), at(1, 80)), (None, at(1, 80)), (Unchecked, 9));
}

/// The model of `check` without the listener that uses its backend.
fn unbound(check: Option<HealthCheck>) -> Model {
    let mut model = model(&[("backend-1", check)], &[at(1, 80)]);
    model.load_balancers[0].listeners.clear();
    model
}

#[test]
fn what_nothing_uses_is_unhealthy_and_is_checked_anew_when_something_does() {
    let used = model(&[("backend-1", Some(tcp_check()))], &[at(1, 80)]);
    let idle = unbound(Some(tcp_check()));
    let next = |health, old: Option<&Model>, new: &Model| {
        let states = carry(&known(health), old, new, 9, SystemTime::now());
        states.get("backend-1", "target-1").unwrap().health
    };
    assert_eq!(next(Healthy, Some(&used), &idle), Unhealthy);
    assert_eq!(next(Healthy, None, &idle), Unhealthy);
    assert_eq!(next(Unhealthy, Some(&idle), &used), Initial);
    assert_eq!(next(Healthy, Some(&used), &unbound(None)), Unchecked);
}

#[test]
fn load_balancers_that_stay_are_shared() {
    let old = model(&[("backend-1", None)], &[]);
    let mut other = LoadBalancer::clone(&old.load_balancers[0]);
    let equal = other.clone();
    other.id = "alb-2".into();
    for (balancer, shared) in [(equal.clone(), true), (other, false)] {
        let mut new = Model { load_balancers: vec![balancer.into()], ..old.clone() };
        new.share(&old);
        assert_eq!(new.load_balancers[0].is(&old.load_balancers[0]), shared);
    }
    let mut new = Model { load_balancers: vec![equal.into()], ..old.clone() };
    new.load_balancers[0].description = "another".into();
    new.share(&old);
    assert!(!new.load_balancers[0].is(&old.load_balancers[0]));
}

#[test]
fn a_load_balancer_that_stays_shares_its_states() {
    let old = model(&[("backend-1", Some(tcp_check()))], &[at(1, 80)]);
    let known = known(Unhealthy);
    let mut new = old.clone();
    let mut other = old.load_balancers[0].clone();
    other.id = "alb-2".into();
    other.backends[0].id = "backend-2".into();
    other.listeners[0].backend = "backend-2".into();
    new.load_balancers.push(other);
    let states = carry(&known, Some(&old), &new, 9, SystemTime::now());
    let place =
        |states: &TargetStates| std::ptr::from_ref(states.get("backend-1", "target-1").unwrap());
    assert_eq!(place(&states), place(&known), "not copied");
    let changed = |states: &TargetStates, before: &TargetStates| {
        states.changed(before).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(changed(&states, &known), ["backend-2"]);
    assert_eq!(changed(&known, &states), ["backend-2"]);
    assert_eq!(changed(&states, &self::known(Healthy)), ["backend-1", "backend-2"]);
    assert_eq!(changed(&known, &self::known(Unhealthy)), Vec::<String>::new());
    assert_eq!(states.get("backend-2", "target-1").unwrap().health, Initial);
}

#[test]
fn a_start_adopts_what_is_known_by_id_and_nothing_else() {
    let new = model(
        &[("backend-1", Some(tcp_check()))],
        &[at(1, 80), target("target-2", ([198, 18, 1, 2], 80).into())],
    );
    let states = carry(&known(Unhealthy), None, &new, 1, SystemTime::now());
    assert_eq!(states.get("backend-1", "target-1").map(|state| state.health), Some(Unhealthy));
    assert_eq!(states.get("backend-1", "target-2").map(|state| state.health), Some(Initial));
    assert_eq!(states.iter().count(), 2);
}
