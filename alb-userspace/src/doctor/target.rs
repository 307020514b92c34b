//! Targets: is there a way to them? Pure.

use std::{collections::BTreeSet, net::IpAddr};

use super::{Finding, Reach, TargetFacts};

/// Names so many addresses at most in one sentence.
const NAMED: usize = 5;

pub(super) fn examine(targets: &[TargetFacts], limits: [Option<usize>; 2]) -> Vec<Finding> {
    if targets.is_empty() {
        return vec![];
    }
    let of = |is: fn(&Reach) -> bool| -> BTreeSet<IpAddr> {
        targets.iter().filter(|target| is(&target.reach)).map(|target| target.address).collect()
    };
    let mut findings = vec![];
    let lost = of(|reach| *reach == Reach::NoRoute);
    if !lost.is_empty() {
        findings.push(Finding::fail(
            "targets",
            format!("no route over a link to {}", list(&lost)),
            "they can never be reached; an address of this node is no target either",
            "add a route, or correct their addresses",
        ));
    }
    let silent = of(|reach| matches!(reach, Reach::Neighbour { mac: None, .. }));
    if !silent.is_empty() {
        findings.push(Finding::warn(
            "targets",
            format!("nobody answers for {}", list(&silent)),
            "neither they nor the router on the way to them answered ARP or neighbour \
             discovery; they will be unhealthy",
            "look whether they run and are on the link this node thinks they are on \
             (ip route get ADDRESS)",
        ));
    }
    for (family, limit) in ["ipv4", "ipv6"].into_iter().zip(limits) {
        findings.extend(limit.and_then(|limit| crowded(targets, family, limit)));
    }
    let answering = of(|reach| matches!(reach, Reach::Neighbour { mac: Some(_), .. })).len();
    if answering > 0 {
        let all = targets.len();
        findings.push(Finding::ok("targets", format!("{answering} of {all} have a next hop")));
    }
    findings
}

/// Half of what the kernel keeps is left to clients on the link and everyone else.
fn crowded(targets: &[TargetFacts], family: &str, limit: usize) -> Option<Finding> {
    let hop = |target: &TargetFacts| match target.reach {
        Reach::Neighbour { address, mac: _ } => {
            (address.is_ipv6() == (family == "ipv6")).then_some(address)
        }
        Reach::NoRoute => None,
    };
    let hops = targets.iter().filter_map(hop).collect::<BTreeSet<_>>().len();
    (hops > limit / 2).then(|| {
        Finding::warn(
            "targets",
            format!("{hops} neighbours of {family}, and the kernel keeps {limit} at most"),
            "when its table is full it forgets some, and what is sent to them is lost until \
             they are found again",
            &format!("sysctl -w net.{family}.neigh.default.gc_thresh3={}", hops.saturating_mul(4)),
        )
    })
}

fn list(addresses: &BTreeSet<IpAddr>) -> String {
    let named: Vec<_> = addresses.iter().take(NAMED).map(ToString::to_string).collect();
    let more = addresses.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    named.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::{Reach, TargetFacts, examine};

    #[test]
    fn targets_are_summed_up() {
        let target = |last: u8, reach| TargetFacts { address: [198, 18, 1, last].into(), reach };
        let by = |mac| Reach::Neighbour { address: [198, 18, 1, 254].into(), mac };
        let mut targets: Vec<_> = (1..=7).map(|last| target(last, by(None))).collect();
        targets.push(target(8, Reach::NoRoute));
        targets.push(target(9, by(Some([2, 0, 0, 0, 0, 1]))));
        let found: Vec<_> =
            examine(&targets, [None; 2]).into_iter().map(|finding| finding.found).collect();
        assert_eq!(
            found,
            [
                "no route over a link to 198.18.1.8",
                "nobody answers for 198.18.1.1, 198.18.1.2, 198.18.1.3, 198.18.1.4, 198.18.1.5 \
                 and 2 more",
                "1 of 9 have a next hop",
            ]
        );
        assert_eq!(examine(&[], [Some(0); 2]), []);
    }

    #[test]
    fn a_crowded_link_is_named() {
        let target = |last: u8| {
            let address = [198, 18, 1, last].into();
            TargetFacts { address, reach: Reach::Neighbour { address, mac: Some([2; 6]) } }
        };
        let targets: Vec<_> = (0..100).map(target).collect();
        let found = |four, six| examine(&targets, [Some(four), Some(six)]).remove(0).found;
        assert_eq!(found(1024, 1), "100 of 100 have a next hop");
        assert_eq!(found(128, 1024), "100 neighbours of ipv4, and the kernel keeps 128 at most");
    }
}
