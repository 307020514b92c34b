//! What the packet path would do with a packet now, and why, with nothing changed.
//!
//! The very program that forwards is loaded once more. What it only reads — addresses, listeners,
//! security groups, selection tables, targets, next hops, interfaces — are the pinned maps
//! themselves; what it writes are maps of its own, with the packet's flow, the turns and the
//! counters of open flows copied into them. Then it is given the packet.

mod frame;
mod trial;

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use alb_common::{
    Reason,
    limits::SNAT_PROBES,
    net::{Be16, Mac},
    reason::Event,
    service::algorithm,
    tcp::Direction,
};
use aya::programs::ProgramError;

pub use self::{frame::TcpFlags, trial::interface_name};
use self::{
    frame::{Frame, Seen},
    trial::{Stored, Trial},
};
use super::{
    flows::{Flow, FlowTables, FlowsError},
    kernel::KernelError,
    maps::MapError,
    wide::{self, FlowKey, ListenerKey, between},
};

/// A packet cannot be traced.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// There are no tables, or they cannot be read.
    #[error(transparent)]
    Tables(#[from] FlowsError),
    /// The maps are not of this version.
    #[error("what is pinned under {} is not of this version: {why}; use the alb that the daemon is", bpffs.display())]
    Other {
        /// The pin directory.
        bpffs: PathBuf,
        /// What differs.
        why: String,
    },
    /// A pinned map cannot be opened.
    #[error("cannot open {}: tracing takes root, or CAP_BPF and CAP_NET_ADMIN", path.display())]
    Open {
        /// The pin.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The program cannot be loaded.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A map cannot be read or written.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Nobody sends such a packet.
    #[error("{from} and {to} are of two families: name two addresses of one")]
    Families {
        /// As asked for.
        from: SocketAddr,
        /// As asked for.
        to: SocketAddr,
    },
    /// The daemon attaches to no interface.
    #[error("the packet path has no interface yet: the daemon has not come so far")]
    NoInterface,
    /// The packet path does not run there.
    #[error("--interface {name}: the packet path is on {}", known.join(", "))]
    NotThere {
        /// As asked for.
        name: String,
        /// Where it is.
        known: Vec<String>,
    },
    /// The kernel does not run the program on the packet.
    #[error(
        "the kernel does not run the program on a packet that came by interface {ifindex}: run this \
         in the daemon's network namespace (`nsenter --net=/run/netns/NAME`)"
    )]
    Run {
        /// Index of the interface.
        ifindex: u32,
        /// Why not.
        #[source]
        source: ProgramError,
    },
}

/// Which packet.
#[derive(Clone, Debug)]
pub struct Question {
    /// Who sends it.
    pub from: SocketAddr,
    /// Whom it is for.
    pub to: SocketAddr,
    /// What it says; `None` = what fits: an ACK of a flow that there is, else a SYN.
    pub flags: Option<TcpFlags>,
    /// By which interface it comes; `None` = the first one.
    pub interface: Option<String>,
}

/// What would become of it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What the packet said.
    pub flags: TcpFlags,
    /// Index of the interface it came by.
    pub ifindex: u32,
    /// What it would be counted under; this says its verdict too.
    pub reason: Reason,
    /// What else would be counted.
    pub events: Vec<Event>,
    /// The flow that it is of, as it is now.
    pub flow: Option<Flow>,
    /// The listener it is for.
    pub listener: Option<Door>,
    /// The target that the flow has, or would have.
    pub target: Option<TargetSeen>,
    /// How it would leave; `None` = not at all, or to the host's stack as it came.
    pub sent: Option<Sent>,
    /// SNAT ports that were found taken.
    pub ports_taken: usize,
}

/// A listener as the tables have it.
#[derive(Clone, Copy, Debug)]
pub struct Door {
    /// `alb_common::service::algorithm` code.
    pub algorithm: u16,
    /// Targets that new connections may go to.
    pub targets: usize,
    /// Connections that are open.
    pub open: i64,
    /// Most that may be; 0 = no limit.
    pub max: u32,
}

