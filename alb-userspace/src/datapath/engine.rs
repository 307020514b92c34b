//! The packet path as the daemon uses it: what the kernel holds, brought in line with what it
//! should hold, and what it tells.

mod error;
mod flood;

pub use error::EngineError;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::{Instant, SystemTime},
};

use alb_common::{
    Reason,
    abi::ABI_VERSION,
    interface::{InterfaceEntry, interface_flag},
    limits,
    net::Mac,
    reason::{COUNTERS, Event},
    service::{algorithm, local},
};

use super::{
    active::Active,
    apply,
    claim::Claim,
    collect::{self, Sweep},
    contents::{self, Installed, Selection},
    extents::Extents,
    flow_ring::FlowRing,
    kernel::{self, Attachment, Found, Kernel, KernelError, Place},
    maps::{HalfWay, MapError, Maps},
    pins::Pins,
    plan::plan,
    provoke,
    served::served,
    tables::{Compiler, Network},
    traffic::{Ended, Ledger, sum},
    wide,
};
use crate::{
    model::{DatapathMode, Model, PortRange},
    net::{Interfaces, NextHopTable},
    report::{
        Counters, DatapathReport, Draining, FlowsReport, InterfaceReport, ListenerRef, REFUSED,
        SnatReport, TableReport, Traffic,
    },
    state::{Health, Snapshot, TargetRef, TargetState, TargetStates},
};

/// The loaded packet path and what is known of its maps.
#[derive(Debug)]
pub struct Engine {
    kernel: Kernel,
    _claim: Claim,
    maps: Arc<Maps>,
    active: Arc<Active>,
    /// The same of listeners.
    open: Arc<Active>,
    compiler: Compiler,
    installed: Installed,
    extents: Extents,
    ledger: Ledger,
    flows: FlowsReport,
    /// Lines of the flow tables that the last sweep found being written.
    half_way: Box<[HalfWay; 2]>,
    attached: Vec<Attachment>,
    /// That there is little room for IPv6.
    told_of_room: bool,
    cpus: u32,
    syn_key: [u32; 4],
    node: NodePart,
}

/// What of `node` is fixed at start.
#[derive(Debug)]
struct NodePart {
    interfaces: Vec<String>,
    datapath: DatapathMode,
    bpffs: PathBuf,
    ports: PortRange,
    logs_flows: bool,
}

impl Engine {
    /// Loads the packet path, or takes over what is pinned. Nothing is attached yet; but what
    /// would be in the way of that is found out now.
    pub fn open(
        model: &Model,
        interfaces: &Interfaces,
        drop_flows: bool,
    ) -> Result<Self, EngineError> {
        let node = &model.node;
        let pins = Pins::at(&node.bpffs).map_err(KernelError::from)?;
        let claim = pins.claim().map_err(KernelError::from)?;
        kernel::refuse_foreign(&pins, &places(&node.interfaces, interfaces), node.datapath)?;
        let kernel = Kernel::open(pins, (node.flows, serves_ipv6(model)), drop_flows)?;
        let maps = Arc::new(kernel.maps()?);
        let active = Arc::new(maps.active()?);
        let open = Arc::new(maps.active_of_listeners()?);
        match kernel.found() {
            Found::Nothing => tracing::info!("packet path loaded"),
            Found::Adopted => tracing::info!("packet path taken over with its flows"),
            Found::Copied => tracing::info!("packet path replaced, its flows copied"),
            Found::Dropped => tracing::warn!("packet path replaced, its flows dropped"),
        }
        let installed = contents::read(&maps)?;
        let mut compiler = Compiler::adopt(&installed);
        compiler.reserve_listeners(named_listeners(&maps)?);
        let slots = u32::try_from(limits::MAX_SLOTS).unwrap_or(u32::MAX);
        let mut extents = Extents::new(slots);
        extents.keep(installed.extents(), Instant::now());
        let room = kernel.room();
        let capacity = |of: fn(u32) -> u32| {
            // Those for a few IPv6 flows are not counted on.
            let six = if room.six < room.four { 0 } else { of(room.six) };
            TableReport { used: 0, capacity: u64::from(of(room.four)) + u64::from(six) }
        };
        Ok(Self {
            kernel,
            _claim: claim,
            maps,
            active,
            open,
            compiler,
            installed,
            extents,
            ledger: Ledger::default(),
            flows: FlowsReport {
                established: capacity(|flows| flows),
                half_open: capacity(limits::half_open_for),
            },
            half_way: Box::default(),
            attached: Vec::new(),
            told_of_room: false,
            cpus: flood::cpus(),
            syn_key: flood::key()?,
            node: NodePart {
                interfaces: node.interfaces.clone(),
                datapath: node.datapath,
                bpffs: node.bpffs.clone(),
                ports: node.snat.port_range,
                logs_flows: node.access_log.as_ref().is_some_and(|log| log.tcp_flows),
            },
        })
    }

