//! A client that sends whatever frames it likes.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::lab::{Lab, within};

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RESET: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// Error codes (RFC 9113 §7).
pub(super) const PROTOCOL_ERROR: u32 = 1;
pub(super) const CALM: u32 = 11;

/// What a client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Status(u16),
    Reset(u32),
    Away(u32),
    Closed,
}

pub(super) struct Raw {
    pub(super) reader: OwnedReadHalf,
    pub(super) writer: OwnedWriteHalf,
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Fields, each as a literal that is not indexed (RFC 7541 §6.2.2).
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(text.len(), &mut block);
            block.extend(text.bytes());
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541 §5.1).
fn length(mut length: usize, block: &mut Vec<u8>) {
    if length < 127 {
        return block.push(u8::try_from(length).unwrap());
    }
    block.push(127);
    length -= 127;
    while length >= 128 {
        block.push(u8::try_from(length % 128).unwrap() | 128);
        length /= 128;
    }
    block.push(u8::try_from(length).unwrap());
}

pub(super) const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "shop.test"), (":path", "/")];

impl Raw {
    pub(super) async fn connect(lab: &Lab, settings: &[u8]) -> Self {
        let stream = TcpStream::connect(lab.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (reader, writer) = stream.into_split();
        let mut raw = Self { reader, writer };
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        raw.send(&frame(SETTINGS, 0, 0, settings)).await;
        raw
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        within(self.writer.write_all(bytes)).await.unwrap();
    }

    /// A whole request without a body.
    pub(super) async fn request(&mut self, stream: u32, fields: &[(&str, &str)]) {
        self.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields))).await;
    }

    /// The next frame: type, stream and payload; `None` = the connection ended.
    pub(super) async fn next(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        next(&mut self.reader).await
    }

    /// What comes of a stream.
    pub(super) async fn told(&mut self, stream: u32) -> Told {
        loop {
            match self.next().await {
                None => return Told::Closed,
                Some((HEADERS, of, block)) if of == stream => return Told::Status(status(&block)),
                Some((RESET, of, code)) if of == stream => return Told::Reset(number(&code)),
                Some((GOAWAY, _, payload)) if number(&payload[4..]) != 0 => {
                    return Told::Away(number(&payload[4..]));
                }
                Some(_) => {}
            }
        }
    }

    /// The code of the last GOAWAY before the connection ends.
    pub(super) async fn away(mut reader: OwnedReadHalf) -> Option<u32> {
        let mut code = None;
        while let Some((kind, _, payload)) = next(&mut reader).await {
            if kind == GOAWAY {
                code = Some(number(&payload[4..]));
            }
        }
        code
    }
}

async fn next(reader: &mut OwnedReadHalf) -> Option<(u8, u32, Vec<u8>)> {
    let mut header = [0; 9];
    within(reader.read_exact(&mut header)).await.ok()?;
    let [a, b, c, kind, _, stream @ ..] = header;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    within(reader.read_exact(&mut payload)).await.ok()?;
    Some((kind, u32::from_be_bytes(stream), payload))
}

pub(super) fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

/// `:status` at the beginning of a header block, indexed or as Huffman-coded digits.
fn status(block: &[u8]) -> u16 {
    const STATIC: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match block {
        [first @ 0x88..=0x8e, ..] => STATIC[usize::from(first - 0x88)],
        [0x20..=0x3f, rest @ ..] => status(rest),
        [0x48 | 0x08, length, rest @ ..] => {
            let coded = &rest[..usize::from(length & 0x7f)];
            assert_eq!(length >> 7, 1, "the encoder codes them");
            let bits = coded.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
            let (mut left, mut number) = (coded.len() * 8, 0);
            for _ in 0..3 {
                // RFC 7541, appendix B: 0-2 have five bits, 3-9 six.
                let five = bits >> (left - 5) & 31;
                let six = bits >> (left - 6) & 63;
                let (digit, used) = if five < 3 { (five, 5) } else { (six - 0x19 + 3, 6) };
                number = number * 10 + u16::try_from(digit).unwrap();
                left -= used;
            }
            number
        }
        other => panic!("a block that begins with {:x?}", &other[..other.len().min(4)]),
    }
}
