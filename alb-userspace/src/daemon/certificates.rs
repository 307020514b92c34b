//! Certificates under a running daemon: files that change are taken over or refused, ticket keys
//! go on, what is served is verified after a change, an expiry is told of once a day. What reads,
//! writes and computes runs beside the daemon's loop; what is decided is decided in it.

mod reminder;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Duration, sleep},
};

use self::reminder::Reminder;
use crate::{
    model::{Certificate, Model},
    proxy::{
        Proxy,
        plan::Plan,
        tls::{
            Context, Tickets, TicketsError,
            files::{self, Change, Watch},
        },
    },
    report::Reloads,
};

/// Pause between two looks at the files.
const PAUSE: Duration = Duration::from_secs(2);

/// What is done beside the loop, and what is remembered of it.
#[derive(Debug)]
pub(super) struct Certificates {
    work: JoinHandle<Option<Looked>>,
    /// Away while work is done.
    watch: Watch,
    reminder: Reminder,
    /// What listeners did their handshakes with when that was verified last, by id.
    verified: BTreeMap<Arc<str>, Arc<Context>>,
    reloads: Reloads,
    /// Why ticket keys do not go on as they should.
    trouble: Option<String>,
}

/// What was found beside the loop.
#[derive(Debug)]
pub(super) struct Looked {
    model: Arc<Model>,
    watch: Watch,
    changes: Vec<Change>,
    rotated: Result<(), TicketsError>,
    verified: Vec<Swap>,
    /// Listeners that serve something else than they should.
    wrong: u64,
}

/// A listener with other certificates than before.
#[derive(Debug)]
struct Swap {
    id: Arc<str>,
    name: Arc<str>,
    now: Arc<Context>,
    before: Option<Arc<Context>>,
}

impl Certificates {
    /// Begins with a model whose warnings somebody has just been told.
    pub(super) fn new(model: &Model) -> Self {
        let mut certificates = Self {
            work: pause(PAUSE),
            watch: Watch::default(),
            reminder: Reminder::default(),
            verified: BTreeMap::new(),
            reloads: Reloads::default(),
            trouble: None,
        };
        certificates.told(model);
        certificates
    }

