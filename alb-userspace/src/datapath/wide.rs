//! Keys and values of both families as one kind: an IPv4 address stands as its mapped IPv6 address
//! (RFC 4291 §2.5.5.2). What plans and reads tables knows this kind alone; the maps are apart. Pure.

use std::net::{IpAddr, SocketAddr};

use alb_common::{
    abi::Plain,
    filter::{self, FilterEntry, ID_BITS},
    flow,
    net::{Be16, Be32, Be128},
    service::{self, ListenerEntry},
    target,
};

/// An address of either family.
pub type Addr = Be128;
/// As [`flow::FlowKey`].
pub type FlowKey = flow::FlowKey<Addr>;
/// As [`flow::FlowEntry`].
pub type FlowEntry = flow::FlowEntry<Addr>;
/// As [`flow::RingSlot`].
pub type RingSlot = flow::RingSlot<Addr>;
/// As [`service::ListenerKey`].
pub type ListenerKey = service::ListenerKey<Addr>;
/// As [`target::TargetEntry`].
pub type TargetEntry = target::TargetEntry<Addr>;
/// As [`filter::FilterKey`].
pub type FilterKey = filter::FilterKey<Addr>;

/// The word before the address of a mapped one.
const MAPPED: u32 = 0xffffu32.to_be();
/// Bits of a mapped address before the IPv4 one.
pub(super) const MAPPED_BITS: u32 = 96;

/// An address as tables have it.
pub fn addr(of: IpAddr) -> Addr {
    match of {
        IpAddr::V4(of) => of.to_ipv6_mapped().into(),
        IpAddr::V6(of) => of.into(),
    }
}

/// An address as people have it.
pub fn ip(of: Addr) -> IpAddr {
    of.addr().to_canonical()
}

/// An address and port as people have them.
pub(super) fn end(addr: Addr, port: Be16) -> SocketAddr {
    SocketAddr::new(ip(addr), port.host())
}

/// The key of the packets from one end to another.
pub(super) fn between(from: SocketAddr, to: SocketAddr) -> FlowKey {
    FlowKey {
        src: addr(from.ip()),
        dst: addr(to.ip()),
        sport: Be16::new(from.port()),
        dport: Be16::new(to.port()),
    }
}

/// The tag of a key, as its family reckons it.
pub(super) fn tag(key: &FlowKey) -> u16 {
    if key.is_ipv4() { key.narrow().tag() } else { key.tag() }
}

/// Something with addresses of either family.
pub trait Wide: Plain + Default {
    /// The same of IPv4, as the maps hold it.
    type Narrow: Plain + Default;

    /// Of IPv4, which is mapped.
    fn narrow(&self) -> Self::Narrow;
    /// From IPv4.
    fn widen(narrow: &Self::Narrow) -> Self;
}

/// Something whose family can be told.
pub trait Key: Wide {
    /// Whether it is of IPv4.
    fn is_ipv4(&self) -> bool;
}

impl Wide for Be128 {
    type Narrow = Be32;

    fn narrow(&self) -> Be32 {
        Be32(self.0[3])
    }

    fn widen(narrow: &Be32) -> Self {
        Self([0, 0, MAPPED, narrow.0])
    }
}

impl Key for Be128 {
    fn is_ipv4(&self) -> bool {
        self.0[..3] == [0, 0, MAPPED]
    }
}

impl Wide for FlowKey {
    type Narrow = flow::FlowKey;

    fn narrow(&self) -> flow::FlowKey {
        let Self { src, dst, sport, dport } = *self;
        flow::FlowKey { src: src.narrow(), dst: dst.narrow(), sport, dport }
    }

    fn widen(narrow: &flow::FlowKey) -> Self {
        let flow::FlowKey { src, dst, sport, dport } = narrow;
        Self { src: Be128::widen(src), dst: Be128::widen(dst), sport: *sport, dport: *dport }
    }
}

impl Key for FlowKey {
    fn is_ipv4(&self) -> bool {
        self.src.is_ipv4()
    }
}

/// An entry with other addresses; its tag and its checksums' difference stay those of its family.
fn entry<A: Copy, B>(of: &flow::FlowEntry<A>, change: impl Fn(A) -> B) -> flow::FlowEntry<B> {
    let flow::FlowEntry {
        tag,
        route_generation,
        src,
        dst,
        sport,
        dport,
        check_delta,
        listener,
        interface,
        flags,
        mac,
        target,
        last,
        packets,
        bytes,
    } = *of;
    flow::FlowEntry {
        tag,
        route_generation,
        src: change(src),
        dst: change(dst),
        sport,
        dport,
        check_delta,
        listener,
        interface,
        flags,
        mac,
        target,
        last,
        packets,
        bytes,
    }
}

impl Wide for FlowEntry {
    type Narrow = flow::FlowEntry;

    fn narrow(&self) -> flow::FlowEntry {
        entry(self, |addr| addr.narrow())
    }

    fn widen(narrow: &flow::FlowEntry) -> Self {
        entry(narrow, |addr| Be128::widen(&addr))
    }
}

impl Wide for RingSlot {
    type Narrow = flow::RingSlot;

    fn narrow(&self) -> flow::RingSlot {
        flow::RingSlot { key: self.key.narrow(), at: self.at }
    }

    fn widen(narrow: &flow::RingSlot) -> Self {
        Self { key: FlowKey::widen(&narrow.key), at: narrow.at }
    }
}

impl Wide for ListenerKey {
    type Narrow = service::ListenerKey;

