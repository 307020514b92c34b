//! Which packets are meant: by their reasons and their ends. Pure.

use std::net::{Ipv6Addr, SocketAddr};

use alb_common::{
    Reason, Verdict,
    capture::{End, MOST_ENDS},
};
use ipnet::IpNet;

use super::packet::{Captured, Said};
use crate::datapath::flows::EndFilter;

/// What a packet must be like: one of each list that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureFilter {
    /// For any of its ends.
    pub any: Vec<EndFilter>,
    /// For the client.
    pub client: Vec<EndFilter>,
    /// For the VIP.
    pub vip: Vec<EndFilter>,
    /// For the balancer's own end towards the target.
    pub snat: Vec<EndFilter>,
    /// For the target.
    pub target: Vec<EndFilter>,
    /// For the interface by which it comes: indices.
    pub interface: Vec<u32>,
    /// For its reason.
    pub reason: Vec<Reason>,
    /// For its verdict.
    pub verdict: Vec<Verdict>,
}

/// Who a packet's ends are; without a side that is known, one may be either.
struct Roles {
    client: Option<SocketAddr>,
    vip: Option<SocketAddr>,
    snat: Option<SocketAddr>,
    target: Option<SocketAddr>,
}

impl CaptureFilter {
    /// The reasons that packets are wanted of. What is not for this balancer is wanted only if it is
    /// asked for.
    pub fn reasons(&self) -> impl Iterator<Item = Reason> {
        let Self { reason, verdict, .. } = self;
        let all = reason.is_empty() && verdict.is_empty();
        Reason::ALL.iter().copied().filter(move |found| {
            if all {
                return !matches!(found, Reason::NotIp | Reason::NotOurs);
            }
            (reason.is_empty() || reason.contains(found))
                && (verdict.is_empty() || verdict.contains(&found.verdict()))
        })
    }

    /// Ends, one of which every packet that is meant has; none if that is not known. What the
    /// capturing programs choose by, so that others take no room from those that are wanted.
    pub fn ends(&self) -> Vec<End> {
        let Self { any, client, vip, snat, target, .. } = self;
        // The narrowest first, as a rule: VIPs are the whole world's, and so are ports.
        let lists = [client, target, any, snat, vip];
        let few = || lists.into_iter().filter(|list| (1..=MOST_ENDS).contains(&list.len()));
        let have_addresses = few().find(|list| list.iter().all(|end| end.prefix().is_some()));
        let list = have_addresses.or_else(|| few().next());
        list.into_iter().flatten().map(|end| kernel_end(*end)).collect()
    }

    /// Whether a packet is meant, but for its reason.
    pub fn takes(&self, packet: &Captured) -> bool {
        let Self { any, client, vip, snat, target, interface, .. } = self;
        if !interface.is_empty() && !interface.contains(&packet.ifindex) {
            return false;
        }
        if [any, client, vip, snat, target].into_iter().all(Vec::is_empty) {
            return true;
        }
        let Some(before) = packet.before.said() else { return false };
        let after = packet.after.as_ref().and_then(super::Frame::said);
        let one = |of: &[EndFilter], end: Option<SocketAddr>| {
            of.is_empty() || end.is_some_and(|end| of.iter().any(|of| of.takes(end)))
        };
        let ends = [Some(before.from), Some(before.to)];
        let ends =
            ends.into_iter().chain(after.iter().flat_map(|said| [Some(said.from), Some(said.to)]));
        let roles = Roles::of(packet.reason, before, after);
        (any.is_empty() || ends.into_iter().any(|end| one(any, end)))
            && one(client, roles.client)
            && one(vip, roles.vip)
            && one(snat, roles.snat)
            && one(target, roles.target)
    }
}

