//! The rows: what is measured, in alternating rounds, and how it is printed.

use std::net::Ipv4Addr;

use alb_common::tcp::flag;
use alb_ebpf::{
    bench::{FRAME, FRAME6, Field, LOADS, Plan},
    builder::Tcp,
};

use crate::{
    ROUNDS,
    fill::{
        Filled, LISTENERS, MANY, PREFIX6, PREFIXES, STATION, TARGETS, Tuple, fill6, forget, guard,
        widen,
    },
    report::Report,
    runner::{Program, Runner},
};

/// Packets of one measurement.
const PACKETS: u32 = 1 << 20;
/// Parts that a measurement of established flows is made in.
const SLICES: u32 = 8;
/// Packets before each part that are not timed: enough to fill the CPU's own caches.
const SETTLE: u32 = 1 << 16;
/// New flows at a time while others are present.
pub(crate) const NEW_FLOWS: u32 = 1 << 13;
/// Handshakes of all new flows that make one measurement.
const BATCHES: u32 = 4;
/// Other flows looked up before each step, as traffic between would: several times what the
/// CPU's own caches hold.
const OTHERS: u32 = 1 << 16;
/// `XDP_TX`, `XDP_PASS`.
const SENT: u32 = 3;
const PASSED: u32 = 2;

fn plan(tuple: Tuple, flows: u32, flags: u8, seq: u32, ack: u32) -> Plan {
    let tcp = Tcp { from: STATION, flags, seq, ack, padding: FRAME - 54, ..Tcp::default() };
    of(&tcp.frame(), tuple, flows)
}

/// As [`plan`], of established IPv6 flows.
fn plan6(tuple: Tuple, flows: u32) -> Plan {
    let padding = FRAME6 - 74;
    let tcp = Tcp { from: STATION, flags: flag::ACK, seq: 5, ack: 6, padding, ..Tcp::default() };
    let mut frame = tcp.frame6(&[]);
    for address in [22, 38] {
        let prefix = PREFIX6.iter().flat_map(|word| word.to_ne_bytes());
        frame[address..address + 12].copy_from_slice(&prefix.collect::<Vec<_>>());
    }
    of(&frame, tuple, flows)
}

/// The frame with the fields of a tuple.
fn of(frame: &[u8], tuple: Tuple, flows: u32) -> Plan {
    let mut template = [0; FRAME6 / 4];
    for (word, bytes) in template.iter_mut().zip(frame.chunks_exact(4)) {
        *word = u32::from_ne_bytes(bytes.try_into().expect("four bytes"));
    }
    let Tuple { src, sport, dst, dport } = tuple;
    // Odd, so it visits every flow.
    Plan {
        next: 0,
        multiplier: 0xc4cc_23eb,
        mask: flows - 1,
        slot: 0,
        reach: u32::MAX,
        zero: 0,
        src,
        sport,
        dst,
        dport,
        template,
    }
}

/// One measurement, wrapper subtracted.
fn measure(runner: &mut Runner, plan: &Plan, program: Program, packets: u32, verdict: u32) -> f64 {
    let (full, returned) = runner.raw(plan, program, packets);
    let (empty, _) = runner.raw(plan, Program::Empty, packets);
    assert_eq!(returned, verdict, "{program:?}: the last packet's verdict");
    f64::from(full) - f64::from(empty)
}

/// Time of a random load that waits for the one before: beside such loads of one line.
fn load(runner: &mut Runner, plan: &Plan, loads: u32) -> f64 {
    let [random, same] = [u32::MAX, 0].map(|reach| {
        let plan = Plan { reach, ..*plan };
        let (time, returned) = runner.raw(&plan, Program::Load, loads / LOADS);
        assert_eq!(returned, SENT, "a line's state");
        f64::from(time) / f64::from(LOADS)
    });
    random - same
}

/// Packets of established flows, each direction beside a lookup of its own keys in the kernel's hash
/// table and a load of their home lines in the packet path's. Within a round they alternate in
/// slices, so that what else the machine does meets all alike.
pub(crate) fn established(runner: &mut Runner, report: &mut Report, flows: u32, present: &str) {
    let ack = |tuple| plan(tuple, flows, flag::ACK, 5, 6);
    let directions = [("forward", ack(Tuple::forward())), ("reverse", ack(Tuple::reverse()))];
    // Every flow once at least.
    let packets = flows.max(PACKETS / SLICES);
    let slices = (PACKETS / packets).max(1);
    for _ in 0..ROUNDS {
        for (direction, plan) in &directions {
            let [mut looked_up, mut loaded, mut sent] = [0.0; 3];
            for _ in 0..slices {
                runner.raw(plan, Program::Load, packets.min(SETTLE) / LOADS);
                loaded += load(runner, plan, packets) / f64::from(slices);
                for (program, total) in
                    [(Program::Lookup, &mut looked_up), (Program::PacketPath, &mut sent)]
                {
                    // Not timed: else the lookups would find, and write back, what the packets
                    // before have changed.
                    runner.raw(plan, program, packets.min(SETTLE));
                    *total += measure(runner, plan, program, packets, SENT) / f64::from(slices);
                }
            }
            report.add(&format!("lookup {direction}, {present}"), looked_up);
            report.add(&format!("load {direction}, {present}"), loaded);
            report.compare_all(
                &format!("established {direction}, {present}"),
                sent,
                [(looked_up, "lookup"), (loaded, "load")],
            );
        }
    }
}