    /// Where the packet path leaves records of ended flows, if they are wanted.
    pub fn flow_ring(&self) -> Result<Option<FlowRing>, EngineError> {
        Ok(self.node.logs_flows.then(|| self.kernel.flow_ring()).transpose()?)
    }

    /// Nothing was pinned before: if nothing is attached, nothing of ours is there.
    pub fn starts_afresh(&self) -> bool {
        self.kernel.found() == Found::Nothing
    }

    /// What the adopted tables tell of the targets: those that got new flows were healthy. So
    /// a restart takes none out, nor puts one in that was found dead.
    pub fn adopted_states(&self, model: &Model) -> TargetStates {
        let serving: BTreeSet<u32> =
            self.installed.contents.listeners.values().flat_map(Selection::targets).collect();
        let mut states = TargetStates::default();
        let backends = model
            .load_balancers
            .iter()
            .flat_map(|balancer| balancer.backends.iter().map(move |backend| (balancer, backend)));
        for (balancer, backend) in backends {
            for target in balancer.targets_of(backend) {
                let Some(index) = self.compiler.target(backend, target) else { continue };
                let healthy = serving.contains(&index);
                let state = TargetState {
                    health: if healthy { Health::Healthy } else { Health::Unhealthy },
                    reason: None,
                    since: SystemTime::now(),
                    revision: 0,
                };
                states.insert(TargetRef::new(&backend.id, &target.id), state);
            }
        }
        states
    }

    /// Addresses whose next hops are needed.
    pub fn addresses(&self, model: &Model) -> BTreeSet<IpAddr> {
        self.compiler.addresses(model)
    }

    /// Listeners served in the kernel, counted once for each address.
    pub fn listeners(&self) -> usize {
        let entries = self.installed.entries.values();
        entries.filter(|entry| entry.algorithm != algorithm::PROXY).count()
    }

    /// Brings the maps in line with the snapshot and the host's network.
    pub fn apply(
        &mut self,
        snapshot: &Snapshot,
        hops: Arc<NextHopTable>,
        interfaces: &Interfaces,
    ) -> Result<(), EngineError> {
        let network = self.network(hops, interfaces);
        let refused = self.compiler.refused().clone();
        let contents = self.compiler.compile(snapshot, &network)?;
        if network.room.six < network.room.four && serves_ipv6(&snapshot.model) {
            let room = network.room.six;
            if !self.told_of_room {
                tracing::warn!(
                    connections = room,
                    "the first IPv6 VIP of the packet path: there is room for few connections to it \
                     until the daemon is started again"
                );
            }
            self.told_of_room = true;
        }
        for target in self.compiler.refused().difference(&refused) {
            let TargetRef { backend, target } = target;
            tracing::warn!(%backend, %target, "gets no connections: {REFUSED}");
        }
        let now = Instant::now();
        self.extents.keep(self.installed.extents(), now);
        let plan = plan(&self.installed, contents, &mut self.extents)?;
        if plan.ops.is_empty() {
            return Ok(());
        }
        tracing::debug!(operations = plan.ops.len(), "changing the kernel's tables");
        if let Err(error) = apply::apply(&self.maps, &plan.ops) {
            // What is installed is somewhere between before and after: look.
            match contents::read(&self.maps) {
                Ok(installed) => self.installed = installed,
                Err(error) => tracing::error!(?error, "cannot read back what is installed"),
            }
            return Err(error.into());
        }
        self.installed = plan.installed;
        self.extents.keep(self.installed.extents(), now);
        Ok(())
    }

    /// Whether the maps have room for a snapshot that is not published yet, whatever becomes of
    /// its targets' health, beside what they have to keep. Changes nothing.
    pub fn fits(
        &self,
        candidate: &Snapshot,
        hops: Arc<NextHopTable>,
        interfaces: &Interfaces,
    ) -> Result<(), EngineError> {
        let network = self.network(hops, interfaces);
        let contents = self.compiler.foresee(candidate, &network, &self.installed)?;
        let mut extents = self.extents.clone();
        extents.keep(self.installed.extents(), Instant::now());
        plan(&self.installed, contents, &mut extents)?;
        Ok(())
    }

    fn network(&self, hops: Arc<NextHopTable>, interfaces: &Interfaces) -> Network {
        Network {
            interfaces: self.interface_entries(interfaces),
            hops,
            room: self.kernel.room(),
            cpus: self.cpus,
            syn_key: self.syn_key,
            now: collect::now(),
            time: SystemTime::now(),
        }
    }