/// As the capturing programs have it.
fn kernel_end(end: EndFilter) -> End {
    let (address, len) = match end.prefix() {
        Some(IpNet::V4(net)) => (net.network().to_ipv6_mapped(), 96 + u32::from(net.prefix_len())),
        Some(IpNet::V6(net)) => (net.network(), u32::from(net.prefix_len())),
        None => (Ipv6Addr::UNSPECIFIED, 0),
    };
    let mask = u128::MAX.checked_shl(128 - len).unwrap_or_default();
    let words = |address: u128| {
        let bytes = address.to_be_bytes();
        [0, 4, 8, 12]
            .map(|at| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]))
    };
    let port = end.port().map_or(0, |port| u32::from(port.get()));
    End { address: words(address.to_bits() & mask), mask: words(mask), port }
}

impl Roles {
    fn of(reason: Reason, before: Said, after: Option<Said>) -> Self {
        let (from, to) = (Some(before.from), Some(before.to));
        let (sender, receiver) = (after.map(|said| said.from), after.map(|said| said.to));
        if matches!(reason, Reason::FlowReverse | Reason::HandshakeReverse | Reason::IcmpReverse) {
            Self { target: from, snat: to, vip: sender, client: receiver }
        } else if reason.verdict() == Verdict::Forward {
            Self { client: from, vip: to, snat: sender, target: receiver }
        } else {
            // What there may be is an answer to who sent it.
            Self { client: from, target: from, vip: to, snat: to }
        }
    }
}

#[cfg(test)]
mod tests {
    use alb_common::capture::{CaptureSettings, HEAD};

    use super::{
        super::packet::{Frame, Hook, tests::frame},
        *,
    };

    fn packet(reason: Reason, before: [&str; 2], after: Option<[&str; 2]>) -> Captured {
        Captured {
            came: 1,
            left: 2,
            reason,
            events: Vec::new(),
            hook: Hook::Xdp,
            action: 4,
            ifindex: 3,
            before: frame(before[0], before[1], 2),
            after: after.map(|[from, to]| frame(from, to, 2)),
        }
    }

    const CLIENT: &str = "203.0.113.7:40000";
    const VIP: &str = "198.18.0.10:80";
    const SNAT: &str = "198.18.1.2:12345";
    const TARGET: &str = "198.18.1.21:8080";

    #[test]
    fn each_end_is_who_it_is_whichever_way_the_packet_goes() {
        let there = packet(Reason::NewFlow, [CLIENT, VIP], Some([SNAT, TARGET]));
        let back = packet(Reason::FlowReverse, [TARGET, SNAT], Some([VIP, CLIENT]));
        let dropped = packet(Reason::NoNextHop, [CLIENT, VIP], None);
        let answered = packet(Reason::NoListener, [CLIENT, VIP], Some([VIP, CLIENT]));
        let end = |text: &str| vec![text.parse::<EndFilter>().unwrap()];
        let all = CaptureFilter::default;
        // Forwarded either way, and not forwarded.
        for (filter, expected) in [
            (all(), [true, true]),
            (CaptureFilter { any: end("203.0.113.0/24"), ..all() }, [true, true]),
            (CaptureFilter { any: end(":12345"), ..all() }, [true, false]),
            (CaptureFilter { any: end(":1"), ..all() }, [false, false]),
            (CaptureFilter { client: end(CLIENT), ..all() }, [true, true]),
            (CaptureFilter { client: end(TARGET), ..all() }, [false, false]),
            (CaptureFilter { vip: end(":80"), ..all() }, [true, true]),
            (CaptureFilter { vip: end(CLIENT), ..all() }, [false, false]),
            (CaptureFilter { snat: end(":12345"), target: end(TARGET), ..all() }, [true, false]),
            (CaptureFilter { target: end(VIP), ..all() }, [false, false]),
            (CaptureFilter { interface: vec![3], ..all() }, [true, true]),
            (CaptureFilter { interface: vec![4], ..all() }, [false, false]),
        ] {
            let [forwarded, not] = expected;
            for (packet, expected) in
                [(&there, forwarded), (&back, forwarded), (&dropped, not), (&answered, not)]
            {
                assert_eq!(filter.takes(packet), expected, "{filter:?} {packet:?}");
                assert!(!expected || kernel_takes(&filter, packet), "{filter:?} {packet:?}");
            }
        }
    }

