//! What traffic tells of targets: a connect that failed takes its target out at once, and its
//! check decides about the way back. Called by any worker; decided by the loop that owns the
//! verdicts.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    sync::{Arc, atomic::AtomicU64, atomic::Ordering::Relaxed},
};

use tokio::sync::mpsc;

use super::{host, schedule::Checks};
use crate::{
    model::Model,
    state::{Health, TargetRef, Transition, Unhealthy, UnhealthyReason},
};

/// Reports on their way. Those beyond are dropped: a target that fails fails again.
const QUEUE: usize = 1024;

/// Where workers report to. Never waits.
#[derive(Clone, Debug)]
pub struct Passive {
    reports: mpsc::Sender<Suspect>,
    dropped: Arc<AtomicU64>,
}

/// The other end of [`Passive`], for [`run`](super::run).
#[derive(Debug)]
pub struct Suspects(pub(super) mpsc::Receiver<Suspect>);

/// A target that could not be connected to.
#[derive(Clone, Debug)]
pub(super) struct Suspect {
    pub(super) target: TargetRef,
    /// Where it was when that happened.
    address: IpAddr,
    failure: Unhealthy,
}

/// Both ends.
pub fn passive() -> (Passive, Suspects) {
    let (reports, suspects) = mpsc::channel(QUEUE);
    (Passive { reports, dropped: Arc::default() }, Suspects(suspects))
}

impl Passive {
    /// A connect was refused, or could not reach the target. What this host lacks is not the
    /// target's failure, and is not reported.
    pub fn connect_failed(&self, target: TargetRef, address: IpAddr, error: &io::Error) {
        if host::is_short(error) {
            return;
        }
        let detail = format!("traffic: connect: {error}");
        self.report(target, address, UnhealthyReason::ConnectFailed, detail);
    }

    /// A connect took longer than `connectTimeoutSeconds`.
    pub fn connect_timed_out(&self, target: TargetRef, address: IpAddr) {
        let detail = "traffic: connect: not done in time".to_owned();
        self.report(target, address, UnhealthyReason::ConnectTimeout, detail);
    }

    /// Reports that were dropped, since the health loop could not follow.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    fn report(&self, target: TargetRef, address: IpAddr, reason: UnhealthyReason, detail: String) {
        let suspect = Suspect { target, address, failure: Unhealthy::new(reason, detail) };
        if self.reports.try_send(suspect).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

/// How many of a backend's targets traffic may take out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    targets: usize,
    max_percent: u8,
}

impl Allowance {
    /// May there be this many?
    fn covers(self, out: usize) -> bool {
        out * 100 <= self.targets * usize::from(self.max_percent)
    }
}

/// By backend.
pub(super) type Allowances = BTreeMap<Arc<str>, Allowance>;

pub(super) fn allowances(model: &Model) -> Allowances {
    let balancers = model.load_balancers.iter();
    let all = balancers.flat_map(|balancer| {
        balancer.backends.iter().map(|backend| {
            let targets = balancer.targets_of(backend).len();
            let max_percent = backend.passive_max_percent;
            (backend.id.as_str().into(), Allowance { targets, max_percent })
        })
    });
    all.collect()
}

impl Checks {
    /// Takes a target out, in every backend that has its check, and brings the next probe
    /// forward; nothing if one of these backends has too many out already, if the target is out,
    /// or if nothing checks it: then nothing would bring it back.
    pub(super) fn suspect(&mut self, suspect: &Suspect) -> Vec<Transition> {
        let Suspect { target, address, failure } = suspect;
        let Some(check) = self.by_target.get(target) else { return vec![] };
        let Some(running) = self.running.get(check) else { return vec![] };
        let stale = check.address.ip() != *address;
        if stale || running.machine.health() != Health::Healthy || !self.allows(running) {
            return vec![];
        }
        let Some(running) = self.running.get_mut(check) else { return vec![] };
        running.machine.condemn();
        running.failure = Some(failure.clone());
        running.by_traffic = true;
        running.forward.notify_one();
        for TargetRef { backend, .. } in running.informs.keys() {
            let backend = self.names.get(backend).map_or(&**backend, String::as_str);
            tracing::warn!(
                %backend, target = %check.address, reason = %failure.reason, detail = &*failure.detail,
                "server is unhealthy, traffic failed cause:{}", failure.reason.log_cause()
            );
        }
        running.transitions().collect()
    }

    /// One more may go in every backend that `next` informs.
    fn allows(&self, next: &super::schedule::Running) -> bool {
        next.informs.keys().all(|TargetRef { backend, .. }| {
            let informs = |running: &&super::schedule::Running| {
                running.by_traffic && running.informs.keys().any(|other| other.backend == *backend)
            };
            let out = self.running.values().filter(informs).count();
            self.allowances.get(backend).is_some_and(|allowance| allowance.covers(out + 1))
        })
    }
}

#[cfg(test)]
mod tests;
