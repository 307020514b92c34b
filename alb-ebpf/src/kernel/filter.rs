//! Security groups: whether a client may open a port, or ping. Asked for what begins something,
//! never for packets of a flow, nor for ICMP errors about them.

use alb_common::{
    filter::{self, FilterKey, ICMP, PORT_STEPS},
    net::Be32,
    service::local,
};

use super::maps;
use crate::parse::Segment;

/// Whether the filter of an address, if it has one, keeps a segment off.
#[inline(always)]
pub(super) fn denies(kind: u32, segment: &Segment) -> bool {
    let id = local::filter(kind);
    id != 0 && alb_is_closed(id, segment.key.src.0, segment.key.dport.host() as u32) != 0
}

/// Whether it keeps a ping off.
#[inline(always)]
pub(super) fn denies_ping(kind: u32, client: Be32) -> bool {
    let id = local::filter(kind);
    id != 0 && alb_is_closed(id, client.0, ICMP) != 0
}

/// 0 = open. One lookup by the client's address, one search by the port.
#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
extern "C" fn alb_is_closed(id: u32, client: u32, port: u32) -> u32 {
    let key = maps::TrieKey::new(FilterKey::BITS, [id, client]);
    let Some(entry) = maps::FILTERS.get(&key) else { return 1 };
    // How many of the ports in the list are not above it.
    let (mut low, mut high) = (0, entry.len);
    let mut step = 0;
    while step < PORT_STEPS {
        step += 1;
        if low >= high {
            break;
        }
        let middle = (low + high) >> 1;
        let Some(&at) = maps::SLOTS.get(entry.offset.wrapping_add(middle)) else { return 1 };
        if at <= port {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    !filter::is_open(low) as u32
}
