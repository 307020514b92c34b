//! A listener served over loopback, targets that do as they are told, and a client.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{RecvStream, client::SendRequest};
use http::{Request, Response};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    task::spawn_local,
};

pub(super) use crate::proxy::lab::{
    Log, OK, accept, answering, down, hanging, origin, read_until, run, some, until, within,
};
use crate::{
    model::{self, ListenerProtocol},
    proxy::{
        access_log::AccessLog,
        http2, lab,
        peer::Peer,
        plain::Plain,
        plan::{Plan, Secrets},
        stats::{BackendTotals, ListenerTotals},
        worker::{Slot, Worker},
    },
    state::{Store, TargetStates},
};

/// What a client waits for in tests of deadlines.
pub(super) const SHORT: Duration = Duration::from_millis(800);

pub(super) struct Lab {
    pub(super) address: SocketAddr,
    pub(super) slot: Rc<Slot>,
    pub(super) worker: Rc<Worker>,
    model: model::Model,
    plan: RefCell<Arc<Plan>>,
}

impl Lab {
    pub(super) async fn new(targets: &[SocketAddr]) -> Self {
        Self::with(targets, |_, _| {}).await
    }

    /// A listener on these targets after a change to it and its backend.
    pub(super) async fn with(
        targets: &[SocketAddr],
        change: impl FnOnce(&mut model::Listener, &mut model::Backend),
    ) -> Self {
        let change = |balancer: &mut model::LoadBalancer| {
            change(&mut balancer.listeners[0], &mut balancer.backends[0]);
        };
        Self::changed(targets, change).await
    }

    /// A listener on these targets with an access log.
    pub(super) async fn logging(targets: &[SocketAddr], log: &AccessLog) -> Self {
        Self::made(targets, Some(log), |_| {}).await
    }

    /// The same as `new`, after a change to the whole load balancer.
    pub(super) async fn changed(
        targets: &[SocketAddr],
        change: impl FnOnce(&mut model::LoadBalancer),
    ) -> Self {
        Self::made(targets, None, change).await
    }

    async fn made(
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
        let lab = Self { address, slot, worker, model, plan: RefCell::new(plan) };
        let (slot, worker, local) = (Rc::clone(&lab.slot), Rc::clone(&lab.worker), lab.address);
        spawn_local(async move {
            loop {
                let (stream, client) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let peer = Peer { client, local, tls: None };
                let (slot, worker) = (Rc::clone(&slot), Rc::clone(&worker));
                spawn_local(http2::serve(Plain::from(stream), peer, slot, worker));
            }
        });
        lab
    }

    /// Serves a changed load balancer from now on.
    pub(super) fn change(&self, change: impl FnOnce(&mut model::LoadBalancer)) {
        let mut model = self.model.clone();
        change(&mut model.load_balancers[0]);
        let store = Store::new(model, &TargetStates::default());
        let plan = Plan::compile(&store.snapshot(), &Secrets::of_a_test(), &self.plan.borrow());
        self.slot.set(Arc::clone(&plan.listeners[0]));
        self.worker.cuts.set(&plan.draining);
        spawn_local(self.worker.cuts.clone().run());
    }

    /// Holds nothing of the plan.
    pub(super) fn forget_plan(&self) {
        self.plan.replace(Arc::default());
    }

    /// A client that behaves.
    pub(super) async fn client(&self) -> SendRequest<Bytes> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        spawn_local(async move {
            if let Err(error) = connection.await {
                eprintln!("client: {error}");
            }
        });
        client
    }

    /// What is counted of the backend.
    pub(super) fn backend(&self) -> BackendTotals {
        self.slot.get().backend.shared.stats.totals()
    }

    pub(super) fn totals(&self) -> ListenerTotals {
        self.slot.get().shared.stats.totals()
    }

    /// How often this was counted.
    pub(super) fn refused(&self, word: &str) -> u64 {
        self.totals().refusals.get(word).copied().unwrap_or_default()
    }
}

pub(super) fn get(path: &str) -> Request<()> {
    Request::get(format!("http://shop.test{path}")).body(()).unwrap()
}

pub(super) fn post(path: &str) -> Request<()> {
    Request::post(format!("http://shop.test{path}")).body(()).unwrap()
}

/// Sends a request without a body and reads the response to its end.
pub(super) async fn talk(
    client: &mut SendRequest<Bytes>,
    request: Request<()>,
) -> (Response<()>, String) {
    let (response, _) = client.send_request(request, true).unwrap();
    let (head, mut body) = within(response).await.unwrap().into_parts();
    let text = text(&mut body).await;
    (Response::from_parts(head, ()), text)
}

/// Reads a body to its end.
pub(super) async fn text(body: &mut RecvStream) -> String {
    let mut text = Vec::new();
    while let Some(data) = within(body.data()).await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        text.extend_from_slice(&data);
    }
    String::from_utf8(text).unwrap()
}

pub(super) async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}
