//! Connections over loopback: both ends are ours, and so is every way to end one.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::*;
use crate::{
    balance::{Selector, Settings},
    model::{Algorithm, BackendProtocol, Forwarded, UnhealthyFlows},
    proxy::plan::Target,
    state::Health,
};

mod ring;
mod slow;

const IDLE: Duration = Duration::from_secs(20);

async fn bind() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn backend(proxy_protocol: bool, retries: u8, addresses: &[SocketAddr]) -> Backend {
    let target = |address: &SocketAddr| {
        Arc::new(Target {
            id: address.to_string().into(),
            address: *address,
            weight: 10,
            zero_since: None,
            health: Health::Healthy,
            since: SystemTime::UNIX_EPOCH,
            admitted: true,
            shared: Arc::default(),
        })
    };
    let algorithm = Algorithm::RoundRobin;
    let settings = Settings { algorithm, panic: false, slow_start: Duration::ZERO };
    Backend {
        id: "b".into(),
        name: "b".into(),
        protocol: BackendProtocol::Tcp,
        algorithm,
        connect_timeout: Duration::from_secs(5),
        response_timeout: IDLE,
        pool_idle: IDLE,
        retries,
        sticky: None,
        forwarded: Forwarded::default(),
        proxy_protocol,
        slow_start: Duration::ZERO,
        connection_draining: Duration::ZERO,
        unhealthy_flows: UnhealthyFlows::Keep,
        panic_mode: false,
        passive_max_percent: 0,
        targets: addresses.iter().map(target).collect(),
        // Targets are chosen by the tests.
        selector: Selector::new(settings, &[], None),
        shared: Arc::default(),
    }
}

/// In order; remembers what failed.
struct InOrder {
    count: usize,
    failed: Vec<usize>,
}

impl Choose for InOrder {
    fn pick(&mut self, tried: &[usize]) -> Option<usize> {
        (0..self.count).find(|at| !tried.contains(at))
    }

    fn failed(&mut self, position: usize, _error: &ConnectError) {
        self.failed.push(position);
    }
}

/// Nobody follows.
struct Unfollowed;

impl Follow for Unfollowed {
    fn moved(&mut self, _received: u64, _sent: u64) {}

