//! CPU time and memory of a process group, from `/proc`.

use std::{fs, path::Path, time::Duration};

use nix::unistd::{SysconfVar, sysconf};

/// What the processes of a group have used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// User and system time, to 10 ms.
    pub(crate) cpu: Duration,
    /// Resident memory, bytes.
    pub(crate) resident: u64,
}

/// Adds up every process of the group.
pub(crate) fn usage(group: u32) -> Usage {
    let mut total = Usage::default();
    for entry in fs::read_dir("/proc").expect("reading /proc").filter_map(Result::ok) {
        // Processes come and go while this looks.
        if let Some(one) = of_process(&entry.path(), group) {
            total.cpu += one.cpu;
            total.resident += one.resident;
        }
    }
    total
}

fn of_process(path: &Path, group: u32) -> Option<Usage> {
    path.file_name()?.to_str()?.parse::<u32>().ok()?;
    let stat = fs::read_to_string(path.join("stat")).ok()?;
    // The name may hold anything, parentheses too.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    // proc(5): state is field 3, pgrp 5, utime 14, stime 15, rss 24.
    if number(2)? != u64::from(group) {
        return None;
    }
    let ticks = number(11)? + number(12)?;
    let hertz = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?;
    let page = u64::try_from(sysconf(SysconfVar::PAGE_SIZE).ok()??).ok()?;
    let cpu = Duration::from_millis(ticks * 1000 / hertz);
    Some(Usage { cpu, resident: number(21)? * page })
}
