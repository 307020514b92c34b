//! The frames of the other builders in IPv6: the same segment or message between mapped addresses.

extern crate std;

use core::net::{Ipv4Addr, Ipv6Addr};
use std::vec::Vec;

use super::{Tcp, icmp::Icmp, ones_sum};

/// The IPv6 address that stands for an IPv4 one: it ends in its bytes, in `2001:db8::/32`.
pub fn mapped(addr: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, d] = addr.octets();
    let pair = |high, low| u16::from_be_bytes([high, low]);
    // More than the last bits differ, so that a sum that forgets a word is found out.
    Ipv6Addr::new(0x2001, 0xdb8, pair(d, c), 0, pair(b, a), 0xff0f, pair(a, b), pair(c, d))
}

/// An extension header: its kind, and what is behind its length. All together a multiple of eight
/// bytes.
pub type Extension = (u8, Vec<u8>);

/// An IPv6 header and extension headers in front of this many bytes.
fn header(
    (tos, hops, protocol): (u8, u8, u8),
    (src, dst): (Ipv4Addr, Ipv4Addr),
    extensions: &[Extension],
    payload: usize,
) -> Vec<u8> {
    let mut behind = Vec::new();
    for (at, (_, body)) in extensions.iter().enumerate() {
        let len = body.len() + 2;
        assert!(len.is_multiple_of(8) && len <= 2_048, "an extension header of {len} bytes");
        let next = extensions.get(at + 1).map_or(protocol, |(kind, _)| *kind);
        behind.extend([next, (len / 8 - 1) as u8]);
        behind.extend(body);
    }
    let len = u16::try_from(behind.len() + payload).expect("fits an IP packet");
    let mut ip = Vec::from([0x60 | tos >> 4, tos << 4, 0, 0]);
    ip.extend(len.to_be_bytes());
    ip.extend([extensions.first().map_or(protocol, |(kind, _)| *kind), hops]);
    ip.extend(mapped(src).octets());
    ip.extend(mapped(dst).octets());
    ip.extend(behind);
    ip
}

fn ethernet(to: [u8; 6], from: [u8; 6], tags: &[(u16, u16)]) -> Vec<u8> {
    let mut frame = [to, from].concat();
    for (kind, tag) in tags {
        frame.extend(kind.to_be_bytes());
        frame.extend(tag.to_be_bytes());
    }
    frame.extend([0x86, 0xdd]);
    frame
}

impl Tcp {
    /// Offset of the TCP header in [`Self::frame6`].
    pub fn l4_6(&self, extensions: &[Extension]) -> usize {
        self.l3() + 40 + extensions.iter().map(|(_, body)| body.len() + 2).sum::<usize>()
    }

    /// The frame in IPv6; what only IPv4 has is left out.
    ///
    /// # Panics
    ///
    /// If options, extensions or data are too long for their headers.
    pub fn frame6(&self, extensions: &[Extension]) -> Vec<u8> {
        let (src, dst) = (self.src.0, self.dst.0);
        let tcp = self.tcp(&[mapped(src).octets(), mapped(dst).octets()].concat());
        let mut frame = ethernet(self.to, self.from, &self.tags);
        frame.extend(header((self.tos, self.ttl, 6), (src, dst), extensions, tcp.len()));
        frame.extend(tcp);
        frame.resize(frame.len() + self.padding, 0);
        frame
    }

    /// The start of the packet in IPv6: its headers and at most `data` bytes behind them.
    pub fn quote6(&self, extensions: &[Extension], data: usize) -> Vec<u8> {
        let frame = Self { padding: 0, ..self.clone() }.frame6(extensions);
        let end = frame.len().min(self.l4_6(extensions) + data);
        frame[self.l3()..end].to_vec()
    }
}

impl Icmp {
    /// A router's "packet too big" about a packet in IPv6, quoting `data` bytes behind its headers,
    /// to whom it came from.
    pub fn about6(router: Ipv4Addr, packet: &Tcp, mtu: u16, data: usize) -> Self {
        let [high, low] = mtu.to_be_bytes();
        Self {
            kind: (2, 0),
            rest: [0, 0, high, low],
            body: packet.quote6(&[], data),
            ..Self::ping(router, packet.src.0)
        }
    }

    /// The frame in IPv6; type and code mean what they mean in ICMPv6.
    ///
    /// # Panics
    ///
    /// If the body is too long for an IP packet.
    pub fn frame6(&self, extensions: &[Extension]) -> Vec<u8> {
        let mut message = Vec::from([self.kind.0, self.kind.1, 0, 0]);
        message.extend(self.rest);
        message.extend(&self.body);
        let len = u32::try_from(message.len()).expect("fits an IP packet");
        let mut summed = [mapped(self.src).octets(), mapped(self.dst).octets()].concat();
        summed.extend(len.to_be_bytes());
        summed.extend([0, 0, 0, 58]);
        summed.extend(&message);
        let sum = !ones_sum(&summed);
        message[2..4].copy_from_slice(&sum.to_be_bytes());

        let mut frame = ethernet(self.to, self.from, &self.tags);
        let addresses = (self.src, self.dst);
        frame.extend(header((0, self.ttl, 58), addresses, extensions, message.len()));
        frame.extend(message);
        frame.resize(frame.len() + self.padding, 0);
        frame
    }
}
