//! Bonds to targets that drain, by a clock that stands still until it is moved.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::Wake,
    time::{Duration, Instant as Moment, SystemTime},
};

use tokio::{task::LocalSet, time::advance};

use super::*;
use crate::{proxy::plan::Target, state::Health};

const SECOND: Duration = Duration::from_secs(1);

fn target() -> Arc<Target> {
    Arc::new(Target {
        id: "t".into(),
        address: ([198, 18, 1, 1], 80).into(),
        weight: 0,
        zero_since: None,
        health: Health::Healthy,
        since: SystemTime::UNIX_EPOCH,
        admitted: true,
        shared: Arc::default(),
    })
}

fn draining(target: &Arc<Target>, after: Duration) -> Draining {
    let until = Moment::now() + after;
    Draining { backend: "b".into(), target: Arc::clone(target), until }
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_user_is_woken_when_its_target_is_over_and_no_other() {
    let test = async {
        let cuts = Cuts::default();
        let (one, other) = (target(), target());
        let (bond, stays, free) = (cuts.bond(), cuts.bond(), cuts.bond());
        bond.to(one.shared.id());
        stays.to(other.shared.id());
        free.to(one.shared.id());
        free.end();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let cx = Context::from_waker(&waker);
        for bond in [&bond, &stays, &free] {
            assert!(bond.poll(&cx).is_pending());
        }
        cuts.set(&[draining(&one, 10 * SECOND), draining(&other, 99 * SECOND)]);
        let _running = tokio::task::spawn_local(cuts.clone().run());
        advance(9 * SECOND).await;
        assert!(bond.poll(&cx).is_pending());
        advance(2 * SECOND).await;
        tokio::task::yield_now().await;
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(bond.poll(&cx).is_ready());
        assert!(stays.poll(&cx).is_pending() && free.poll(&cx).is_pending());
        // Whoever comes too late is told so; whoever leaves is free.
        free.to(one.shared.id());
        assert!(free.poll(&cx).is_ready());
        bond.to(other.shared.id());
        assert!(bond.poll(&cx).is_pending());
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_is_called_off_cuts_nobody() {
    let cx = Context::from_waker(Waker::noop());
    let cuts = Cuts::default();
    let target = target();
    let bond = cuts.bond();
    bond.to(target.shared.id());
    cuts.set(&[draining(&target, SECOND)]);
    cuts.set(&[]);
    advance(2 * SECOND).await;
    assert_eq!(cuts.cut(), None);
    assert!(bond.poll(&cx).is_pending());
    cuts.set(&[draining(&target, Duration::ZERO)]);
    assert!(bond.poll(&cx).is_ready(), "at once");
}

#[test]
fn places_are_used_again() {
    let cuts = Cuts::default();
    let target = target();
    for _ in 0..5 {
        let (one, other) = (cuts.bond(), cuts.bond());
        one.to(target.shared.id());
        other.to(target.shared.id());
    }
    assert_eq!(cuts.0.users.borrow().len(), 2);
    assert!(cuts.0.users.borrow().iter().all(|user| user.target.get().is_none()));
}