    /// Waits for what was begun last; `None` = it was a pause. Something is to be begun after it.
    pub(super) async fn next(&mut self) -> Option<Looked> {
        // A panic is a defect: it goes on here.
        let found = (&mut self.work).await;
        found.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    /// Does nothing for a while.
    pub(super) fn rest(&mut self) {
        self.work = pause(PAUSE);
    }

    /// Begins a look at everything.
    pub(super) fn look(&mut self, model: Arc<Model>, proxy: &Proxy) {
        let (watch, swaps) = (std::mem::take(&mut self.watch), self.swaps(proxy.plan()));
        let tickets = Arc::clone(proxy.tickets());
        self.work = spawn_blocking(move || Some(look(model, watch, swaps, &tickets)));
    }

    /// Listeners that do their handshakes with something that was not verified yet.
    fn swaps(&mut self, plan: &Plan) -> Vec<Swap> {
        let listeners = plan.listeners.iter().filter(|listener| listener.enabled);
        let with_tls = listeners.filter_map(|listener| Some((listener, listener.tls.as_ref()?)));
        let (mut known, mut swaps) = (std::mem::take(&mut self.verified), Vec::new());
        for (listener, now) in with_tls {
            match known.remove(&listener.id) {
                Some(before) if Arc::ptr_eq(&before, now) => {
                    self.verified.insert(Arc::clone(&listener.id), before);
                }
                before => {
                    let (id, name) = (Arc::clone(&listener.id), Arc::clone(&listener.name));
                    swaps.push(Swap { id, name, now: Arc::clone(now), before });
                }
            }
        }
        swaps
    }

    /// Takes in what was found; the model to serve from now on if that is another one. What was
    /// found of another model than `model` does not count.
    pub(super) fn take(&mut self, looked: Looked, model: &Arc<Model>) -> Option<Model> {
        let Looked { model: seen, watch, changes, rotated, verified, wrong } = looked;
        self.rest();
        self.note_tickets(rotated);
        self.verified.extend(verified.into_iter().map(|swap| (swap.id, swap.now)));
        self.reloads.unverified += wrong;
        for (name, warning) in self.reminder.due(model, SystemTime::now()) {
            tracing::warn!(certificate = name, "{warning}");
        }
        if !Arc::ptr_eq(&seen, model) {
            // The watch begins anew, and compares everything with what is served by now.
            return None;
        }
        let faults = watch.faults().map(|(id, fault)| (id.to_owned(), fault.to_owned()));
        self.reloads.faults = faults.collect();
        self.watch = watch;
        for change in &changes {
            self.note(change, model);
        }
        let next = files::replaced(model, changes);
        if next.is_some() {
            // So that what is served is verified at once.
            self.work = pause(Duration::ZERO);
        }
        next
    }

    fn note(&mut self, Change { id, name, result }: &Change, model: &Model) {
        match result {
            Ok(new) => {
                *self.reloads.applied.entry(id.clone()).or_default() += 1;
                let (serial, subject) = (&*new.facts.serial, &*new.facts.subject);
                let not_after = httpdate::fmt_http_date(new.facts.not_after);
                let certificate = &**name;
                tracing::info!(certificate, serial, subject, not_after, "its files changed");
                for (listener, domain) in not_covered(new, model) {
                    tracing::warn!(
                        certificate,
                        listener,
                        "it is not for the domain {domain} any more; clients will refuse it"
                    );
                }
            }
            Err(error) => {
                *self.reloads.refused.entry(id.clone()).or_default() += 1;
                let old = model.certificate(id).map_or("", |old| &old.facts.serial);
                tracing::error!(
                    certificate = &**name,
                    "its files changed, but cannot be used: {error}; the one before is served (serial \
                     {old}) until they change again"
                );
            }
        }
    }

    fn note_tickets(&mut self, rotated: Result<(), TicketsError>) {
        let trouble = rotated.err().map(|error| error.to_string());
        if let Some(error) = trouble.as_ref().filter(|_| trouble != self.trouble) {
            tracing::error!(error, "the keys of session tickets do not go on; trying again");
        }
        self.trouble = trouble;
    }

    /// Somebody was told what there is to warn of in a model.
    pub(super) fn told(&mut self, model: &Model) {
        self.reminder.told(model, SystemTime::now());
    }

    /// What became of changed files.
    pub(super) fn reloads(&self) -> &Reloads {
        &self.reloads
    }
}

/// Everything that takes time.
fn look(model: Arc<Model>, mut watch: Watch, swaps: Vec<Swap>, tickets: &Tickets) -> Looked {
    let now = SystemTime::now();
    let rotated = tickets.rotate(now);
    let changes = watch.look(&model, now);
    let is_wrong = |swap: &&Swap| !swap.now.confirm(swap.before.as_deref(), &swap.name);
    let wrong = swaps.iter().filter(is_wrong).count() as u64;
    Looked { model, watch, changes, rotated, verified: swaps, wrong }
}

/// Listeners and domains that a certificate is set for, but does not name.
fn not_covered<'m>(
    new: &'m Certificate,
    model: &'m Model,
) -> impl Iterator<Item = (&'m str, &'m str)> {
    let listeners = model.load_balancers.iter().flat_map(|balancer| &balancer.listeners);
    let extensions = listeners.flat_map(|listener| {
        let of = listener.tls.iter().flat_map(|tls| &tls.extension_certificates);
        of.map(|extension| (&*listener.name, extension))
    });
    let set = extensions.filter(|(_, extension)| extension.certificate == new.id);
    let domains = set.map(|(listener, extension)| (listener, &*extension.domain));
    domains.filter(|(_, domain)| !new.facts.covers(domain))
}

fn pause(length: Duration) -> JoinHandle<Option<Looked>> {
    tokio::spawn(async move {
        sleep(length).await;
        None
    })
}