/// A target as the tables have it.
#[derive(Clone, Copy, Debug)]
pub struct TargetSeen {
    /// Where it is.
    pub at: SocketAddr,
    /// Connections that are open.
    pub open: i64,
}

/// A packet that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// From whom.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// Link-layer address of the next hop.
    pub station: [u8; 6],
    /// Index of the interface, if the tables say it.
    pub ifindex: Option<u32>,
}

/// Asks the packet path under this pin directory.
pub fn trace(bpffs: &Path, question: &Question) -> Result<Answer, TraceError> {
    let Question { from, to, .. } = *question;
    if from.is_ipv4() != to.is_ipv4() {
        return Err(TraceError::Families { from, to });
    }
    let flows = FlowTables::open(bpffs)?;
    let trial = Trial::over(bpffs)?;
    let (ifindex, station) = trial.interface(question.interface.as_deref())?;
    let key: FlowKey = between(question.from, question.to);
    // What only holds a port is no flow's.
    let before = flows.find(&key)?.filter(|found| !found.entry.flags.is_held());
    let before = before.map(|found| found.flow);
    let flags = question.flags.unwrap_or(match before {
        Some(_) => TcpFlags::ACK,
        None => TcpFlags::SYN,
    });
    let known = trial.take_over(&flows, &key)?.filter(|_| before.is_some());
    let mut frame = Frame::new(question.from, question.to, flags, station);
    frame.answers(known.as_ref());

    // That a port is another flow's is not known to the trial before it asks for the port.
    let mut others = HashSet::new();
    let (reason, events, seen, after) = loop {
        let (seen, reason, events) = trial.run(&frame, ifindex)?;
        let after = trial.stored(&key)?;
        if let Some(opened) = after.as_ref().filter(|_| reason == Reason::NewFlow) {
            let port = opened.entry.peer_key();
            if others.len() <= SNAT_PROBES as usize
                && flows.find(&port)?.is_some()
                && others.insert(port)
            {
                trial.forget(&key, opened)?;
                trial.take_over(&flows, &port)?;
                continue;
            }
        }
        break (reason, events, seen, after);
    };
    let ports_taken = others.len();
    // A target's packets are for the balancer's end towards it.
    let door = door(&trial, before.map_or(question.to, |flow| flow.ends.vip))?;
    let stored = after.or(known);
    let target = stored.as_ref().map(|stored| target(&trial, stored.entry.target)).transpose()?;
    Ok(Answer {
        flags,
        ifindex,
        reason,
        events,
        flow: before,
        listener: door,
        target: target.flatten(),
        sent: seen
            .filter(|_| leaves(reason))
            .map(|seen| sent(&trial, seen, stored.as_ref()))
            .transpose()?,
        ports_taken,
    })
}

fn leaves(reason: Reason) -> bool {
    use alb_common::Verdict::{Drop, Forward, Pass, Reply, Reset};
    match reason.verdict() {
        Forward | Reset => true,
        // An ICMP message would leave, but what is asked about is a segment that fits everywhere.
        Pass | Drop | Reply => false,
    }
}

fn door(trial: &Trial, to: SocketAddr) -> Result<Option<Door>, MapError> {
    let key = ListenerKey { addr: wide::addr(to.ip()), port: Be16::new(to.port()), reserved: 0 };
    let Some(entry) = trial.live.listeners.get(&key)? else { return Ok(None) };
    let mut targets = Vec::new();
    for slot in entry.offset..entry.offset.saturating_add(entry.len) {
        if let Some(slot) = trial.live.slots.get(&slot)? {
            let weighted = entry.algorithm == algorithm::LEAST_CONN;
            targets.push(if weighted {
                alb_common::selection::weighted_target(slot)
            } else {
                slot
            });
        }
    }
    targets.sort_unstable();
    targets.dedup();
    let open = |index: u16| -> Result<i64, MapError> {
        let found = trial.live.listener_active.get(&u32::from(index))?;
        Ok(found.unwrap_or_default().cast_signed())
    };
    let other = if entry.sibling == entry.index { 0 } else { open(entry.sibling)? };
    Ok(Some(Door {
        algorithm: entry.algorithm,
        targets: targets.len(),
        open: open(entry.index)? + other,
        max: entry.max,
    }))
}

