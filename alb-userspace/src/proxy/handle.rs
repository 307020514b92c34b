//! The proxy as the daemon uses it: workers, and the sockets they share out.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use socket2::Socket;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

use super::{
    access_log::AccessLog,
    plan::{Listener, Plan, Secrets},
    socket::{self, BindError},
    sticky::{Secret, SecretError},
    tls::{Tickets, TicketsError},
    worker::{Order, thread},
};
use crate::{
    health::Passive,
    model::{Engine, Model, Node},
    state::Snapshot,
};

/// The proxy could not be started, or not serve everything.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// A worker has no thread or no runtime.
    #[error("cannot start a proxy worker: {0}")]
    Worker(#[source] io::Error),
    /// There are no keys for session tickets.
    #[error("node.stateDir: {0}")]
    Tickets(#[from] TicketsError),
    /// There is no key for persistence cookies.
    #[error("node.cookieKey: {0}")]
    Cookies(#[from] SecretError),
    /// Some listeners cannot have their addresses. The others are served.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Bind(Vec<BindError>),
    /// Some listeners cannot be served, or not as they should be. The others are.
    #[error("{}", .0.join("; "))]
    Failed(Vec<String>),
}

/// The running proxy.
#[derive(Debug)]
pub struct Proxy {
    workers: Vec<thread::Handle>,
    /// Says when the last worker has ended.
    alive: mpsc::Receiver<()>,
    /// Bound for a plan to come.
    bound: BTreeMap<SocketAddr, Vec<Socket>>,
    /// One for each worker; they are accepted on through handles of the workers' own.
    listening: BTreeMap<SocketAddr, Vec<TcpListener>>,
    /// Addresses that were found free of strangers. Of those, one that is asked for again may
    /// still be on its way to be closed by us.
    known: BTreeSet<SocketAddr>,
    plan: Arc<Plan>,
    /// Ends when every worker serves the plan.
    applying: Option<mpsc::Receiver<()>>,
    secrets: Secrets,
    /// It is ending: nothing is served anew.
    draining: bool,
}

impl Proxy {
    /// Starts the workers of a node. They serve nothing yet. TLS sessions are resumed and cookies
    /// signed with what its state directory keeps; targets that cannot be connected to are
    /// reported to `passive`; what was served is told to `log`.
    pub fn start(
        node: &Node,
        passive: &Passive,
        log: Option<&AccessLog>,
    ) -> Result<Self, ProxyError> {
        let tickets = Arc::new(Tickets::open(&node.state_dir, SystemTime::now())?);
        let cookies = Secret::of(node)?;
        let workers = super::workers(node.workers);
        let (token, alive) = mpsc::channel(1);
        let spawn = |index| {
            thread::spawn(index, passive.clone(), log.map(AccessLog::worker), token.clone())
        };
        let workers = (0..workers).map(spawn).collect::<Result<_, _>>();
        Ok(Self {
            workers: workers.map_err(ProxyError::Worker)?,
            alive,
            bound: BTreeMap::new(),
            listening: BTreeMap::new(),
            known: BTreeSet::new(),
            plan: Arc::default(),
            applying: None,
            secrets: Secrets { tickets, cookies },
            draining: false,
        })
    }

    /// Takes the addresses that a model needs beyond those that are served, without accepting
    /// on them, so that a model that cannot be served is found out before it is published. What
    /// one does not need after all is given up by the next `apply`.
    pub fn bind(&mut self, model: &Model) -> Result<(), ProxyError> {
        let mut failed = Vec::new();
        for balancer in &model.load_balancers {
            let proxied = balancer.listeners.iter().filter(|listener| {
                listener.enabled && balancer.engine(listener, model.node.datapath) == Engine::Proxy
            });
            for listener in proxied {
                for vip in &balancer.vips {
                    let address = SocketAddr::new(*vip, listener.port.get());
                    if let Err(source) = self.bind_one(address) {
                        failed.push(BindError {
                            listener: listener.name.clone(),
                            balancer: balancer.name.clone(),
                            address,
                            source,
                        });
                    }
                }
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(ProxyError::Bind(failed)) }
    }

    /// What of a snapshot could not be served although its addresses can be had: a reload that
    /// would come to this is refused before it is published.
    pub fn check(&self, candidate: &Snapshot) -> Result<(), ProxyError> {
        let failed = Plan::compile(candidate, &self.secrets, &self.plan).failed;
        if failed.is_empty() { Ok(()) } else { Err(ProxyError::Failed(failed)) }
    }

    fn bind_one(&mut self, address: SocketAddr) -> io::Result<()> {
        if self.bound.contains_key(&address) || self.listening.contains_key(&address) {
            return Ok(());
        }
        if !self.known.contains(&address) {
            socket::probe(address)?;
        }
        let sockets = self.workers.iter().map(|_| socket::bind(address));
        self.bound.insert(address, sockets.collect::<io::Result<_>>()?);
        self.known.insert(address);
        Ok(())
    }

    /// Serves a snapshot from now on. Listeners whose address cannot be had are left out and
    /// are the error; connections that are open go on whatever changes.
    pub fn apply(&mut self, snapshot: &Snapshot) -> Result<(), ProxyError> {
        if self.draining {
            return Ok(());
        }
        let bound = self.bind(&snapshot.model);
        if snapshot.generation == self.plan.generation && self.bound.is_empty() {
            bound?;
            return self.served();
        }
        let plan = Arc::new(Plan::compile(snapshot, &self.secrets, &self.plan));
        let wanted: BTreeSet<SocketAddr> = plan
            .listeners
            .iter()
            .filter(|listener| listener.enabled)
            .flat_map(|listener| listener.addresses())
            .collect();
        let closed = self.listening.extract_if(.., |address, _| !wanted.contains(address));
        let mut closed = by_worker(closed.collect(), self.workers.len());
        let mut opened = by_worker(self.listen(&wanted), self.workers.len());
        let (done, applying) = mpsc::channel(1);
        for worker in self.workers.iter().rev() {
            let (opened, closed) =
                (opened.pop().unwrap_or_default(), closed.pop().unwrap_or_default());
            let (plan, done) = (Arc::clone(&plan), done.clone());
            let order = Order::Serve { plan, opened, closed, done };
            send(worker, order);
        }
        self.plan = plan;
        self.applying = Some(applying);
        bound?;
        self.served()
    }

    /// Waits until every worker serves what was applied last. One that is stuck is left behind.
    pub async fn settled(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        let Some(mut applying) = self.applying.take() else { return };
        if timeout(PATIENCE, applying.recv()).await.is_err() {
            tracing::warn!("a worker of the proxy is late to take a change");
        }
    }

    fn served(&self) -> Result<(), ProxyError> {
        let failed = &self.plan.failed;
        if failed.is_empty() { Ok(()) } else { Err(ProxyError::Failed(failed.clone())) }
    }

    /// Begins to listen on what was bound and is wanted; gives up the rest. The result is
    /// handles for the workers.
    fn listen(&mut self, wanted: &BTreeSet<SocketAddr>) -> Vec<(SocketAddr, Vec<TcpListener>)> {
        let mut handles = Vec::new();
        for (address, sockets) in std::mem::take(&mut self.bound) {
            if !wanted.contains(&address) {
                continue;
            }
            let sockets: io::Result<Vec<_>> = sockets.into_iter().map(socket::listen).collect();
            let opened = sockets.and_then(|sockets| {
                let copies: io::Result<Vec<_>> =
                    sockets.iter().map(TcpListener::try_clone).collect();
                Ok((sockets, copies?))
            });
            match opened {
                Ok((sockets, copies)) => {
                    self.listening.insert(address, sockets);
                    handles.push((address, copies));
                }
                // The next `apply` tries again.
                Err(error) => tracing::error!(%error, %address, "cannot listen"),
            }
        }
        handles
    }

    /// Takes listening sockets of a daemon before, one for each worker and address. They are
    /// accepted on once a snapshot that wants them is applied.
    pub fn adopt(&mut self, sockets: BTreeMap<SocketAddr, Vec<Socket>>) {
        self.known.extend(sockets.keys());
        self.bound.extend(sockets);
    }

    /// What is accepted on: one socket a worker.
    pub fn listening(&self) -> impl Iterator<Item = (SocketAddr, &Vec<TcpListener>)> {
        self.listening.iter().map(|(address, sockets)| (*address, sockets))
    }

    /// How many threads serve.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Listeners that are served, counted once for each address.
    pub fn listeners(&self) -> usize {
        self.listening.len()
    }

    /// What is served.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Keys of session tickets, of all listeners.
    pub fn tickets(&self) -> &Arc<Tickets> {
        &self.secrets.tickets
    }

    /// Accepts no more and tells all connections to end: idle ones soon, those with a
    /// request after the response; tunnels live on. What waits to be accepted is served unless
    /// a successor has the sockets too.
    pub fn drain(&mut self, successor: bool) {
        let sockets: Vec<_> = std::mem::take(&mut self.listening).into_iter().collect();
        let sockets = if successor { Vec::new() } else { sockets };
        let mut closed = by_worker(sockets, self.workers.len());
        self.draining = true;
        for worker in self.workers.iter().rev() {
            send(worker, Order::Drain { closed: closed.pop().unwrap_or_default() });
        }
    }

    /// Waits until every connection has ended after `drain`; false = some have not, at `deadline`.
    pub async fn drained(&mut self, deadline: Instant) -> bool {
        timeout_at(deadline, self.alive.recv()).await.is_ok()
    }

    /// Cuts what is left and waits until the workers are gone, so that nothing that they know is
    /// missing from the log. One that is stuck is left behind.
    pub async fn cut(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(1);
        self.workers.clear();
        if !self.drained(Instant::now() + PATIENCE).await {
            tracing::warn!("a worker of the proxy does not end");
        }
    }

    /// Connections open now, of all listeners.
    pub fn connections(&self) -> usize {
        let open = |listener: &Arc<Listener>| listener.shared.connections.load(Ordering::Relaxed);
        self.plan.listeners.iter().map(|listener| open(listener) as usize).sum()
    }
}

/// Threads for `node.workers`; 0 = one for each core.
pub fn workers(workers: usize) -> usize {
    match workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    }
}

/// From sockets by address to sockets by worker.
fn by_worker(
    sockets: Vec<(SocketAddr, Vec<TcpListener>)>,
    workers: usize,
) -> Vec<Vec<(SocketAddr, TcpListener)>> {
    let mut each: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
    for (address, sockets) in sockets {
        for (worker, socket) in sockets.into_iter().enumerate() {
            each[worker % workers].push((address, socket));
        }
    }
    each
}

/// A worker only ends after `Drain`, after which nothing is sent; a failed one ends the process.
fn send(worker: &thread::Handle, order: Order) {
    if worker.orders.send(order).is_err() {
        tracing::debug!("a worker has ended already");
    }
}

#[cfg(test)]
mod tests;
