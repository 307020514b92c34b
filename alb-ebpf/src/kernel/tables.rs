//! The maps of each family, and the global functions that take its addresses, behind one face: so
//! the rest is written once.

use alb_common::{
    Reason,
    filter::{FilterEntry, FilterKey},
    flow::{FlowEntry, FlowKey, RingSlot, Scratch},
    local::{self as local_cache, Said},
    net::{Address as _, Be16, Be32},
    service::{ListenerEntry, ListenerKey},
    settings::Settings,
    target::TargetEntry,
    tcp::FlowFlags,
};
use aya_ebpf::{bindings::bpf_fib_lookup, btf_maps::lpm_trie::Key};

use super::{
    balance, close,
    established::{self, Found, Open},
    filter, flow_log,
    host::Host,
    lines, maps, ring as rings, snat,
};
use crate::{family::Family, parse::Segment};

/// A family with its maps.
pub(super) trait Tables: Family {
    /// Added to an index of `RING_HEADS`.
    const RINGS: u32;
    /// `balance::decide` looks again by a loop: without one Linux 6.1 looks at less of a program whose
    /// steps are calls, and at more of one whose steps are not.
    const LOOPS: bool;

    /// What an address of ours is.
    fn local_kind(self) -> Option<u32>;
    /// Userspace replaces the element and never changes it.
    fn listener(key: &ListenerKey<Self>) -> Option<*const ListenerEntry>;
    fn target(index: u32) -> Option<&'static TargetEntry<Self>>;
    /// The open ports of the most specific prefix of a filter.
    fn filter(id: u32, client: Self) -> Option<&'static FilterEntry>;

    fn flow(key: &FlowKey<Self>) -> Option<*mut FlowEntry<Self>>;
    /// The same, for the packets that are most.
    fn flow_here<P: Host>(key: &FlowKey<Self>) -> Option<*mut FlowEntry<Self>>;
    /// Says that [`Self::flow`] is asked for a key soon.
    fn expect_flow(key: &FlowKey<Self>);
    /// Says that [`Self::half_open`] is.
    fn expect_half_open(key: &FlowKey<Self>);
    /// Inserts or replaces.
    fn put_flow(key: &FlowKey<Self>, entry: &FlowEntry<Self>) -> Result<(), i32>;
    fn remove_flow(key: &FlowKey<Self>) -> Result<(), i32>;

    fn half_open(key: &FlowKey<Self>) -> Option<*mut FlowEntry<Self>>;
    /// Inserts a key that is not there.
    fn insert_half_open(key: &FlowKey<Self>, entry: &FlowEntry<Self>) -> Result<(), i32>;
    fn remove_half_open(key: &FlowKey<Self>) -> Result<(), i32>;

    fn half_open_place(place: u32) -> Option<*mut RingSlot<Self>>;
    /// Size of the ring of half-open flows less one.
    fn half_open_mask(settings: &Settings) -> u32;
    fn closed_place(place: u32) -> Option<*mut RingSlot<Self>>;
    /// Size of the ring of closed flows less one.
    fn closed_mask(settings: &Settings) -> u32;

    fn scratches(index: u32) -> Option<*mut Scratch<Self>>;

    /// Writes the addresses that a route is asked for.
    fn ask(params: &mut bpf_fib_lookup, src: &Self, dst: &Self);
    /// A number that spreads a client's connections over ports.
    fn spread(self, port: u32) -> u32;

