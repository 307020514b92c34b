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
    let prog = Prog::load_both(Sizes::default());
    let object = packet_path::object();
    for name in [XDP_PROGRAM, TC_PROGRAM, XDP6_PROGRAM, TC6_PROGRAM] {
        let instructions = prog.instructions(name);
        let [old, new, most_stack] = budget(name);
        let most = if is_old { old } else { new };
        let (stack, chain) = stack::deepest(&object, name);
        println!(
            "{name} on {release}: {instructions} instructions of {most}, {stack} bytes of stack of \
             {most_stack}"
        );
        assert!(instructions <= most, "{name}: {instructions} instructions, {most} are allowed");
        assert!(stack <= most_stack && most_stack <= STACK, "{name}: {stack} bytes: {chain:?}");
    }
}

fn budget(program: &str) -> [u32; 3] {
    let line = BUDGET.lines().find_map(|line| line.strip_prefix(program)?.strip_prefix(' '));
    let mut numbers = line.expect("a line").split_whitespace().map(str::parse::<u32>);
    std::array::from_fn(|_| numbers.next().expect("three numbers").expect("a number"))
}
