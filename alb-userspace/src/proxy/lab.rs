//! What tests of connections have in common: a load balancer to serve, its worker, and origins
//! that do as they are told.

use std::{net::SocketAddr, num::NonZeroU16, rc::Rc, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    task::{LocalSet, spawn_local},
    time::timeout,
};

use super::{
    access_log::{AccessLog, WorkerLog},
    cut::Cuts,
    mirror::Mirrors,
    plan::{Plan, Secrets},
    stats::WorkerId,
    upstream,
    worker::{Open, Worker},
};
use crate::{
    model::{
        self, BackendProtocol, DatapathMode, ListenerHttp, ListenerProtocol, LogFormat, Model,
    },
    state::{Store, TargetStates, fixture},
};

/// Longer than anything here takes.
pub(in crate::proxy) const LONG: Duration = Duration::from_mins(1);

/// What `answering` may answer.
pub(in crate::proxy) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub(in crate::proxy) const HTTP: ListenerHttp = ListenerHttp {
    header_bytes: 65_536,
    headers: 128,
    request_line_bytes: 16_384,
    body_bytes: 0,
    header_timeout: LONG,
    body_idle_timeout: LONG,
    write_idle_timeout: LONG,
};

/// Runs a test on one thread, as a worker does.
pub(in crate::proxy) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// Targets with names that begin so.
pub(in crate::proxy) fn named(prefix: &str, targets: &[SocketAddr]) -> Vec<model::Target> {
    let target =
        |(at, address): (usize, &SocketAddr)| fixture::target(&format!("{prefix}{at}"), *address);
    targets.iter().enumerate().map(target).collect()
}

/// A load balancer whose one listener leads to one backend with these targets, all served by the
/// proxy.
pub(in crate::proxy) fn model(targets: &[SocketAddr], protocol: ListenerProtocol) -> Model {
    let mut model = fixture::model(&[("web", None)], &named("t", targets));
    model.node.datapath = DatapathMode::Proxy;
    let is_http = matches!(protocol, ListenerProtocol::Http | ListenerProtocol::Https);
    let balancer = &mut model.load_balancers[0];
    let backend = &mut balancer.backends[0];
    backend.protocol = if is_http { BackendProtocol::Http } else { BackendProtocol::Tcp };
    backend.response_timeout = LONG;
    backend.connect_timeout = LONG;
    backend.retries = 1;
    balancer.listeners = vec![model::Listener {
        id: "http".into(),
        name: "http".into(),
        description: String::new(),
        protocol,
        port: NonZeroU16::new(80).unwrap(),
        enabled: true,
        backend: "web".into(),
        url_map: None,
        idle_timeout: LONG,
        max_connections: None,
        max_qps: None,
        tls: None,
        http: is_http.then_some(HTTP),
    }];
    model
}

pub(in crate::proxy) fn compile(model: &Model) -> Arc<Plan> {
    let store = Store::new(model.clone(), &TargetStates::default());
    Arc::new(Plan::compile(&store.snapshot(), &Secrets::of_a_test(), &Plan::default()))
}

pub(in crate::proxy) fn worker(log: Option<WorkerLog>) -> Rc<Worker> {
    Rc::new(Worker {
        id: WorkerId(0),
        passive: crate::health::passive().0,
        pool: upstream::Pool::default(),
        log,
        open: Open::default(),
        cuts: Cuts::default(),
        mirrors: Mirrors::default(),
    })
}

/// An access log, with the place of its file.
pub(in crate::proxy) struct Log {
    pub(in crate::proxy) log: Arc<AccessLog>,
    dir: tempfile::TempDir,
}

impl Log {
    pub(in crate::proxy) fn start(format: LogFormat) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("access.log");
        let settings =
            model::AccessLog { file, format, max_bytes: 1 << 20, keep: 1, tcp_flows: false };
        Self { log: Arc::new(AccessLog::start(&settings).unwrap()), dir }
    }

    /// Ends it: all its lines.
    pub(in crate::proxy) async fn text(self, worker: &Worker) -> String {
        worker.log.as_ref().unwrap().flush();
        self.log.end(LONG).await;
        std::fs::read_to_string(self.dir.path().join("access.log")).unwrap()
    }
}

pub(in crate::proxy) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(LONG, future).await.expect("within the time")
}

pub(in crate::proxy) async fn until(mut done: impl FnMut() -> bool) {
    within(async {
        while !done() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A socket that targets listen on.
pub(in crate::proxy) async fn origin() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Nobody listens there.
pub(in crate::proxy) async fn down() -> SocketAddr {
    origin().await.1
}

/// A target on which connects neither succeed nor fail, while what else is returned lives: its
/// queue is full.
pub(in crate::proxy) async fn hanging() -> (SocketAddr, impl Sized) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    // Linux takes one more than it is told; how many others take is found out.
    while let Ok(connected) = timeout(Duration::from_millis(100), TcpStream::connect(address)).await
    {
        waiting.push(connected.unwrap());
        assert!(waiting.len() < 16, "a queue without an end");
    }
    (address, (listener, waiting))
}

pub(in crate::proxy) async fn accept(listener: &TcpListener) -> TcpStream {
    timeout(LONG, listener.accept()).await.expect("a connection").unwrap().0
}

/// Reads until what was read ends so.
pub(in crate::proxy) async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let read = timeout(LONG, stream.read_u8()).await;
        let so_far = String::from_utf8_lossy(&text).into_owned();
        match read.unwrap_or_else(|_| panic!("waited for {end:?} after {so_far:?}")) {
            Ok(byte) => text.push(byte),
            Err(error) => panic!("{error} after {so_far:?}"),
        }
    }
    String::from_utf8(text).unwrap()
}

/// Answers every request that has no body on every connection with this, keeping connections.
pub(in crate::proxy) async fn answering(response: impl Into<String>) -> SocketAddr {
    let (listener, address) = origin().await;
    let response: String = response.into();
    let response: Rc<str> = response.into();
    spawn_local(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let response = Rc::clone(&response);
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

/// The counts that are not 0.
pub(in crate::proxy) fn some(counts: &std::collections::BTreeMap<String, u64>) -> Vec<(&str, u64)> {
    counts.iter().filter(|(_, n)| **n > 0).map(|(word, n)| (&**word, *n)).collect()
}
