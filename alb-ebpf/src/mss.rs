//! Lowers the largest segment size that a SYN or SYN-ACK announces (RFC 9293 §3.7.1) to what fits
//! through the balancer's own interfaces, so that most senders need not be told by ICMP.

use alb_common::checksum;

use crate::{packet::Packet, parse::TCP_LEN, rewrite::CHECKSUM};

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const MSS_LEN: usize = 4;
/// Options looked at, padding included: every stack's MSS is the first.
const MOST: usize = 12;

/// Lowers the size announced in the TCP header of this length at `l4` to `most` bytes.
/// A SYN without the option means 536 bytes, 1,220 in IPv6, which everything must carry; nothing is
/// added.
#[inline(always)]
pub fn clamp<P: Packet>(packet: &mut P, l4: usize, header_len: u32, most: u16) {
    let end = (header_len as usize).min(60);
    let mut offset = TCP_LEN;
    let mut seen = 0;
    while seen < MOST {
        seen += 1;
        if offset + 2 > end {
            return;
        }
        let Some(head) = packet.window::<2>(l4 + offset) else { return };
        match head.u8::<0>() {
            END => return,
            NOP => offset += 1,
            MSS => {
                if head.u8::<1>() as usize == MSS_LEN && offset + MSS_LEN <= end {
                    lower(packet, l4, offset, most);
                }
                return;
            }
            _ => {
                let len = head.u8::<1>() as usize;
                if len < 2 {
                    return;
                }
                offset += len;
            }
        }
    }
}

/// Lowers the size in the option at `offset` of the TCP header.
#[inline(always)]
fn lower<P: Packet>(packet: &mut P, l4: usize, offset: usize, most: u16) {
    let Some(option) = packet.window::<MSS_LEN>(l4 + offset) else { return };
    let old = option.u16::<2>();
    if u16::from_be(old) <= most {
        return;
    }
    option.set_u16::<2>(most.to_be());
    let delta = checksum::fold(checksum::replace16(old, most.to_be()));
    // Behind an odd number of NOPs it lies across two words of the sum (RFC 1071 §2 B).
    let delta = if offset & 1 == 0 { delta } else { delta.swap_bytes() };
    if P::OFFLOADS {
        packet.correct(l4 + CHECKSUM, 0, delta);
    } else if let Some(check) = packet.window::<2>(l4 + CHECKSUM) {
        check.set_u16::<0>(checksum::update(check.u16::<0>(), delta as u64));
    }
}

#[cfg(test)]
mod tests;
