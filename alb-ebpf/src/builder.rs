//! Builds TCP frames, right in every field, for tests on the host. Sums are computed whole and
//! byte by byte, so that a test compares the packet path's incremental ones with another method.

extern crate std;

pub mod icmp;
pub mod ipv6;

use core::net::Ipv4Addr;
use std::vec::Vec;

use alb_common::tcp::flag;

/// A TCP segment in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Station it is for.
    pub to: [u8; 6],
    /// Station it comes from.
    pub from: [u8; 6],
    /// VLAN tags, the outer one first: type and tag control information.
    pub tags: Vec<(u16, u16)>,
    /// IPv4 type of service.
    pub tos: u8,
    /// IPv4 identification.
    pub id: u16,
    /// IPv4 flags and fragment offset.
    pub fragment: u16,
    /// Time to live.
    pub ttl: u8,
    /// Source address and port.
    pub src: (Ipv4Addr, u16),
    /// Destination address and port.
    pub dst: (Ipv4Addr, u16),
    /// IPv4 options, a multiple of four bytes.
    pub ip_options: Vec<u8>,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// TCP flags.
    pub flags: u8,
    /// Receive window.
    pub window: u16,
    /// TCP options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// Data.
    pub data: Vec<u8>,
    /// Bytes behind the IP packet, as Ethernet pads.
    pub padding: usize,
}

impl Default for Tcp {
    fn default() -> Self {
        Self {
            to: [2, 0, 0, 0, 0, 2],
            from: [2, 0, 0, 0, 0, 1],
            tags: Vec::new(),
            tos: 0,
            id: 0x1234,
            fragment: 0x4000,
            ttl: 64,
            src: (Ipv4Addr::new(198, 18, 0, 100), 40_000),
            dst: (Ipv4Addr::new(198, 18, 0, 10), 80),
            ip_options: Vec::new(),
            seq: 1_000,
            ack: 0,
            flags: flag::SYN,
            window: 0x7210,
            options: Vec::new(),
            data: Vec::new(),
            padding: 0,
        }
    }
}

impl Tcp {
    /// Offset of the IPv4 header.
    pub fn l3(&self) -> usize {
        14 + self.tags.len() * 4
    }

    /// Offset of the TCP header.
    pub fn l4(&self) -> usize {
        self.l3() + 20 + self.ip_options.len()
    }

    /// The frame.
    ///
    /// # Panics
    ///
    /// If options or data are too long for their headers.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend(self.to);
        frame.extend(self.from);
        for (kind, tag) in &self.tags {
            frame.extend(kind.to_be_bytes());
            frame.extend(tag.to_be_bytes());
        }
        frame.extend([0x08, 0x00]);
        let tcp = self.tcp(&[self.src.0.octets(), self.dst.0.octets()].concat());
        frame.extend(self.ip(tcp.len()));
        frame.extend(tcp);
        frame.resize(frame.len() + self.padding, 0);
        frame
    }

    fn ip(&self, payload: usize) -> Vec<u8> {
        let Self { tos, id, fragment, ttl, src, dst, ref ip_options, .. } = *self;
        Ip { tos, id, fragment, ttl, protocol: 6, src: src.0, dst: dst.0, options: ip_options }
            .header(payload)
    }

    /// The segment, with a checksum that covers these addresses too.
    fn tcp(&self, addresses: &[u8]) -> Vec<u8> {
        let mut tcp = Vec::new();
        tcp.extend(self.src.1.to_be_bytes());
        tcp.extend(self.dst.1.to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        tcp.extend([words(20 + self.options.len()) << 4, self.flags]);
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(&self.options);
        tcp.extend(&self.data);

        let len = u16::try_from(tcp.len()).expect("fits an IP packet");
        let mut summed = addresses.to_vec();
        summed.extend([0, 6]);
        summed.extend(len.to_be_bytes());
        summed.extend(&tcp);
        let sum = !ones_sum(&summed);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        tcp
    }
}

/// What an IPv4 header says.
struct Ip<'a> {
    tos: u8,
    id: u16,
    fragment: u16,
    ttl: u8,
    protocol: u8,
    src: Ipv4Addr,
    dst: Ipv4Addr,
    options: &'a [u8],
}

impl Ip<'_> {
    /// The header in front of this many bytes.
    fn header(&self, payload: usize) -> Vec<u8> {
        let len = 20 + self.options.len();
        let total = u16::try_from(len + payload).expect("fits an IP packet");
        let mut ip = Vec::new();
        ip.extend([0x40 | words(len), self.tos]);
        ip.extend(total.to_be_bytes());
        ip.extend(self.id.to_be_bytes());
        ip.extend(self.fragment.to_be_bytes());
        ip.extend([self.ttl, self.protocol, 0, 0]);
        ip.extend(self.src.octets());
        ip.extend(self.dst.octets());
        ip.extend(self.options);
        let sum = !ones_sum(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        ip
    }
}

/// The TCP timestamp option (RFC 7323 §3) behind two NOPs, as Linux sends it.
pub fn timestamp(value: u32, echo: u32) -> Vec<u8> {
    [[1, 1, 8, 10].as_slice(), &value.to_be_bytes(), &echo.to_be_bytes()].concat()
}

fn words(len: usize) -> u8 {
    assert!(len.is_multiple_of(4) && len <= 60, "a header of {len} bytes");
    (len / 4) as u8
}

/// One's-complement sum of big-endian words (RFC 1071 §1).
pub fn ones_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