/// Packets of established IPv6 flows beside those of as many IPv4 ones.
pub(crate) fn ipv6(runner: &mut Runner, report: &mut Report, flows: u32) {
    fill6(runner, flows);
    for _ in 0..ROUNDS {
        for (direction, tuple) in [("forward", Tuple::forward()), ("reverse", Tuple::reverse())] {
            let plans = [plan(tuple, flows, flag::ACK, 5, 6), plan6(tuple, flows)];
            let [four, six] = plans.map(|plan| {
                runner.raw(&plan, Program::PacketPath, flows.min(SETTLE));
                measure(runner, &plan, Program::PacketPath, PACKETS, SENT)
            });
            let name = format!("established IPv6 {direction}, {flows} flows");
            report.compare(&name, six, (four, "IPv4"));
        }
    }
}

/// Packets to another.
pub(crate) fn not_ours(runner: &mut Runner, report: &mut Report, present: u32) {
    let dst = Field::fixed(Ipv4Addr::new(198, 18, 0, 11).into());
    let foreign = plan(Tuple { dst, ..Tuple::forward() }, 1 << 20, flag::ACK, 5, 6);
    for _ in 0..ROUNDS {
        let time = measure(runner, &foreign, Program::PacketPath, PACKETS, PASSED);
        report.add(&format!("not ours, {present} flows present"), time);
    }
}

/// New flows when everything they touch is in the caches: each client resets its handshake
/// before it begins the next, so that the same entries are used again.
pub(crate) fn hot_syn(runner: &mut Runner, report: &mut Report) {
    report.add_all("SYN, new flow, hot", hot(runner, Tuple::new_forward()));
    let name = format!("SYN, least-connection of {MANY}, hot");
    report.add_all(&name, hot(runner, Tuple::new_least_conn()));
}

/// New flows, and packets of open ones, beside those of another object, in turns.
pub(crate) fn against(runners: &mut [Runner; 2], report: &mut Report) {
    let mut filled = [Filled::default(); 2];
    let mut established = |runners: &mut [Runner; 2], report: &mut Report, flows: u32| {
        for (filled, runner) in filled.iter_mut().zip(&mut *runners) {
            filled.grow(runner, flows);
        }
        let ack = plan(Tuple::forward(), flows, flag::ACK, 5, 6);
        alternate(runners, report, &format!("established forward, {flows} flows"), &|runner| {
            runner.raw(&ack, Program::PacketPath, SETTLE);
            measure(runner, &ack, Program::PacketPath, PACKETS, SENT)
        });
    };
    established(runners, report, 1 << 10);
    for (name, tuple) in [
        ("SYN, new flow, hot".to_owned(), Tuple::new_forward()),
        (format!("SYN, least-connection of {MANY}, hot"), Tuple::new_least_conn()),
    ] {
        alternate(runners, report, &name, &|runner| opened(runner, tuple));
    }
    established(runners, report, 1 << 20);
}

/// A row of two objects, in turns.
fn alternate(
    runners: &mut [Runner; 2],
    report: &mut Report,
    name: &str,
    measure: &dyn Fn(&mut Runner) -> f64,
) {
    // The first round fills the half-open ring.
    for round in 0..=ROUNDS {
        let [this, other] = runners.each_mut().map(measure);
        if round > 0 {
            report.compare(name, this, (other, "the other object"));
        }
    }
}

/// What a security group of many prefixes adds: to new flows, and to packets of open ones, which
/// ask no group. Both tables of a round are the same but for the address's filter.
pub(crate) fn guarded(runner: &mut Runner, report: &mut Report) {
    const FLOWS: u32 = 1 << 10;
    let before = hot(runner, Tuple::new_forward());
    report.add_all("SYN, new flow, hot, before the group", before);
    let ack = plan(Tuple::forward(), FLOWS, flag::ACK, 5, 6);
    let mut open = Vec::new();
    for _ in 0..ROUNDS {
        runner.raw(&ack, Program::PacketPath, SETTLE);
        open.push(measure(runner, &ack, Program::PacketPath, PACKETS, SENT));
    }
    guard(runner, PREFIXES);
    let name = format!("established forward, {FLOWS} flows, {PREFIXES} prefixes");
    for open in open {
        runner.raw(&ack, Program::PacketPath, SETTLE);
        let guarded = measure(runner, &ack, Program::PacketPath, PACKETS, SENT);
        report.compare(&name, guarded, (open, "without them"));
    }
    let name = format!("SYN, new flow, hot, {PREFIXES} prefixes");
    report.add_all(&name, hot(runner, Tuple::new_forward()));
}

