//! A worker's sockets and slots, brought in line with a plan.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
};

use tokio::task::{JoinHandle, JoinSet, spawn_local};

use super::{Slot, Worker, accept};
use crate::proxy::plan::{Draining, Plan};

/// Everything a worker listens on.
#[derive(Debug)]
pub(super) struct Doors {
    worker: Rc<Worker>,
    slots: BTreeMap<Arc<str>, Rc<Slot>>,
    open: BTreeMap<SocketAddr, Door>,
    /// Cuts what uses targets whose time comes to its end.
    cutting: Option<JoinHandle<()>>,
    /// Tasks that empty the queues of sockets that are given up.
    closing: JoinSet<()>,
}

/// A socket that is accepted on.
#[derive(Debug)]
struct Door {
    way: accept::Way,
    task: JoinHandle<()>,
}

impl Doors {
    pub(super) fn new(worker: Rc<Worker>) -> Self {
        Self {
            worker,
            slots: BTreeMap::new(),
            open: BTreeMap::new(),
            cutting: None,
            closing: JoinSet::new(),
        }
    }

    /// From now on, connections and requests see this plan. Slots of listeners that are gone or
    /// off begin to drain.
    pub(super) fn serve(
        &mut self,
        plan: &Plan,
        opened: Vec<(SocketAddr, TcpListener)>,
        closed: Vec<(SocketAddr, TcpListener)>,
    ) {
        let mut slots = BTreeMap::new();
        let mut leads = BTreeMap::new();
        for listener in plan.listeners.iter().filter(|listener| listener.enabled) {
            let slot = match self.slots.remove(&listener.id) {
                Some(slot) => {
                    slot.set(Arc::clone(listener));
                    slot
                }
                None => Rc::new(Slot::new(Arc::clone(listener))),
            };
            leads.extend(listener.addresses().map(|address| (address, Rc::clone(&slot))));
            slots.insert(Arc::clone(&listener.id), slot);
        }
        // The results of those that are over.
        while self.closing.try_join_next().is_some() {}
        for (address, socket) in closed {
            self.close(address, socket);
        }
        for (address, door) in &self.open {
            if let Some(slot) = leads.get(address) {
                door.way.replace(Rc::clone(slot));
            }
        }
        for (address, socket) in opened {
            if let Some(slot) = leads.get(&address) {
                self.accept(address, socket, Rc::clone(slot));
            }
        }
        for slot in std::mem::replace(&mut self.slots, slots).into_values() {
            slot.drain.begin();
        }
        self.cut(&plan.draining);
    }

    /// Ends what uses these targets when their time is over.
    fn cut(&mut self, draining: &[Draining]) {
        if let Some(task) = self.cutting.take() {
            task.abort();
        }
        let cuts = &self.worker.cuts;
        cuts.set(draining);
        if !draining.is_empty() {
            self.cutting = Some(spawn_local(cuts.clone().run()));
        }
    }

    fn accept(&mut self, address: SocketAddr, socket: TcpListener, slot: Rc<Slot>) {
        let way = Rc::new(RefCell::new(slot));
        let (leads, worker) = (Rc::clone(&way), Rc::clone(&self.worker));
        let task = spawn_local(async move {
            let listener = accept::registered(address, || {
                socket.try_clone().and_then(tokio::net::TcpListener::from_std)
            });
            let listener = listener.await;
            drop(socket);
            accept::run(listener, address, leads, worker).await;
        });
        self.open.insert(address, Door { way, task });
    }

    /// Stops accepting and serves what waits in the socket's queue.
    fn close(&mut self, address: SocketAddr, socket: TcpListener) {
        let Some(Door { way, task }) = self.open.remove(&address) else { return };
        let worker = Rc::clone(&self.worker);
        task.abort();
        self.closing.spawn_local(async move {
            // When this is over, ours is the last handle.
            let _aborted = task.await.is_err();
            accept::drain(&socket, address, &way, &worker);
        });
    }

    /// Stops accepting everywhere and tells all connections to end.
    pub(super) fn drain(&mut self, closed: Vec<(SocketAddr, TcpListener)>) {
        for (address, socket) in closed {
            self.close(address, socket);
        }
        for door in std::mem::take(&mut self.open).into_values() {
            door.task.abort();
        }
        for slot in self.slots.values() {
            slot.drain.begin();
        }
    }

    /// Waits until what was being closed is closed.
    pub(super) async fn closed(&mut self) {
        while self.closing.join_next().await.is_some() {}
    }
}