    fn poll_over(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

fn peer() -> Peer {
    Peer {
        client: "198.51.100.7:40000".parse().unwrap(),
        local: "198.18.0.10:5432".parse().unwrap(),
        tls: None,
    }
}

/// As a listener does it.
async fn forwarded<C: Side>(
    client: C,
    peer: &Peer,
    backend: &Backend,
    choose: &mut impl Choose,
    idle: Duration,
) -> Ended {
    let first = proxy_line(backend, peer);
    match reach(backend, choose).await {
        Ok(reached) => forward(client, reached, first.as_deref(), idle, &mut Unfollowed).await,
        Err(ended) => {
            reset(client.socket());
            ended
        }
    }
}

/// Forwards one connection between two ends; what they came to, and what is said of it.
async fn through<C, T>(
    backend: &Backend,
    target: &TcpListener,
    idle: Duration,
    client: impl AsyncFnOnce(TcpStream) -> C,
    server: impl AsyncFnOnce(TcpStream) -> T,
) -> (C, T, Ended) {
    let (front, address) = bind().await;
    let mine = TcpStream::connect(address).await.unwrap();
    let (theirs, _) = front.accept().await.unwrap();
    let peer = peer();
    let mut choose = InOrder { count: backend.targets.len(), failed: Vec::new() };
    let forwarding = Box::pin(forwarded(Plain::from(theirs), &peer, backend, &mut choose, idle));
    let serving = async { server(target.accept().await.unwrap().0).await };
    let all = async { tokio::join!(client(mine), serving, forwarding) };
    timeout(Duration::from_secs(30), ring::if_wanted(all)).await.expect("an end")
}

async fn rest(stream: &mut TcpStream) -> Result<Vec<u8>, ErrorKind> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.map(|_| bytes).map_err(|error| error.kind())
}

#[tokio::test]
async fn an_answer_comes_after_the_client_has_ended() {
    let (listener, address) = bind().await;
    let (answer, question, ended) = through(
        &backend(false, 0, &[address]),
        &listener,
        IDLE,
        async |mut stream| {
            stream.write_all(b"question").await.unwrap();
            stream.shutdown().await.unwrap();
            rest(&mut stream).await
        },
        async |mut stream| {
            let question = rest(&mut stream).await;
            stream.write_all(b"the answer").await.unwrap();
            question
        },
    )
    .await;
    assert_eq!(
        (question.unwrap(), answer.unwrap()),
        (b"question".to_vec(), b"the answer".to_vec())
    );
    assert_eq!(
        (ended.end, ended.target, ended.received, ended.sent),
        (End::Closed, Some(0), 8, 10)
    );
    assert!(ended.connect_time.is_some() && ended.target_time.is_some());
}

#[tokio::test]
async fn the_client_goes_on_after_the_target_has_ended() {
    let (listener, address) = bind().await;
    let (greeting, said, ended) = through(
        &backend(false, 0, &[address]),
        &listener,
        IDLE,
        async |mut stream| {
            let greeting = rest(&mut stream).await;
            stream.write_all(b"goodbye").await.unwrap();
            greeting
        },
        async |mut stream| {
            stream.write_all(b"hello").await.unwrap();
            stream.shutdown().await.unwrap();
            rest(&mut stream).await
        },
    )
    .await;
    assert_eq!((greeting.unwrap(), said.unwrap()), (b"hello".to_vec(), b"goodbye".to_vec()));
    assert_eq!(ended.end, End::Closed);
}

#[tokio::test]
async fn a_reset_goes_through_both_ways() {
    let (listener, address) = bind().await;
    let backend = backend(false, 0, &[address]);
    let ((), seen, ended) = through(
        &backend,
        &listener,
        IDLE,
        async |mut stream| {
            stream.write_all(b"x").await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'y');
            stream.set_zero_linger().unwrap();
        },
        async |mut stream| {
            assert_eq!(stream.read_u8().await.unwrap(), b'x');
            stream.write_all(b"y").await.unwrap();
            rest(&mut stream).await
        },
    )
    .await;
    assert_eq!((seen, ended.end), (Err(ErrorKind::ConnectionReset), End::ClientReset));
    let (seen, (), ended) = through(
        &backend,
        &listener,
        IDLE,
        async |mut stream| {
            stream.write_all(b"x").await.unwrap();
            rest(&mut stream).await
        },
        async |mut stream| {
            assert_eq!(stream.read_u8().await.unwrap(), b'x');
            stream.set_zero_linger().unwrap();
        },
    )
    .await;
    assert_eq!((seen, ended.end), (Err(ErrorKind::ConnectionReset), End::TargetReset));
    assert_eq!(backend.targets[0].in_flight(), 0);
}

#[tokio::test]
async fn a_target_that_speaks_first_gets_its_line_first() {
    let (listener, address) = bind().await;
    let (greeting, line, ended) = through(
        &backend(true, 0, &[address]),
        &listener,
        IDLE,
        async |mut stream| {
            let mut greeting = [0; 5];
            stream.read_exact(&mut greeting).await.unwrap();
            stream.write_all(b"login").await.unwrap();
            stream.shutdown().await.unwrap();
            greeting
        },
        async |mut stream| {
            let mut line = [0; 48];
            stream.read_exact(&mut line).await.unwrap();
            stream.write_all(b"ready").await.unwrap();
            assert_eq!(rest(&mut stream).await.unwrap(), b"login");
            String::from_utf8(line.to_vec()).unwrap()
        },
    )
    .await;
    assert_eq!(line, "PROXY TCP4 198.51.100.7 198.18.0.10 40000 5432\r\n");
    assert_eq!(&greeting, b"ready");
    assert_eq!((ended.received, ended.sent), (5, 5), "the line is not the client's");
}

