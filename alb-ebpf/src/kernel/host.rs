//! What the packet path needs of its host beyond the bytes: the context, and the loops over TCP
//! options as global functions (see `kernel`), which only a host can define, because they take its
//! kind of context.

use core::ffi::c_void;

use crate::{mss, packet::Packet, parse};

/// A program type.
pub trait Host: Packet {
    /// Steps that most packets take are calls of their own: they cost a packet some
    /// nanoseconds each, and save a host stack and Linux 6.1 instructions to look at.
    const CALLS: bool;

    /// The context pointer that helpers take.
    fn context(&self) -> *mut c_void;

    /// [`timestamp`] in a global function of this host's.
    fn timestamp(&self, l4: u32, header_len: u32) -> u64;

    /// [`clamp`] in a global function of this host's.
    fn clamp(&mut self, l4: u32, header_len: u32, most: u32);
}

/// The timestamp value of the TCP header of this length at `l4`, or 0: who happens to be there is
/// taken for one without.
#[inline(always)]
pub fn timestamp<H: Host>(packet: &H, l4: u32, header_len: u32) -> u64 {
    parse::timestamp(packet, within(l4), header_len).unwrap_or(0) as u64
}

/// Lowers the segment size that the TCP header of this length at `l4` announces to `most`. Returns
/// 0, because a global function returns a number.
#[inline(always)]
pub fn clamp<H: Host>(packet: &mut H, l4: u32, header_len: u32, most: u32) -> u64 {
    mss::clamp(packet, within(l4), header_len, most as u16);
    0
}

/// An offset that the verifier finds bounds for: headers begin within the first 190 bytes.
#[inline(always)]
fn within(l4: u32) -> usize {
    (l4 & 0xff) as usize
}
