//! Security groups: whether a client may open a port. Asked for what begins something, never for
//! packets of a flow.

use alb_common::{
    filter::{self, FilterKey, PORT_STEPS},
    service::local,
};

use super::maps;
use crate::parse::Segment;

/// Whether the filter of an address, if it has one, keeps a segment off.
#[inline(always)]
pub(super) fn denies(kind: u32, segment: &Segment) -> bool {
    let id = local::filter(kind);
    id != 0 && is_closed(id, segment) != 0
}

/// 0 = open. One lookup by the client's address, one search by the port.
#[inline(never)]
fn is_closed(id: u32, segment: &Segment) -> u32 {
    let key = filter_key(id, segment);
    let Some(entry) = maps::FILTERS.get(&key) else { return 1 };
    let port = segment.key.dport.host() as u32;
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

#[inline(always)]
fn filter_key(id: u32, segment: &Segment) -> maps::TrieKey {
    maps::TrieKey::new(FilterKey::BITS, [id, segment.key.src.0])
}
