//! Filters at TC ingress, by rtnetlink: what takes the place of links before Linux 6.6. There is
//! nothing to pin, so a filter is known by its place: one priority and handle on an interface.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// Ours among the filters of an interface; `tc` shows both.
const PRIORITY: u32 = 100;
const HANDLE: u32 = 0xa1b;
const NAME: &[u8] = b"alb_tc\0";

const NEW_QDISC: u16 = 36;
const DEL_QDISC: u16 = 37;
const NEW_FILTER: u16 = 44;
const DEL_FILTER: u16 = 45;
const GET_FILTER: u16 = 46;
const ERROR: u16 = 2;
const DONE: u16 = 3;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const REPLACE: u16 = 0x100;
const EXCLUSIVE: u16 = 0x200;

/// `TC_H_CLSACT`, and its two hooks.
const CLSACT: u32 = 0xffff_fff1;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;

const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const BPF_FD: u16 = 6;
const BPF_NAME: u16 = 7;
const BPF_FLAGS: u16 = 8;
const BPF_ID: u16 = 11;
/// The program's result is the action.
const DIRECT_ACTION: u32 = 1;

/// `struct nlmsghdr` and `struct tcmsg`.
const HEADERS: usize = 16 + 20;

/// Puts a program on an interface, in the place of the one that our filter has there, in one step.
pub(in crate::datapath) fn put(ifindex: u32, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut qdisc =
        Message::new(NEW_QDISC, CREATE | EXCLUSIVE, ifindex, (CLSACT & !0xffff, CLSACT), 0);
    qdisc.attribute(KIND, b"clsact\0");
    match qdisc.exchange() {
        Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(error),
        Ok(_) | Err(_) => {}
    }
    let mut options = Vec::new();
    attribute(&mut options, BPF_FD, &program.as_raw_fd().to_ne_bytes());
    attribute(&mut options, BPF_NAME, NAME);
    attribute(&mut options, BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes());
    let mut filter = ours(NEW_FILTER, CREATE | REPLACE, ifindex);
    filter.attribute(KIND, b"bpf\0");
    filter.attribute(OPTIONS, &options);
    filter.exchange().map(drop)
}

/// Id of the program that our filter runs; `None` if there is none, or no such interface.
pub(in crate::datapath) fn program(ifindex: u32) -> io::Result<Option<u32>> {
    let mut get = ours(GET_FILTER, 0, ifindex);
    get.attribute(KIND, b"bpf\0");
    let Some(filters) = present(get.exchange())? else { return Ok(None) };
    let id = filters.iter().find_map(|filter| {
        let options = find(filter.get(HEADERS..)?, OPTIONS)?;
        Some(u32::from_ne_bytes(find(options, BPF_ID)?.try_into().ok()?))
    });
    Ok(id)
}

/// Takes our filter off, and the hook with it if nobody else uses it.
pub(in crate::datapath) fn remove(ifindex: u32) -> io::Result<()> {
    let mut delete = ours(DEL_FILTER, 0, ifindex);
    delete.attribute(KIND, b"bpf\0");
    if present(delete.exchange())?.is_none() {
        return Ok(());
    }
    for hook in [INGRESS, EGRESS] {
        let left = Message::new(GET_FILTER, DUMP, ifindex, (0, hook), 0).exchange();
        if present(left)?.is_some_and(|filters| !filters.is_empty()) {
            return Ok(());
        }
    }
    let qdisc = Message::new(DEL_QDISC, 0, ifindex, (CLSACT & !0xffff, CLSACT), 0);
    present(qdisc.exchange()).map(drop)
}

/// A message about our filter.
fn ours(kind: u16, flags: u16, ifindex: u32) -> Message {
    let all = u32::from(0x0003u16.to_be());
    Message::new(kind, flags, ifindex, (HANDLE, INGRESS), PRIORITY << 16 | all)
}

/// An answer, or `None` if what was asked about is not there.
fn present<T>(answer: io::Result<T>) -> io::Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        // No filter; no hook; no interface.
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

struct Message(Vec<u8>);

impl Message {
    /// A message with `struct tcmsg`: handle and parent, priority and protocol.
    fn new(kind: u16, flags: u16, ifindex: u32, (handle, parent): (u32, u32), info: u32) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((REQUEST | ACK | flags).to_ne_bytes());
        bytes.extend([0; 8 + 4]);
        for word in [ifindex, handle, parent, info] {
            bytes.extend(word.to_ne_bytes());
        }
        Self(bytes)
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        attribute(&mut self.0, kind, value);
    }

    /// Sends it, and collects what comes until the kernel says that this was all.
    fn exchange(mut self) -> io::Result<Vec<Vec<u8>>> {
        let len = u32::try_from(self.0.len()).map_err(io::Error::other)?;
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        send(socket.as_raw_fd(), &self.0, MsgFlags::empty())?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let len = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = &buffer[..len];
            while let Some((kind, message, behind)) = split(rest) {
                match kind {
                    DONE => return Ok(answers),
                    ERROR => {
                        let code = message.get(16..20).and_then(|code| code.try_into().ok());
                        return match code.map_or(0, i32::from_ne_bytes) {
                            0 => Ok(answers),
                            code => Err(io::Error::from_raw_os_error(-code)),
                        };
                    }
                    _ => answers.push(message.to_vec()),
                }
                rest = behind;
            }
        }
    }
}

/// Appends an attribute, padded to four bytes.
fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    bytes.extend(len.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// The first message: its type, itself, and what is behind it.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    if len < 16 {
        return None;
    }
    let behind = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, bytes.get(..len)?, behind))
}

/// The value of the first attribute of this type.
fn find(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    /// Flags above an attribute's type.
    const TYPE: u16 = 0x3fff;
    loop {
        let len = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & TYPE;
        let value = bytes.get(4..len)?;
        if kind == wanted {
            return Some(value);
        }
        bytes = bytes.get(len.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes() {
        let mut inner = Vec::new();
        attribute(&mut inner, BPF_NAME, b"abc\0d");
        attribute(&mut inner, BPF_ID, &7u32.to_ne_bytes());
        let mut bytes = Vec::new();
        attribute(&mut bytes, KIND, b"bpf\0");
        attribute(&mut bytes, OPTIONS | 0x8000, &inner);
        assert_eq!(bytes.len() % 4, 0);
        let options = find(&bytes, OPTIONS).expect("it is there");
        assert_eq!(find(options, BPF_NAME), Some(b"abc\0d".as_slice()));
        assert_eq!(find(options, BPF_ID), Some(7u32.to_ne_bytes().as_slice()));
        assert_eq!(find(options, BPF_FLAGS), None);
        assert_eq!(find(&bytes[..5], KIND), None);
    }

    #[test]
    fn messages() {
        let mut message = ours(GET_FILTER, 0, 3);
        message.attribute(KIND, b"bpf\0");
        let Message(mut bytes) = message;
        assert_eq!(bytes.len(), HEADERS + 8);
        let len = u32::try_from(bytes.len()).expect("short");
        bytes[..4].copy_from_slice(&len.to_ne_bytes());
        let two = [bytes.clone(), bytes.clone()].concat();
        let (kind, first, rest) = split(&two).expect("a message");
        assert_eq!((kind, first, rest), (GET_FILTER, bytes.as_slice(), bytes.as_slice()));
        assert_eq!(split(&two[..20]), None);
        assert_eq!(split(&[0; 16]), None);
    }
}