/// What many listeners with many targets add to one listener with few: to packets of open flows and
/// to new ones. Both tables of a round are the same but for that.
pub(crate) fn wide(runner: &mut Runner, report: &mut Report) {
    const LEVELS: [u32; 2] = [1 << 10, 1 << 16];
    let ack = |flows| plan(Tuple::forward(), flows, flag::ACK, 5, 6);
    let open = |runner: &mut Runner, flows| {
        let rounds = 0..ROUNDS;
        let times = rounds.map(|_| {
            runner.raw(&ack(flows), Program::PacketPath, flows.max(SETTLE));
            measure(runner, &ack(flows), Program::PacketPath, PACKETS, SENT)
        });
        times.collect::<Vec<_>>()
    };
    Filled::default().grow(runner, LEVELS[1]);
    let few = LEVELS.map(|flows| open(runner, flows));
    let few_new = hot(runner, Tuple::new_forward());
    widen(runner, LEVELS[1]);
    let site = format!("{LISTENERS} listeners, {TARGETS} targets");
    for (flows, few) in LEVELS.into_iter().zip(few) {
        for (few, many) in few.into_iter().zip(open(runner, flows)) {
            let name = format!("established forward, {flows} flows, {site}");
            report.compare(&name, many, (few, "one listener"));
        }
    }
    for (few, many) in few_new.into_iter().zip(hot(runner, Tuple::new_wide())) {
        report.compare(&format!("SYN, new flow, hot, {site}"), many, (few, "one listener"));
    }
}

/// Times of new flows, by round.
fn hot(runner: &mut Runner, tuple: Tuple) -> Vec<f64> {
    // The first round fills the half-open ring: from then on every place had another flow.
    (0..=ROUNDS).map(|_| opened(runner, tuple)).skip(1).collect()
}

/// Time of a new flow, over a round of the half-open ring.
fn opened(runner: &mut Runner, tuple: Tuple) -> f64 {
    const FLOWS: u32 = 1 << 10;
    const TURNS: u32 = 64;
    let syn = plan(tuple, FLOWS, flag::SYN, 5, 0);
    let rst = plan(tuple, FLOWS, flag::RST, 6, 0);
    let mut total = 0.0;
    for _ in 0..TURNS {
        total += measure(runner, &syn, Program::PacketPath, FLOWS, SENT);
        runner.raw(&rst, Program::PacketPath, FLOWS);
    }
    total / f64::from(TURNS)
}

/// New flows from SYN to established, and bare inserts and removals.
pub(crate) fn handshake(runner: &mut Runner, report: &mut Report, present: u32) {
    const SEQ: u32 = 5;
    const BACK: u32 = 9;
    let flows: u32 = if present == 0 { 1 << 10 } else { NEW_FLOWS };
    let there = |flags| plan(Tuple::new_forward(), flows, flags, SEQ, BACK + 1);
    let back = plan(Tuple::new_reverse(), flows, flag::SYN | flag::ACK, BACK, SEQ + 1);
    let steps = [
        ("insert", there(flag::SYN), Program::Insert, PASSED),
        ("remove", there(flag::SYN), Program::Remove, PASSED),
        ("SYN, new flow", there(flag::SYN), Program::PacketPath, SENT),
        ("SYN-ACK", back, Program::PacketPath, SENT),
        ("ACK that promotes", there(flag::ACK), Program::PacketPath, SENT),
    ];
    // Those that were removed to make room are not found; the rest are.
    let others = plan(Tuple::forward(), 1 << 20, flag::ACK, 5, 6);
    for round in 0..=ROUNDS {
        let mut totals = [0.0; 5];
        for _ in 0..BATCHES {
            for ((_, plan, program, verdict), total) in steps.iter().zip(&mut totals) {
                if present != 0 {
                    // Else each step finds what the one before has just brought in.
                    runner.raw(&others, Program::Lookup, OTHERS);
                }
                *total += measure(runner, plan, *program, flows, *verdict);
            }
            forget(runner, flows);
        }
        // The first round touches elements that were never used.
        if round > 0 {
            for ((what, ..), total) in steps.iter().zip(totals) {
                report.add(&format!("{what}, {present} flows present"), total / f64::from(BATCHES));
            }
        }
    }
}