    fn narrow(&self) -> service::ListenerKey {
        let Self { addr, port, reserved } = *self;
        service::ListenerKey { addr: addr.narrow(), port, reserved }
    }

    fn widen(narrow: &service::ListenerKey) -> Self {
        let service::ListenerKey { addr, port, reserved } = *narrow;
        Self { addr: Be128::widen(&addr), port, reserved }
    }
}

impl Key for ListenerKey {
    fn is_ipv4(&self) -> bool {
        self.addr.is_ipv4()
    }
}

impl Wide for TargetEntry {
    type Narrow = target::TargetEntry;

    fn narrow(&self) -> target::TargetEntry {
        let Self { id, addr, port, snat_count, snat } = *self;
        target::TargetEntry {
            id,
            addr: addr.narrow(),
            port,
            snat_count,
            snat: snat.map(|addr| addr.narrow()),
        }
    }

    fn widen(narrow: &target::TargetEntry) -> Self {
        let target::TargetEntry { id, addr, port, snat_count, snat } = *narrow;
        // Places that are not used stay zero.
        let used = |(at, addr): (usize, &Be32)| {
            if at < usize::from(snat_count) { Be128::widen(addr) } else { Be128::default() }
        };
        let mut wide = snat.iter().enumerate().map(used);
        let snat = snat.map(|_| wide.next().unwrap_or_default());
        Self { id, addr: Be128::widen(&addr), port, snat_count, snat }
    }
}

impl Key for TargetEntry {
    fn is_ipv4(&self) -> bool {
        self.addr.is_ipv4()
    }
}

impl Wide for FilterKey {
    type Narrow = filter::FilterKey;

    fn narrow(&self) -> filter::FilterKey {
        let Self { bits, id, addr } = *self;
        filter::FilterKey { bits: bits - MAPPED_BITS, id, addr: addr.narrow() }
    }

    fn widen(narrow: &filter::FilterKey) -> Self {
        let filter::FilterKey { bits, id, addr } = *narrow;
        Self { bits: bits + MAPPED_BITS, id, addr: Be128::widen(&addr) }
    }
}

impl Key for FilterKey {
    /// A prefix of all mapped addresses or fewer.
    fn is_ipv4(&self) -> bool {
        self.addr.is_ipv4() && self.bits >= ID_BITS + MAPPED_BITS
    }
}

/// Values without addresses are the same in both.
macro_rules! same {
    ($($type:ty),+) => {
        $(impl Wide for $type {
            type Narrow = Self;

            fn narrow(&self) -> Self {
                *self
            }

            fn widen(narrow: &Self) -> Self {
                *narrow
            }
        })+
    };
}
same!(u32, ListenerEntry, FilterEntry);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(src: u32, dst: u32, sport: u16, dport: u16) -> flow::FlowKey {
        flow::FlowKey { src: Be32(src), dst: Be32(dst), sport: Be16(sport), dport: Be16(dport) }
    }

    proptest! {
        #[test]
        fn there_and_back(
            (src, dst, sport, dport) in any::<(u32, u32, u16, u16)>(),
            (bits, id) in (0..=32u32, any::<u32>()),
            numbers in any::<(u16, u32, u64)>(),
        ) {
            let key = key(src, dst, sport, dport);
            let wide = FlowKey::widen(&key);
            prop_assert!(wide.is_ipv4());
            prop_assert_eq!(wide.narrow(), key);
            prop_assert_eq!(ip(wide.src), IpAddr::V4(key.src.addr()));
            prop_assert_eq!(addr(ip(wide.src)), wide.src);
            prop_assert_eq!(tag(&wide), key.tag());

            let slot = flow::RingSlot { key, at: numbers.1 };
            prop_assert_eq!(RingSlot::widen(&slot).narrow(), slot);

            let entry = flow::FlowEntry {
                tag: numbers.0,
                src: key.src,
                dst: key.dst,
                check_delta: numbers.0,
                packets: numbers.1,
                bytes: numbers.2,
                ..flow::FlowEntry::default()
            };
            prop_assert_eq!(FlowEntry::widen(&entry).narrow(), entry);

            let listener = service::ListenerKey { addr: key.dst, port: key.dport, reserved: 0 };
            prop_assert_eq!(ListenerKey::widen(&listener).narrow(), listener);

            let filter = filter::FilterKey { bits: ID_BITS + bits, id, addr: key.src };
            let wide = FilterKey::widen(&filter);
            prop_assert!(wide.is_ipv4() && wide.bits <= FilterKey::BITS);
            prop_assert_eq!(wide.narrow(), filter);

            let mut target =
                target::TargetEntry { addr: key.dst, snat_count: 1, ..Default::default() };
            target.snat[0] = key.src;
            let wide = TargetEntry::widen(&target);
            prop_assert!(wide.is_ipv4() && wide.snat[1] == Be128::default());
            prop_assert_eq!(wide.narrow(), target);
        }
    }

    #[test]
    fn what_is_not_ipv4() {
        for addr in ["::", "::1", "2001:db8::ffff:c612:1", "::c612:1", "::1:ffff:c612:1"] {
            let addr: std::net::Ipv6Addr = addr.parse().unwrap();
            assert!(!Be128::from(addr).is_ipv4(), "{addr}");
        }
        // All of IPv6 is no prefix of IPv4.
        assert!(!FilterKey { bits: ID_BITS, id: 1, addr: Be128::default() }.is_ipv4());
    }
}
