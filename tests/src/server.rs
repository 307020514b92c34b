//! Real servers inside a namespace: a small one in this process that tests can question, and
//! nginx.
//!
//! The small one reads one line, `who`, `echo`, `take {bytes}` or `give {bytes}`, and answers:
//! its name and the peer it sees; what it gets; the hash of what it got; that many bytes. A PROXY
//! protocol line before that names the peer.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Child, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tempfile::TempDir;

use crate::{client::bulk, netns::Namespace, topology::Host, wait};

/// The small server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Owns the listener.
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    accepted: AtomicUsize,
    stopping: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Server {
    /// Listens on every IPv4 address of the host.
    pub fn start(host: &Host, port: u16, name: &str) -> Self {
        Self::on(host, Ipv4Addr::UNSPECIFIED.into(), port, name)
    }

    /// Listens on this address of the host.
    pub fn on(host: &Host, address: IpAddr, port: u16, name: &str) -> Self {
        let listener = host.namespace.listen((address, port).into());
        listener.set_nonblocking(true).expect("a listener can poll");
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            accepted: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        let acceptor = Some(thread::spawn(move || accepting.accept(&listener)));
        Self { address: SocketAddr::new(host.address.into(), port), shared, acceptor }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far, the balancer's health checks included.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.shared.open().len()
    }

    /// Stops listening; open connections live on.
    pub fn close_listener(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().expect("the acceptor ends when told");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nobody is accepted by a server that is gone.
        self.shared.stopping.store(true, Ordering::Release);
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
        for stream in self.shared.open().drain(..) {
            // The peer may have gone first.
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

impl Shared {
    fn open(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        while !self.stopping.load(Ordering::Acquire) {
            match listener.accept() {
                Ok((stream, peer)) => self.serve_in_thread(stream, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("{} cannot accept: {error}", self.name),
            }
        }
    }

    fn serve_in_thread(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        stream.set_nonblocking(false).expect("a stream can block");
        let Ok(registered) = stream.try_clone() else { return };
        self.open().push(registered);
        let shared = Arc::clone(self);
        thread::spawn(move || {
            // A client that goes away is its own business.
            drop(serve(&shared.name, &stream, peer));
            drop(stream.shutdown(Shutdown::Both));
            shared.open().retain(|other| other.peer_addr().is_ok_and(|address| address != peer));
        });
    }
}

fn serve(name: &str, stream: &TcpStream, peer: SocketAddr) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut peer = peer.to_string();
    if let Some(proxied) = line.strip_prefix("PROXY TCP4 ") {
        // Source and destination address, source and destination port.
        let parts: Vec<&str> = proxied.split_whitespace().collect();
        peer = format!("{}:{}", parts[0], parts[2]);
        line.clear();
        reader.read_line(&mut line)?;
    }
    let mut words = line.split_whitespace();
    let bytes = |word: Option<&str>| word.and_then(|text| text.parse().ok()).unwrap_or(0);
    match words.next() {
        Some("who") => {
            writer.write_all(format!("{name} {peer}\n").as_bytes())?;
            // The client closes first, as clients of short requests do.
            reader.read_line(&mut line)?;
        }
        Some("echo") => {
            writer.write_all(format!("{name}\n").as_bytes())?;
            io::copy(&mut reader, &mut writer)?;
        }
        Some("take") => {
            let hash = bulk::hash_of(&mut reader, bytes(words.next()))?;
            writer.write_all(format!("{hash}\n").as_bytes())?;
        }
        Some("give") => bulk::send(&mut writer, bytes(words.next())).map(drop)?,
        _ => writer.write_all(b"unknown request\n")?,
    }
    Ok(())
}

/// An nginx that answers every request with its name, and `/seen` also with what a balancer told it
/// of the client.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    _dir: TempDir,
}

/// What `/seen` shows.
const SEEN: [&str; 8] = [
    "Host",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Port",
    "X-Forwarded-Host",
    "X-Forwarded-LBIP",
    "X-Forwarded-Client-Port",
    "X-Request-Id",
];

impl Nginx {
    /// Starts it in the namespace and waits until it listens.
    pub fn start(namespace: &Namespace, port: u16, name: &str) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("alb-nginx-").tempdir()?;
        let path = dir.path().display();
        let config = dir.path().join("nginx.conf");
        fs::write(
            &config,
            format!(
                "daemon off; master_process off; pid {path}/pid; error_log stderr warn;\n\
                 events {{ worker_connections 4096; }}\n\
                 http {{\n  access_log off; client_body_temp_path {path}/a; \
                 proxy_temp_path {path}/b; fastcgi_temp_path {path}/c; uwsgi_temp_path {path}/d; \
                 scgi_temp_path {path}/e;\n  \
                 server {{ listen {port} backlog=4096; location / {{ return 200 \"{name}\\n\"; }}\n  \
                 location = /seen {{ return 200 \"{name}\\n{}\"; }} }}\n}}\n",
                SEEN.map(|field| {
                    let variable = field.to_ascii_lowercase().replace('-', "_");
                    format!("{field}: $http_{variable}\\n")
                })
                .concat()
            ),
        )?;
        let mut command = namespace.command("nginx");
        command.arg("-e").arg("stderr").arg("-c").arg(&config).arg("-p").arg(dir.path());
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let listening = wait::within(wait::LONG, || {
            let connected = namespace.enter(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)));
            connected.ok().map(drop)
        });
        if listening.is_none() {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::other(format!("nginx for {name} does not listen on {port}")));
        }
        Ok(Self { child, _dir: dir })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
