//! The kernel's half of what is served, with all that exists for it alone: next hops and SNAT
//! ports. With `datapath: proxy` there is no such half: everything is the proxy's, and nothing
//! here does anything. Which listener is whose says `LoadBalancer::engine`.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{flow_log::FlowLog, reserved_ports};
use crate::{
    datapath::{Engine, EngineError, Swept, maps::MapError, pins::Pins},
    model::{DatapathMode, Model, Node},
    net::{Interfaces, NextHopTable, NextHops},
    proxy::access_log::AccessLog,
    report::{Counters, DatapathReport},
    state::{Snapshot, Store, TargetStates},
};

/// The packet path of this node, if it has one.
#[derive(Debug)]
pub(super) struct PacketPath(Option<Parts>);

#[derive(Debug)]
struct Parts {
    /// What tells of connections that have ended, if that is wanted. The first to be dropped: who
    /// reads the ring holds the claim.
    flow_log: Option<FlowLog>,
    engine: Engine,
    next_hops: NextHops,
    /// Only the SNAT ports of the file are reserved.
    ports_settled: bool,
}

impl PacketPath {
    /// Loads the packet path or takes over what is pinned, unless the node has none. Nothing is
    /// attached yet.
    pub(super) async fn open(
        model: &Model,
        interfaces: &Interfaces,
        drop_flows: bool,
    ) -> anyhow::Result<Self> {
        if model.node.datapath == DatapathMode::Proxy {
            refuse_what_is_attached(&model.node)?;
            return Ok(Self(None));
        }
        let next_hops = NextHops::spawn().await?;
        let engine = Engine::open(model, interfaces, drop_flows)?;
        next_hops.want(engine.addresses(model));
        Ok(Self(Some(Parts { engine, next_hops, ports_settled: false, flow_log: None })))
    }

    /// Begins to tell the log of connections that have ended, if the file wants that.
    pub(super) fn tell(&mut self, log: Option<&AccessLog>, store: &Store) -> anyhow::Result<()> {
        if let (Some(parts), Some(log)) = (&mut self.0, log)
            && let Some(ring) = parts.engine.flow_ring()?
        {
            parts.flow_log = Some(FlowLog::start(ring, log, store.subscribe())?);
        }
        Ok(())
    }

    /// Hands over to the log what is there, and ends telling it.
    pub(super) fn fall_silent(&mut self) {
        if let Some(parts) = &mut self.0 {
            parts.flow_log = None;
        }
    }

    /// Another daemon has it now.
    pub(super) fn away() -> Self {
        Self(None)
    }

    /// The node has one.
    pub(super) fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Nothing was pinned before.
    pub(super) fn starts_afresh(&self) -> bool {
        self.0.as_ref().is_none_or(|parts| parts.engine.starts_afresh())
    }

    /// What the tables that were taken over tell of the targets.
    pub(super) fn adopted_states(&self, model: &Model) -> TargetStates {
        self.0.as_ref().map(|parts| parts.engine.adopted_states(model)).unwrap_or_default()
    }

    /// Whether the tables have room for a snapshot. Changes nothing.
    pub(super) fn fits(
        &self,
        candidate: &Snapshot,
        interfaces: &Interfaces,
    ) -> Result<(), EngineError> {
        let Some(Parts { engine, next_hops, .. }) = &self.0 else { return Ok(()) };
        engine.fits(candidate, next_hops.table(), interfaces)
    }

    /// Waits for the next hops, before the tables are filled for the first time; those that are
    /// not resolved by then are told of.
    pub(super) async fn resolved(&self, within: Duration) {
        let Some(parts) = &self.0 else { return };
        let unresolved = parts.next_hops.resolved(within).await;
        tell_of(&unresolved);
    }

    /// Waits for the next hops of what a model brings that was not there, before it is published:
    /// a target without one gets no traffic, and it may be all that its backend has.
    pub(super) async fn approached(&self, model: &Model, within: Duration) {
        let Some(Parts { engine, next_hops, .. }) = &self.0 else { return };
        let fresh = next_hops.want_too(&engine.addresses(model));
        let unresolved = next_hops.resolved_of(&fresh, within).await;
        tell_of(&unresolved);
    }

