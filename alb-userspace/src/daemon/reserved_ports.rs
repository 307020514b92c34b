//! Keeps the kernel from giving SNAT ports to the host's own sockets:
//! `net.ipv4.ip_local_reserved_ports` (Documentation/networking/ip-sysctl). It covers both
//! automatic binds and, since they would meet our flows on the wire, all address families.

use std::{fs, io, ops::RangeInclusive};

use crate::model::PortRange;

const FILE: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// Adds a range to those reserved in this network namespace.
pub(crate) fn reserve(range: PortRange) -> io::Result<()> {
    change(|reserved| with(reserved, range))
}

/// Takes it out again.
pub(crate) fn release(range: PortRange) -> io::Result<()> {
    change(|reserved| without(reserved, range))
}

fn change(to: impl FnOnce(&[RangeInclusive<u16>]) -> Vec<RangeInclusive<u16>>) -> io::Result<()> {
    let now = parse(&fs::read_to_string(FILE)?);
    let next = to(&now);
    if next == now { Ok(()) } else { fs::write(FILE, render(&next)) }
}

/// The kernel prints `8080,9148-9150`, sorted and merged.
fn parse(text: &str) -> Vec<RangeInclusive<u16>> {
    text.trim()
        .split(',')
        .filter_map(|item| {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            Some(first.parse().ok()?..=last.parse().ok()?)
        })
        .collect()
}

fn render(ranges: &[RangeInclusive<u16>]) -> String {
    let items: Vec<String> = ranges
        .iter()
        .map(|range| match (range.start(), range.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        })
        .collect();
    items.join(",") + "\n"
}

fn with(reserved: &[RangeInclusive<u16>], range: PortRange) -> Vec<RangeInclusive<u16>> {
    let covered =
        reserved.iter().any(|have| have.contains(&range.first) && have.contains(&range.last));
    let mut next = reserved.to_vec();
    if !covered {
        next.push(range.first..=range.last);
    }
    next
}

fn without(reserved: &[RangeInclusive<u16>], range: PortRange) -> Vec<RangeInclusive<u16>> {
    let mut next = Vec::new();
    for have in reserved {
        if *have.end() < range.first || *have.start() > range.last {
            next.push(have.clone());
            continue;
        }
        if *have.start() < range.first {
            next.push(*have.start()..=range.first - 1);
        }
        if *have.end() > range.last {
            next.push(range.last + 1..=*have.end());
        }
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNAT: PortRange = PortRange { first: 10_000, last: 29_999 };

    #[track_caller]
    fn check(before: &str, added: &str, removed: &str) {
        let before = parse(before);
        let with = with(&before, SNAT);
        assert_eq!(render(&with).trim(), added);
        assert_eq!(render(&without(&with, SNAT)).trim(), removed);
    }

    #[test]
    fn adding_and_removing() {
        check("\n", "10000-29999", "");
        check("8080,9148-9150\n", "8080,9148-9150,10000-29999", "8080,9148-9150");
        check("9000-30000\n", "9000-30000", "9000-9999,30000");
        check("15000\n", "15000,10000-29999", "");
    }
}
