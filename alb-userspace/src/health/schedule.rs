//! When probes run, and what becomes of their results. One task per check, which never
//! overlaps itself; one loop that owns the verdicts and reports them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use nix::sys::resource::{Resource, getrlimit};
use tokio::{
    sync::{Notify, Semaphore, mpsc, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until},
};

use super::{
    passive::{Allowances, Suspects, allowances},
    plan::{Check, plan},
    probe::{Failed, Left, probe},
    threshold::Machine,
};
use crate::{
    model::Model,
    state::{Health, Snapshot, Store, TargetRef, Transition, Unhealthy},
};

/// First probes follow one another this closely, so that a start with few targets is quick
/// and one with thousands no burst.
const START_GAP: Duration = Duration::from_millis(1);

/// How long a first probe that cannot leave this host is repeated before it counts: at boot, links
/// and routes come up beside the daemon.
const GRACE: Duration = Duration::from_secs(5);
/// From one such probe to the next.
const AGAIN: Duration = Duration::from_secs(1);
/// From one complaint about probes that could not be sent to the next.
const COMPLAIN: Duration = Duration::from_secs(10);

/// Probes what the published model asks for until `shutdown` turns true or its sender goes.
/// `suspects` is what traffic reports.
pub async fn run(store: Store, mut suspects: Suspects, mut shutdown: watch::Receiver<bool>) {
    let mut snapshots = store.subscribe();
    let (mut checks, mut results) = Checks::new();
    let mut model: Option<Arc<Model>> = None;
    let mut batch = Vec::new();
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        if !model.as_ref().is_some_and(|model| Arc::ptr_eq(model, &snapshot.model)) {
            checks.follow(&snapshot);
            model = Some(snapshot.model.clone());
            report(&store, checks.known(&snapshot), &checks.names);
        }
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => return,
            changed = snapshots.changed() => if changed.is_err() { return },
            count = results.recv_many(&mut batch, 256) => {
                if count == 0 { return }
                let transitions = batch.drain(..).flat_map(|result| checks.take_in(result));
                let transitions = transitions.collect();
                report(&store, transitions, &checks.names);
            }
            Some(suspect) = suspects.0.recv() => {
                report(&store, checks.suspect(&suspect), &checks.names);
            }
        }
    }
}

/// Names of backends for the log, by id: `load balancer/backend`.
pub(super) type Names = BTreeMap<Arc<str>, String>;

/// Publishes what changed, and says so when it leaves a backend without a target.
fn report(store: &Store, transitions: Vec<Transition>, names: &Names) {
    if transitions.is_empty() {
        return;
    }
    let lost: BTreeSet<_> = transitions
        .iter()
        .filter(|transition| transition.health == Health::Unhealthy)
        .map(|transition| transition.target.backend.clone())
        .collect();
    let before = store.snapshot();
    let snapshot = store.report(transitions);
    let count = |snapshot: &Snapshot, backend: &str, is: fn(Health) -> bool| {
        snapshot.targets.of_backend(backend).filter(|(_, state)| is(state.health)).count()
    };
    let (serving, undecided) = (Health::serves, |health| health == Health::Initial);
    for backend in lost {
        // The last one that served is gone, or the last one that might have come is not coming.
        let had = count(&before, &backend, serving) > 0
            || (count(&before, &backend, undecided) > 0
                && count(&snapshot, &backend, undecided) == 0);
        if had && count(&snapshot, &backend, serving) == 0 {
            let all = snapshot.targets.of_backend(&backend).count();
            let backend = names.get(&backend).map_or(&*backend, String::as_str);
            tracing::error!(%backend, "no available servers, num {all}");
        }
    }
}

/// What one probe found.
struct Found {
    check: Arc<Check>,
    /// `Running::serial` of the task that found it.
    serial: u64,
    result: Result<(), Unhealthy>,
}

/// The checks that run.
pub(super) struct Checks {
    pub(super) running: BTreeMap<Arc<Check>, Running>,
    /// Which of them decides about a target.
    pub(super) by_target: BTreeMap<TargetRef, Arc<Check>>,
    pub(super) allowances: Allowances,
    pub(super) names: Names,
    serials: u64,
    means: Arc<Means>,
    found: mpsc::Sender<Found>,
}

