//! Real clients: connect from inside a namespace, ask who answered, move bulk data.

pub mod bulk;

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use crate::{netns::Namespace, wait};

/// Longer than a SYN's first two retransmissions.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connects from a namespace, optionally from one of its addresses.
pub fn connect(
    namespace: &Namespace,
    from: Option<IpAddr>,
    to: SocketAddr,
) -> io::Result<TcpStream> {
    namespace.enter(|| connect_here(from, to))
}

fn connect_here(from: Option<IpAddr>, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    if let Some(address) = from {
        socket.bind(&SocketAddr::from((address, 0)).into())?;
    }
    socket.connect_timeout(&to.into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(wait::LONG))?;
    stream.set_write_timeout(Some(wait::LONG))?;
    Ok(stream)
}

/// Asks the small server for its name on a new connection.
pub fn who(namespace: &Namespace, from: Option<IpAddr>, to: SocketAddr) -> io::Result<String> {
    namespace.enter(|| who_here(from, to))
}

/// Asks the small server whom it sees on a new connection; also the client's own address.
pub fn seen(namespace: &Namespace, to: SocketAddr) -> io::Result<(String, SocketAddr)> {
    let (stream, answer) = namespace.enter(|| ask_who(None, to))?;
    let seen = answer.split_whitespace().nth(1).unwrap_or_default();
    Ok((seen.to_owned(), stream.local_addr()?))
}

/// As [`who`], from the namespace that the thread is in.
pub fn who_here(from: Option<IpAddr>, to: SocketAddr) -> io::Result<String> {
    let (_stream, answer) = ask_who(from, to)?;
    Ok(answer.split_whitespace().next().unwrap_or_default().to_owned())
}

fn ask_who(from: Option<IpAddr>, to: SocketAddr) -> io::Result<(TcpStream, String)> {
    let mut stream = connect_here(from, to)?;
    stream.write_all(b"who\n")?;
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer)?;
    match answer.split_whitespace().next() {
        Some(_) => Ok((stream, answer)),
        None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed without an answer")),
    }
}

/// Connects `count` times, one after the other, and counts who answered.
pub fn tally(
    namespace: &Namespace,
    to: SocketAddr,
    count: usize,
) -> io::Result<BTreeMap<String, usize>> {
    namespace.enter(|| {
        let mut answers = BTreeMap::new();
        for _ in 0..count {
            *answers.entry(who_here(None, to)?).or_default() += 1;
        }
        Ok(answers)
    })
}

/// A connection that stays open and is asked again and again.
#[derive(Debug)]
pub struct Conversation {
    /// Who answers.
    pub server: String,
    reader: BufReader<TcpStream>,
}

impl Conversation {
    /// Opens one with whoever the balancer chooses.
    pub fn open(namespace: &Namespace, to: SocketAddr) -> io::Result<Self> {
        let mut stream = connect(namespace, None, to)?;
        stream.write_all(b"echo\n")?;
        let mut reader = BufReader::new(stream);
        let mut server = String::new();
        reader.read_line(&mut server)?;
        Ok(Self { server: server.trim().to_owned(), reader })
    }

    /// Sends bytes and waits for the same bytes.
    pub fn exchange(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_ref().write_all(bytes)?;
        let mut answer = vec![0; bytes.len()];
        self.reader.read_exact(&mut answer)?;
        if answer == bytes {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the echo differs from what was sent"))
        }
    }

    /// Its own end.
    pub fn local(&self) -> SocketAddr {
        self.reader.get_ref().local_addr().expect("a connected socket")
    }

    /// Waits without a word until it ends, and says how: with an error in any case.
    pub fn wait(&mut self) -> io::Result<()> {
        self.reader.read_exact(&mut [0])
    }

    /// Ends it with a RST.
    pub fn reset(self) -> io::Result<()> {
        let socket = Socket::from(self.reader.into_inner());
        socket.set_linger(Some(Duration::ZERO))
    }

    /// Segments this end has sent again since it connected.
    pub fn retransmits(&self) -> io::Result<u32> {
        bulk::retransmits(self.reader.get_ref())
    }
}

/// One HTTP/1.0 request on a new connection; the body of a 200.
pub fn http_get(namespace: &Namespace, to: SocketAddr, path: &str) -> io::Result<String> {
    namespace.enter(|| http_get_here(to, path))
}

/// [`http_get`] for callers that are inside the namespace already.
pub fn http_get_here(to: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = connect_here(None, to)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", to.ip())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split_whitespace().nth(1);
    if status == Some("200") {
        Ok(body.to_owned())
    } else {
        Err(io::Error::other(format!("answered {:?}", head.lines().next().unwrap_or("nothing"))))
    }
}
