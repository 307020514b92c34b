//! The packet that is asked about, as bytes, and what is left of it. Pure.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use alb_common::{
    net::Mac,
    tcp::{Direction, flag},
};

use super::{NOBODY, trial::Stored};
use crate::datapath::segment::{HEADER, Segment};

/// Bytes of an Ethernet header.
const ETH: usize = 14;

/// TCP flags, as the header's eight bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlags(u8);

impl TcpFlags {
    /// A connection begins.
    pub const SYN: Self = Self(flag::SYN);
    /// Some packet of an open connection.
    pub const ACK: Self = Self(flag::ACK);

    /// With their words.
    const NAMED: [(&'static str, Self); 5] = [
        ("syn", Self::SYN),
        ("syn-ack", Self(flag::SYN | flag::ACK)),
        ("ack", Self::ACK),
        ("fin", Self(flag::FIN | flag::ACK)),
        ("rst", Self(flag::RST)),
    ];

    /// Every word.
    pub const WORDS: [&'static str; 5] = ["syn", "syn-ack", "ack", "fin", "rst"];

    /// Its word.
    pub fn label(self) -> &'static str {
        let found = Self::NAMED.iter().find(|(_, flags)| *flags == self);
        found.map_or("tcp", |(word, _)| word)
    }
}

/// No packet is called so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no packet {0}: there are syn, syn-ack, ack, fin and rst")]
pub struct NoSuchPacket(String);

impl FromStr for TcpFlags {
    type Err = NoSuchPacket;

    fn from_str(word: &str) -> Result<Self, NoSuchPacket> {
        let found = Self::NAMED.iter().find(|(name, _)| *name == word);
        found.map(|(_, flags)| *flags).ok_or_else(|| NoSuchPacket(word.to_owned()))
    }
}

/// A frame with a TCP segment without data.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    from: SocketAddr,
    to: SocketAddr,
    flags: TcpFlags,
    station: Mac,
    sender: Mac,
    sequence: u32,
    acknowledgment: u32,
}

/// What is left of a frame that was rewritten or answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    /// Link-layer address it goes to.
    pub(super) station: [u8; 6],
    /// It says RST.
    pub(super) is_reset: bool,
}

impl Frame {
    /// To a station, from nobody known.
    pub(super) fn new(from: SocketAddr, to: SocketAddr, flags: TcpFlags, station: Mac) -> Self {
        let (sequence, acknowledgment) = (1, u32::from(flags.0 & flag::ACK != 0));
        Self { from, to, flags, station, sender: NOBODY, sequence, acknowledgment }
    }

    /// With the numbers and the sender of a flow, if there is one: of half-open ones the tables
    /// know what an ACK must say.
    pub(super) fn answers(&mut self, stored: Option<&Stored>) {
        let Some(Stored { entry, peer, half_open }) = stored else { return };
        if let Some(peer) = peer {
            if entry.flags.direction() == Direction::Forward && !peer.mac.is_unset() {
                self.sender = peer.mac;
            }
            if *half_open && self.flags.0 & flag::ACK != 0 {
                self.acknowledgment = peer.packets.wrapping_add(1);
            }
        }
        if *half_open {
            let past = u32::from(self.flags.0 & flag::SYN == 0);
            self.sequence = entry.packets.wrapping_add(past);
        }
    }

    /// With right checksums.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let segment = Segment {
            from: self.from,
            to: self.to,
            sequence: self.sequence,
            acknowledgment: self.acknowledgment,
            flags: self.flags.0,
            window: u16::MAX,
        };
        let kind = if self.from.is_ipv4() { [8, 0] } else { [0x86, 0xdd] };
        [&self.station.bytes()[..], &self.sender.bytes(), &kind, &segment.bytes()].concat()
    }
}

impl Seen {
    /// Reads a frame as the program left it; `None` if it is none of TCP, or has IP options.
    pub(super) fn of(frame: &[u8]) -> Option<Self> {
        let ip = frame.get(ETH..)?;
        let four = |at: usize| -> Option<IpAddr> {
            let octets: [u8; 4] = ip.get(at..at + 4)?.try_into().ok()?;
            Some(Ipv4Addr::from(octets).into())
        };
        let six = |at: usize| -> Option<IpAddr> {
            let octets: [u8; 16] = ip.get(at..at + 16)?.try_into().ok()?;
            Some(Ipv6Addr::from(octets).into())
        };
        let (from, to, protocol, tcp) = match ip.first()? {
            0x45 => (four(12)?, four(16)?, ip.get(9)?, ip.get(20..)?),
            first if first >> 4 == 6 => (six(8)?, six(24)?, ip.get(6)?, ip.get(40..)?),
            _ => return None,
        };
        if *protocol != 6 || tcp.len() < HEADER {
            return None;
        }
        let port = |at: usize| tcp.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]));
        Some(Self {
            from: SocketAddr::new(from, port(0)?),
            to: SocketAddr::new(to, port(2)?),
            station: frame.get(..6)?.try_into().ok()?,
            is_reset: tcp.get(13)? & flag::RST != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_says_what_was_asked() {
        for (from, to, flags) in [
            ("198.18.0.100:40000", "198.18.0.10:80", 47),
            ("[2001:db8::64]:40000", "[2001:db8::a]:80", 67),
        ] {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            let frame = Frame::new(from, to, TcpFlags::SYN, Mac::new([2, 0, 0, 0, 0, 7])).bytes();
            let seen = Seen { from, to, station: [2, 0, 0, 0, 0, 7], is_reset: false };
            assert_eq!(Seen::of(&frame), Some(seen));
            assert_eq!(frame[flags], 2);
            for len in 0..frame.len() {
                assert_eq!(Seen::of(&frame[..len]), None, "{len}");
            }
        }
    }

    #[test]
    fn packets_have_words() {
        for word in TcpFlags::WORDS {
            assert_eq!(word.parse::<TcpFlags>().map(TcpFlags::label), Ok(word));
        }
        assert!("xmas".parse::<TcpFlags>().is_err());
    }
}