    fn interface_entries(&self, interfaces: &Interfaces) -> BTreeMap<u32, InterfaceEntry> {
        // Flows name interfaces by their slot, so one that has a slot keeps it.
        let installed = &self.installed.contents.interfaces;
        let slot_of = |index: u32| {
            installed.iter().find(|(_, entry)| entry.ifindex == index).map(|(slot, _)| *slot)
        };
        let present: Vec<_> =
            self.node.interfaces.iter().filter_map(|name| interfaces.named(name).ok()).collect();
        let mut taken: BTreeSet<u32> =
            present.iter().filter_map(|interface| slot_of(interface.index)).collect();
        present
            .into_iter()
            .filter_map(|interface| {
                let slots = 0..u32::try_from(limits::MAX_INTERFACES).unwrap_or(u32::MAX);
                let free = || slots.clone().find(|slot| !taken.contains(slot));
                let slot = slot_of(interface.index).or_else(free)?;
                taken.insert(slot);
                let entry = InterfaceEntry {
                    ifindex: interface.index,
                    mac: Mac::new(interface.mac),
                    mtu: u16::try_from(interface.mtu).unwrap_or(u16::MAX),
                    flags: match interface.kind.as_deref() {
                        Some("veth") => interface_flag::REDIRECT,
                        _ if interface.is_loopback => interface_flag::LOOPBACK,
                        _ => 0,
                    },
                };
                Some((slot, entry))
            })
            .collect()
    }

    /// Puts the program on the interfaces, now that the maps are filled. Nothing is done if it
    /// is on all that are there.
    pub fn attach(&mut self, interfaces: &Interfaces) -> Result<(), EngineError> {
        let places = places(&self.node.interfaces, interfaces);
        let on = self.attached.iter().map(|on| (on.interface.as_str(), on.ifindex));
        if on.eq(places.iter().map(|place| (place.interface.as_str(), place.ifindex))) {
            return Ok(());
        }
        self.attached = self.kernel.attach(&places, self.node.datapath)?;
        for Attachment { interface, mode, why, .. } in &self.attached {
            tracing::info!(interface, mode = mode.label(), why, "attached");
        }
        Ok(())
    }

    /// A sweep over the flow tables, to be run at once, on a thread that may block.
    pub fn sweep(&self) -> impl FnOnce() -> Result<Swept, MapError> + Send + use<> {
        let maps = Arc::clone(&self.maps);
        let (active, open) = (Arc::clone(&self.active), Arc::clone(&self.open));
        let (targets, listeners) = self.compiler.in_use();
        let epoch = self.compiler.epoch();
        let cuts = self.compiler.cuts().clone();
        let tells = self.node.logs_flows;
        let half_way = self.half_way.clone();
        move || {
            let indices = (targets.as_slice(), listeners.as_slice());
            let sweep = collect::sweep(&maps, (&active, &open), indices, &cuts, tells, &half_way)?;
            provoke::provoke(&sweep.provoke);
            let ended = Ended::read(&maps, &targets, &listeners)?;
            Ok(Swept { sweep, ended, epoch })
        }
    }

    /// Takes in what a sweep found. True = something became free, so the tables can shrink.
    pub fn swept(&mut self, swept: &Swept) -> Result<bool, MapError> {
        self.kernel.end_lost_capture();
        let Swept { sweep, ended, epoch } = swept;
        if !sweep.corrected.is_empty() {
            tracing::debug!(targets = ?sweep.corrected, "active flows corrected");
        }
        self.ledger.take_in(sweep, ended);
        self.flows.established.used = sweep.established;
        self.flows.half_open.used = sweep.half_open;
        self.half_way.clone_from(&sweep.half_way);
        let snat_before = self.compiler.snat_addresses();
        let ports_before = self.compiler.reply_ports(self.node.ports);
        let (targets, listeners) = self.compiler.free(*epoch, sweep);
        // The next owner of an index starts from zero.
        for index in &targets {
            self.ledger.forget_target(*index);
            self.maps.target_totals.clear_per_cpu(index)?;
            self.active.set(*index, 0);
        }
        for index in &listeners {
            self.ledger.forget_listener(*index);
            self.maps.listener_totals.clear_per_cpu(index)?;
            self.open.set(*index, 0);
        }
        let snat_freed = self.compiler.snat_addresses() < snat_before
            || self.compiler.reply_ports(self.node.ports) != ports_before;
        Ok(snat_freed || !targets.is_empty() || !listeners.is_empty())
    }

