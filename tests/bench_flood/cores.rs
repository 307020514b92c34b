//! Who runs on which core.

use std::{collections::BTreeSet, fs};

use alb_tests::netns::Namespace;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

/// The generator's.
pub(crate) const FLOOD: usize = 0;
/// Everything else's.
pub(crate) const WORK: usize = 1;

/// Keeps this thread, and those it starts, on a core.
pub(crate) fn keep(core: usize) {
    set(Pid::from_raw(0), core);
}

fn set(thread: Pid, core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core).expect("a number of a core");
    sched_setaffinity(thread, &cores).expect("two cores");
}

/// Has devices polled by threads of the kernel instead of by whoever sends to them; whether they
/// can be.
pub(crate) fn poll_in_threads(namespace: &Namespace, devices: &[&str]) -> bool {
    devices.iter().all(|device| {
        // /sys shows the devices of the namespace it was mounted in.
        let script =
            format!("mount -t sysfs none /sys && echo 1 > /sys/class/net/{device}/threaded");
        let mut command = namespace.command("unshare");
        command.args(["--mount", "sh", "-c", &script]);
        command.status().is_ok_and(|status| status.success())
    })
}

/// The kernel's threads that poll devices.
pub(crate) fn pollers() -> BTreeSet<i32> {
    let processes = fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let polls = |id: &i32| {
        let name = fs::read_to_string(format!("/proc/{id}/comm"));
        name.is_ok_and(|name| name.starts_with("napi/eth"))
    };
    ids.filter(polls).collect()
}

/// Moves threads to a core.
pub(crate) fn move_to(core: usize, threads: &BTreeSet<i32>) {
    for thread in threads {
        set(Pid::from_raw(*thread), core);
    }
}
