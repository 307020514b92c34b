//! What the verifier makes of the programs, held against a budget: one that grows unseen is refused by
//! an older kernel one day.

use std::fs;

use alb_common::abi::{TC_PROGRAM, TC6_PROGRAM, XDP_PROGRAM, XDP6_PROGRAM};
use alb_tests::{
    packet_path::{self, Prog, Sizes},
    stack,
};

/// Most that may be, by program: instructions that the verifier looks at on Linux 6.1 and on later
/// kernels, and bytes of stack.
const BUDGET: &str = include_str!("../fixtures/verifier-budget.txt");
/// More are refused (`MAX_BPF_STACK`).
const STACK: u32 = 512;

#[test]
#[expect(clippy::print_stdout, reason = "`cargo xtask test` shows it")]
fn programs_stay_within_their_budget() {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a kernel");
    let release = release.trim();
    let is_old = release.starts_with("6.1.");
    let object = packet_path::object();
    let programs = [XDP_PROGRAM, TC_PROGRAM, XDP6_PROGRAM, TC6_PROGRAM];
    // First: too much of it is a refusal that does not say where.
    for name in programs {
        let [.., most] = budget(name);
        let (stack, chain) = stack::deepest(&object, name);
        println!("{name}: {stack} bytes of stack of {most}");
        assert!(stack <= most && most <= STACK, "{name}: {stack} bytes: {chain:?}");
    }
    let prog = Prog::load_both(Sizes::default());
    for name in programs {
        let instructions = prog.instructions(name);
        let [old, new, _] = budget(name);
        let most = if is_old { old } else { new };
        println!("{name} on {release}: {instructions} instructions of {most}");
        assert!(instructions <= most, "{name}: {instructions} instructions, {most} are allowed");
    }
}

fn budget(program: &str) -> [u32; 3] {
    let line = BUDGET.lines().find_map(|line| line.strip_prefix(program)?.strip_prefix(' '));
    let mut numbers = line.expect("a line").split_whitespace().map(str::parse::<u32>);
    std::array::from_fn(|_| numbers.next().expect("three numbers").expect("a number"))
}
