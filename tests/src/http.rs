//! A raw HTTP/1 client: writes what it is told byte for byte, reads responses by their framing.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::{
    client::{self, bulk},
    netns::Namespace,
};

/// A response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Its status; 0 = none came.
    pub status: u16,
    /// Status line and fields with the empty line.
    pub head: String,
    /// The body without chunk frames.
    pub body: Vec<u8>,
    /// Trailer fields, with line ends.
    pub trailer: String,
}

/// A client connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    /// Connects from a namespace; panics when it cannot.
    pub fn connect(namespace: &Namespace, to: SocketAddr) -> Self {
        let stream = client::connect(namespace, None, to);
        Self { stream: stream.expect("a connection"), input: Vec::new() }
    }

    /// The connection's own address.
    pub fn address(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket has one")
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Writes bytes; whether they could be written is seen by the answer.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        drop(self.stream.write_all(bytes.as_ref()));
    }

    /// Says that nothing more comes.
    pub fn finish(&self) {
        drop(self.stream.shutdown(Shutdown::Write));
    }

    /// Closes with a RST.
    pub fn reset(self) {
        drop(socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)));
    }

    /// Sends a request and reads its response.
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Response {
        self.send(request);
        self.response(false).expect("a response")
    }

    /// Reads one response, of a HEAD request or not. Interim responses are responses too.
    pub fn response(&mut self, to_head: bool) -> io::Result<Response> {
        let head = self.head()?;
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        let mut response = Response { status, head, ..Response::default() };
        if to_head || matches!(status, 100..=199 | 204 | 304) {
            return Ok(response);
        }
        let values = |name| values(&response.head, name);
        if values("transfer-encoding") == ["chunked"] {
            loop {
                let line = self.line()?;
                let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
                let data = self.exactly(size)?;
                response.body.extend(data);
                if size > 0 {
                    self.line()?;
                    continue;
                }
                loop {
                    match self.line()?.as_str() {
                        "\r\n" => return Ok(response),
                        field => response.trailer.push_str(field),
                    }
                }
            }
        }
        response.body = match values("content-length")[..] {
            [length] => {
                let length = length.parse().map_err(io::Error::other)?;
                self.exactly(length)?
            }
            _ => self.rest()?,
        };
        Ok(response)
    }

    /// Reads a head.
    pub fn head(&mut self) -> io::Result<String> {
        let mut head = String::new();
        loop {
            let line = self.line()?;
            head.push_str(&line);
            if line == "\r\n" {
                return Ok(head);
            }
        }
    }

    /// Reads one line, with its end.
    pub fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.input.iter().position(|byte| *byte == b'\n') {
                let after = self.input.split_off(at + 1);
                return Ok(crate::origin::text(&std::mem::replace(&mut self.input, after)));
            }
            self.fill()?;
        }
    }

    /// Reads so many bytes.
    pub fn exactly(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        while self.input.len() < bytes {
            self.fill()?;
        }
        let after = self.input.split_off(bytes);
        Ok(std::mem::replace(&mut self.input, after))
    }

    /// The hash of so many bytes.
    pub fn hash(&mut self, bytes: u64) -> io::Result<String> {
        let input = std::mem::take(&mut self.input);
        bulk::hash_of(&mut io::Cursor::new(input).chain(&self.stream), bytes)
    }

    /// Everything until the connection ends; a RST is an error.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.input);
        self.stream.read_to_end(&mut rest)?;
        Ok(rest)
    }

    /// Waits for the end; how long that took. Panics if anything comes instead.
    pub fn closed(&mut self) -> Duration {
        let begun = Instant::now();
        match self.fill() {
            Err(error) if is_end(&error) => begun.elapsed(),
            other => panic!("no end but {other:?}: {}", crate::origin::text(&self.input)),
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut block = vec![0; 65_536];
        // A read with a timeout is not begun again by the kernel after a signal (signal(7)).
        let read = loop {
            match self.stream.read(&mut block) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.input.extend_from_slice(&block[..read]);
        Ok(())
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Values of a field, in order.
    pub fn values(&self, name: &str) -> Vec<&str> {
        values(&self.head, name)
    }
}

/// Values of a field in a head, in order.
pub fn values<'h>(head: &'h str, name: &str) -> Vec<&'h str> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let of_name = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
    of_name.map(|(_, value)| value.trim()).collect()
}
