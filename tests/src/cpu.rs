//! On which CPU a thread runs: what the packet path counts by CPU is then counted together.

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// Keeps this thread on the last CPU it may use, and says which.
pub fn stay_on_one() -> usize {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).expect("the CPUs allowed");
    let set = |cpu: &usize| allowed.is_set(*cpu).expect("a CPU number");
    let cpu = (0..CpuSet::count()).rev().find(set).expect("a CPU");
    let mut one = CpuSet::new();
    one.set(cpu).expect("a CPU number");
    sched_setaffinity(this, &one).expect("a CPU that is allowed");
    cpu
}
