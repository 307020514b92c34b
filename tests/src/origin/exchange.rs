//! One request at the origin: its head, its body as it comes, and what is written back.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
};

use super::{Shared, Then};

/// One request and the connection it came on.
#[derive(Debug)]
pub struct Exchange<'s> {
    shared: &'s Shared,
    /// Position of the connection.
    pub connection: usize,
    stream: &'s TcpStream,
    /// The head with its empty line.
    pub head: String,
    /// What came after the head and was not read yet.
    rest: Vec<u8>,
}

impl<'s> Exchange<'s> {
    /// Reads a head; `None` = the connection ended before one began.
    pub(super) fn read(
        shared: &'s Shared,
        connection: usize,
        stream: &'s TcpStream,
        rest: Vec<u8>,
    ) -> io::Result<Option<Self>> {
        let mut exchange = Self { shared, connection, stream, head: String::new(), rest };
        loop {
            if let Some(at) = exchange.rest.windows(4).position(|four| four == b"\r\n\r\n") {
                let after = exchange.rest.split_off(at + 4);
                exchange.head = super::text(&std::mem::replace(&mut exchange.rest, after));
                return Ok(Some(exchange));
            }
            if !exchange.fill()? {
                return if exchange.rest.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    pub(super) fn into_rest(self) -> Vec<u8> {
        self.rest
    }

    /// The request target.
    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The method.
    pub fn method(&self) -> &str {
        self.head.split(' ').next().unwrap_or_default()
    }

    /// Values of a field, in order.
    pub fn values(&self, name: &str) -> Vec<&str> {
        crate::http::values(&self.head, name)
    }

    /// Reads the whole body; chunks without their frames.
    pub fn read_body(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        self.copy_body(&mut body)?;
        Ok(body)
    }

    /// Reads the body piece by piece; trailers are in what was heard.
    pub fn copy_body(&mut self, to: &mut impl Write) -> io::Result<()> {
        if !self.values("transfer-encoding").is_empty() {
            loop {
                let line = self.line()?;
                let size = line.trim().split(';').next().unwrap_or_default();
                let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
                self.copy(size, to)?;
                if size > 0 {
                    self.line()?;
                } else {
                    while self.line()? != "\r\n" {}
                    return Ok(());
                }
            }
        }
        let length = self.values("content-length").first().and_then(|text| text.parse().ok());
        self.copy(length.unwrap_or(0), to)
    }

    /// One line of what follows, with its end.
    pub fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.rest.iter().position(|byte| *byte == b'\n') {
                let after = self.rest.split_off(at + 1);
                return Ok(super::text(&std::mem::replace(&mut self.rest, after)));
            }
            if !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// So many bytes of what follows.
    pub fn copy(&mut self, mut bytes: u64, to: &mut impl Write) -> io::Result<()> {
        while bytes > 0 {
            if self.rest.is_empty() && !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let len = self.rest.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
            to.write_all(&self.rest[..len])?;
            self.rest.drain(..len);
            bytes -= len as u64;
        }
        Ok(())
    }

    /// Waits until the peer sends more or closes; whether it closed.
    pub fn is_closed(&mut self) -> bool {
        !self.fill().unwrap_or(false)
    }

    /// Writes bytes.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Writes bytes of which the connection ends after.
    pub fn say(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<Then> {
        self.send(bytes)?;
        Ok(Then::Close)
    }

    /// A response with a length; the connection goes on.
    pub fn answer(&mut self, status: u16, body: impl AsRef<[u8]>) -> io::Result<Then> {
        let body = body.as_ref();
        let mut out = format!("HTTP/1.1 {status} Word\r\nContent-Length: {}\r\n\r\n", body.len());
        out.reserve(body.len());
        let mut out = out.into_bytes();
        if self.method() != "HEAD" {
            out.extend_from_slice(body);
        }
        self.send(out)?;
        Ok(Then::Next)
    }

    /// Where to write.
    pub fn writer(&self) -> &'s TcpStream {
        self.stream
    }

    fn fill(&mut self) -> io::Result<bool> {
        let mut block = vec![0; 65_536];
        let len = self.stream.read(&mut block)?;
        self.shared.keep(self.connection, &block[..len]);
        self.rest.extend_from_slice(&block[..len]);
        Ok(len > 0)
    }
}
