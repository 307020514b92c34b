//! What the file of the demo says: where clients connect and which servers there are.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use alb_tests::topology::Lab;
use alb_userspace::{config, model::ListenerProtocol};
use anyhow::{Context as _, Result, ensure};

/// The part of the file that the demo shows.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The tcp listener.
    pub(crate) tcp: SocketAddr,
    /// The http listener.
    pub(crate) http: SocketAddr,
    /// The https listener.
    pub(crate) https: SocketAddr,
    /// Where the daemon keeps its state.
    pub(crate) state_dir: PathBuf,
    /// The daemon's control socket.
    pub(crate) socket: PathBuf,
    /// What makes a server healthy again.
    pub(crate) recovery: String,
    /// The targets of the tcp listener's backend, in file order; the others have the same.
    pub(crate) servers: Vec<Server>,
}

/// One server.
#[derive(Debug)]
pub(crate) struct Server {
    /// What it answers.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) address: IpAddr,
    /// Where it listens.
    pub(crate) port: u16,
    /// 0–100.
    pub(crate) weight: u8,
}

impl Plan {
    /// Reads the file.
    pub(crate) fn read(config: &Path) -> Result<Self> {
        let model = config::load(config)?.model;
        let balancer = model.load_balancers.first().context("the file has no load balancer")?;
        let vip = balancer.vips.first().context("its load balancer has no address")?;
        let listener = |protocol| {
            let mut listeners = balancer.listeners.iter();
            let found = listeners.find(|listener| listener.protocol == protocol);
            found.with_context(|| format!("its load balancer has no {protocol:?} listener"))
        };
        let address = |protocol| {
            listener(protocol).map(|listener| SocketAddr::new(*vip, listener.port.get()))
        };
        let listener = listener(ListenerProtocol::Tcp)?;
        let backend = balancer.backend(&listener.backend).context("its listener has no backend")?;
        let targets = balancer.targets_of(backend).iter().enumerate();
        let servers = targets.map(|(position, target)| Server {
            name: format!("web-{}", position + 1),
            address: target.address,
            port: target.port_for(backend).get(),
            weight: target.weight,
        });
        let check = backend.health_check.as_ref().context("its backend has no health check")?;
        Ok(Self {
            recovery: format!(
                "{} checks, {} s apart",
                check.healthy_threshold,
                check.interval.as_secs()
            ),
            tcp: address(ListenerProtocol::Tcp)?,
            http: address(ListenerProtocol::Http)?,
            https: address(ListenerProtocol::Https)?,
            state_dir: model.node.state_dir.clone(),
            socket: model.node.socket.clone(),
            servers: servers.collect(),
        })
    }

    /// The lab has the addresses that the file names.
    pub(crate) fn check(&self, lab: &Lab) -> Result<()> {
        ensure!(
            self.servers.len() == lab.targets.len(),
            "the demo has {} targets and the file {}",
            lab.targets.len(),
            self.servers.len()
        );
        for (server, host) in self.servers.iter().zip(&lab.targets) {
            ensure!(
                server.address == IpAddr::from(host.address),
                "the demo has {} where the file has {}",
                host.address,
                server.address
            );
        }
        Ok(())
    }
}
