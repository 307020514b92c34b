//! Builds ICMP frames, right in every field.

extern crate std;

use core::net::Ipv4Addr;
use std::vec::Vec;

use super::{Ip, Tcp, ones_sum};

/// An ICMP message in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Station it is for.
    pub to: [u8; 6],
    /// Station it comes from.
    pub from: [u8; 6],
    /// VLAN tags, the outer one first: type and tag control information.
    pub tags: Vec<(u16, u16)>,
    /// IPv4 identification.
    pub id: u16,
    /// IPv4 flags and fragment offset.
    pub fragment: u16,
    /// Time to live.
    pub ttl: u8,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// IPv4 options, a multiple of four bytes.
    pub ip_options: Vec<u8>,
    /// Type and code.
    pub kind: (u8, u8),
    /// The four bytes behind the checksum.
    pub rest: [u8; 4],
    /// What follows.
    pub body: Vec<u8>,
    /// Bytes behind the IP packet, as Ethernet pads.
    pub padding: usize,
}

impl Icmp {
    /// A ping.
    pub fn ping(src: Ipv4Addr, dst: Ipv4Addr) -> Self {
        Self {
            to: [2, 0, 0, 0, 0, 2],
            from: [2, 0, 0, 0, 0, 1],
            tags: Vec::new(),
            id: 0x4321,
            fragment: 0x4000,
            ttl: 61,
            src,
            dst,
            ip_options: Vec::new(),
            kind: (8, 0),
            rest: [1, 2, 0, 7],
            body: (0..56).collect(),
            padding: 0,
        }
    }

    /// A router's "fragmentation needed" about a packet, quoting `data` bytes behind its IPv4
    /// header, to whom it came from.
    pub fn about(router: Ipv4Addr, packet: &Tcp, mtu: u16, data: usize) -> Self {
        let [high, low] = mtu.to_be_bytes();
        Self {
            kind: (3, 4),
            rest: [0, 0, high, low],
            body: quote(packet, data),
            ..Self::ping(router, packet.src.0)
        }
    }

    /// The frame.
    pub fn frame(&self) -> Vec<u8> {
        let mut message = Vec::from([self.kind.0, self.kind.1, 0, 0]);
        message.extend(self.rest);
        message.extend(&self.body);
        let sum = !ones_sum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());

        let mut frame = [self.to, self.from].concat();
        for (kind, tag) in &self.tags {
            frame.extend(kind.to_be_bytes());
            frame.extend(tag.to_be_bytes());
        }
        frame.extend([0x08, 0x00]);
        let Self { id, fragment, ttl, src, dst, ref ip_options, .. } = *self;
        let ip = Ip { tos: 0, id, fragment, ttl, protocol: 1, src, dst, options: ip_options };
        frame.extend(ip.header(message.len()));
        frame.extend(message);
        frame.resize(frame.len() + self.padding, 0);
        frame
    }
}

/// The start of a packet: its IPv4 header and at most `data` bytes.
pub fn quote(packet: &Tcp, data: usize) -> Vec<u8> {
    let frame = Tcp { padding: 0, ..packet.clone() }.frame();
    let end = frame.len().min(packet.l4() + data);
    frame[packet.l3()..end].to_vec()
}
