//! pcapng (draft-ietf-opsawg-pcapng) as far as a capture needs it: one section, interfaces as they
//! turn up, packets with their comments. In the byte order of this machine, as readers expect.

use std::io::{self, Write};

/// Block types.
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;

const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// `LINKTYPE_ETHERNET`.
const ETHERNET: u16 = 1;

/// Options of every block.
const COMMENT: u16 = 1;
/// Options of a section.
const SECTION_PROGRAM: u16 = 4;
/// Options of an interface.
const INTERFACE_NAME: u16 = 2;
const INTERFACE_RESOLUTION: u16 = 9;
/// Options of a packet.
const PACKET_FLAGS: u16 = 2;
const PACKET_DROPPED: u16 = 4;
const PACKET_ID: u16 = 5;
const PACKET_VERDICT: u16 = 7;

/// Which way a packet goes through an interface, as the packet's flags have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    In = 1,
    Out = 2,
}

/// Who has decided about a packet, as the option for it has it, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A program at TC: its action.
    Tc(u32),
    /// A program at XDP: its action.
    Xdp(u32),
}

/// A packet to write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// Index of the interface, as the kernel has it.
    pub(super) interface: u32,
    pub(super) way: Way,
    /// Nanoseconds since the Unix epoch.
    pub(super) at: u64,
    pub(super) bytes: &'a [u8],
    /// Bytes that it had on the wire.
    pub(super) len: u32,
    /// The same for all that are one packet.
    pub(super) id: u64,
    pub(super) verdict: Verdict,
    /// Packets that are missing in front of it.
    pub(super) dropped: u64,
    pub(super) comment: &'a str,
}

/// A file under way.
#[derive(Debug)]
pub(super) struct Writer<W> {
    out: W,
    snaplen: u32,
    /// Their indices, by the number that the file gives them.
    interfaces: Vec<u32>,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    pub(super) fn new(out: W, snaplen: u32) -> io::Result<Self> {
        let mut writer = Self { out, snaplen, interfaces: Vec::new() };
        let mut body = Vec::new();
        body.extend(BYTE_ORDER.to_ne_bytes());
        // Version 1.0.
        body.extend(1_u16.to_ne_bytes());
        body.extend(0_u16.to_ne_bytes());
        // Length not said.
        body.extend(u64::MAX.to_ne_bytes());
        option(&mut body, SECTION_PROGRAM, concat!("alb ", env!("CARGO_PKG_VERSION")).as_bytes());
        end(&mut body);
        writer.block(SECTION, &body)?;
        Ok(writer)
    }

    /// Writes a packet; `name` is asked if its interface is new.
    pub(super) fn packet(
        &mut self,
        packet: &Packet<'_>,
        name: impl FnOnce(u32) -> String,
    ) -> io::Result<()> {
        let Packet { interface, way, at, bytes, len, id, verdict, dropped, comment } = *packet;
        let known = self.interfaces.iter().position(|found| *found == interface);
        let number = match known {
            Some(number) => number,
            None => self.interface(interface, &name(interface))?,
        };
        let mut body = Vec::with_capacity(bytes.len() + comment.len() + 100);
        let wide = |len: usize| u32::try_from(len).map_err(io::Error::other);
        for word in [
            wide(number)?,
            u32::try_from(at >> 32).unwrap_or_default(),
            u32::try_from(at & u64::from(u32::MAX)).unwrap_or_default(),
            wide(bytes.len())?,
            len,
        ] {
            body.extend(word.to_ne_bytes());
        }
        padded(&mut body, bytes);
        option(&mut body, COMMENT, comment.as_bytes());
        option(&mut body, PACKET_FLAGS, &(way as u32).to_ne_bytes());
        if dropped > 0 {
            option(&mut body, PACKET_DROPPED, &dropped.to_ne_bytes());
        }
        option(&mut body, PACKET_ID, &id.to_ne_bytes());
        let (kind, action) = match verdict {
            Verdict::Tc(action) => (1, action),
            Verdict::Xdp(action) => (2, action),
        };
        // A signed number that is extended: TC has an action of -1.
        let action = i64::from(action.cast_signed()).to_ne_bytes();
        option(&mut body, PACKET_VERDICT, &[&[kind][..], &action].concat());
        end(&mut body);
        self.block(PACKET, &body)
    }

    /// Hands on what is buffered.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn interface(&mut self, index: u32, name: &str) -> io::Result<usize> {
        let mut body = Vec::new();
        body.extend(ETHERNET.to_ne_bytes());
        body.extend([0; 2]);
        body.extend(self.snaplen.to_ne_bytes());
        option(&mut body, INTERFACE_NAME, name.as_bytes());
        // Nanoseconds: 10 to the minus ninth.
        option(&mut body, INTERFACE_RESOLUTION, &[9]);
        end(&mut body);
        self.block(INTERFACE, &body)?;
        self.interfaces.push(index);
        Ok(self.interfaces.len() - 1)
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let len = u32::try_from(body.len() + 12).map_err(io::Error::other)?.to_ne_bytes();
        self.out.write_all(&kind.to_ne_bytes())?;
        self.out.write_all(&len)?;
        self.out.write_all(body)?;
        self.out.write_all(&len)
    }
}

