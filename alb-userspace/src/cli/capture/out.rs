//! Where captured packets go: a pcapng file, or lines for people.

use std::{
    fs::OpenOptions,
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{
    Failed, name,
    pcapng::{self, Verdict, Way, Writer},
    print,
};
use crate::datapath::capture::{Captured, Hook};

/// What a capture is written to.
pub(super) struct Out {
    form: Form,
    /// For errors.
    path: PathBuf,
}

enum Form {
    File(Writer<BufWriter<Box<dyn Write>>>),
    Lines(BufWriter<io::Stdout>),
}

/// A packet to write, and what is known of it.
pub(super) struct Sent<'a> {
    pub(super) packet: &'a Captured,
    /// Its number.
    pub(super) id: u64,
    /// What its times are behind the time of day.
    pub(super) lead: u64,
    /// Packets that are missing in front of it.
    pub(super) dropped: u64,
    /// Index of the interface by which it leaves.
    pub(super) leaves_by: Option<u32>,
}

impl Out {
    /// Begins a file, `-` for standard output; without one, lines.
    pub(super) fn new(path: Option<&Path>, snaplen: u32) -> Result<Self, Failed> {
        let stdout = || PathBuf::from("to standard output");
        let (path, out): (_, Box<dyn Write>) = match path {
            None => {
                return Ok(Self {
                    form: Form::Lines(BufWriter::new(io::stdout())),
                    path: stdout(),
                });
            }
            Some(path) if path == Path::new("-") => (stdout(), Box::new(io::stdout())),
            Some(path) => {
                // It has what clients send.
                let mut file = OpenOptions::new();
                file.write(true).create(true).truncate(true).mode(0o600);
                let failed = |source| Failed::Write { path: path.to_owned(), source };
                (path.to_owned(), Box::new(file.open(path).map_err(failed)?))
            }
        };
        let begun = Writer::new(BufWriter::new(out), snaplen);
        let begun = begun.and_then(|mut writer| writer.flush().map(|()| writer));
        match begun {
            Ok(writer) => Ok(Self { form: Form::File(writer), path }),
            Err(source) => Err(Failed::Write { path, source }),
        }
    }

    /// Writes a packet.
    pub(super) fn write(&mut self, sent: &Sent<'_>) -> Result<(), Failed> {
        let Self { form, path } = self;
        let written = match form {
            Form::File(writer) => blocks(writer, sent),
            Form::Lines(out) => {
                let Sent { packet, lead, leaves_by, .. } = *sent;
                let leaves_by = leaves_by.map(name);
                let at = packet.came.wrapping_add(lead);
                let came_by = name(packet.ifindex);
                out.write_all(print::line(packet, at, &came_by, leaves_by.as_deref()).as_bytes())
            }
        };
        written.map_err(|source| Failed::Write { path: path.clone(), source })
    }

    /// Hands on what was written.
    pub(super) fn flush(&mut self) -> Result<(), Failed> {
        let Self { form, path } = self;
        let flushed = match form {
            Form::File(writer) => writer.flush(),
            Form::Lines(out) => out.flush(),
        };
        flushed.map_err(|source| Failed::Write { path: path.clone(), source })
    }
}

/// A packet as it came, and as it leaves.
fn blocks<W: Write>(writer: &mut Writer<W>, sent: &Sent<'_>) -> io::Result<()> {
    let Sent { packet, id, lead, dropped, leaves_by } = *sent;
    let verdict = match packet.hook {
        Hook::Xdp => Verdict::Xdp(packet.action),
        Hook::Tc => Verdict::Tc(packet.action),
    };
    let before = pcapng::Packet {
        interface: packet.ifindex,
        way: Way::In,
        at: packet.came.wrapping_add(lead),
        bytes: &packet.before.bytes,
        len: packet.before.len,
        id,
        verdict,
        dropped,
        comment: &format!("before: {}", print::fate(packet, leaves_by.map(name).as_deref())),
    };
    writer.packet(&before, name)?;
    let Some(after) = &packet.after else { return Ok(()) };
    let after = pcapng::Packet {
        interface: leaves_by.unwrap_or(NOWHERE),
        way: Way::Out,
        at: packet.left.wrapping_add(lead),
        bytes: &after.bytes,
        len: after.len,
        dropped: 0,
        comment: &format!("after: {}", print::origin(packet, &name(packet.ifindex))),
        ..before
    };
    writer.packet(&after, |index| if index == NOWHERE { "unknown".to_owned() } else { name(index) })
}

/// No interface has this index.
const NOWHERE: u32 = 0;
