//! What the packet path counted, as plain data: whoever reads the maps fills it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use alb_common::reason::{Event, Reason};

use super::{Proxied, Traffic};
use crate::state::TargetRef;

/// All counters at one moment. What is missing counts as zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counters {
    /// Packets by reason.
    pub reasons: BTreeMap<Reason, u64>,
    /// Events of the flow tables.
    pub events: BTreeMap<Event, u64>,
    /// Of every listener on every address.
    pub listeners: BTreeMap<ListenerRef, Traffic>,
    /// Of every target of every backend in the snapshot.
    pub targets: BTreeMap<TargetRef, Traffic>,
    /// Targets that are no longer in the snapshot but still have flows.
    pub draining: Vec<Draining>,
    /// Targets that no security group's outbound rules allow.
    pub refused: BTreeSet<TargetRef>,
    /// What the proxy counted.
    pub proxied: Proxied,
}

/// Why a target in [`Counters::refused`] gets nothing.
pub const REFUSED: &str =
    "not allowed by the outbound rules of the load balancer's security groups";

/// A listener on one of its load balancer's addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerRef {
    /// Id of the listener.
    pub listener: String,
    /// The address.
    pub vip: IpAddr,
}

impl ListenerRef {
    /// The listener with this id, on this address.
    pub fn new(listener: &str, vip: IpAddr) -> Self {
        Self { listener: listener.to_owned(), vip }
    }
}

/// A target whose flows may finish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draining {
    /// Ids it had in the model.
    pub target: TargetRef,
    /// Where it is; the model does not know any more.
    pub at: SocketAddr,
    /// What went through it.
    pub traffic: Traffic,
}

impl Counters {
    /// Packets counted under a reason.
    pub fn reason(&self, reason: Reason) -> u64 {
        self.reasons.get(&reason).copied().unwrap_or_default()
    }

    /// What went through a listener.
    pub fn listener(&self, listener: &ListenerRef) -> Traffic {
        self.listeners.get(listener).copied().unwrap_or_default()
    }

    /// What went through a target of the snapshot.
    pub fn target(&self, target: &TargetRef) -> Traffic {
        self.targets.get(target).copied().unwrap_or_default()
    }
}
