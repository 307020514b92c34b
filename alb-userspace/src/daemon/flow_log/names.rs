//! Who a listener is, by the address and port that clients connect to.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use crate::model::{ListenerProtocol, Model};

/// Ids of what a connection went through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) load_balancer: String,
    pub(super) listener: String,
    pub(super) backend: String,
}

/// Every listener of the packet path, and those that are gone: they may have left connections.
#[derive(Debug, Default)]
pub(super) struct Names {
    model: Option<Arc<Model>>,
    by_door: HashMap<SocketAddr, Name>,
}

impl Names {
    /// Takes in another model. Costs nothing while it is the same.
    pub(super) fn follow(&mut self, model: &Arc<Model>) {
        if self.model.as_ref().is_some_and(|known| Arc::ptr_eq(known, model)) {
            return;
        }
        for balancer in &model.load_balancers {
            let listeners = balancer.listeners.iter();
            for listener in listeners.filter(|it| it.protocol == ListenerProtocol::Tcp) {
                for vip in &balancer.vips {
                    let name = Name {
                        load_balancer: balancer.id.clone(),
                        listener: listener.id.clone(),
                        backend: listener.backend.clone(),
                    };
                    self.by_door.insert((*vip, listener.port.get()).into(), name);
                }
            }
        }
        self.model = Some(model.clone());
    }

    /// The listener at this door; `None` = there was none since the daemon began.
    pub(super) fn at(&self, door: SocketAddr) -> Option<&Name> {
        self.by_door.get(&door)
    }
}