#[tokio::test]
async fn what_a_client_said_already_follows_the_line_at_once() {
    let (listener, address) = bind().await;
    let (_, got, _) = through(
        &backend(true, 0, &[address]),
        &listener,
        IDLE,
        async |mut stream| {
            stream.write_all(b"GET").await.unwrap();
            stream.shutdown().await.unwrap();
            rest(&mut stream).await.unwrap()
        },
        async |mut stream| String::from_utf8(rest(&mut stream).await.unwrap()).unwrap(),
    )
    .await;
    assert_eq!(got, "PROXY TCP4 198.51.100.7 198.18.0.10 40000 5432\r\nGET");
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    bind().await.1
}

#[tokio::test]
async fn the_next_target_is_tried_as_often_as_allowed() {
    let (listener, address) = bind().await;
    let dead = [nobody().await, nobody().await];
    let (front, at) = bind().await;
    let mut mine = TcpStream::connect(at).await.unwrap();
    let (theirs, _) = front.accept().await.unwrap();
    let backend = backend(false, 1, &[dead[0], dead[1], address]);
    let mut choose = InOrder { count: 3, failed: Vec::new() };
    let ended = forwarded(Plain::from(theirs), &peer(), &backend, &mut choose, IDLE).await;
    assert_eq!(rest(&mut mine).await, Err(ErrorKind::ConnectionReset));
    assert_eq!((ended.end, ended.retries, ended.target), (End::ConnectFailed, 1, Some(1)));
    assert_eq!(choose.failed, [0, 1]);
    drop(listener);
}

#[tokio::test]
async fn another_target_takes_over_when_one_refuses() {
    let (listener, address) = bind().await;
    let backend = backend(false, 1, &[nobody().await, address]);
    let (seen, (), ended) = through(
        &backend,
        &listener,
        IDLE,
        async |mut stream| {
            stream.shutdown().await.unwrap();
            rest(&mut stream).await.unwrap()
        },
        async |mut stream| stream.write_all(b"here").await.unwrap(),
    )
    .await;
    assert_eq!(seen, b"here");
    assert_eq!((ended.target, ended.retries, ended.end), (Some(1), 1, End::Closed));
}

