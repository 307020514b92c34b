//! A listener served by the real loop, origins that do as they are told, and raw clients.

use std::{
    cell::RefCell,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::spawn_local,
    time::timeout,
};

pub(super) use crate::proxy::lab::{
    LONG, Log, OK, accept, answering, down, hanging, origin, read_until, run, some, until,
};
use crate::{
    model::{self, ListenerProtocol, Model, UrlMap},
    proxy::{
        access_log::AccessLog,
        http1,
        lab::{self, named},
        peer::Peer,
        plain::Plain,
        plan::{Plan, Secrets},
        upstream,
        worker::{Slot, Worker},
    },
    state::{Health, Store, TargetRef, TargetState, TargetStates},
};

/// A served listener.
pub(super) struct Lab {
    pub(super) model: Model,
    plan: RefCell<Arc<Plan>>,
    pub(super) address: SocketAddr,
    pub(super) slot: Rc<Slot>,
    pub(super) worker: Rc<Worker>,
}

impl Lab {
    /// A listener on these targets.
    pub(super) async fn new(targets: &[SocketAddr]) -> Self {
        Self::with(targets, |_, _| {}).await
    }

    /// A listener whose url map has these rules; the backend `other` has targets of its own.
    pub(super) async fn routed(
        targets: &[SocketAddr],
        others: &[SocketAddr],
        rules: Vec<model::Rule>,
        change: impl FnOnce(&mut model::LoadBalancer),
    ) -> Self {
        let change = |balancer: &mut model::LoadBalancer| {
            let mut group = balancer.target_groups[0].clone();
            let mut backend = balancer.backends[0].clone();
            group.targets = named("o", others);
            group.id = "tg-2".into();
            (backend.id, backend.name) = ("other".into(), "other".into());
            backend.source = model::TargetSource::Group("tg-2".into());
            balancer.target_groups.push(group);
            balancer.backends.push(backend);
            let (id, name, description) = ("routes".into(), "routes".into(), String::new());
            balancer.url_maps = vec![UrlMap { id, name, description, rules }];
            balancer.listeners[0].url_map = Some("routes".into());
            change(balancer);
        };
        Self::changed(targets, None, change).await
    }

    /// The same as `new`, after a change to listener and backend.
    pub(super) async fn with(
        targets: &[SocketAddr],
        change: impl FnOnce(&mut model::Listener, &mut model::Backend),
    ) -> Self {
        Self::logging(targets, None, change).await
    }

    /// The same, with an access log.
    pub(super) async fn logging(
        targets: &[SocketAddr],
        log: Option<&AccessLog>,
        change: impl FnOnce(&mut model::Listener, &mut model::Backend),
    ) -> Self {
        let change = |balancer: &mut model::LoadBalancer| {
            change(&mut balancer.listeners[0], &mut balancer.backends[0]);
        };
        Self::changed(targets, log, change).await
    }

    async fn changed(
        targets: &[SocketAddr],
        log: Option<&AccessLog>,
        change: impl FnOnce(&mut model::LoadBalancer),
    ) -> Self {
        let mut model = lab::model(targets, ListenerProtocol::Http);
        change(&mut model.load_balancers[0]);
        let plan = lab::compile(&model);
        let slot = Rc::new(Slot::new(Arc::clone(&plan.listeners[0])));
        let worker = lab::worker(log.map(AccessLog::worker));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let lab = Self { model, plan: RefCell::new(plan), address, slot, worker };
        let (slot, worker, local) = (Rc::clone(&lab.slot), Rc::clone(&lab.worker), lab.address);
        spawn_local(async move {
            loop {
                let (stream, client) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let peer = Peer { client, local, tls: None };
                let (slot, worker) = (Rc::clone(&slot), Rc::clone(&worker));
                let stream = Plain::from(stream);
                let abort = |stream: &Plain| upstream::reset(stream);
                spawn_local(http1::serve(stream, abort, peer, slot, worker));
            }
        });
        lab
    }

    /// Serves a changed model from now on, with targets (by position) of the first backend in
    /// another state.
    pub(super) fn replace(&self, model: &Model, states: &[(usize, Health)]) -> Arc<Plan> {
        self.serve(model, |at, state| {
            if let Some((_, health)) = states.iter().find(|(position, _)| *position == at) {
                state.health = *health;
            }
        })
    }

    /// Serves a model from now on, with something else known of the targets (by position) of the
    /// first backend.
    pub(super) fn serve(
        &self,
        model: &Model,
        change: impl Fn(usize, &mut TargetState),
    ) -> Arc<Plan> {
        let store = Store::new(model.clone(), &TargetStates::default());
        let mut snapshot = (*store.snapshot()).clone();
        let balancer = &model.load_balancers[0];
        let backend = &balancer.backends[0];
        let mut known = TargetStates::clone(&snapshot.targets);
        for (at, target) in balancer.targets_of(backend).iter().enumerate() {
            let target = TargetRef::new(&backend.id, &target.id);
            let mut state = known.get(&target.backend, &target.target).unwrap().clone();
            change(at, &mut state);
            known.insert(target, state);
        }
        snapshot.targets = Arc::new(known);
        let plan = Plan::compile(&snapshot, &Secrets::of_a_test(), &self.plan.borrow());
        let plan = Arc::new(plan);
        self.slot.set(Arc::clone(&plan.listeners[0]));
        self.worker.cuts.set(&plan.draining);
        spawn_local(self.worker.cuts.clone().run());
        self.plan.replace(Arc::clone(&plan));
        plan
    }

    pub(super) async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// One connection: sends, then reads until the end.
    pub(super) async fn talk(&self, request: &[u8]) -> String {
        let mut client = self.connect().await;
        client.send(request).await;
        client.rest().await
    }
}

/// A raw client.
pub(super) struct Client(pub(super) TcpStream);

impl Client {
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Goes away for good; a close alone could still be waiting for its answer.
    pub(super) fn reset(self) {
        upstream::reset(&self.0);
    }

    /// Says that nothing more comes.
    pub(super) async fn finish(&mut self) {
        self.0.shutdown().await.unwrap();
    }

    /// Reads until what was read ends so.
    pub(super) async fn until(&mut self, end: &str) -> String {
        read_until(&mut self.0, end).await
    }

    /// Reads until the other side closes; a reset is a panic.
    pub(super) async fn rest(&mut self) -> String {
        let mut text = Vec::new();
        timeout(LONG, self.0.read_to_end(&mut text)).await.expect("an end").unwrap();
        String::from_utf8(text).unwrap()
    }
}

/// Status codes of the responses in a text.
pub(super) fn statuses(text: &str) -> Vec<&str> {
    text.split("HTTP/1.1 ").skip(1).map(|rest| &rest[..3]).collect()
}

pub(super) fn loopback(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V4(ip) if ip.is_loopback())
}
