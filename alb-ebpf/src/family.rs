//! What differs between IPv4 and IPv6: their headers. Everything behind them is the same.

use alb_common::{Reason, net::Address};

use crate::{
    icmp::{Message, Quote},
    packet::Packet,
    parse::Segment,
    rewrite::Rewrite,
};

/// A family of addresses and the headers that carry them.
pub trait Family: Address {
    /// Its Ethernet type as it stands in a frame.
    const ETHERTYPE: u16;
    /// Its number in the kernel's interfaces (`AF_*`).
    const AF: u8;
    /// Length of its header without options and extension headers, bytes.
    const IP_LEN: usize;

    /// Its header.
    type Header<'a>: Copy;

    /// The header at `l3`.
    fn header<P: Packet>(packet: &P, l3: usize) -> Option<Self::Header<'_>>;
    /// The source address in a header.
    fn source(ip: Self::Header<'_>) -> Self;
    /// The destination address in a header.
    fn destination(ip: Self::Header<'_>) -> Self;

    /// Where the TCP header of a packet is; or why there is none.
    fn tcp<P: Packet>(packet: &P, l3: usize) -> Result<Found<Self::Header<'_>>, Reason>;

    /// An offset of a header, within bounds that the verifier sees after it was in a map.
    fn bounded(offset: usize) -> usize;

    /// Whether it can be a client's.
    fn is_client(self) -> bool;

    /// Whether a packet must go no further.
    fn expires(ip: Self::Header<'_>) -> bool;
    /// Writes the addresses into a header that has a hop left, and takes one hop of it.
    fn hop(ip: Self::Header<'_>, src: Self, dst: Self) -> Added;
    /// Writes a header without options in front of `payload` bytes of this protocol; its sum.
    fn write(ip: Self::Header<'_>, protocol: u8, payload: u16, src: Self, dst: Self) -> u64;

    /// Parses an ICMP message whose destination is ours. Checksums are not verified: wrong ones
    /// stay wrong.
    fn icmp<P: Packet>(packet: &P, l3: usize) -> Result<Message<Self>, Reason>;
    /// Translates an error by the rewrite of the packets that go the same way, which answer the
    /// quoted one: the message gets their addresses, the quote the reverse of them. So it arrives
    /// as from the address that its receiver knows, and tells nothing of the network behind us.
    fn translate<P: Packet>(
        packet: &mut P,
        quote: &Quote<Self>,
        rewrite: &Rewrite<Self>,
    ) -> Result<(), Reason>;
    /// Turns a ping, found to be one, into its answer, in place.
    fn echo<P: Packet>(packet: &mut P, l3: usize) -> Result<(), Reason>;
    /// Writes the message that a segment is longer than this MTU over it.
    fn too_big<P: Packet>(packet: &mut P, segment: &Segment<Self>, mtu: u16) -> Result<(), Reason>;
}

/// A TCP header behind an IP header: the lengths in this one hold against the frame and against each
/// other.
#[derive(Clone, Copy, Debug)]
pub struct Found<H> {
    /// The IP header.
    pub ip: H,
    /// Offset of the TCP header.
    pub l4: usize,
    /// Length of the IP packet, bytes.
    pub ip_len: usize,
}

/// What a hop has added to one's-complement sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    /// To that of the addresses.
    pub addresses: u64,
    /// To that of the header, beyond what its own checksum takes back.
    pub header: u64,
}