    /// Whether flows may use SNAT ports outside of the file's range.
    pub fn uses_older_ports(&self) -> bool {
        self.compiler.reply_ports(self.node.ports) != self.node.ports
    }

    /// Everything that is counted.
    pub fn counters(&self, snapshot: &Snapshot) -> Result<Counters, MapError> {
        let mut counters = Counters::default();
        let mut counts = Vec::with_capacity(COUNTERS);
        for index in (0u32..).take(COUNTERS) {
            counts.push(self.maps.counters.per_cpu(&index)?.iter().sum::<u64>());
        }
        let (reasons, events) = counts.split_at(Reason::COUNT);
        counters.reasons = Reason::ALL.iter().copied().zip(reasons.iter().copied()).collect();
        counters.events = Event::ALL.iter().copied().zip(events.iter().copied()).collect();

        for balancer in &snapshot.model.load_balancers {
            for listener in served(balancer, snapshot.model.node.datapath) {
                for vip in &balancer.vips {
                    let index = self.compiler.listener(*vip, listener.port.get());
                    let Some(index) = index else { continue };
                    let mut traffic = self.ledger.listener(index);
                    traffic.new_flows = sum(&self.maps.listener_totals.per_cpu(&index)?).new_flows;
                    counters.listeners.insert(ListenerRef::new(&listener.id, *vip), traffic);
                }
            }
            for backend in &balancer.backends {
                for target in balancer.targets_of(backend) {
                    let Some(index) = self.compiler.target(backend, target) else { continue };
                    let traffic = self.target_traffic(index)?;
                    counters.targets.insert(TargetRef::new(&backend.id, &target.id), traffic);
                }
            }
        }
        counters.refused.clone_from(self.compiler.refused());
        for (index, entry, target) in self.compiler.draining() {
            let traffic = self.target_traffic(index)?;
            if traffic.active_flows > 0 {
                let at = wide::end(entry.addr, entry.port);
                counters.draining.push(Draining { target: target.clone(), at, traffic });
            }
        }
        Ok(counters)
    }

    fn target_traffic(&self, index: u32) -> Result<Traffic, MapError> {
        // A counter that is too low may have wrapped, until the next sweep.
        let active = self.active.get(index).cast_signed().max(0).cast_unsigned();
        let new_flows = sum(&self.maps.target_totals.per_cpu(&index)?).new_flows;
        Ok(Traffic { new_flows, active_flows: active, ..self.ledger.target(index) })
    }

    /// The packet path for the status report.
    pub fn report(&self) -> DatapathReport {
        let interfaces = self
            .attached
            .iter()
            .map(|attached| InterfaceReport {
                name: attached.interface.clone(),
                ifindex: attached.ifindex,
                mode: attached.mode,
                why: attached.why.clone(),
            })
            .collect();
        let addresses = &self.installed.contents.locals;
        let addresses = addresses.iter().filter(|(_, flags)| **flags & local::SNAT != 0);
        DatapathReport {
            interfaces,
            capture: self.kernel.capture(),
            adopted: matches!(self.kernel.found(), Found::Adopted | Found::Copied),
            abi_version: ABI_VERSION,
            bpffs: self.node.bpffs.clone(),
            flows: self.flows.clone(),
            snat: SnatReport {
                addresses: addresses.map(|(addr, _)| wide::ip(*addr)).collect(),
                first_port: self.node.ports.first,
                last_port: self.node.ports.last,
            },
        }
    }
}

/// What a sweep found, and the totals read with it.
#[derive(Debug)]
pub struct Swept {
    /// The flow tables.
    pub sweep: Sweep,
    ended: Ended,
    /// Of the tables when it began.
    epoch: u64,
}

/// The interfaces that are there, as they are.
fn places(names: &[String], interfaces: &Interfaces) -> Vec<Place> {
    let found = names.iter().filter_map(|name| interfaces.named(name).ok());
    found
        .map(|interface| Place {
            interface: interface.name.clone(),
            ifindex: interface.index,
            programs: interface.xdp.clone(),
        })
        .collect()
}

/// Whether the packet path has a listener on an IPv6 address.
fn serves_ipv6(model: &Model) -> bool {
    model.load_balancers.iter().any(|balancer| {
        balancer.vips.iter().any(IpAddr::is_ipv6)
            && served(balancer, model.node.datapath).next().is_some()
    })
}

/// Listener indices that flows name, those of listeners long gone included.
fn named_listeners(maps: &Maps) -> Result<impl Iterator<Item = u32>, MapError> {
    let mut named = BTreeSet::new();
    for table in [&maps.flows, &maps.half_open] {
        table.for_each(|_, entry| {
            named.insert(u32::from(entry.listener));
        })?;
    }
    Ok(named.into_iter())
}
