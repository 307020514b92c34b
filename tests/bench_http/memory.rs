//! Rows about memory: what an idle connection costs, and what slow readers of a huge body cost.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use alb_tests::wait;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, pki_types::ServerName};
use socket2::{Domain, Socket, Type};

use crate::{
    arena::Arena,
    cpu::usage,
    load,
    peer::{Kind, Proxy},
};

/// Idle connections; two descriptors each would not fit into one process's limit twice.
const IDLE: usize = 9_000;
/// Clients that hardly read.
const SLOW: usize = 1_000;
/// How long slow readers are looked at.
const WATCH: Duration = Duration::from_secs(10);

const REQUEST: &[u8] = b"GET /small HTTP/1.1\r\nHost: bench.test\r\n\r\n";

/// Prints the rows; each proxy is started afresh for each.
pub(crate) fn rows(alb: &Path, peers: &Path, kinds: &[Kind], wanted: &dyn Fn(&str) -> bool) {
    // Runtimes that give memory back whenever they like would only blur the table.
    let kinds = kinds
        .iter()
        .copied()
        .filter(|kind| matches!(kind, Kind::Alb | Kind::Nginx | Kind::Haproxy | Kind::Haproxy28));
    let kinds: Vec<Kind> = kinds.collect();
    let fresh = |kind| {
        let arena = Arena::empty();
        let proxy = arena.start(kind, 10, false, alb, peers);
        load::wrk(&arena, &format!("http://{}/small", proxy.address), 64, 1, &[]);
        load::wrk(&arena, &format!("https://{}/small", proxy.address), 64, 1, &[]);
        (proxy, arena)
    };
    if wanted("memory, idle plain") {
        println!("\nmemory, idle plain: {IDLE} kept-alive connections after one request each");
        for &kind in &kinds {
            let (proxy, arena) = fresh(kind);
            report(&proxy, IDLE, || plain(&arena, proxy.address, IDLE));
        }
    }
    if wanted("memory, idle TLS") {
        println!("\nmemory, idle TLS: {IDLE} kept-alive connections after one request each");
        for &kind in &kinds {
            let (proxy, arena) = fresh(kind);
            report(&proxy, IDLE, || tls(&arena, proxy.address, IDLE));
        }
    }
    if wanted("memory, slow readers") {
        println!("\nmemory, slow readers: {SLOW} clients that read a 1 GiB body at a trickle");
        for &kind in &kinds {
            let (proxy, arena) = fresh(kind);
            slow_readers(&arena, &proxy);
        }
    }
}

/// Holds what `open` opens and prints how much the proxy grew.
fn report<T>(proxy: &Proxy, count: usize, open: impl FnOnce() -> Vec<T>) {
    let before = usage(proxy.group()).resident;
    let held = open();
    let after = settled(proxy);
    #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
    let each = after.saturating_sub(before) as f64 / count as f64 / 1024.0;
    println!(
        "  {:<12} {each:>6.1} KiB a connection; {} -> {} MiB",
        proxy.kind.name(),
        before >> 20,
        after >> 20
    );
    drop(held);
}

/// Resident memory once it has stopped growing.
fn settled(proxy: &Proxy) -> u64 {
    let mut last = usage(proxy.group()).resident;
    let mut calm = 0;
    wait::until("memory to stop growing", Duration::from_secs(20), || {
        let now = usage(proxy.group()).resident;
        calm = if now > last { 0 } else { calm + 1 };
        last = now;
        (calm >= 50).then_some(now)
    })
}

fn plain(arena: &Arena, to: Ipv4Addr, count: usize) -> Vec<TcpStream> {
    arena.namespace.enter(|| {
        let one = || {
            let mut stream = TcpStream::connect((to, 80)).expect("connecting");
            stream.write_all(REQUEST).expect("sending a request");
            answer(&mut stream);
            stream
        };
        (0..count).map(|_| one()).collect()
    })
}

type Secure = StreamOwned<ClientConnection, TcpStream>;

fn tls(arena: &Arena, to: Ipv4Addr, count: usize) -> Vec<Secure> {
    let config = Arc::new(arena.trust());
    arena.namespace.enter(|| {
        let one = || {
            let name = ServerName::try_from("bench.test").expect("a name");
            let client = ClientConnection::new(Arc::clone(&config), name).expect("a client");
            let socket = TcpStream::connect((to, 443)).expect("connecting");
            let mut stream = StreamOwned::new(client, socket);
            stream.write_all(REQUEST).expect("sending a request");
            answer(&mut stream);
            stream
        };
        (0..count).map(|_| one()).collect()
    })
}

/// Reads until the end of the origin's 200 bytes.
fn answer(stream: &mut impl std::io::Read) {
    let mut got = Vec::new();
    let mut buffer = [0; 1024];
    while !got.ends_with(&[b'x'; 200]) {
        let length = stream.read(&mut buffer).expect("reading an answer");
        assert!(length > 0, "the proxy closed: {}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&buffer[..length]);
    }
}

fn slow_readers(arena: &Arena, proxy: &Proxy) {
    let open = |path: &str| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let to = std::net::SocketAddr::from((proxy.address, 80));
        socket.connect(&to.into()).expect("connecting");
        let mut stream = TcpStream::from(socket);
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench.test\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sending a request");
        stream
    };
    let namespace = &arena.namespace;
    // Warm: as many connections, each with a request that ends.
    let warm: Vec<TcpStream> = namespace.enter(|| (0..SLOW).map(|_| open("/small")).collect());
    for mut stream in warm {
        answer(&mut stream);
    }
    let before = settled(proxy);
    let mut readers: Vec<TcpStream> =
        namespace.enter(|| (0..SLOW).map(|_| open("/huge")).collect());
    let start = std::time::Instant::now();
    let mut most = before;
    let mut buffer = [0; 512];
    while start.elapsed() < WATCH {
        for reader in &mut readers {
            // A trickle, so that nobody takes the client for dead.
            reader.read_exact(&mut buffer).expect("reading a little");
        }
        most = most.max(usage(proxy.group()).resident);
    }
    #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
    let growth = (most as f64 / before as f64 - 1.0) * 100.0;
    println!(
        "  {:<12} {growth:>6.1} % growth; {} -> {} MiB",
        proxy.kind.name(),
        before >> 20,
        most >> 20
    );
}

impl Arena {
    /// A client that trusts the run's certificate only.
    fn trust(&self) -> ClientConfig {
        use rustls::pki_types::{CertificateDer, pem::PemObject as _};

        let path = self.certificate();
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(path).expect("a certificate");
        roots.add(certificate).expect("a root");
        let mut config =
            ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        config
    }
}