pub(super) struct Running {
    serial: u64,
    pub(super) machine: Machine,
    pub(super) failure: Option<Unhealthy>,
    /// Out because traffic failed, which no probe has confirmed yet.
    pub(super) by_traffic: bool,
    /// The next probe shall come at once.
    pub(super) forward: Arc<Notify>,
    /// Targets it decides about, with the revision of each.
    pub(super) informs: BTreeMap<TargetRef, u64>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Checks {
    fn new() -> (Self, mpsc::Receiver<Found>) {
        let (found, results) = mpsc::channel(1024);
        let permits = Semaphore::new(concurrency());
        let means = Arc::new(Means { permits, complaints: Complaints::default() });
        (
            Self {
                running: BTreeMap::new(),
                by_target: BTreeMap::new(),
                allowances: Allowances::new(),
                names: Names::new(),
                serials: 0,
                means,
                found,
            },
            results,
        )
    }

    /// Starts and stops checks so that they are those of the snapshot's model; checks that
    /// are in both go on undisturbed.
    fn follow(&mut self, snapshot: &Snapshot) {
        let wanted = plan(&snapshot.model);
        self.names = names(&snapshot.model);
        self.allowances = allowances(&snapshot.model);
        self.by_target.clear();
        self.running.retain(|check, _| wanted.contains_key(&**check));
        let started = Instant::now();
        let spread = START_GAP * u32::try_from(wanted.len()).unwrap_or(u32::MAX);
        for (check, targets) in wanted {
            let state = |to: &TargetRef| snapshot.targets.get(&to.backend, &to.target);
            let informs =
                targets.iter().filter_map(|to| Some((to.clone(), state(to)?.revision))).collect();
            let check = Arc::new(check);
            self.by_target.extend(targets.iter().map(|to| (to.clone(), check.clone())));
            if let Some(running) = self.running.get_mut(&check) {
                running.informs = informs;
                continue;
            }
            let mut states = targets.iter().filter_map(state);
            let known = states.find(|state| state.health != Health::Initial);
            let (health, failure) =
                known.map_or((Health::Initial, None), |state| (state.health, state.reason.clone()));
            let grace = if health == Health::Initial { GRACE } else { Duration::ZERO };
            let machine = Machine::new(health, check.rise, check.fall);
            self.serials += 1;
            let (serial, forward) = (self.serials, Arc::new(Notify::new()));
            let first = started + spread.min(check.interval).mul_f64(check.phase());
            let repeat = repeat(
                check.clone(),
                serial,
                first,
                grace,
                forward.clone(),
                self.means.clone(),
                self.found.clone(),
            );
            let task = tokio::spawn(repeat);
            let by_traffic = false;
            self.running.insert(
                check,
                Running { serial, machine, failure, by_traffic, forward, informs, task },
            );
        }
    }

    /// Verdicts of running checks that targets new to them do not have yet.
    fn known(&self, snapshot: &Snapshot) -> Vec<Transition> {
        let unaware = |target: &TargetRef| {
            let state = snapshot.targets.get(&target.backend, &target.target);
            state.is_some_and(|state| state.health == Health::Initial)
        };
        self.running
            .values()
            .filter(|running| running.machine.health() != Health::Initial)
            .flat_map(Running::transitions)
            .filter(|transition| unaware(&transition.target))
            .collect()
    }

    fn take_in(&mut self, found: Found) -> Vec<Transition> {
        let Found { check, serial, result } = found;
        let Some(running) = self.running.get_mut(&check) else { return vec![] };
        if running.serial != serial {
            return vec![];
        }
        let (before, failure) = (running.machine.health(), result.err());
        let changed = running.machine.observe(failure.is_none());
        running.by_traffic &= failure.is_none() && running.machine.health() != Health::Healthy;
        let now = running.machine.health();
        log(
            &check,
            &running.informs,
            &self.names,
            now,
            failure.as_ref(),
            changed.then_some((before, now)),
        );
        let other_reason = failure.as_ref().map(|failure| failure.reason)
            != running.failure.as_ref().map(|failure| failure.reason);
        let explains = now == Health::Unhealthy && failure.is_some() && other_reason;
        if !changed && !explains {
            return vec![];
        }
        running.failure = failure;
        running.transitions().collect()
    }
}

impl Running {
    pub(super) fn transitions(&self) -> impl Iterator<Item = Transition> {
        let health = self.machine.health();
        let reason = self.failure.as_ref().filter(|_| health == Health::Unhealthy);
        self.informs.iter().map(move |(target, revision)| Transition {
            target: target.clone(),
            revision: *revision,
            health,
            reason: reason.cloned(),
        })
    }
}

fn names(model: &Model) -> Names {
    let balancers = model.load_balancers.iter();
    let named = balancers.flat_map(|balancer| {
        let backends = balancer.backends.iter();
        backends.map(|backend| {
            (backend.id.as_str().into(), format!("{}/{}", balancer.name, backend.name))
        })
    });
    named.collect()
}

/// Every failed check and every transition, in the words of the health log. A failure that
/// changes nothing about an unhealthy target is for those who debug.
fn log(
    check: &Check,
    informs: &BTreeMap<TargetRef, u64>,
    names: &Names,
    state: Health,
    failure: Option<&Unhealthy>,
    transition: Option<(Health, Health)>,
) {
    let at = check.address;
    for TargetRef { backend: backend_id, target: target_id } in informs.keys() {
        let backend = names.get(backend_id).map_or(&**backend_id, String::as_str);
        let detail = failure.map(|failure| &*failure.detail);
        let reason = failure.map(|failure| tracing::field::display(failure.reason));
        let cause = failure.map_or("", |failure| failure.reason.log_cause());
        match (transition, failure) {
            (Some((before, Health::Healthy)), _) => {
                tracing::info!(%backend, target = %at, %before, "server is healthy");
            }
            (Some((before, _)), _) => {
                tracing::warn!(
                    %backend, target = %at, %before, reason, detail,
                    "server is unhealthy, health check failed cause:{cause}"
                );
            }
            (None, Some(_)) if state == Health::Unhealthy => {
                tracing::debug!(%backend, target = %at, reason, detail, "health check failed cause:{cause}");
            }
            (None, Some(_)) => {
                tracing::info!(%backend, target = %at, reason, detail, "health check failed cause:{cause}");
            }
            (None, None) => {}
        }
        if transition.is_some() {
            tracing::debug!(%backend, target = %at, %backend_id, %target_id, "ids of the above");
        }
    }
}

/// Probes at `first`, then at the check's own place in each interval and when told to. A probe that outlasts
/// the interval delays the next one to its next place.
async fn repeat(
    check: Arc<Check>,
    serial: u64,
    first: Instant,
    grace: Duration,
    forward: Arc<Notify>,
    means: Arc<Means>,
    found: mpsc::Sender<Found>,
) {
    let once = async || {
        let Ok(permit) = means.permits.acquire().await else { return false };
        let result = probe(&check).await;
        drop(permit);
        let result = match result {
            Err(Failed { left: Left::Untried, unhealthy }) => {
                means.complaints.untried(&check, &unhealthy);
                return true;
            }
            Ok(()) => Ok(()),
            Err(failed) => Err(failed.unhealthy),
        };
        found.send(Found { check: check.clone(), serial, result }).await.is_ok()
    };
    sleep_until(first).await;
    while first.elapsed() < grace {
        let Ok(permit) = means.permits.acquire().await else { return };
        let result = probe(&check).await;
        drop(permit);
        if let Err(Failed { left: Left::Unsent | Left::Untried, unhealthy }) = result {
            tracing::debug!(address = %check.address, detail = &*unhealthy.detail, "no way to the target yet");
            sleep(AGAIN).await;
            continue;
        }
        let result = result.map_err(|failed| failed.unhealthy);
        if found.send(Found { check: check.clone(), serial, result }).await.is_err() {
            return;
        }
        break;
    }
    // A verdict that was known before, or one that the grace could not wait for.
    if first.elapsed() >= grace && !once().await {
        return;
    }
    // The first probes are close together; from the second on they are spread out.
    let second = Instant::now() + check.interval.mul_f64(0.1 + 0.9 * check.phase());
    let mut places = interval_at(second, check.interval);
    places.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = places.tick() => {}
            () = forward.notified() => {}
        }
        if !once().await {
            return;
        }
    }
}

/// What all checks share.
#[derive(Debug)]
struct Means {
    /// For probes that run at the same time.
    permits: Semaphore,
    complaints: Complaints,
}

/// Probes that this host could not send are told of once in a while, not one by one.
#[derive(Debug, Default)]
struct Complaints(Mutex<Option<Instant>>);

impl Complaints {
    fn untried(&self, check: &Check, why: &Unhealthy) {
        let now = Instant::now();
        let Ok(mut last) = self.0.lock() else { return };
        if last.is_none_or(|last| now.duration_since(last) >= COMPLAIN) {
            *last = Some(now);
            tracing::warn!(
                target = %check.address, detail = &*why.detail,
                "cannot send health checks: this host is out of something; targets stay as they are"
            );
        }
    }
}

/// Probes at one time: a quarter of the files this process may open.
fn concurrency() -> usize {
    let (soft, _hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    usize::try_from(soft / 4).unwrap_or(usize::MAX).clamp(16, 4096)
}

#[cfg(test)]
mod tests;
