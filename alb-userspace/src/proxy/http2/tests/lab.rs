//! A listener served over loopback, targets that do as they are told, and a client.

use std::{net::SocketAddr, num::NonZeroU16, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{RecvStream, client::SendRequest};
use http::{Request, Response};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{LocalSet, spawn_local},
    time::timeout,
};

use crate::{
    model::{self, BackendProtocol, ListenerHttp, ListenerProtocol},
    proxy::{
        http2,
        mirror::Mirrors,
        peer::Peer,
        plan::{Plan, Secrets},
        stats::{ListenerTotals, WorkerId},
        upstream,
        worker::{Open, Slot, Worker},
    },
    state::{Store, TargetStates, fixture},
};

/// Longer than anything here takes.
pub(super) const LONG: Duration = Duration::from_secs(10);
/// What a client waits for in tests of deadlines.
pub(super) const SHORT: Duration = Duration::from_millis(300);

pub(super) struct Lab {
    pub(super) address: SocketAddr,
    pub(super) slot: Rc<Slot>,
    pub(super) worker: Rc<Worker>,
}

/// Runs a test on one thread, as a worker does.
pub(super) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
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

    /// The same, after a change to the whole load balancer.
    pub(super) async fn changed(
        targets: &[SocketAddr],
        change: impl FnOnce(&mut model::LoadBalancer),
    ) -> Self {
        let targets = targets.iter().enumerate();
        let named: Vec<_> =
            targets.map(|(at, address)| fixture::target(&format!("t{at}"), *address)).collect();
        let mut model = fixture::model(&[("web", None)], &named);
        let balancer = &mut model.load_balancers[0];
        balancer.backends[0].protocol = BackendProtocol::Http;
        balancer.backends[0].response_timeout = LONG;
        balancer.backends[0].connect_timeout = LONG;
        balancer.backends[0].retries = 1;
        let listener = model::Listener {
            id: "http".into(),
            name: "http".into(),
            description: String::new(),
            protocol: ListenerProtocol::Http,
            port: NonZeroU16::new(80).unwrap(),
            enabled: true,
            backend: "web".into(),
            url_map: None,
            idle_timeout: LONG,
            max_connections: None,
            max_qps: None,
            tls: None,
            http: Some(ListenerHttp {
                header_bytes: 65_536,
                headers: 128,
                request_line_bytes: 16_384,
                body_bytes: 0,
                header_timeout: LONG,
                body_idle_timeout: LONG,
                write_idle_timeout: LONG,
            }),
        };
        balancer.listeners = vec![listener];
        change(balancer);
        let store = Store::new(model, &TargetStates::default());
        let plan = { Plan::compile(&store.snapshot(), &Secrets::of_a_test(), &Plan::default()) };
        let slot = Rc::new(Slot::new(Arc::clone(&plan.listeners[0])));
        let worker = Rc::new(Worker {
            id: WorkerId(0),
            passive: crate::health::passive().0,
            pool: upstream::Pool::default(),
            log: None,
            open: Open::default(),
            mirrors: Mirrors::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let lab = Self { address: listener.local_addr().unwrap(), slot, worker };
        let (slot, worker, local) = (Rc::clone(&lab.slot), Rc::clone(&lab.worker), lab.address);
        spawn_local(async move {
            loop {
                let (stream, client) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let peer = Peer { client, local, tls: None };
                spawn_local(http2::serve(stream, peer, Rc::clone(&slot), Rc::clone(&worker)));
            }
        });
        lab
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

pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(LONG, future).await.expect("within the time")
}

pub(super) async fn until(mut done: impl FnMut() -> bool) {
    within(async {
        while !done() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

pub(super) async fn origin() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

pub(super) async fn accept(listener: &TcpListener) -> TcpStream {
    within(listener.accept()).await.unwrap().0
}

pub(super) async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let so_far = String::from_utf8_lossy(&text).into_owned();
        match timeout(LONG, stream.read_u8()).await {
            Ok(Ok(byte)) => text.push(byte),
            other => panic!("{other:?} instead of {end:?} after {so_far:?}"),
        }
    }
    String::from_utf8(text).unwrap()
}

pub(super) async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// Answers every request that has no body on every connection with this.
pub(super) async fn answering(response: &'static str) -> SocketAddr {
    let (listener, address) = origin().await;
    spawn_local(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            spawn_local(async move {
                let mut text = Vec::new();
                let mut piece = [0; 4096];
                while let Ok(len @ 1..) = stream.read(&mut piece).await {
                    text.extend_from_slice(&piece[..len]);
                    while let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") {
                        text.drain(..end + 4);
                        stream.write_all(response.as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    address
}

pub(super) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
