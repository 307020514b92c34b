//! The running daemon: the only place that sees every part. Starts them in the order in which
//! they depend on each other, then serves one loop until a signal ends it.

mod applying;
mod causes;
mod certificates;
mod flow_log;
mod handover;
mod node_change;
mod open_files;
mod packet_path;
mod reserved_ports;
mod serve;
mod signals;
mod takeover;

use std::{
    cell::Cell,
    collections::BTreeSet,
    net::IpAddr,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use self::{
    applying::Applying, certificates::Certificates, packet_path::PacketPath, signals::Signals,
    takeover::predecessor::Predecessor,
};
use crate::{
    api,
    config::{Diagnostic, Loaded},
    control::{self, Command, socket::ControlSocket},
    health,
    http::Limits,
    model::{Model, Node, PortRange},
    net::{Interfaces, Netlink, VipKeeper},
    proxy::{Proxy, access_log::AccessLog},
    report::{ConfigReport, Sampler},
    state::Store,
};

/// What the command line adds to the file.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file, read again on SIGHUP.
    pub config: PathBuf,
    /// Begin with empty flow tables if the pinned ones cannot be taken over.
    pub drop_flows: bool,
    /// Take over from the daemon that runs.
    pub takeover: bool,
}

/// A valid file that this version cannot serve.
#[derive(Debug, thiserror::Error)]
#[error("{} is valid, but this version does not serve all of it:{}", file.display(), list(parts))]
pub struct Unserved {
    file: PathBuf,
    parts: Vec<Diagnostic>,
}

fn list(parts: &[Diagnostic]) -> String {
    parts.iter().fold(String::new(), |list, part| list + "\n  " + &part.to_string())
}

/// Refuses a file that uses what is not served yet: none of it is silently left out.
pub fn servable(file: &Path, loaded: &Loaded) -> Result<(), Unserved> {
    let parts = loaded.unserved();
    if parts.is_empty() { Ok(()) } else { Err(Unserved { file: file.to_owned(), parts }) }
}

/// How long next hops may take to be resolved before the tables are filled without them.
const RESOLVE: Duration = Duration::from_secs(2);
/// What a start waits beyond the longest check timeout for first results.
const SETTLE_MARGIN: Duration = Duration::from_millis(500);

/// Serves the model until SIGTERM or SIGINT, also while it starts. What is attached by then stays
/// in place when it returns.
pub async fn run(model: Model, options: Options) -> anyhow::Result<()> {
    // Before anything else: what comes while starting waits, and does not kill.
    let mut signals = Signals::new()?;
    open_files::raise();
    let mut tasks = Tasks::default();
    let reached = Cell::new(Reached::Nothing);
    let node = model.node.clone();
    let started = tokio::select! {
        biased;
        signal = signals.end() => Err(signal),
        daemon = start(model, options, &mut tasks, &reached) => Ok(daemon),
    };
    if !matches!(started, Ok(Ok(_))) && matches!(reached.get(), Reached::Opened) {
        take_back(&node).await;
    }
    match started {
        Ok(daemon) => {
            let (daemon, requests) = daemon?;
            daemon.serve(requests, signals).await;
        }
        Err(signal) => tracing::info!("{signal} while starting: ending; {}", reached.get().left()),
    }
    // Checks and listeners end with us; what is in the kernel stays.
    tasks.end().await
}

/// How far a start has come.
#[derive(Clone, Copy, Debug)]
enum Reached {
    Nothing,
    /// The pin directory is ours and was empty; the host's neighbours and ports may be touched.
    Opened,
    Adopted,
    Attached,
}

impl Reached {
    /// What is there if the start goes no further.
    fn left(self) -> &'static str {
        match self {
            Self::Nothing | Self::Opened => "nothing was attached, nothing is left in the kernel",
            Self::Adopted => {
                "what an earlier run left in the kernel stays in place as it was: `alb run` takes it \
                 over, `alb detach` takes it off"
            }
            Self::Attached => {
                "forwarding is in place in the kernel and stays: `alb run` takes it over, `alb \
                 detach` takes it off"
            }
        }
    }
}

/// Takes back what a start that attached nothing has changed on the host.
async fn take_back(node: &Node) {
    if let Err(error) = reserved_ports::release(node.snat.port_range, &node.state_dir) {
        tracing::warn!(%error, "cannot give the SNAT ports back");
    }
    let released = async {
        let netlink = Netlink::open()?;
        let interfaces = netlink.interfaces().await?;
        let named = node.interfaces.iter().filter_map(|name| interfaces.named(name).ok());
        let named = named.map(|interface| interface.index).collect();
        netlink.release_neighbours(&named).await
    };
    if let Err(error) = released.await {
        tracing::warn!(%error, "cannot release the neighbours");
    }
}

