//! Clients whose connections are held: over plain HTTP/1.1, over TLS, and over h2.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    client::Resumption,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use socket2::{Domain, Socket, Type};

use crate::arena::Arena;

/// The origin's answer to `/small`.
const SMALL: [u8; 200] = [b'x'; 200];

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http,
    Https,
    H2,
}

/// One connection.
pub(crate) struct Client {
    stream: Box<dyn Stream>,
    is_h2: bool,
    asked: u32,
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

impl Client {
    /// Opens so many.
    pub(crate) fn open(arena: &Arena, to: Ipv4Addr, speaks: Speaks, count: usize) -> Vec<Self> {
        let config = Arc::new(trust(arena, speaks));
        arena.namespace.enter(|| (0..count).map(|_| Self::new(to, speaks, &config)).collect())
    }

    fn new(to: Ipv4Addr, speaks: Speaks, config: &Arc<ClientConfig>) -> Self {
        let port = if speaks == Speaks::Http { 80 } else { 443 };
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        socket.connect(&SocketAddr::from((to, port)).into()).expect("connecting");
        let mut socket = TcpStream::from(socket);
        let is_h2 = speaks == Speaks::H2;
        let mut stream: Box<dyn Stream> = if speaks == Speaks::Http {
            Box::new(socket)
        } else {
            let name = ServerName::try_from("bench.test").expect("a name");
            let mut client = ClientConnection::new(Arc::clone(config), name).expect("a client");
            // Now, as browsers do: proxies do not wait for it for as long as opening all may take.
            while client.is_handshaking() {
                client.complete_io(&mut socket).expect("a handshake");
            }
            Box::new(StreamOwned::new(client, socket))
        };
        if is_h2 {
            stream.write_all(&h2::preface()).expect("sending settings");
        }
        Self { stream, is_h2, asked: 0 }
    }

    /// Asks for the small file and reads it.
    pub(crate) fn ask_little(&mut self) {
        self.ask("/small");
        let mut got = Vec::new();
        let mut buffer = [0; 1024];
        while !got.windows(SMALL.len()).any(|part| part == SMALL) {
            let length = self.stream.read(&mut buffer).expect("reading an answer");
            assert!(length > 0, "the proxy closed: {}", String::from_utf8_lossy(&got));
            got.extend_from_slice(&buffer[..length]);
        }
    }

    /// Asks for the huge file.
    pub(crate) fn ask_much(&mut self) {
        self.ask("/huge");
    }

    /// Reads a little of it.
    pub(crate) fn read_some(&mut self) {
        self.stream.read_exact(&mut [0; 512]).expect("reading a little");
    }

    fn ask(&mut self, path: &str) {
        let request = if self.is_h2 {
            h2::request(self.asked, path)
        } else {
            format!("GET {path} HTTP/1.1\r\nHost: bench.test\r\n\r\n").into_bytes()
        };
        self.asked += 1;
        self.stream.write_all(&request).expect("sending a request");
    }
}

/// A client that trusts the run's certificate only.
fn trust(arena: &Arena, speaks: Speaks) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(arena.certificate()).expect("a certificate");
    roots.add(certificate).expect("a root");
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.resumption = Resumption::disabled();
    if speaks == Speaks::H2 {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    config
}

/// The few frames that such a client sends (RFC 9113, RFC 7541).
mod h2 {
    /// As large as windows can be: what the client does not read is held up by its socket.
    const WINDOW: u32 = 0x7fff_ffff;
    const FIRST_WINDOW: u32 = 65_535;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    /// Connection preface, SETTINGS with `INITIAL_WINDOW_SIZE`, `WINDOW_UPDATE` of the connection.
    pub(super) fn preface() -> Vec<u8> {
        let mut window = vec![0, 4];
        window.extend_from_slice(&WINDOW.to_be_bytes());
        [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(4, 0, 0, &window),
            frame(8, 0, 0, &(WINDOW - FIRST_WINDOW).to_be_bytes()),
        ]
        .concat()
    }

    /// HEADERS of a GET: indexed `:method` and `:scheme`, literal `:path` and `:authority`.
    pub(super) fn request(number: u32, path: &str) -> Vec<u8> {
        let literal = |index: u8, value: &str| {
            let length = u8::try_from(value.len()).expect("a short value");
            [&[index, length][..], value.as_bytes()].concat()
        };
        let block = [vec![0x82, 0x87], literal(4, path), literal(1, "bench.test")].concat();
        frame(1, 0x5, 2 * number + 1, &block)
    }
}