    /// Keeps the host's own sockets off the SNAT ports.
    pub(super) fn reserve_ports(&self, node: &Node) {
        if self.is_there()
            && let Err(error) = reserved_ports::reserve(node.snat.port_range, &node.state_dir)
        {
            tracing::warn!(%error, "cannot reserve the SNAT ports; a local socket may bind one");
        }
    }

    /// Fills the tables.
    pub(super) fn fill(
        &mut self,
        snapshot: &Snapshot,
        interfaces: &Interfaces,
    ) -> Result<(), EngineError> {
        let Some(Parts { engine, next_hops, .. }) = &mut self.0 else { return Ok(()) };
        next_hops.want(engine.addresses(&snapshot.model));
        engine.apply(snapshot, next_hops.table(), interfaces)
    }

    /// Attaches to those of the interfaces that it is not on.
    pub(super) fn attach(&mut self, interfaces: &Interfaces) -> Result<(), EngineError> {
        self.0.as_mut().map_or(Ok(()), |parts| parts.engine.attach(interfaces))
    }

    /// Wakes when a next hop changes.
    pub(super) fn next_hops(&self) -> Option<watch::Receiver<Arc<NextHopTable>>> {
        self.0.as_ref().map(|parts| parts.next_hops.subscribe())
    }

    /// Listeners that the kernel serves, counted once for each address.
    pub(super) fn listeners(&self) -> usize {
        self.0.as_ref().map_or(0, |parts| parts.engine.listeners())
    }

    /// A sweep over the flow tables, to be run at once, on a thread that may block.
    pub(super) fn sweep(&self) -> Option<impl FnOnce() -> Result<Swept, MapError> + Send + use<>> {
        self.0.as_ref().map(|parts| parts.engine.sweep())
    }

    /// Takes in what a sweep found. True = the tables can shrink.
    pub(super) fn swept(&mut self, swept: &Swept) -> Result<bool, MapError> {
        let Some(Parts { engine, flow_log, .. }) = &mut self.0 else { return Ok(false) };
        if let Some(log) = flow_log {
            log.swept(&swept.sweep.ended);
        }
        engine.swept(swept)
    }

    /// Gives ports of an earlier `node.snat.portRange` back to the host once no flow uses them.
    pub(super) fn settle_ports(&mut self, node: &Node) {
        let Some(Parts { engine, ports_settled, .. }) = &mut self.0 else { return };
        if *ports_settled || engine.uses_older_ports() {
            return;
        }
        match reserved_ports::keep_only(node.snat.port_range, &node.state_dir) {
            Ok(None) => {}
            Ok(Some(ports)) => tracing::info!(ports, "SNAT ports of an earlier range given back"),
            Err(error) => tracing::warn!(%error, "cannot give SNAT ports of an earlier range back"),
        }
        *ports_settled = true;
    }

    /// Everything that the kernel counts.
    pub(super) fn counters(&self, snapshot: &Snapshot) -> Result<Counters, MapError> {
        match &self.0 {
            Some(parts) => parts.engine.counters(snapshot),
            None => Ok(Counters::default()),
        }
    }

    /// Itself, for the status report.
    pub(super) fn report(&self) -> Option<DatapathReport> {
        self.0.as_ref().map(|parts| parts.engine.report())
    }

    /// What of it goes on when the daemon has ended, for the log.
    pub(super) fn stays(&self) -> &'static str {
        if self.is_there() {
            "forwarding stays in place in the kernel with the targets as they are now. `alb run` \
             takes it over again, `alb detach` takes it off"
        } else {
            "nothing is served any more"
        }
    }
}

/// Says which targets have to wait.
fn tell_of(unresolved: &BTreeSet<IpAddr>) {
    if !unresolved.is_empty() {
        tracing::warn!(targets = ?unresolved, "no link-layer address yet; they get no traffic before they have one");
    }
}

/// A packet path of an earlier run would go on taking the packets of tcp listeners.
fn refuse_what_is_attached(node: &Node) -> anyhow::Result<()> {
    let Some(pins) = Pins::existing(&node.bpffs) else { return Ok(()) };
    // Without the right to look there is nothing of ours, or no right to change it.
    let links = pins.links().unwrap_or_default();
    anyhow::ensure!(
        links.is_empty(),
        "node.datapath is proxy, but the packet path of an earlier run is still in place (pinned in \
         {}) and would take the packets: take it off first with `alb detach --bpffs {0}`; if it is \
         another instance's, name another directory in node.bpffs",
        node.bpffs.display()
    );
    Ok(())
}