fn target(trial: &Trial, index: u32) -> Result<Option<TargetSeen>, MapError> {
    let Some(entry) = trial.live.targets.target(index)? else { return Ok(None) };
    let open =
        trial.live.target_active.counters()?.get(index as usize).copied().unwrap_or_default();
    Ok(Some(TargetSeen { at: wide::end(entry.addr, entry.port), open: open.cast_signed() }))
}

fn sent(trial: &Trial, seen: Seen, stored: Option<&Stored>) -> Result<Sent, MapError> {
    let Seen { from, to, station, is_reset } = seen;
    // What answers goes out by where the packet came in.
    let slot = match stored.filter(|_| !is_reset) {
        Some(Stored { entry, .. }) if entry.flags.direction() == Direction::Reverse => {
            Some(u32::from(entry.interface))
        }
        Some(Stored { entry, .. }) => {
            trial.live.hops.get(&entry.target)?.map(|hop| u32::from(hop.interface))
        }
        None => None,
    };
    let interface = slot.map(|slot| trial.live.interfaces.get(&slot)).transpose()?.flatten();
    let ifindex = interface.map(|interface| interface.ifindex);
    Ok(Sent { from, to, station, ifindex })
}

/// The station of frames that nobody is known to have sent.
const NOBODY: Mac = Mac::new([2, 0, 0, 0, 0, 1]);

/// An address without a port means some client's port.
pub const SOME_PORT: u16 = 50_000;

/// `ADDRESS:PORT`, or an address alone: a connection of it from some port.
pub fn end(text: &str, port: Option<u16>) -> Result<SocketAddr, String> {
    if let Ok(end) = text.parse::<SocketAddr>() {
        return Ok(SocketAddr::new(end.ip().to_canonical(), end.port()));
    }
    match (text.parse::<IpAddr>(), port) {
        (Ok(address), Some(port)) => Ok(SocketAddr::new(address.to_canonical(), port)),
        (Ok(IpAddr::V4(_)), None) => Err(format!("{text}: a port is needed, {text}:PORT")),
        (Ok(IpAddr::V6(_)), None) => Err(format!("{text}: a port is needed, [{text}]:PORT")),
        (Err(_), _) => {
            Err(format!("{text}: must be an address with a port, 192.0.2.1:80 or [2001:db8::1]:80"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_families_are_refused() {
        let question = Question {
            from: "198.18.0.1:1".parse().unwrap(),
            to: "[2001:db8::a]:80".parse().unwrap(),
            flags: None,
            interface: None,
        };
        let refused = trace(Path::new("/nonexistent"), &question).unwrap_err();
        assert!(matches!(refused, TraceError::Families { .. }), "{refused}");
    }

    #[test]
    fn ends_are_read() {
        let shown = |text, port| end(text, port).map(|end| end.to_string());
        assert_eq!(shown("198.18.0.1:80", None), Ok("198.18.0.1:80".to_owned()));
        assert_eq!(shown("198.18.0.1", Some(SOME_PORT)), Ok("198.18.0.1:50000".to_owned()));
        assert_eq!(shown("[2001:db8::1]:80", None), Ok("[2001:db8::1]:80".to_owned()));
        assert_eq!(shown("2001:db8::1", Some(SOME_PORT)), Ok("[2001:db8::1]:50000".to_owned()));
        assert_eq!(shown("[::ffff:198.18.0.1]:80", None), Ok("198.18.0.1:80".to_owned()));
        for (text, word) in [
            ("198.18.0.1", "port is needed"),
            ("2001:db8::1", "port is needed, [2001:db8::1]:PORT"),
            ("198.18.0.1:99999", "must be"),
            ("shop", "must be"),
        ] {
            let error = shown(text, None).unwrap_err();
            assert!(error.starts_with(text) && error.contains(word), "{error}");
        }
    }
}
