//! The client's side of the link layer: learnt from its frames, refreshed from the routing
//! table when that changes.

use alb_common::{
    flow::{FlowEntry, FlowKey},
    net::Mac,
    reason::Event,
    settings::Settings,
};
use aya_ebpf::{bindings::bpf_fib_lookup, helpers::generated::bpf_fib_lookup as fib_lookup};

use super::{count, host::Host, maps, tables::Tables};
use crate::packet::Packet;

const IPPROTO_TCP: u8 = 6;
/// No slot has this number.
const NO_ROUTE: u32 = u32::MAX;
const FIB_SUCCESS: i64 = 0;

/// On a packet from the client: if its frames come from another station than before, replies
/// follow it, as a switch would learn. Mends a failed-over gateway and a moved client.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
pub(super) fn follow_client<P: Packet, A: Tables>(
    packet: &P,
    entry: *mut FlowEntry<A>,
    copy: &FlowEntry<A>,
) {
    let Some(eth) = packet.window::<14>(0) else { return };
    let source = eth.source();
    if source == copy.mac {
        return;
    }
    let Some(slot) = slot_of(packet.ifindex()) else { return };
    // SAFETY: `entry` is a live element of the flow table. Three 16-bit stores: a reader that
    // sees half of them sends one frame astray, and TCP repeats it.
    unsafe { (*entry).mac = source }
    let mut room = FlowKey::default();
    let Some(peer_key) = A::peer_key(copy, &mut room) else { return };
    let Some(peer) = A::flow(peer_key) else { return };
    // SAFETY: as above.
    unsafe { (*peer).mac = source }
    // SAFETY: as above.
    unsafe { (*peer).interface = slot as u8 }
    count::event(Event::ClientMoved);
}

/// On a packet to the client: the way to it. If routes have changed since it was learnt, the
/// routing table is asked; where that cannot tell, the learnt way stands.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
pub(super) fn client<P: Host, A: Tables>(
    packet: &P,
    settings: &Settings,
    entry: *mut FlowEntry<A>,
    copy: &FlowEntry<A>,
) -> (u8, Mac) {
    let learnt = (copy.interface, copy.mac);
    let generation = settings.route_generation;
    if generation == copy.route_generation {
        return learnt;
    }
    // SAFETY: `entry` is a live element of the flow table.
    unsafe { (*entry).route_generation = generation }
    let mut mac = Mac::default();
    let (vip, client) = (copy.src, copy.dst);
    let slot = route(packet, &vip, &client, &mut mac);
    if slot == NO_ROUTE {
        return learnt;
    }
    // SAFETY: as above.
    unsafe { (*entry).mac = mac }
    let slot = slot as u8;
    // SAFETY: as above.
    unsafe { (*entry).interface = slot }
    (slot, mac)
}

/// Asks the kernel's routing and neighbour tables for the way to the client: the slot of the
/// interface, or [`NO_ROUTE`], and the next hop's station. Needs forwarding to be on for the
/// interface (`bpf_ipv4_fib_lookup` and its like refuse otherwise).
#[inline(never)]
#[expect(unsafe_code, reason = "a helper call")]
fn route<P: Host, A: Tables>(packet: &P, vip: &A, client: &A, mac: &mut Mac) -> u32 {
    // SAFETY: all zeroes is a valid value of this C struct of integers.
    let mut params: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    params.family = A::AF;
    params.l4_protocol = IPPROTO_TCP;
    params.ifindex = packet.ifindex();
    A::ask(&mut params, vip, client);
    // SAFETY: the context is the program's own and `params` is of the size given.
    let result = unsafe {
        fib_lookup(packet.context(), &raw mut params, size_of::<bpf_fib_lookup>() as i32, 0)
    };
    if result != FIB_SUCCESS {
        return NO_ROUTE;
    }
    *mac = Mac::new(params.dmac);
    slot_of(params.ifindex).unwrap_or(NO_ROUTE)
}

/// Slot of an interface; `None` if it is not ours.
#[inline(always)]
#[expect(unsafe_code, reason = "map value access")]
pub(super) fn slot_of(ifindex: u32) -> Option<u32> {
    // SAFETY: the value is a word that userspace replaces whole.
    unsafe { maps::INTERFACE_SLOTS.get(ifindex) }.copied()
}
