//! The loop of a running daemon: everything that changes what the kernel holds happens here,
//! one after the other.

use std::{
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
    time::{Instant, SystemTime},
};

use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinHandle},
    time::{Duration, MissedTickBehavior, interval, sleep},
};

use super::{
    Options,
    applying::Applying,
    causes::with_causes,
    certificates::{Certificates, Looked},
    handover::{Wish, wish},
    node_change,
    packet_path::PacketPath,
    place_vips, servable,
    signals::Signals,
    takeover::{
        Ask,
        successor::{Stage, Successor},
    },
};
use crate::{
    config,
    control::{Command, Readiness, ReloadError, Reloaded, socket::ControlSocket},
    datapath::{Swept, maps::MapError},
    net::{Interfaces, Netlink, NextHopTable, VipKeeper, mac_text},
    proxy::{Proxy, access_log::AccessLog},
    report::{self, About, ConfigReport, ConflictReport, Sample, Sampler, StatusReport},
    state::{Snapshot, Store},
};

/// How long a reload waits for next hops of new targets: a host that is there answers in a
/// fraction of it, and meanwhile nothing else is applied.
const APPROACH: Duration = Duration::from_millis(300);

/// Wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The parts of a daemon and what it remembers.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) store: Store,
    pub(super) packet_path: PacketPath,
    pub(super) proxy: Proxy,
    pub(super) log: Option<Arc<AccessLog>>,
    pub(super) certificates: Certificates,
    pub(super) netlink: Netlink,
    pub(super) vips: VipKeeper,
    pub(super) options: Options,
    pub(super) started: SystemTime,
    pub(super) config: ConfigReport,
    pub(super) sampler: Sampler,
    /// What the packet path and the proxy were told last: what is reported.
    pub(super) applied: Arc<Snapshot>,
    /// Why the kernel does not hold the snapshot, if it does not.
    pub(super) behind: Option<String>,
    /// How long it took until changes were in force.
    pub(super) applying: Applying,
    /// When the connections that the proxy has left are cut, once the daemon was told to end.
    pub(super) ending: Option<tokio::time::Instant>,
    /// Where a daemon that takes over asks for it; `None` = it cannot.
    pub(super) door: Option<ControlSocket>,
    /// Listener of `node.api`, to be handed on.
    pub(super) api: Option<OwnedFd>,
    /// Ends what serves control and API.
    pub(super) closing: watch::Sender<bool>,
    /// Who is taking over.
    pub(super) successor: Option<Successor>,
    /// The process that has taken over.
    pub(super) handed_to: Option<u32>,
    /// The packet path is to be taken back from a successor that failed.
    pub(super) is_away: bool,
}

/// How long connections of the proxy may live on when the daemon is told to end.
pub(super) const GRACE: Duration = Duration::from_secs(30);

/// Pause between looks at whether there is something to sweep.
const IDLE: Duration = Duration::from_secs(10);

/// How long the last lines of the access log may take.
const LOG_END: Duration = Duration::from_secs(5);

