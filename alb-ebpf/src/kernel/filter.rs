//! Security groups: whether a client may open a port, or ping. Asked for what begins something,
//! never for packets of a flow, nor for ICMP errors about them.

use alb_common::{
    filter::{self, ICMP, PORT_STEPS},
    net::{Be32, Be128},
    service::local,
};

use super::{maps, tables::Tables};
use crate::parse::Segment;

/// Whether the filter of an address, if it has one, keeps a segment off.
#[inline(always)]
pub(super) fn denies<A: Tables>(kind: u32, segment: &Segment<A>) -> bool {
    let id = local::filter(kind);
    id != 0 && A::is_closed(id, segment.key.src, segment.key.dport.host() as u32)
}

/// Whether it keeps a ping off.
#[inline(always)]
pub(super) fn denies_ping<A: Tables>(kind: u32, client: A) -> bool {
    let id = local::filter(kind);
    id != 0 && A::is_closed(id, client, ICMP)
}

/// [`is_closed`] of IPv4, a global function; 0 = open.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
pub(super) extern "C" fn alb_is_closed(id: u32, client: u32, port: u32) -> u32 {
    is_closed(id, Be32(client), port) as u32
}

/// [`is_closed`] of IPv6, a global function; the address comes in two halves, 0 = open.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
pub(super) extern "C" fn alb_is_closed6(id: u32, high: u64, low: u64, port: u32) -> u32 {
    let words = [(high >> 32) as u32, high as u32, (low >> 32) as u32, low as u32];
    is_closed(id, Be128(words), port) as u32
}

/// One lookup by the client's address, one search by the port.
#[inline(always)]
fn is_closed<A: Tables>(id: u32, client: A, port: u32) -> bool {
    let Some(entry) = A::filter(id, client) else { return true };
    // How many of the ports in the list are not above it.
    let (mut low, mut high) = (0, entry.len);
    let mut step = 0;
    while step < PORT_STEPS {
        step += 1;
        if low >= high {
            break;
        }
        let middle = (low + high) >> 1;
        let Some(&at) = maps::SLOTS.get(entry.offset.wrapping_add(middle)) else { return true };
        if at <= port {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    !filter::is_open(low)
}
