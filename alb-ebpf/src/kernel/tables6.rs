//! The maps and global functions of IPv6.

use alb_common::{
    Reason,
    filter::{FilterEntry, FilterKey},
    flow::{FlowEntry, FlowKey, RingSlot, Scratch, ring},
    local::{self as local_cache, Said},
    net::{Address as _, Be16, Be32, Be128},
    service::{ListenerEntry, ListenerKey},
    settings::Settings,
    target::TargetEntry,
    tcp::FlowFlags,
};
use aya_ebpf::{bindings::bpf_fib_lookup, btf_maps::lpm_trie::Key};

use super::{
    close,
    established::{Found, Open},
    filter, flow_log,
    host::Host,
    lines, maps, ring as rings, snat, steps,
    tables::{Tables, tables},
};
use crate::parse::Segment;

impl Tables for Be128 {
    const RINGS: u32 = ring::IPV6;
    const LOOPS: bool = false;

    tables!(
        LISTENERS6,
        TARGETS6,
        HALF_OPEN_RING6,
        CLOSED_RING6,
        SCRATCH6,
        Open6,
        HalfOpen6,
        half_open_mask6,
        closed_mask6
    );

    #[inline(always)]
    #[expect(unsafe_code, reason = "map value access")]
    fn local_kind(self) -> Option<u32> {
        let place = maps::LOCAL_CACHE6.get_ptr(local_cache::place6(self))?;
        // SAFETY: an element of the array. Userspace may replace it meanwhile: what is of two
        // addresses says nothing of either, and it is empty at no time at which it is an address's
        // that stays.
        let held = unsafe { place.read() };
        match held.says(self) {
            Said::Ours(kind) => Some(kind),
            Said::NotOurs => None,
            // SAFETY: the value is a word that userspace replaces whole.
            Said::Nothing => unsafe { maps::LOCALS6.get(self) }.copied(),
        }
    }

    #[inline(always)]
    fn filter(id: u32, client: Self) -> Option<&'static FilterEntry> {
        let [a, b, c, d] = client.0;
        maps::FILTERS6.get(&Key::new(FilterKey::<Self>::BITS, [id, a, b, c, d]))
    }

    #[inline(always)]
    fn ask(params: &mut bpf_fib_lookup, src: &Self, dst: &Self) {
        params.__bindgen_anon_3.ipv6_src = src.0;
        params.__bindgen_anon_4.ipv6_dst = dst.0;
    }

    #[inline(always)]
    fn spread(self, port: u32) -> u32 {
        Be32(self.client_hash() ^ port << 16).client_hash()
    }

    #[inline(always)]
    fn answers<'a>(
        target: &TargetEntry<Self>,
        to: &Self,
        port: Be16,
        _: &'a mut FlowKey<Self>,
    ) -> Option<&'a FlowKey<Self>> {
        steps::answers(target, to, port)
    }

    #[inline(always)]
    fn peer_key<'a>(
        entry: &FlowEntry<Self>,
        _: &'a mut FlowKey<Self>,
    ) -> Option<&'a FlowKey<Self>> {
        steps::peer_key(entry)
    }

    #[inline(always)]
    fn is_closed(id: u32, client: Self, port: u32) -> bool {
        let [a, b, c, d] = client.0;
        let high = (a as u64) << 32 | b as u64;
        let low = (c as u64) << 32 | d as u64;
        filter::alb_is_closed6(id, high, low, port) != 0
    }

    #[inline(always)]
    fn claim_port(from: u32, now: u32) -> u32 {
        snat::alb_claim_port6(from, now)
    }

    #[inline(always)]
    fn former_port() -> u32 {
        snat::alb_former_port6()
    }

    #[inline(always)]
    fn claim_oldest(now: u32) -> u32 {
        snat::alb_claim_oldest6(now)
    }

    #[inline(always)]
    fn give_back() {
        snat::alb_give_back6();
    }

    #[inline(always)]
    fn take_over() {
        snat::alb_take_over6();
    }

    #[inline(always)]
    fn clear(key: &FlowKey<Self>) {
        close::alb_clear6(key);
    }

    #[inline(always)]
    fn remove(key: &FlowKey<Self>, entry: *mut FlowEntry<Self>) {
        close::alb_remove6(key, entry);
    }

    #[inline(always)]
    fn log(forward: &FlowEntry<Self>, reverse: &FlowEntry<Self>, state: FlowFlags) {
        flow_log::alb_log_flow6(forward, reverse, state.0 as u32);
    }

    #[inline(always)]
    fn reclaim_closed(now: u32) {
        rings::alb_reclaim_closed6(now);
    }

    #[inline(always)]
    fn ours<'a, P: Host>(
        packet: &P,
        _: &'a mut Option<Segment<Self>>,
    ) -> Result<(&'a Segment<Self>, u32), Reason> {
        steps::ours(packet)
    }

    #[inline(always)]
    fn open<P: Host>(
        packet: &mut P,
        segment: &Segment<Self>,
        settings: &Settings,
        now: u32,
        open: &mut Open,
    ) -> Found {
        steps::open(packet, segment, settings, now, open)
    }
}
