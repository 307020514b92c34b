//! Clients that misbehave, over real sockets with short limits.

use std::{net::SocketAddr, time::Duration};

use hyper::{Request, StatusCode, body::Incoming};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{Limits, reply, serve};

/// Nothing here may take longer.
const DEADLINE: Duration = Duration::from_mins(1);

/// Heads must come quickly, lifetimes do not matter.
const QUICK_HEADS: Limits = Limits {
    connections: 8,
    head_bytes: 8192,
    head: Duration::from_secs(1),
    lifetime: Duration::from_hours(1),
    grace: Duration::from_secs(1),
};

/// Lifetimes are short, heads may take long.
const SHORT_LIVES: Limits =
    Limits { head: Duration::from_hours(1), lifetime: Duration::from_millis(300), ..QUICK_HEADS };

/// Two connections that may take their time.
const TWO_PLACES: Limits = Limits { connections: 2, head: Duration::from_hours(1), ..QUICK_HEADS };

/// More than the sockets of one connection buffer.
const LARGE: usize = 32 * 1024 * 1024;

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    /// Requests for `/wait` that have come so far.
    waiting: watch::Receiver<usize>,
    /// Lets them be answered.
    go_on: watch::Sender<bool>,
}

impl Server {
    /// Answers every request with its path: `/large` with a large body, `/wait` when told to.
    async fn start(limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback socket");
        let address = listener.local_addr().expect("bound address");
        let (stop, stopped) = oneshot::channel::<()>();
        let (waiting, go_on) = (watch::Sender::new(0), watch::Sender::new(false));
        let (count, gate) = (waiting.clone(), go_on.subscribe());
        let task = tokio::spawn(async move {
            let echo = move |request: Request<Incoming>| {
                let (count, mut gate) = (count.clone(), gate.clone());
                async move {
                    let path = request.uri().path();
                    if path == "/wait" {
                        count.send_modify(|waiting| *waiting += 1);
                        gate.wait_for(|open| *open).await.expect("the test is running");
                    }
                    let body = if path == "/large" { "x".repeat(LARGE) } else { path.to_owned() };
                    reply::text(StatusCode::OK, "text/plain", body)
                }
            };
            let stopped = async { drop(stopped.await) };
            serve(&listener, limits, echo, stopped).await;
        });
        Self { address, stop, task, waiting: waiting.subscribe(), go_on }
    }

    async fn connect(&self) -> TcpStream {
        within(TcpStream::connect(self.address)).await.expect("connect")
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(DEADLINE, work).await.expect("deadline")
}

/// Sends `bytes`, then reads until the server closes.
async fn exchange(server: &Server, bytes: &[u8]) -> String {
    let mut stream = server.connect().await;
    // The server may close before it has read all of it.
    drop(stream.write_all(bytes).await);
    read_all(&mut stream).await
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A server that closes with unread input resets the connection: what came before counts.
    drop(within(stream.read_to_end(&mut answer)).await);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn what_is_not_http_is_answered_and_closed() {
    let server = Server::start(QUICK_HEADS).await;
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000));
    let wide = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(20_000));
    for (request, expected) in [
        ("\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", "400"),
        ("hello\r\n\r\n", "400"),
        ("GET / HTTP/9.9\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", "400"),
        (many.as_str(), "431"),
        (long.as_str(), "431"),
        (wide.as_str(), "431"),
    ] {
        let answer = exchange(&server, request.as_bytes()).await;
        let start = format!("HTTP/1.1 {expected} ");
        assert!(answer.starts_with(&start), "{request:.40?} → {answer:.60?}");
    }
    assert!(exchange(&server, b"GET /still HTTP/1.0\r\n\r\n").await.ends_with("/still"));
}

/// Sends bytes now and then until the server has closed the connection.
async fn drip_until_cut(stream: &mut TcpStream, bytes: &[u8]) {
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    while stream.write_all(bytes).await.is_ok() {
        pause.tick().await;
    }
}