    #[test]
    fn what_is_no_ip_has_no_ends() {
        let mut arp = packet(Reason::NotIp, [CLIENT, VIP], None);
        arp.before.bytes[12..14].copy_from_slice(&[8, 6]);
        let filter =
            CaptureFilter { any: vec![":80".parse().unwrap()], ..CaptureFilter::default() };
        assert!(CaptureFilter::default().takes(&arp) && !filter.takes(&arp));
    }

    /// Whether the kernel takes the packet too, before or after: it must, if the filter does.
    fn kernel_takes(filter: &CaptureFilter, packet: &Captured) -> bool {
        let mut settings = CaptureSettings::default();
        for (place, end) in settings.ends.iter_mut().zip(filter.ends()) {
            *place = end;
            settings.end_count += 1;
        }
        let wants = |frame: &Frame| {
            let mut head = [0xff; HEAD];
            head.iter_mut().zip(&frame.bytes).for_each(|(place, byte)| *place = *byte);
            settings.wants(&head, u32::try_from(frame.bytes.len()).unwrap())
        };
        wants(&packet.before) || packet.after.as_ref().is_some_and(wants)
    }

    #[test]
    fn the_kernel_chooses_by_ends_if_it_can() {
        let ends = |texts: &[&str]| -> Vec<EndFilter> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let (here, there) = ("198.18.0.10:80", "[2001:db8::a]:80");
        for (client, vip, has, has_not) in [
            (&["203.0.113.0/24"][..], &["198.18.0.10"][..], "203.0.113.7:1", "203.0.114.7:1"),
            (&["[2001:db8:1::/48]:80"], &[":80"], "[2001:db8:1::9]:80", "[2001:db8:1::9]:81"),
            (&[], &["2001:db8::b", "198.18.0.11:80"], "198.18.0.11:80", "198.18.0.11:81"),
            (&[], &["2001:db8::b", "198.18.0.11:80"], "[2001:db8::b]:9", "[2001:db8::c]:80"),
            (&["0.0.0.0/0"], &[], "1.2.3.4:5", "[2001:db8::b]:5"),
            (&["::/0"], &[], "[2001:db8::b]:5", "none"),
            (&[":81"], &["198.18.0.11"], "198.18.0.11:7", "198.18.0.12:81"),
            (&[":81"], &[], "198.18.0.11:81", "198.18.0.11:82"),
        ] {
            let filter =
                CaptureFilter { client: ends(client), vip: ends(vip), ..CaptureFilter::default() };
            let takes = |from: &str| {
                let to = if from.starts_with('[') { there } else { here };
                let ways = [[from, to], [to, from]];
                ways.map(|way| kernel_takes(&filter, &packet(Reason::NewFlow, way, None)))
            };
            assert_eq!(takes(has), [true; 2], "{client:?} {vip:?} {has}");
            if has_not != "none" {
                assert_eq!(takes(has_not), [false; 2], "{client:?} {vip:?} {has_not}");
            }
        }
        let many = CaptureFilter { any: ends(&["10.0.0.1"; 9]), ..CaptureFilter::default() };
        assert_eq!(many.ends(), []);
    }

    #[test]
    fn what_is_not_ours_is_to_be_asked_for() {
        let all = CaptureFilter::default;
        let count = |filter: CaptureFilter| filter.reasons().count();
        assert_eq!(count(all()), Reason::COUNT - 2);
        let one = CaptureFilter { reason: vec![Reason::NotOurs], ..all() };
        assert_eq!(one.reasons().collect::<Vec<_>>(), [Reason::NotOurs]);
        let passed = CaptureFilter { verdict: vec![Verdict::Pass], ..all() };
        assert!(passed.reasons().any(|reason| reason == Reason::NotIp));
        assert!(passed.reasons().all(|reason| reason.verdict() == Verdict::Pass));
        let none = CaptureFilter { reason: vec![Reason::NewFlow], ..passed };
        assert_eq!(count(none), 0);
    }
}
