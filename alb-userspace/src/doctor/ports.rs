//! Local ports against those used towards targets: pure.

use super::{Finding, Ports};
use crate::model::PortRange;

const SUBJECT: &str = "ports";

pub(super) fn examine(ports: &Ports, snat: PortRange) -> Vec<Finding> {
    let PortRange { first, last } = snat;
    let mut findings = vec![];
    let shared = ports.ephemeral.and_then(|range| overlap(range, (first, last)));
    if let Some((low, high)) = shared.filter(|shared| !covered(*shared, &ports.reserved)) {
        findings.push(Finding::warn(
            SUBJECT,
            format!("the kernel gives {low}-{high} to its own connections too"),
            "one of the node's own connections to a target could get the same port as a \
             forwarded one, and then loses its answers to it",
            &format!(
                "sysctl -w net.ipv4.ip_local_reserved_ports={first}-{last}, or move \
                 node.snat.portRange out of net.ipv4.ip_local_port_range"
            ),
        ));
    }
    let inside: Vec<String> = ports
        .listening
        .iter()
        .filter(|socket| (first..=last).contains(&socket.port()) && !socket.ip().is_loopback())
        .map(ToString::to_string)
        .collect();
    if !inside.is_empty() {
        findings.push(Finding::warn(
            SUBJECT,
            format!("something listens on {}", inside.join(", ")),
            "a target that connects to that port is taken for the answer of a forwarded \
             connection while one uses the port",
            "move the service, or leave its port out of node.snat.portRange",
        ));
    }
    if findings.is_empty() {
        let count = u32::from(last.saturating_sub(first)) + 1;
        findings.push(Finding::ok(
            SUBJECT,
            format!(
                "{first}-{last} towards targets are free: {count} connections to each target port \
                 from each of the node's addresses"
            ),
        ));
    }
    findings
}

fn overlap(a: (u16, u16), b: (u16, u16)) -> Option<(u16, u16)> {
    let (low, high) = (a.0.max(b.0), a.1.min(b.1));
    (low <= high).then_some((low, high))
}

/// Every port of a range is in one of the ranges.
fn covered((low, high): (u16, u16), ranges: &[(u16, u16)]) -> bool {
    (low..=high).all(|port| ranges.iter().any(|(first, last)| (first..=last).contains(&&port)))
}

#[cfg(test)]
mod tests {
    use super::{Ports, examine};
    use crate::{
        doctor::Level::{self, Ok, Warn},
        model::PortRange,
    };

    const FREE: &str = "10000-32767 towards targets are free: 22768 connections to each target \
                        port from each of the node's addresses";

    #[track_caller]
    fn check(
        ephemeral: (u16, u16),
        reserved: &[(u16, u16)],
        listening: &[&str],
        expected: &[(Level, &str)],
    ) {
        let ports = Ports {
            ephemeral: Some(ephemeral),
            reserved: reserved.to_vec(),
            listening: listening.iter().map(|socket| socket.parse().unwrap()).collect(),
        };
        let findings = examine(&ports, PortRange { first: 10_000, last: 32_767 });
        let found: Vec<_> = findings.iter().map(|f| (f.level, f.found.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_defaults_do_not_meet() {
        let free = [(Ok, FREE)];
        check((32_768, 60_999), &[], &["0.0.0.0:22", "[::]:80"], &free);
        check((32_768, 60_999), &[], &["127.0.0.1:11211"], &free);
    }

    #[test]
    fn an_overlap_is_named_unless_reserved() {
        let shared = [(Warn, "the kernel gives 15000-32767 to its own connections too")];
        check((15_000, 60_999), &[], &[], &shared);
        check((15_000, 60_999), &[(15_000, 20_000), (20_002, 40_000)], &[], &shared);
        let free = [(Ok, FREE)];
        check((15_000, 60_999), &[(9000, 20_000), (20_001, 40_000)], &[], &free);
    }

    #[test]
    fn listeners_inside_are_named() {
        let inside = [(Warn, "something listens on 0.0.0.0:11211, [::]:27017")];
        check((32_768, 60_999), &[], &["0.0.0.0:11211", "[::]:27017", "[::]:33000"], &inside);
    }
}