#[tokio::test]
async fn no_target_is_a_reset() {
    let (front, at) = bind().await;
    let mut mine = TcpStream::connect(at).await.unwrap();
    let (theirs, _) = front.accept().await.unwrap();
    let mut none = InOrder { count: 0, failed: Vec::new() };
    let ended =
        forwarded(Plain::from(theirs), &peer(), &backend(false, 3, &[]), &mut none, IDLE).await;
    assert_eq!((ended.end, ended.target, ended.retries), (End::NoTarget, None, 0));
    assert_eq!(rest(&mut mine).await, Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn silence_ends_a_connection_and_a_byte_puts_it_off() {
    let (listener, address) = bind().await;
    // Half of it is what a busy machine may take between two steps.
    let idle = Duration::from_millis(1_200);
    let began = std::time::Instant::now();
    let (seen, also_seen, ended) = through(
        &backend(false, 0, &[address]),
        &listener,
        idle,
        async |mut stream| {
            for _ in 0..3 {
                timeout(idle / 2, stream.read_u8()).await.expect_err("an end before its time");
                stream.write_all(b"x").await.unwrap();
            }
            rest(&mut stream).await
        },
        async |mut stream| rest(&mut stream).await,
    )
    .await;
    assert_eq!(ended.end, End::Idle);
    assert!(began.elapsed() >= idle / 2 * 3 + idle, "{:?}", began.elapsed());
    assert_eq!(seen, Err(ErrorKind::ConnectionReset));
    assert_eq!(also_seen, Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn an_early_answer_arrives_although_nobody_reads_the_question() {
    let (listener, address) = bind().await;
    let (answer, (), _) = through(
        &backend(false, 0, &[address]),
        &listener,
        IDLE,
        async |mut stream| {
            let (mut reader, mut writer) = stream.split();
            let asking = async {
                let block = vec![7; 1 << 20];
                while writer.write_all(&block).await.is_ok() {}
            };
            let mut answer = [0; 9];
            let listening = async {
                reader.read_exact(&mut answer).await.unwrap();
                answer
            };
            tokio::select! {
                biased;
                answer = listening => answer,
                () = asking => panic!("the answer was lost"),
            }
        },
        async |mut stream| {
            let mut some = [0; 1000];
            stream.read_exact(&mut some).await.unwrap();
            stream.write_all(b"too large").await.unwrap();
        },
    )
    .await;
    assert_eq!(&answer, b"too large");
}

fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

async fn bulk(up: Vec<u8>, down: Vec<u8>, pieces: usize) {
    let (listener, address) = bind().await;
    let send = async |mut writer: tokio::net::tcp::OwnedWriteHalf, bytes: &[u8]| {
        for piece in bytes.chunks(pieces) {
            writer.write_all(piece).await.unwrap();
        }
        writer.shutdown().await.unwrap();
    };
    let receive = async |mut reader: tokio::net::tcp::OwnedReadHalf| {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).await.unwrap();
        bytes
    };
    let (at_client, at_target, ended) = through(
        &backend(false, 0, &[address]),
        &listener,
        IDLE,
        async |stream| {
            let (reader, writer) = stream.into_split();
            tokio::join!(receive(reader), send(writer, &up)).0
        },
        async |stream| {
            let (reader, writer) = stream.into_split();
            tokio::join!(receive(reader), send(writer, &down)).0
        },
    )
    .await;
    assert!(at_client == down, "{} of {} bytes, or others", at_client.len(), down.len());
    assert!(at_target == up, "{} of {} bytes, or others", at_target.len(), up.len());
    assert_eq!((ended.received, ended.sent), (up.len() as u64, down.len() as u64));
}

#[tokio::test]
async fn bulk_arrives_as_it_was_sent() {
    bulk(pattern(1, 24 << 20), pattern(2, 24 << 20), 1 << 20).await;
    bulk(pattern(3, 100), pattern(4, 16 << 20), 70_000).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_mix_of_sizes_arrives_as_it_was_sent(
        up in 0_usize..2_000_000, down in 0_usize..2_000_000, pieces in 100_usize..200_000, seed: u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(bulk(pattern(seed, up), pattern(!seed, down), pieces.max(up.max(down) / 500)));
    }
}

#[tokio::test]
async fn tls_ends_are_half_closes() {
    let (tls, client) = crate::proxy::tls::tests::pair().await;
    let (listener, address) = bind().await;
    let peer = peer();
    let backend = backend(true, 0, &[address]);
    let mut choose = InOrder { count: 1, failed: Vec::new() };
    let forwarding = forwarded(tls, &peer, &backend, &mut choose, IDLE);
    let asking = async {
        let mut client = client;
        client.write_all(&pattern(5, 3 << 20)).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let serving = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let question = rest(&mut stream).await.unwrap();
        stream.write_all(&pattern(6, 2 << 20)).await.unwrap();
        question
    };
    let (answer, question, ended) = tokio::join!(asking, serving, forwarding);
    let line = b"PROXY TCP4 198.51.100.7 198.18.0.10 40000 5432\r\n";
    assert!(question.starts_with(line) && question[line.len()..] == pattern(5, 3 << 20));
    assert!(answer == pattern(6, 2 << 20), "all of the answer, and a clean end");
    assert_eq!((ended.end, ended.received, ended.sent), (End::Closed, 3 << 20, 2 << 20));
}
