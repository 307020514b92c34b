//! The host that the configuration is for: one interface, every target's next hop known.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::SystemTime};

use alb_userspace::{
    model::Model,
    net::{Interface, Interfaces, NextHop, NextHopTable},
    state::{Health, TargetRef, TargetState, TargetStates},
};

use crate::site::Site;

/// Made up: nothing is sent.
#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) interfaces: Interfaces,
    pub(crate) hops: Arc<NextHopTable>,
}

impl Net {
    pub(crate) fn new() -> Self {
        let mac = [2, 0, 0, 0, 0, 1];
        let interface = Interface {
            index: 2,
            name: "eth0".to_owned(),
            kind: None,
            mac,
            mtu: 1_500,
            up: true,
            carrier: true,
            is_loopback: false,
            addresses: Vec::new(),
            xdp: Vec::new(),
        };
        let hop = NextHop {
            interface: interface.index,
            gateway: None,
            source: [198, 18, 0, 1].into(),
            mac: Some(mac),
        };
        let hops: BTreeMap<_, _> = Site::hosts().map(|host| (IpAddr::V4(host), hop)).collect();
        Self {
            interfaces: Interfaces(vec![interface]),
            hops: Arc::new(NextHopTable { hops, route_generation: 1 }),
        }
    }
}

/// Every target as after its first checks.
pub(crate) fn healthy(model: &Model) -> TargetStates {
    let mut states = TargetStates::default();
    let state = TargetState {
        health: Health::Healthy,
        reason: None,
        since: SystemTime::UNIX_EPOCH,
        revision: 0,
    };
    for balancer in &model.load_balancers {
        for backend in &balancer.backends {
            for target in balancer.targets_of(backend) {
                states.insert(TargetRef::new(&backend.id, &target.id), state.clone());
            }
        }
    }
    states
}
