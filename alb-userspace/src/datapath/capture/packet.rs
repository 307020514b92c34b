//! A captured packet: from the bytes that the capturing programs left. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use alb_common::{
    Reason,
    capture::{CaptureRecord, HOOK_XDP},
    reason::Event,
};

use crate::datapath::sys;

/// Bytes of two link-layer addresses.
const STATIONS: usize = 12;

/// A packet before and after the packet path had it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// When it came, nanoseconds of the kernel's monotonic clock.
    pub came: u64,
    /// When its verdict was reached.
    pub left: u64,
    /// Why it fared so; this says its verdict too.
    pub reason: Reason,
    /// What else was counted.
    pub events: Vec<Event>,
    /// Where the program ran.
    pub hook: Hook,
    /// What the program returned: an action of the hook.
    pub action: u32,
    /// Index of the interface by which it came.
    pub ifindex: u32,
    /// As it came.
    pub before: Frame,
    /// As it leaves, or what answers it.
    pub after: Option<Frame>,
}

/// Where a program of the packet path runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP, in the driver or behind it.
    Xdp,
    /// TC ingress.
    Tc,
}

/// A frame, or the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// From its Ethernet header on.
    pub bytes: Vec<u8>,
    /// Bytes that it had on the wire.
    pub len: u32,
}

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// Who sends it; port 0 if it has none.
    pub from: SocketAddr,
    /// Whom it is for.
    pub to: SocketAddr,
    /// Number of its protocol.
    pub protocol: u8,
    /// Flags of TCP.
    pub flags: Option<u8>,
}

impl Captured {
    /// From a record and the bytes behind it; `None` if it is none.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let (record, bytes) = bytes.split_at_checked(size_of::<CaptureRecord>())?;
        let record: CaptureRecord = sys::value(record)?;
        let (before, behind) = bytes.split_at_checked(record.before as usize)?;
        let after = behind.get(..record.after as usize)?;
        let events = Event::ALL.iter().enumerate();
        let events = events.filter(|(bit, _)| record.events >> bit & 1 != 0);
        Some(Self {
            came: record.came,
            left: record.left,
            reason: *Reason::ALL.get(record.reason as usize)?,
            events: events.map(|(_, event)| *event).collect(),
            hook: if record.hook == HOOK_XDP { Hook::Xdp } else { Hook::Tc },
            action: record.action,
            ifindex: record.ifindex,
            before: Frame::new(before, record.before_len, record.before_tag),
            after: (!after.is_empty())
                .then(|| Frame::new(after, record.after_len, record.after_tag)),
        })
    }
}

impl Frame {
    /// With the tag that was aside in its place, as on the wire.
    fn new(bytes: &[u8], len: u32, tag: u32) -> Self {
        let [low, high, tci @ ..] = tag.to_ne_bytes();
        let mut frame = bytes.to_vec();
        let mut len = len;
        if tag != 0 && bytes.len() >= STATIONS {
            let [most, least] = u16::from_ne_bytes(tci).to_be_bytes();
            // The protocol is in the wire's order there, the tag is not.
            frame.splice(STATIONS..STATIONS, [low, high, most, least]);
            len += 4;
        }
        // A frame of several buffers is longer than its first.
        let said = ip(&frame).and_then(|(at, _)| Some(at + ip_len(&frame[at..])?));
        let said = said.and_then(|said| u32::try_from(said).ok()).unwrap_or_default();
        Self { bytes: frame, len: len.max(said) }
    }

    /// Addresses and flags; `None` if it is not of IP, or cut off before them.
    pub fn said(&self) -> Option<Said> {
        let (at, is_six) = ip(&self.bytes)?;
        let ip = self.bytes.get(at..)?;
        let (from, to, mut protocol, mut at) = if is_six {
            (six(ip, 8)?, six(ip, 24)?, *ip.get(6)?, 40)
        } else {
            let header = usize::from(ip.first()? & 0xf) * 4;
            (four(ip, 12)?, four(ip, 16)?, *ip.get(9)?, header)
        };
        // What is in a later fragment is no header.
        let mut is_first = is_six || u16::from_be_bytes([*ip.get(6)? & 0x1f, *ip.get(7)?]) == 0;
        while is_six && let Some((next, len, is_whole)) = extension(protocol, ip.get(at..)?) {
            (protocol, at, is_first) = (next, at + len, is_first && is_whole);
        }
        let l4 = ip.get(at..).filter(|_| is_first).unwrap_or_default();
        let has_ports = [6, 17].contains(&protocol);
        let port = |at: usize| match l4.get(at..at + 2) {
            Some(&[most, least]) if has_ports => u16::from_be_bytes([most, least]),
            _ => 0,
        };
        Some(Said {
            from: SocketAddr::new(from, port(0)),
            to: SocketAddr::new(to, port(2)),
            protocol,
            flags: l4.get(13).copied().filter(|_| protocol == 6),
        })
    }

    /// Link-layer address of its sender.
    pub(super) fn sender(&self) -> Option<[u8; 6]> {
        self.bytes.get(6..STATIONS)?.try_into().ok()
    }
}

/// Where the IP header is, and whether it is of IPv6.
fn ip(frame: &[u8]) -> Option<(usize, bool)> {
    let mut at = STATIONS;
    loop {
        let kind = frame.get(at..at + 2)?;
        at += 2;
        match kind {
            [0x08, 0x00] => return Some((at, false)),
            [0x86, 0xdd] => return Some((at, true)),
            [0x81, 0x00] | [0x88, 0xa8] => at += 2,
            _ => return None,
        }
    }
}

/// Bytes that an IP packet says it has.
fn ip_len(ip: &[u8]) -> Option<usize> {
    let word = |at: usize| Some(usize::from(u16::from_be_bytes([*ip.get(at)?, *ip.get(at + 1)?])));
    match ip.first()? >> 4 {
        4 => word(2),
        _ => Some(40 + word(4)?),
    }
}

/// Behind an IPv6 extension header: the next protocol, the header's length, and whether what follows
/// is not the middle of a fragmented packet.
fn extension(protocol: u8, header: &[u8]) -> Option<(u8, usize, bool)> {
    let (next, len) = (*header.first()?, usize::from(*header.get(1)?));
    match protocol {
        0 | 43 | 60 => Some((next, 8 + len * 8, true)),
        44 => Some((next, 8, u16::from_be_bytes([*header.get(2)?, *header.get(3)?]) >> 3 == 0)),
        51 => Some((next, 8 + len * 4, true)),
        _ => None,
    }
}

fn four(ip: &[u8], at: usize) -> Option<IpAddr> {
    let octets: [u8; 4] = ip.get(at..at + 4)?.try_into().ok()?;
    Some(Ipv4Addr::from(octets).into())
}

fn six(ip: &[u8], at: usize) -> Option<IpAddr> {
    let octets: [u8; 16] = ip.get(at..at + 16)?.try_into().ok()?;
    Some(Ipv6Addr::from(octets).into())
}

#[cfg(test)]
pub(super) mod tests;
