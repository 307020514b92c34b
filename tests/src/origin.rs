//! An HTTP/1.1 origin that does what a test says and keeps every byte it is sent.
//!
//! It knows just enough of HTTP to find the end of a request; whether that is right is judged by
//! the test, from the bytes.

mod exchange;

use std::{
    io,
    net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

pub use exchange::Exchange;

use crate::{topology::Host, wait};

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The next request is read.
    Next,
    /// It is closed.
    Close,
    /// It is closed with a RST.
    Reset,
}

/// What a request is answered with.
pub trait Act: Fn(&mut Exchange<'_>) -> io::Result<Then> + Send + Sync + 'static {}
impl<F: Fn(&mut Exchange<'_>) -> io::Result<Then> + Send + Sync + 'static> Act for F {}

/// The server.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Owns the listener.
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    stopping: AtomicBool,
    /// Connections open now.
    open: AtomicUsize,
    /// Requests of which the head has come.
    requests: AtomicUsize,
    /// All bytes of each connection, in the order they were accepted.
    heard: Mutex<Vec<Vec<u8>>>,
    streams: Mutex<Vec<TcpStream>>,
}

impl Origin {
    /// Listens on every address of the host, of both families.
    pub fn start(host: &Host, port: u16, act: impl Act) -> Self {
        let listener = host.namespace.listen((Ipv6Addr::UNSPECIFIED, port).into());
        listener.set_nonblocking(true).expect("a listener can poll");
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        let acceptor = thread::spawn(move || accept(&accepting, &listener, &Arc::new(act)));
        let address = SocketAddr::new(host.address.into(), port);
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// One that reads each request to its end and answers 200 with `text`.
    pub fn answering(host: &Host, port: u16, text: &'static str) -> Self {
        Self::start(host, port, move |exchange: &mut Exchange<'_>| {
            exchange.read_body()?;
            exchange.answer(200, text)
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every byte of each connection so far, in the order they were accepted; what is not ASCII
    /// is escaped.
    pub fn heard(&self) -> Vec<String> {
        lock(&self.shared.heard).iter().map(|bytes| text(bytes)).collect()
    }

    /// Forgets what it heard; not while connections are open whose bytes matter later.
    pub fn forget(&self) {
        lock(&self.shared.heard).iter_mut().for_each(Vec::clear);
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        lock(&self.shared.heard).len()
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::Acquire)
    }

    /// Requests of which the head has come.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Acquire)
    }

    /// Waits until this many connections are open.
    pub fn wait_open(&self, count: usize) {
        let what = format!("{count} connections open at the origin");
        wait::until(&what, wait::LONG, || (self.open() == count).then_some(()));
    }

    /// Waits until this many requests have come.
    pub fn wait_requests(&self, count: usize) {
        let what = format!("{count} requests at the origin");
        wait::until(&what, wait::LONG, || (self.requests() >= count).then_some(()));
    }

    /// Ends it as `kill -9` ends a process: connections are reset, nobody listens.
    pub fn kill(&mut self) {
        self.stop(|stream| {
            drop(socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)));
        });
    }

    fn stop(&mut self, before: impl Fn(&TcpStream)) {
        self.shared.stopping.store(true, Ordering::Release);
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().expect("the acceptor ends when told");
        }
        for stream in lock(&self.shared.streams).drain(..) {
            before(&stream);
            // The peer may have gone first.
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop(|_| {});
    }
}

/// What is not printable ASCII or a line end is escaped.
pub fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\r' | b'\n' | 0x20..=0x7e => text.push(char::from(*byte)),
            other => text.extend(other.escape_ascii().map(char::from)),
        }
    }
    text
}

fn accept<A: Act>(shared: &Arc<Shared>, listener: &TcpListener, act: &Arc<A>) {
    while !shared.stopping.load(Ordering::Acquire) {
        match listener.accept() {
            Ok((stream, _)) => serve_in_thread(shared, stream, act),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("the origin cannot accept: {error}"),
        }
    }
}

fn serve_in_thread<A: Act>(shared: &Arc<Shared>, stream: TcpStream, act: &Arc<A>) {
    stream.set_nonblocking(false).expect("a stream can block");
    stream.set_nodelay(true).expect("a stream takes options");
    let Ok(registered) = stream.try_clone() else { return };
    lock(&shared.streams).push(registered);
    let number = {
        let mut heard = lock(&shared.heard);
        heard.push(Vec::new());
        heard.len() - 1
    };
    shared.open.fetch_add(1, Ordering::Release);
    let (shared, act) = (Arc::clone(shared), Arc::clone(act));
    thread::spawn(move || {
        // A peer that goes away is what some tests are about.
        let then = serve(&shared, number, &stream, &*act).unwrap_or(Then::Close);
        if then == Then::Reset {
            drop(socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)));
        } else {
            drop(stream.shutdown(Shutdown::Both));
        }
        let own = stream.peer_addr().ok();
        lock(&shared.streams).retain(|other| own.is_some() && other.peer_addr().ok() != own);
        drop(stream);
        shared.open.fetch_sub(1, Ordering::Release);
    });
}

fn serve(shared: &Shared, number: usize, stream: &TcpStream, act: &impl Act) -> io::Result<Then> {
    let mut rest = Vec::new();
    loop {
        let Some(mut exchange) = Exchange::read(shared, number, stream, rest)? else {
            return Ok(Then::Close);
        };
        shared.requests.fetch_add(1, Ordering::Release);
        match act(&mut exchange)? {
            Then::Next => rest = exchange.into_rest(),
            end @ (Then::Close | Then::Reset) => return Ok(end),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn keep(&self, number: usize, bytes: &[u8]) {
        // A test that moves bulk data looks at hashes, not at this.
        const MOST: usize = 1 << 20;
        let mut heard = lock(&self.heard);
        let kept = &mut heard[number];
        kept.extend_from_slice(&bytes[..bytes.len().min(MOST.saturating_sub(kept.len()))]);
    }
}
