//! What the verifier makes of the programs, held against a budget: one that grows unseen is refused by
//! an older kernel one day.

use std::fs;

use alb_common::{
    abi::{TC_PROGRAM, TC6_PROGRAM, XDP_PROGRAM, XDP6_PROGRAM},
    capture::{CAPTURE_TC, CAPTURE_XDP},
};
use alb_tests::{
    packet_path::{self, Prog, Sizes},
    stack,
};
use aya::{
    Ebpf,
    programs::{SchedClassifier, Xdp},
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
    let (object, around) = (packet_path::object(), packet_path::capture_object());
    let programs = [XDP_PROGRAM, TC_PROGRAM, XDP6_PROGRAM, TC6_PROGRAM];
    let objects = programs.map(|name| (name, &object));
    // First: too much of it is a refusal that does not say where.
    for (name, object) in objects.into_iter().chain([(CAPTURE_XDP, &around), (CAPTURE_TC, &around)])
    {
        let [.., most] = budget(name);
        let (stack, chain) = stack::deepest(object, name);
        println!("{name}: {stack} bytes of stack of {most}");
        assert!(stack <= most && most <= STACK, "{name}: {stack} bytes: {chain:?}");
    }
    let prog = Prog::load_both(Sizes::default()).with_ipv6();
    let loaded = programs.map(|name| (name, prog.instructions(name)));
    let mut around = Ebpf::load(&around).expect("its maps are made");
    let program = around.program_mut(CAPTURE_XDP).expect("the object has the program");
    let xdp: &mut Xdp = program.try_into().expect("it is an XDP program");
    xdp.load().expect("the verifier takes the program");
    let program = around.program_mut(CAPTURE_TC).expect("the object has the program");
    let tc: &mut SchedClassifier = program.try_into().expect("it is a TC program");
    tc.load().expect("the verifier takes the program");
    let of = |name: &'static str| {
        let info = around.program(name).expect("it is there").info().expect("it is loaded");
        (name, info.verified_instruction_count().expect("Linux 5.16"))
    };
    for (name, instructions) in loaded.into_iter().chain([of(CAPTURE_XDP), of(CAPTURE_TC)]) {
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