/// What runs beside the loop and ends with it.
#[derive(Debug, Default)]
struct Tasks {
    ending: watch::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
    checks: Option<JoinHandle<()>>,
}

impl Tasks {
    async fn end(self) -> anyhow::Result<()> {
        let Self { ending, servers, checks } = self;
        ending.send_replace(true);
        for task in servers {
            task.await.context("a listener did not end well")?;
        }
        if let Some(checks) = checks {
            checks.await.context("health checks did not end well")?;
        }
        Ok(())
    }
}

async fn start(
    model: Model,
    options: Options,
    tasks: &mut Tasks,
    reached: &Cell<Reached>,
) -> anyhow::Result<(serve::Daemon, mpsc::Receiver<Command>)> {
    let started = SystemTime::now();
    let node = model.node.clone();
    let mut before = if options.takeover { Some(Predecessor::meet(&node).await?) } else { None };
    let socket = before.is_none().then(|| control_socket(&model)).transpose()?;
    let handed = before.as_mut().and_then(|before| before.api.take());
    let api = api_listener(&node, handed).await?;
    let api_socket = api.as_ref().map(|api| api.as_fd().try_clone_to_owned()).transpose()?;
    let netlink = Netlink::open()?;
    let interfaces = netlink.interfaces().await?;
    for name in &node.interfaces {
        interfaces.named(name).map_err(|error| anyhow::anyhow!("node.interfaces: {error}"))?;
    }
    let (passive, suspects) = health::passive();
    // Before anything in the kernel is touched: a port that is taken leaves nothing behind.
    let log = access_log(&node)?;
    let mut proxy = Proxy::start(&node, &passive, log.as_deref())?;
    if let Some(before) = &mut before {
        proxy.adopt(std::mem::take(&mut before.sockets));
    }
    proxy.bind(&model)?;
    if let Some(before) = &mut before {
        before.release().await?;
    }
    let mut packet_path = PacketPath::open(&model, &interfaces, options.drop_flows).await?;
    if packet_path.is_there() {
        let afresh = packet_path.starts_afresh();
        reached.set(if afresh { Reached::Opened } else { Reached::Adopted });
    }
    warn_of_absent(&model, &interfaces);

    let adopted = match &before {
        Some(before) => before.states.clone(),
        None => packet_path.adopted_states(&model),
    };
    let store = Store::new(model, &adopted);
    packet_path.fits(&store.snapshot(), &interfaces).context("loadBalancers")?;
    packet_path.tell(log.as_deref(), &store).context("node.accessLog.tcpFlows")?;
    let end = tasks.ending.subscribe();
    tasks.checks = Some(tokio::spawn(health::run(store.clone(), suspects, end.clone())));
    let (commands, requests) = mpsc::channel(control::QUEUE);
    let limits = Limits::default();
    let closing = tasks.ending.clone();
    let serve_control = |socket: Option<ControlSocket>, tasks: &mut Tasks| {
        if let Some(socket) = socket {
            let ended = ended(end.clone());
            let serving = control::server::run(socket, commands.clone(), limits, ended);
            tasks.servers.push(tokio::spawn(serving));
        }
        if let Some(listener) = api {
            tasks.servers.push(tokio::spawn(api::run(listener, commands, limits, ended(end))));
        }
    };
    // While another daemon serves, it is the one to be asked.
    let mut serve_control = Some(serve_control);
    if let Some(serve) = serve_control.take_if(|_| before.is_none()) {
        serve(socket, tasks);
    }

    first_checks(&packet_path, &store).await;
    packet_path.reserve_ports(&node);
    // As they are now: recovery may have switched programs since.
    let interfaces = netlink.interfaces().await?;
    // It listens before the packet path lets its packets through.
    proxy.apply(&store.snapshot())?;
    packet_path.fill(&store.snapshot(), &interfaces)?;
    packet_path.attach(&interfaces)?;
    if packet_path.is_there() {
        reached.set(Reached::Attached);
    }
    let door = match before {
        Some(before) => {
            let (socket, door) = succeed(before, &node).await?;
            if let Some(serve) = serve_control.take() {
                serve(socket, tasks);
            }
            door
        }
        None => door(&node),
    };
    let vips = with_vips(&store.snapshot().model).await?;

    let daemon = serve::Daemon {
        applied: store.snapshot(),
        certificates: Certificates::new(&store.snapshot().model),
        config: as_started(&options),
        store,
        packet_path,
        proxy,
        log,
        netlink,
        vips,
        options,
        started,
        sampler: Sampler::default(),
        behind: None,
        applying: Applying::default(),
        ending: None,
        door,
        api: api_socket,
        closing,
        successor: None,
        handed_to: None,
        is_away: false,
    };
    Ok((daemon, requests))
}