/// What wakes the loop.
enum Event {
    Changed,
    SweepDue,
    Swept(Result<Swept, MapError>),
    LookDue,
    Looked(Looked),
    Asked(Option<Command>),
    Reload,
    End(&'static str),
    Drained(bool),
    Wished(Wish),
}

impl Daemon {
    /// Serves until a signal ends it.
    pub(super) async fn serve(
        mut self,
        mut requests: mpsc::Receiver<Command>,
        mut signals: Signals,
    ) {
        let reopening = self.log.clone().map(|log| tokio::spawn(reopen(log)));
        let mut snapshots = self.store.subscribe();
        let mut hops = self.packet_path.next_hops();
        let mut sweep = pause(Duration::from_secs(1));
        // Of its own: what else happens must not put it off.
        let mut retry = interval(RETRY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What changed between the start's snapshot and these subscriptions.
        self.apply().await;
        let snapshot = self.store.snapshot();
        let (serving, all) = snapshot.serving();
        let listeners = self.packet_path.listeners() + self.proxy.listeners();
        let plural = if listeners == 1 { "" } else { "s" };
        let outcome =
            format!("forwarding {listeners} listener{plural}, {serving} of {all} targets healthy");
        let config = self.options.config.display();
        match self.vips.status().trouble() {
            None => tracing::info!(%config, "ready: {outcome}"),
            Some(trouble) => tracing::warn!(%config, "not ready: {trouble}; {outcome}"),
        }
        loop {
            let event = tokio::select! {
                Ok(()) = snapshots.changed() => Event::Changed,
                () = changed(&mut hops) => Event::Changed,
                _ = retry.tick(), if self.behind.is_some() => Event::Changed,
                swept = &mut sweep => flatten(swept).map_or(Event::SweepDue, Event::Swept),
                found = self.certificates.next() => found.map_or(Event::LookDue, Event::Looked),
                command = requests.recv(), if !requests.is_closed() => Event::Asked(command),
                signal = signals.next() => signal.map_or(Event::Reload, Event::End),
                all = drained(&mut self.proxy, self.ending) => Event::Drained(all),
                wish = wish(&mut self.successor, self.door.as_ref()) => Event::Wished(wish),
            };
            match event {
                Event::Changed => {
                    if self.is_away {
                        self.take_back().await;
                        hops = self.packet_path.next_hops();
                    }
                    if !self.is_away {
                        self.apply().await;
                    }
                }
                Event::Wished(wish) => {
                    if matches!(wish, Wish::Heard(Ok(Ask::Release))) {
                        // Nothing may write to the maps after the answer; one that runs is waited for.
                        sweep.abort();
                        _ = (&mut sweep).await;
                        sweep = pause(IDLE);
                    }
                    if self.fulfil(wish).await {
                        self.is_away = true;
                        self.behind = Some("the packet path is with a daemon that failed".into());
                    }
                }
                Event::SweepDue => {
                    sweep = match self.packet_path.sweep() {
                        Some(work) => tokio::task::spawn_blocking(move || Some(work())),
                        None => pause(IDLE),
                    };
                }
                Event::Swept(swept) => sweep = pause(self.swept(swept).await),
                Event::LookDue if self.may_change() => {
                    self.certificates.look(self.store.snapshot().model.clone(), &self.proxy);
                }
                Event::LookDue => self.certificates.rest(),
                Event::Looked(looked) => self.looked(looked).await,
                Event::Asked(Some(command)) => self.answer(command).await,
                Event::Asked(None) => {}
                Event::Reload => {
                    if let Err(error) = self.reload().await {
                        tracing::error!("{error}");
                    }
                }
                Event::End(signal) if self.ending.is_none() => self.end(signal),
                Event::End(_) | Event::Drained(_) => {
                    if !matches!(event, Event::Drained(true)) {
                        tracing::warn!("{} connections are cut", self.proxy.connections());
                    }
                    sweep.abort();
                    if let Some(reopening) = reopening {
                        reopening.abort();
                        // Its hold on the log goes with it.
                        _ = reopening.await;
                    }
                    self.proxy.cut().await;
                    self.packet_path.fall_silent();
                    if let Some(log) = self.log.take() {
                        log.end(LOG_END).await;
                    }
                    if let Some(pid) = self.handed_to {
                        tracing::info!("ended; process {pid} serves on");
                    } else {
                        tracing::info!("ended; {}", self.packet_path.stays());
                    }
                    return;
                }
            }
        }
    }

    /// Accepts no more connections in the proxy; those that are open may end when it suits them.
    fn end(&mut self, signal: &str) {
        let open = self.proxy.connections();
        self.proxy.drain(false);
        self.ending = Some(tokio::time::Instant::now() + GRACE);
        if open == 0 {
            tracing::info!("{signal}: ending");
        } else {
            let seconds = GRACE.as_secs();
            tracing::info!(
                "{signal}: ending; {open} connections of the proxy have {seconds} s, another signal \
                 cuts them"
            );
        }
    }

    /// Brings the kernel in line with the snapshot; what fails is tried again.
    async fn apply(&mut self) {
        let snapshot = self.store.snapshot();
        let served = self.proxy.apply(&snapshot).map_err(|error| error.to_string());
        let result = match self.netlink.interfaces().await {
            Ok(interfaces) => self.install(&snapshot, &interfaces),
            Err(error) => Err(with_causes(&error)),
        };
        if let Err(error) = &result
            && self.behind.as_ref() != Some(error)
        {
            tracing::error!(%error, "the kernel does not hold the latest state; trying again");
        }
        if let Err(error) = &served
            && self.behind.as_ref() != Some(error)
        {
            tracing::error!(%error, "the proxy does not serve everything; trying again");
        }
        self.behind = served.and(result).err();
        // Whoever hears that it is applied may count on it.
        self.proxy.settled().await;
        if self.behind.is_none() {
            self.applying.done(&snapshot);
        }
        self.applied = snapshot;
    }

    /// Fills the tables and attaches to devices that were made anew.
    fn install(&mut self, snapshot: &Snapshot, interfaces: &Interfaces) -> Result<(), String> {
        let filled = self.packet_path.fill(snapshot, interfaces);
        // Even if the tables are not the latest: those that are there serve.
        let attached = self.packet_path.attach(interfaces);
        filled.and(attached).map_err(|error| with_causes(&error))?;
        let missing = interfaces.missing(&snapshot.model.node.interfaces);
        if missing.is_empty() {
            return Ok(());
        }
        let verb = if missing.len() == 1 { "is" } else { "are" };
        Err(format!("node.interfaces: {} {verb} not there", missing.join(", ")))
    }

    async fn swept(&mut self, swept: Result<Swept, MapError>) -> Duration {
        match swept {
            Ok(swept) => {
                match self.packet_path.swept(&swept) {
                    Ok(true) => self.apply().await,
                    Ok(false) => {}
                    Err(error) => {
                        tracing::error!(error = with_causes(&error), "cannot reset counters");
                    }
                }
                self.packet_path.settle_ports(&self.store.snapshot().model.node);
                swept.sweep.pause()
            }
            Err(error) => {
                tracing::error!(error = with_causes(&error), "cannot collect expired flows");
                RETRY
            }
        }
    }

    /// Serves with changed certificates.
    async fn looked(&mut self, looked: Looked) {
        if !self.may_change() {
            // It is found again, if this daemon goes on.
            return self.certificates.rest();
        }
        let Some(model) = self.certificates.take(looked, &self.store.snapshot().model) else {
            return;
        };
        let model = Arc::new(model);
        match self.proxy.check(&self.store.candidate(model.clone())) {
            Ok(()) => {
                self.store.apply(model);
                self.apply().await;
            }
            Err(error) => tracing::error!(%error, "changed certificates cannot be served"),
        }
    }

    /// Neither ending nor being taken over.
    fn may_change(&self) -> bool {
        self.ending.is_none() && self.successor.is_none() && !self.is_away
    }

    async fn answer(&mut self, command: Command) {
        // An asker who has gone away does not matter.
        match command {
            Command::Status { reply } => _ = reply.send(self.status()),
            Command::Ready { reply } => _ = reply.send(self.readiness()),
            Command::Reload { reply } => {
                let result = self.reload().await;
                _ = reply.send(result);
            }
        }
    }

    fn readiness(&self) -> Readiness {
        match self.trouble() {
            None => Readiness::Ready,
            Some(reason) => Readiness::NotReady(reason),
        }
    }

    /// Why traffic is not served as the file says; `None` = it is.
    fn trouble(&self) -> Option<String> {
        let ending = self.ending.map(|_| "the daemon is ending".to_owned());
        ending.or_else(|| self.behind.clone()).or_else(|| self.vips.status().trouble())
    }

    fn status(&mut self) -> StatusReport {
        let snapshot = Arc::clone(&self.applied);
        let mut counters = self.packet_path.counters(&snapshot).unwrap_or_else(|error| {
            tracing::error!(error = with_causes(&error), "cannot read counters");
            report::Counters::default()
        });
        counters.add_proxied(self.proxy.plan());
        counters.add_certificates(&snapshot.model, self.certificates.reloads());
        counters.proxied.access_log = self.log.as_deref().map(AccessLog::report);
        let sample = Sample { at: Instant::now(), counters };
        let rates = self.sampler.push(&sample);
        let vips = self.vips.status();
        let conflicts = vips.conflicts.iter().map(|(vip, mac)| {
            let mac = mac_text(*mac);
            ConflictReport { vip: *vip, mac }
        });
        let about = About {
            started: self.started,
            not_ready_because: self.trouble(),
            conflicts: conflicts.collect(),
            applying: self.applying.totals(),
            config: self.config.clone(),
            datapath: self.packet_path.report(),
        };
        report::build(&snapshot, &sample.counters, &rates, &about, SystemTime::now())
    }

    /// Reads the file again and applies it whole, or not at all.
    async fn reload(&mut self) -> Result<Reloaded, ReloadError> {
        let file = self.options.config.clone();
        let result = self.read_and_apply(&file).await;
        match &result {
            Ok(reloaded) => {
                self.config.note_applied(SystemTime::now());
                for warning in &reloaded.warnings {
                    tracing::warn!("{}: {warning}", file.display());
                }
                tracing::info!(generation = reloaded.generation, "{} applied", file.display());
            }
            Err(error) => {
                self.config.note_refused(error.to_string());
            }
        }
        result
    }

    async fn read_and_apply(&mut self, file: &Path) -> Result<Reloaded, ReloadError> {
        let refused = |errors: String| ReloadError::Refused { file: file.to_owned(), errors };
        let is_met = |successor: &Successor| successor.stage != Stage::Met;
        if self.successor.as_ref().is_some_and(is_met) || self.is_away {
            return Err(refused("another daemon is taking over".into()));
        }
        let loaded = config::load(file).map_err(|errors| refused(errors.to_string()))?;
        servable(file, &loaded).map_err(|error| refused(error.to_string()))?;
        let old = self.store.snapshot();
        let fixed = node_change::needs_restart(&old.model.node, &loaded.model.node);
        if !fixed.is_empty() {
            let meanwhile =
                if self.packet_path.is_there() { " (forwarding goes on meanwhile)" } else { "" };
            return Err(refused(format!(
                "{}: changes at a restart only; stop the daemon and run it again{meanwhile}, or take \
                 the change back",
                fixed.join(", ")
            )));
        }
        let warnings = loaded.warnings.iter().map(ToString::to_string).collect();
        let mut model = loaded.model;
        model.share(&old.model);
        let model = Arc::new(model);
        if old.model != model {
            let interfaces = self.netlink.interfaces().await;
            let interfaces = interfaces.map_err(|error| refused(with_causes(&error)))?;
            let candidate = self.store.candidate(model.clone());
            self.packet_path
                .fits(&candidate, &interfaces)
                .map_err(|error| refused(format!("loadBalancers: {}", with_causes(&error))))?;
            self.proxy.check(&candidate).map_err(|error| refused(error.to_string()))?;
            self.proxy.bind(&model).map_err(|error| refused(error.to_string()))?;
            self.packet_path.approached(&model, APPROACH).await;
        }
        self.certificates.told(&model);
        let snapshot = self.store.apply(model);
        self.apply().await;
        let not_applied = |error| ReloadError::NotApplied { file: file.to_owned(), error };
        if let Some(error) = &self.behind {
            return Err(not_applied(error.clone()));
        }
        place_vips(&self.vips, &snapshot.model);
        Ok(Reloaded { generation: snapshot.generation, warnings })
    }
}

/// Opens the log's file anew whenever it is asked for by signal.
async fn reopen(log: Arc<AccessLog>) {
    if let Err(error) = log.reopen_on_signal().await {
        tracing::error!(%error, "SIGUSR1 does not reopen the access log");
    }
}

/// Waits until the proxy has ended: true = by itself, false = it is still there at `deadline`.
/// Never ends without one.
async fn drained(proxy: &mut Proxy, deadline: Option<tokio::time::Instant>) -> bool {
    match deadline {
        None => std::future::pending().await,
        Some(deadline) => proxy.drained(deadline).await,
    }
}

/// Waits for a change of the next hops; for ever where there are none.
async fn changed(hops: &mut Option<watch::Receiver<Arc<NextHopTable>>>) {
    // An error means that nobody resolves them any more.
    if let Some(hops) = hops
        && hops.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// The pause between two sweeps: a task that ends with nothing.
fn pause(length: Duration) -> JoinHandle<Sweeping> {
    tokio::spawn(async move {
        sleep(length).await;
        None
    })
}

/// `None` after a pause, what was found after a sweep.
type Sweeping = Option<Result<Swept, MapError>>;

fn flatten(joined: Result<Sweeping, JoinError>) -> Sweeping {
    // A panic in a task is a defect: it goes on here.
    joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

#[cfg(test)]
mod tests;