/// A client asks and is served.
async fn assert_served(server: &Server) {
    let answer = exchange(server, b"GET /next HTTP/1.0\r\n\r\n").await;
    assert!(answer.ends_with("/next"), "{answer}");
}

#[tokio::test]
async fn silent_clients_give_their_connections_back() {
    let server = Server::start(QUICK_HEADS).await;
    let mut silent = server.connect().await;
    let mut half = server.connect().await;
    half.write_all(b"GET / HTTP/1.1\r\nhost: ").await.expect("write");
    assert_served(&server).await;
    for stream in [&mut silent, &mut half] {
        let rest = read_all(stream).await;
        assert!(!rest.starts_with("HTTP/1.1 200"), "{rest}");
    }
}

#[tokio::test]
async fn a_new_client_takes_the_place_of_the_longest_silent_one() {
    let server = Server::start(TWO_PLACES).await;
    let mut first = server.connect().await;
    let mut second = server.connect().await;
    assert_served(&server).await;
    assert_eq!(read_all(&mut first).await, "");
    second.write_all(b"GET /second HTTP/1.0\r\n\r\n").await.expect("write");
    assert!(read_all(&mut second).await.ends_with("/second"), "it had to go first");
}

#[tokio::test]
async fn requests_being_worked_on_keep_their_place() {
    let mut server = Server::start(TWO_PLACES).await;
    let mut working = [server.connect().await, server.connect().await];
    for stream in &mut working {
        stream.write_all(b"GET /wait HTTP/1.0\r\n\r\n").await.expect("write");
    }
    within(server.waiting.wait_for(|waiting| *waiting == 2)).await.expect("server is running");
    let mut third = server.connect().await;
    third.write_all(b"GET /third HTTP/1.0\r\n\r\n").await.expect("write");
    let early = timeout(Duration::from_millis(100), third.readable()).await;
    assert!(early.is_err(), "there is no room for it yet");
    server.go_on.send_replace(true);
    for stream in &mut working {
        assert!(read_all(stream).await.ends_with("/wait"));
    }
    assert!(read_all(&mut third).await.ends_with("/third"));
}

#[tokio::test]
async fn clients_that_drip_or_idle_give_their_connections_back() {
    let server = Server::start(QUICK_HEADS).await;
    let mut dripping = server.connect().await;
    let drip = tokio::spawn(async move { drip_until_cut(&mut dripping, b"GET /").await });
    let mut idle = server.connect().await;
    idle.write_all(b"GET /one HTTP/1.1\r\n\r\n").await.expect("write");
    assert_served(&server).await;
    assert!(read_all(&mut idle).await.ends_with("/one"));
    within(drip).await.expect("the dripping connection was cut");
}

#[tokio::test]
async fn clients_that_do_not_read_give_their_connections_back() {
    let server = Server::start(SHORT_LIVES).await;
    let mut deaf = server.connect().await;
    deaf.write_all(b"GET /large HTTP/1.1\r\n\r\n").await.expect("write");
    within(drip_until_cut(&mut deaf, b" ")).await;
    assert!(read_all(&mut deaf).await.len() < LARGE);
}

#[tokio::test]
async fn a_connection_in_use_ends_with_its_lifetime() {
    let server = Server::start(SHORT_LIVES).await;
    let mut stream = server.connect().await;
    let ended = async {
        let mut buffer = [0; 1024];
        while stream.write_all(b"GET /again HTTP/1.1\r\n\r\n").await.is_ok() {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    };
    within(ended).await;
}

#[tokio::test]
async fn shutdown_ends_idle_connections_and_the_task() {
    let server = Server::start(Limits::default()).await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET /one HTTP/1.1\r\n\r\n").await.expect("write");
    let mut first = [0; 1024];
    assert_ne!(within(idle.read(&mut first)).await.expect("answer"), 0);

    let Server { stop, task, .. } = server;
    stop.send(()).expect("server is running");
    assert_eq!(read_all(&mut idle).await, "");
    within(task).await.expect("server ends without a panic");
}
