//! What `alb capture` and its programs tell each other. They run around the packet path's programs, in
//! an object of their own, and only while somebody captures.

use crate::{
    abi::plain,
    reason::{Event, Reason},
};

/// Program that runs the packet path's at XDP.
pub const CAPTURE_XDP: &str = "alb_capture_xdp";
/// The same at TC ingress.
pub const CAPTURE_TC: &str = "alb_capture_tc";

/// One [`CaptureSettings`].
pub const SETTINGS_MAP: &str = "CAPTURE";
/// The packet path's XDP program, in a program array: its place is 0.
pub const XDP_MAP: &str = "CAPTURED_XDP";
/// The same of TC. An array takes programs of one kind.
pub const TC_MAP: &str = "CAPTURED_TC";
/// The packet in hand, per CPU.
pub const PACKET_MAP: &str = "CAPTURE_PACKET";
/// [`CaptureRecord`]s, each with the bytes that it tells of behind it: a ring buffer.
pub const RING_MAP: &str = "CAPTURE_RING";
/// Packets for which there was no room in the ring, per CPU: one `u64`.
pub const LOST_MAP: &str = "CAPTURE_LOST";

/// Bytes of the ring buffer.
pub const RING_BYTES: usize = 8 << 20;
/// Bytes that are taken of a packet at most: a jumbo frame.
pub const MOST_BYTES: u32 = 9216;

/// What is to be captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CaptureSettings {
    /// Nothing is recorded from then on, in nanoseconds of the kernel's monotonic clock: whoever
    /// captures puts it off again and again, so that nobody's death leaves the work of it.
    pub until: u64,
    /// Packets counted under these: a bit for each [`Reason`].
    pub reasons: u64,
    /// Bytes of a packet, [`MOST_BYTES`] at most.
    pub snaplen: u32,
    /// Places of `ends` that are in use; 0 = packets of any ends.
    pub end_count: u32,
    /// Action for a packet while there is no program to run. There is one before a packet comes.
    pub otherwise: u32,
    /// Always 0.
    pub reserved: u32,
    /// Packets that have one of these at an end, as they come or as they leave.
    pub ends: [End; MOST_ENDS],
}

plain!(CaptureSettings, 320:
    until: u64, reasons: u64, snaplen: u32, end_count: u32, otherwise: u32, reserved: u32,
    ends: [End; MOST_ENDS]);

/// Room of [`CaptureSettings::ends`].
pub const MOST_ENDS: usize = 8;

/// Ends of connections: addresses of which what `mask` leaves is `address`, IPv4 mapped; with a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct End {
    /// In the order of the wire.
    pub address: [u32; 4],
    /// As well.
    pub mask: [u32; 4],
    /// In the order of the host; 0 = any.
    pub port: u32,
}

plain!(End, 36: address: [u32; 4], mask: [u32; 4], port: u32);

impl End {
    /// Whether this address and port are one of them; a port that is not known may be.
    #[inline(always)]
    pub const fn has(&self, address: [u32; 4], port: Option<u16>) -> bool {
        let Self { address: own, mask, port: wanted } = self;
        let is_port = match port {
            Some(port) => *wanted == 0 || *wanted == port as u32,
            None => true,
        };
        is_port
            && address[0] & mask[0] == own[0]
            && address[1] & mask[1] == own[1]
            && address[2] & mask[2] == own[2]
            && address[3] & mask[3] == own[3]
    }
}

/// Bytes of a frame that tell its ends: Ethernet with two tags, IPv4 with all options, ports.
pub const HEAD: usize = 14 + 8 + 60 + 4;

/// Addresses of IPv4, as those of IPv6: what is in front of them.
const MAPPED: u32 = 0xffff_u32.to_be();

impl CaptureSettings {
    /// Whether a frame that begins so, of which `len` bytes are known, has one of the ends.
    #[inline(always)]
    pub fn wants(&self, head: &[u8; HEAD], len: u32) -> bool {
        self.end_count == 0 || self.has_end(head, len as usize).unwrap_or(false)
    }