/// The keeper of VIPs, once those of the model are in place or have had their time.
async fn with_vips(model: &Model) -> anyhow::Result<VipKeeper> {
    let vips = VipKeeper::spawn()?;
    place_vips(&vips, model);
    vips.settled(RESOLVE).await;
    Ok(vips)
}

/// The file is applied once it serves.
fn as_started(options: &Options) -> ConfigReport {
    let mut config = ConfigReport { file: Some(options.config.clone()), ..ConfigReport::default() };
    config.note_applied(SystemTime::now());
    config
}

fn access_log(node: &Node) -> anyhow::Result<Option<Arc<AccessLog>>> {
    let log = node.access_log.as_ref().map(AccessLog::start).transpose();
    Ok(log.context("node.accessLog")?.map(Arc::new))
}

/// Where the API is served: the socket a predecessor handed over, or one of our own.
async fn api_listener(
    node: &Node,
    handed: Option<std::net::TcpListener>,
) -> anyhow::Result<Option<tokio::net::TcpListener>> {
    Ok(match (&node.api, handed) {
        (Some(_), Some(listener)) => Some(tokio::net::TcpListener::from_std(listener)?),
        (Some(api), None) => Some(api::bind(api.listen).await?),
        (None, _) => None,
    })
}

/// Waits, as long as a check may take, until every target is known by its address and its health.
async fn first_checks(packet_path: &PacketPath, store: &Store) {
    packet_path.resolved(RESOLVE).await;
    let patience = longest_check(&store.snapshot().model) + SETTLE_MARGIN;
    if !store.snapshot().is_settled() {
        tracing::info!(
            "waiting for the targets' first checks (at most {:.1} s)",
            patience.as_secs_f64()
        );
    }
    health::settled(store, patience).await;
}

/// Has the daemon before give way, and takes its doors. From then on this one serves, whatever
/// becomes of the doors.
async fn succeed(
    before: Predecessor,
    node: &Node,
) -> anyhow::Result<(Option<ControlSocket>, Option<ControlSocket>)> {
    let pid = before.pid;
    before.give_way().await?;
    tracing::info!("taken over from process {pid}");
    let take = |path: &Path| match ControlSocket::replace(path) {
        Ok(socket) => Some(socket),
        Err(error) => {
            tracing::error!(%error, "this daemon can be asked nothing there until it is started anew");
            None
        }
    };
    Ok((take(&node.socket), take(&takeover::socket(&node.state_dir))))
}

/// Where a daemon that is to follow this one knocks.
fn door(node: &Node) -> Option<ControlSocket> {
    match ControlSocket::bind(&takeover::socket(&node.state_dir)) {
        Ok(door) => Some(door),
        Err(error) => {
            tracing::warn!(%error, "no other daemon will be able to take over");
            None
        }
    }
}

fn control_socket(model: &Model) -> anyhow::Result<ControlSocket> {
    use std::os::unix::fs::DirBuilderExt as _;

    let dir = &model.node.state_dir;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("node.stateDir: cannot create {}", dir.display()))?;
    Ok(ControlSocket::bind(&model.node.socket)?)
}

/// Has the VIPs put on the node's interfaces; where it names none, they are others' to put on.
fn place_vips(vips: &VipKeeper, model: &Model) {
    if !model.node.interfaces.is_empty() {
        vips.want(model.node.interfaces.clone(), addresses(model));
    }
}

/// Says which VIPs nobody has put on, where that is for others to do.
fn warn_of_absent(model: &Model, interfaces: &Interfaces) {
    if !model.node.interfaces.is_empty() {
        return;
    }
    for vip in addresses(model).into_iter().filter(|vip| !interfaces.have(*vip)) {
        tracing::warn!(
            %vip,
            "no interface of this host has this address: nothing reaches it until something puts it \
             on, or node.interfaces names the interface it belongs on"
        );
    }
}

/// The addresses that the load balancers are served on.
fn addresses(model: &Model) -> BTreeSet<IpAddr> {
    model.load_balancers.iter().flat_map(|balancer| &balancer.vips).copied().collect()
}

async fn ended(mut end: watch::Receiver<bool>) {
    // An error means that the daemon is gone: that is an end too.
    let _gone = end.wait_for(|ended| *ended).await.is_err();
}

fn longest_check(model: &Model) -> Duration {
    let backends = model.load_balancers.iter().flat_map(|balancer| &balancer.backends);
    let checks = backends.filter_map(|backend| backend.health_check.as_ref());
    checks.map(|check| check.timeout).max().unwrap_or_default()
}

/// Gives the SNAT ports back to the host; for `alb detach`. False = they were not taken.
pub fn release_ports(range: PortRange, state_dir: &Path) -> std::io::Result<bool> {
    reserved_ports::release(range, state_dir)
}