    /// The key of a target's answers to one of our addresses and ports, where the family has room for
    /// it.
    fn answers<'a>(
        target: &TargetEntry<Self>,
        to: &Self,
        port: Be16,
        room: &'a mut FlowKey<Self>,
    ) -> Option<&'a FlowKey<Self>>;

    /// [`FlowEntry::peer_key`], where the family has room for it.
    fn peer_key<'a>(
        entry: &FlowEntry<Self>,
        room: &'a mut FlowKey<Self>,
    ) -> Option<&'a FlowKey<Self>>;

    /// `filter::is_closed` in a global function.
    fn is_closed(id: u32, client: Self, port: u32) -> bool;
    /// `snat::claim_port` in a global function.
    fn claim_port(from: u32, now: u32) -> u32;
    /// `snat::former_port` in a global function.
    fn former_port() -> u32;
    /// `snat::claim_oldest` in a global function.
    fn claim_oldest(now: u32) -> u32;
    /// `snat::give_back` in a global function.
    fn give_back();
    /// `snat::take_over` in a global function.
    fn take_over();
    /// `close::clear` in a global function.
    fn clear(key: &FlowKey<Self>);
    /// `close::remove` in a global function.
    fn remove(key: &FlowKey<Self>, entry: *mut FlowEntry<Self>);
    /// `flow_log::write` in a global function.
    fn log(forward: &FlowEntry<Self>, reverse: &FlowEntry<Self>, state: FlowFlags);
    /// `ring::reclaim_closed` in a global function.
    fn reclaim_closed(now: u32);

    /// `balance::ours`, with the segment where the family has room for it.
    fn ours<'a, P: Host>(
        packet: &P,
        room: &'a mut Option<Segment<Self>>,
    ) -> Result<(&'a Segment<Self>, u32), Reason>;

    /// `established::open`, in as many calls as the stack wants.
    fn open<P: Host>(
        packet: &mut P,
        segment: &Segment<Self>,
        settings: &Settings,
        now: u32,
        open: &mut Open,
    ) -> Found;

    /// This CPU's working space.
    #[inline(always)]
    #[expect(unsafe_code, reason = "map value access")]
    fn scratch() -> Option<&'static mut Scratch<Self>> {
        // SAFETY: this CPU's element. The program is not re-entered on one CPU, and each packet
        // takes the reference once: `handshake`, `open`, `control`, `close` and `ring` are asked one
        // after the other, and none keeps it.
        Self::scratches(0).map(|scratch| unsafe { &mut *scratch })
    }

    /// As [`Tables::scratch`], for copies of flows that are in the way of the one under
    /// construction.
    #[inline(always)]
    #[expect(unsafe_code, reason = "map value access")]
    fn spare() -> Option<&'static mut Scratch<Self>> {
        // SAFETY: this CPU's element, another one than that of `scratch`. `snat::state` and
        // `close::remove` take the reference, neither calls the other nor keeps it.
        Self::scratches(1).map(|spare| unsafe { &mut *spare })
    }
}

macro_rules! tables {
    ($listeners:ident, $targets:ident, $half_open_ring:ident, $closed_ring:ident,
     $scratch:ident, $open:ident, $half_open:ident, $half_open_mask:ident, $closed_mask:ident) => {
        #[inline(always)]
        fn half_open_mask(settings: &Settings) -> u32 {
            settings.$half_open_mask
        }

        #[inline(always)]
        fn closed_mask(settings: &Settings) -> u32 {
            settings.$closed_mask
        }

        #[inline(always)]
        fn listener(key: &ListenerKey<Self>) -> Option<*const ListenerEntry> {
            maps::$listeners.get_ptr(key)
        }

        #[inline(always)]
        fn target(index: u32) -> Option<&'static TargetEntry<Self>> {
            maps::$targets.get(index)
        }

        #[inline(always)]
        fn half_open_place(place: u32) -> Option<*mut RingSlot<Self>> {
            maps::$half_open_ring.get_ptr_mut(place)
        }

        #[inline(always)]
        fn closed_place(place: u32) -> Option<*mut RingSlot<Self>> {
            maps::$closed_ring.get_ptr_mut(place)
        }

        #[inline(always)]
        fn scratches(index: u32) -> Option<*mut Scratch<Self>> {
            maps::$scratch.get_ptr_mut(index)
        }

        #[inline(always)]
        fn flow(key: &FlowKey<Self>) -> Option<*mut FlowEntry<Self>> {
            lines::find(&lines::$open, key)
        }

        #[inline(always)]
        fn flow_here<P: Host>(key: &FlowKey<Self>) -> Option<*mut FlowEntry<Self>> {
            let key = core::hint::black_box(key);
            if P::CALLS {
                lines::find_here_apart(&lines::$open, key)
            } else {
                lines::find_here(&lines::$open, key)
            }
        }

        #[inline(always)]
        fn expect_flow(key: &FlowKey<Self>) {
            lines::touch(&lines::$open, core::hint::black_box(key));
        }

        #[inline(always)]
        fn expect_half_open(key: &FlowKey<Self>) {
            lines::touch(&lines::$half_open, core::hint::black_box(key));
        }

        #[inline(always)]
        fn put_flow(key: &FlowKey<Self>, entry: &FlowEntry<Self>) -> Result<(), i32> {
            lines::put(&lines::$open, key, entry)
        }

        #[inline(always)]
        fn remove_flow(key: &FlowKey<Self>) -> Result<(), i32> {
            lines::remove(&lines::$open, key)
        }

        #[inline(always)]
        fn half_open(key: &FlowKey<Self>) -> Option<*mut FlowEntry<Self>> {
            lines::find(&lines::$half_open, key)
        }

        #[inline(always)]
        fn insert_half_open(key: &FlowKey<Self>, entry: &FlowEntry<Self>) -> Result<(), i32> {
            lines::insert(&lines::$half_open, key, entry)
        }

        #[inline(always)]
        fn remove_half_open(key: &FlowKey<Self>) -> Result<(), i32> {
            lines::remove(&lines::$half_open, key)
        }
    };
}
pub(super) use tables;

