//! Keeps the kernel from giving SNAT ports to the host's own sockets:
//! `net.ipv4.ip_local_reserved_ports` (Documentation/networking/ip-sysctl). It covers both
//! automatic binds and, since they would meet our flows on the wire, all address families.

use std::{fs, io, ops::RangeInclusive, path::Path};

use crate::model::PortRange;

const FILE: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// In the state directory: what was reserved before this program added to it and, on a second
/// line, what it holds.
const NOTE: &str = "reserved-ports";

type Ranges = Vec<RangeInclusive<u16>>;

/// Adds a range to those reserved in this network namespace, and remembers what was there and
/// what is held. Ranges of earlier runs stay: their flows may live.
pub(crate) fn reserve(range: PortRange, state_dir: &Path) -> io::Result<()> {
    let now = parse(&fs::read_to_string(FILE)?);
    let note = Note::read(state_dir)?;
    let next = with(&now, range);
    if note.is_none() && next == now {
        return Ok(());
    }
    let Note { before, held } = note.unwrap_or_else(|| Note { before: now, held: Ranges::new() });
    Note { before, held: with(&held, range) }.write(state_dir)?;
    fs::write(FILE, render(&next))
}

/// Gives back what is held beside this range: no flow uses it any more. Returns what it was.
pub(crate) fn keep_only(range: PortRange, state_dir: &Path) -> io::Result<Option<String>> {
    let Some(Note { before, held }) = Note::read(state_dir)? else { return Ok(None) };
    let older = without(&held, range);
    if older.is_empty() {
        return Ok(None);
    }
    let now = parse(&fs::read_to_string(FILE)?);
    fs::write(FILE, render(&with(&restored(&now, &before, &held), range)))?;
    Note { before, held: with(&[], range) }.write(state_dir)?;
    Ok(Some(render(&older).trim().to_owned()))
}

/// Gives back everything that is held, at least this range, except what was reserved before.
/// False = nothing of it is ours.
pub(crate) fn release(range: PortRange, state_dir: &Path) -> io::Result<bool> {
    let Some(Note { before, held }) = Note::read(state_dir)? else { return Ok(false) };
    let now = parse(&fs::read_to_string(FILE)?);
    fs::write(FILE, render(&restored(&now, &before, &with(&held, range))))?;
    fs::remove_file(state_dir.join(NOTE))?;
    Ok(true)
}

/// What the state directory remembers.
#[derive(Debug, PartialEq, Eq)]
struct Note {
    before: Ranges,
    held: Ranges,
}

impl Note {
    fn read(state_dir: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read_to_string(state_dir.join(NOTE)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut lines = text.lines();
        let mut ranges = || parse(lines.next().unwrap_or_default());
        Ok(Some(Self { before: ranges(), held: ranges() }))
    }

    fn write(&self, state_dir: &Path) -> io::Result<()> {
        let Self { before, held } = self;
        fs::write(state_dir.join(NOTE), render(before) + &render(held))
    }
}

/// `now` without what is held, with the part of it that was there `before`.
fn restored(
    now: &[RangeInclusive<u16>],
    before: &[RangeInclusive<u16>],
    held: &[RangeInclusive<u16>],
) -> Ranges {
    let mut next = now.to_vec();
    for held in held {
        let range = PortRange { first: *held.start(), last: *held.end() };
        next = without(&next, range);
        next.extend(before.iter().filter_map(|had| {
            let (first, last) = (range.first.max(*had.start()), range.last.min(*had.end()));
            (first <= last).then_some(first..=last)
        }));
    }
    next
}

/// The kernel prints `8080,9148-9150`, sorted and merged.
fn parse(text: &str) -> Ranges {
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

fn with(reserved: &[RangeInclusive<u16>], range: PortRange) -> Ranges {
    let covered =
        reserved.iter().any(|have| have.contains(&range.first) && have.contains(&range.last));
    let mut next = reserved.to_vec();
    if !covered {
        next.push(range.first..=range.last);
    }
    next
}

fn without(reserved: &[RangeInclusive<u16>], range: PortRange) -> Ranges {
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
        assert_eq!(render(&restored(&with, &before, &[10_000..=29_999])).trim(), removed);
    }

    #[test]
    fn adding_and_removing() {
        check("\n", "10000-29999", "");
        check("8080,9148-9150\n", "8080,9148-9150,10000-29999", "8080,9148-9150");
        check("9000-30000\n", "9000-30000", "9000-9999,30000,10000-29999");
        check("15000\n", "15000,10000-29999", "15000");
    }

    #[test]
    fn the_note_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Note::read(dir.path()).unwrap(), None);
        for (before, held) in [("", "10000-29999"), ("8080,9148-9150", "1024-2047,10000-29999")] {
            let note = Note { before: parse(before), held: parse(held) };
            note.write(dir.path()).unwrap();
            assert_eq!(Note::read(dir.path()).unwrap(), Some(note));
        }
    }

    #[test]
    fn all_that_is_held_goes_and_what_was_there_stays() {
        let held = parse("10000-19999,30000-30999");
        let now = parse("8080,10000-19999,30000-30999");
        assert_eq!(render(&restored(&now, &parse("8080"), &held)).trim(), "8080");
        assert_eq!(render(&restored(&now, &parse("8080,30500"), &held)).trim(), "8080,30500");
    }
}