fn padded(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend(bytes);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
    body.extend(code.to_ne_bytes());
    body.extend(len.to_ne_bytes());
    padded(body, &value[..len.into()]);
}

fn end(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: [u8; 61] = [7; 61];

    fn packet(interface: u32, way: Way) -> Packet<'static> {
        Packet {
            interface,
            way,
            at: 0x1234_5678_9abc_def0,
            bytes: &FRAME,
            len: 1514,
            id: 5,
            verdict: Verdict::Xdp(4),
            dropped: 0,
            comment: "forward (new_flow)",
        }
    }

    /// Type and body of each block.
    fn blocks(mut file: &[u8]) -> Vec<(u32, &[u8])> {
        let word =
            |at: usize, file: &[u8]| u32::from_ne_bytes(file[at..at + 4].try_into().unwrap());
        let mut found = Vec::new();
        while !file.is_empty() {
            let (kind, len) = (word(0, file), word(4, file) as usize);
            assert!(len.is_multiple_of(4));
            assert_eq!(word(len - 4, file) as usize, len, "both lengths of a block");
            found.push((kind, &file[8..len - 4]));
            file = &file[len..];
        }
        found
    }

    /// Code and value of each option.
    fn options(mut body: &[u8]) -> Vec<(u16, &[u8])> {
        let half =
            |at: usize, body: &[u8]| u16::from_ne_bytes(body[at..at + 2].try_into().unwrap());
        let mut found = Vec::new();
        loop {
            let (code, len) = (half(0, body), usize::from(half(2, body)));
            if code == 0 {
                assert_eq!((len, body.len()), (0, 4), "nothing is behind the end");
                return found;
            }
            found.push((code, &body[4..4 + len]));
            body = &body[4 + len.next_multiple_of(4)..];
        }
    }

    #[test]
    fn a_file_has_the_blocks_of_the_format() {
        let mut writer = Writer::new(Vec::new(), 9216).unwrap();
        let name = |index: u32| format!("eth{index}");
        writer.packet(&packet(3, Way::In), name).unwrap();
        let out = Packet { verdict: Verdict::Tc(u32::MAX), dropped: 9, ..packet(4, Way::Out) };
        writer.packet(&out, name).unwrap();
        writer.packet(&packet(3, Way::In), |_| panic!("it is known")).unwrap();
        let Writer { out: file, .. } = writer;
        let blocks = blocks(&file);
        let kinds: Vec<u32> = blocks.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [SECTION, INTERFACE, PACKET, INTERFACE, PACKET, PACKET]);

        let section = blocks[0].1;
        assert_eq!(section[..8], [BYTE_ORDER.to_ne_bytes(), [1, 0, 0, 0]].concat());
        assert!(options(&section[16..])[0].1.starts_with(b"alb "));
        let interface = blocks[3].1;
        assert_eq!(interface[..8], [1, 0, 0, 0, 0, 0x24, 0, 0]);
        assert_eq!(options(&interface[8..]), [(2, &b"eth4"[..]), (9, &[9][..])]);

        let body = blocks[2].1;
        let words = [0, 0x1234_5678, 0x9abc_def0, 61, 1514_u32].map(u32::to_ne_bytes).concat();
        assert_eq!(body[..20], words);
        assert_eq!(body[20..81], FRAME);
        assert_eq!(
            options(&body[84..]),
            [
                (1, &b"forward (new_flow)"[..]),
                (2, &[1, 0, 0, 0][..]),
                (5, &[5, 0, 0, 0, 0, 0, 0, 0][..]),
                (7, &[2, 4, 0, 0, 0, 0, 0, 0, 0][..]),
            ]
        );
        let body = blocks[4].1;
        assert_eq!(body[..4], [1, 0, 0, 0]);
        let found = options(&body[84..]);
        assert_eq!(found[1..3], [(2, &[2, 0, 0, 0][..]), (4, &[9, 0, 0, 0, 0, 0, 0, 0][..])]);
        assert_eq!(found[4], (7, &[1, 255, 255, 255, 255, 255, 255, 255, 255][..]));
    }

    #[test]
    fn a_comment_that_is_too_long_is_cut() {
        let mut writer = Writer::new(Vec::new(), 9216).unwrap();
        let long = "x".repeat(70_000);
        writer
            .packet(&Packet { comment: &long, ..packet(3, Way::In) }, |_| "e".to_owned())
            .unwrap();
        let Writer { out: file, .. } = writer;
        assert_eq!(options(&blocks(&file)[2].1[84..])[0].1.len(), 65_535);
    }
}