impl Tables for Be32 {
    const RINGS: u32 = 0;
    const LOOPS: bool = true;

    tables!(
        LISTENERS,
        TARGETS,
        HALF_OPEN_RING,
        CLOSED_RING,
        SCRATCH,
        Open,
        HalfOpen,
        half_open_mask,
        closed_mask
    );

    #[inline(always)]
    #[expect(unsafe_code, reason = "map value access")]
    fn local_kind(self) -> Option<u32> {
        let place = maps::LOCAL_CACHE.get_ptr(local_cache::place(self))?;
        // SAFETY: a word of the array, aligned, that userspace replaces whole.
        match local_cache::says(unsafe { place.read_volatile() }, self) {
            Said::Ours(kind) => Some(kind),
            Said::NotOurs => None,
            // SAFETY: the value is a word that userspace replaces whole.
            Said::Nothing => unsafe { maps::LOCALS.get(self) }.copied(),
        }
    }

    #[inline(always)]
    fn filter(id: u32, client: Self) -> Option<&'static FilterEntry> {
        maps::FILTERS.get(&Key::new(FilterKey::<Self>::BITS, [id, client.0]))
    }

    #[inline(always)]
    fn ask(params: &mut bpf_fib_lookup, src: &Self, dst: &Self) {
        params.__bindgen_anon_3.ipv4_src = src.0;
        params.__bindgen_anon_4.ipv4_dst = dst.0;
    }

    #[inline(always)]
    fn spread(self, port: u32) -> u32 {
        Be32(self.0 ^ port << 16).client_hash()
    }

    #[inline(always)]
    fn answers<'a>(
        target: &TargetEntry<Self>,
        to: &Self,
        port: Be16,
        room: &'a mut FlowKey<Self>,
    ) -> Option<&'a FlowKey<Self>> {
        *room = FlowKey { src: target.addr, dst: *to, sport: target.port, dport: port };
        Some(room)
    }

    #[inline(always)]
    fn peer_key<'a>(
        entry: &FlowEntry<Self>,
        room: &'a mut FlowKey<Self>,
    ) -> Option<&'a FlowKey<Self>> {
        *room = entry.peer_key();
        Some(room)
    }

    #[inline(always)]
    fn is_closed(id: u32, client: Self, port: u32) -> bool {
        filter::alb_is_closed(id, client.0, port) != 0
    }

    #[inline(always)]
    fn claim_port(from: u32, now: u32) -> u32 {
        snat::alb_claim_port(from, now)
    }

    #[inline(always)]
    fn former_port() -> u32 {
        snat::alb_former_port()
    }

    #[inline(always)]
    fn claim_oldest(now: u32) -> u32 {
        snat::alb_claim_oldest(now)
    }

    #[inline(always)]
    fn give_back() {
        snat::alb_give_back();
    }

    #[inline(always)]
    fn take_over() {
        snat::alb_take_over();
    }

    #[inline(always)]
    fn clear(key: &FlowKey) {
        close::alb_clear(key.src.0, key.dst.0, ports(key));
    }

    #[inline(always)]
    fn remove(key: &FlowKey, entry: *mut FlowEntry) {
        close::alb_remove(key.src.0, key.dst.0, ports(key), entry);
    }

    #[inline(always)]
    fn log(forward: &FlowEntry, reverse: &FlowEntry, state: FlowFlags) {
        flow_log::alb_log_flow(forward, reverse, state.0 as u32);
    }

    #[inline(always)]
    fn reclaim_closed(now: u32) {
        rings::alb_reclaim_closed(now);
    }

    #[inline(always)]
    fn ours<'a, P: Host>(
        packet: &P,
        room: &'a mut Option<Segment>,
    ) -> Result<(&'a Segment, u32), Reason> {
        let (segment, kind) = balance::ours(packet)?;
        Ok((room.insert(segment), kind))
    }

    #[inline(always)]
    fn open<P: Host>(
        packet: &mut P,
        segment: &Segment,
        settings: &Settings,
        now: u32,
        open: &mut Open,
    ) -> Found {
        established::open(packet, segment, settings, now, open)
    }
}

/// Both ports in a word.
#[inline(always)]
const fn ports(key: &FlowKey) -> u32 {
    key.sport.0 as u32 | (key.dport.0 as u32) << 16
}
