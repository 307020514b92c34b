//! Keeps the kernel from giving SNAT ports to the host's own sockets:
//! `net.ipv4.ip_local_reserved_ports` (Documentation/networking/ip-sysctl). It covers both
//! automatic binds and, since they would meet our flows on the wire, all address families.

use std::{fs, io, ops::RangeInclusive, path::Path};

use crate::model::PortRange;

const FILE: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// In the state directory: what was reserved before this program added to it.
const BEFORE: &str = "reserved-ports";

/// Adds a range to those reserved in this network namespace, and remembers what was there.
pub(crate) fn reserve(range: PortRange, state_dir: &Path) -> io::Result<()> {
    let now = parse(&fs::read_to_string(FILE)?);
    let next = with(&now, range);
    if next == now {
        return Ok(());
    }
    fs::write(state_dir.join(BEFORE), render(&now))?;
    fs::write(FILE, render(&next))
}

/// Takes it out again, except what was reserved before. False = nothing of it is ours.
pub(crate) fn release(range: PortRange, state_dir: &Path) -> io::Result<bool> {
    let note = state_dir.join(BEFORE);
    let before = match fs::read_to_string(&note) {
        Ok(text) => parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let now = parse(&fs::read_to_string(FILE)?);
    fs::write(FILE, render(&restored(&now, &before, range)))?;
    fs::remove_file(&note)?;
    Ok(true)
}

/// `now` without the range, with the part of it that was there `before`.
fn restored(
    now: &[RangeInclusive<u16>],
    before: &[RangeInclusive<u16>],
    range: PortRange,
) -> Vec<RangeInclusive<u16>> {
    let mut next = without(now, range);
    let inside = before.iter().filter_map(|had| {
        let (first, last) = (range.first.max(*had.start()), range.last.min(*had.end()));
        (first <= last).then_some(first..=last)
    });
    next.extend(inside);
    next
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
        assert_eq!(render(&restored(&with, &before, SNAT)).trim(), removed);
    }

    #[test]
    fn adding_and_removing() {
        check("\n", "10000-29999", "");
        check("8080,9148-9150\n", "8080,9148-9150,10000-29999", "8080,9148-9150");
        check("9000-30000\n", "9000-30000", "9000-9999,30000,10000-29999");
        check("15000\n", "15000,10000-29999", "15000");
    }
}