    #[inline(always)]
    fn has_end(&self, head: &[u8; HEAD], len: usize) -> Option<bool> {
        let (mut l3, mut kind) = (14, half(head, 12, len)?);
        if matches!(kind, 0x8100 | 0x88a8) {
            (l3, kind) = (18, half(head, 16, len)?);
            if matches!(kind, 0x8100 | 0x88a8) {
                (l3, kind) = (22, half(head, 20, len)?);
            }
        }
        let at = |at: usize| word(head, l3 + at, len);
        let (from, to, l4) = match kind {
            0x0800 => {
                let ends = ([0, 0, MAPPED, at(12)?], [0, 0, MAPPED, at(16)?]);
                let header = (*head.get(l3)? & 0xf) as usize * 4;
                // The three bits on top are flags.
                let is_first = half(head, l3 + 6, len)? << 3 == 0;
                let has_ports = is_first && matches!(*head.get(l3 + 9)?, 6 | 17);
                (ends.0, ends.1, has_ports.then_some(l3 + header))
            }
            0x86dd => {
                let from = [at(8)?, at(12)?, at(16)?, at(20)?];
                let to = [at(24)?, at(28)?, at(32)?, at(36)?];
                // Behind extension headers nobody looks for ports here.
                (from, to, matches!(*head.get(l3 + 6)?, 6 | 17).then_some(l3 + 40))
            }
            _ => return None,
        };
        let (sport, dport) = match l4 {
            Some(l4) => (half(head, l4, len), half(head, l4 + 2, len)),
            None => (None, None),
        };
        let mut place = 0;
        while place < MOST_ENDS && place < self.end_count as usize {
            let end = &self.ends[place];
            if end.has(from, sport) || end.has(to, dport) {
                return Some(true);
            }
            place += 1;
        }
        Some(false)
    }
}

/// A number of two bytes, in the order of the host.
#[inline(always)]
fn half(head: &[u8; HEAD], at: usize, len: usize) -> Option<u16> {
    if at + 2 > len || at + 2 > HEAD {
        return None;
    }
    Some(u16::from_be_bytes([head[at], head[at + 1]]))
}

/// Four bytes as they are.
#[inline(always)]
fn word(head: &[u8; HEAD], at: usize, len: usize) -> Option<u32> {
    if at + 4 > len || at + 4 > HEAD {
        return None;
    }
    Some(u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]))
}

const _: () = assert!(Reason::COUNT <= 64, "a bit for each reason");
const _: () = assert!(Event::ALL.len() <= 32, "a bit for each event");

/// [`CaptureRecord::hook`] of XDP.
pub const HOOK_XDP: u32 = 0;
/// [`CaptureRecord::hook`] of TC.
pub const HOOK_TC: u32 = 1;

/// What is told of a packet, in front of its bytes: those before, then those after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CaptureRecord {
    /// When it came, nanoseconds of the kernel's monotonic clock.
    pub came: u64,
    /// When its verdict was reached.
    pub left: u64,
    /// Index of the interface by which it came.
    pub ifindex: u32,
    /// [`HOOK_XDP`] or [`HOOK_TC`].
    pub hook: u32,
    /// What the program returned: an action of the hook.
    pub action: u32,
    /// The [`Reason`] it was counted under.
    pub reason: u32,
    /// What else was counted: a bit for each [`Event`].
    pub events: u32,
    /// Bytes of the packet as it came that are here.
    pub before: u32,
    /// Bytes that it had.
    pub before_len: u32,
    /// Bytes of the packet as it leaves that are here; 0 = it does not leave.
    pub after: u32,
    /// Bytes that it has.
    pub after_len: u32,
    /// Tag aside as it came: protocol, then the tag, as in `sk_buff`, the first lowest; 0 = none.
    pub before_tag: u32,
    /// Tag aside as it leaves.
    pub after_tag: u32,
    /// Always 0.
    pub reserved: u32,
}

plain!(CaptureRecord, 64:
    came: u64, left: u64, ifindex: u32, hook: u32, action: u32, reason: u32, events: u32, before: u32,
    before_len: u32, after: u32, after_len: u32, before_tag: u32, after_tag: u32, reserved: u32);
