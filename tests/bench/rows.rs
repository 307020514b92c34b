//! The rows: what is measured, in alternating rounds, and how it is printed.

use std::net::Ipv4Addr;

use alb_common::tcp::flag;
use alb_ebpf::{
    bench::{FRAME, Field, Plan},
    builder::Tcp,
};

use crate::{
    fill::{STATION, Tuple, forget},
    runner::{Program, ROUNDS, Runner},
};

/// Packets of one measurement.
const PACKETS: u32 = 1 << 20;
/// New flows at a time while others are present. All rounds together push fewer than the
/// half-open ring holds, so that none is evicted.
pub(crate) const NEW_FLOWS: u32 = 1 << 13;
/// `XDP_TX`, `XDP_PASS`.
const SENT: u32 = 3;
const PASSED: u32 = 2;

fn plan(tuple: Tuple, flows: u32, flags: u8, seq: u32, ack: u32) -> Plan {
    let tcp = Tcp { from: STATION, flags, seq, ack, padding: FRAME - 54, ..Tcp::default() };
    let frame = tcp.frame();
    let mut template = [0; FRAME / 4];
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
        src,
        sport,
        dst,
        dport,
        template,
    }
}

/// Measurements of one row.
struct Row {
    name: String,
    times: Vec<f64>,
}

impl Row {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), times: Vec::new() }
    }

    fn median(&self) -> f64 {
        let mut times = self.times.clone();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }

    fn print(&self, to: Option<&Row>) {
        let low = self.times.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self.times.iter().copied().fold(0.0, f64::max);
        let median = self.median();
        print!("{:<44}{median:>7.0}  [{low:>5.0} {high:>6.0}]", self.name);
        match to {
            Some(row) => println!("   {:.2} x lookup", median / row.median()),
            None => println!(),
        }
    }
}

/// One measurement, wrapper subtracted.
fn measure(runner: &mut Runner, plan: &Plan, program: Program, packets: u32, verdict: u32) -> f64 {
    let (empty, _) = runner.raw(plan, Program::Empty, packets);
    let (full, returned) = runner.raw(plan, program, packets);
    assert_eq!(returned, verdict, "{program:?}: the last packet's verdict");
    f64::from(full) - f64::from(empty)
}

/// Packets of established flows, and the lookup that they must be compared with.
pub(crate) fn established(runner: &mut Runner, flows: u32) {
    let named = |what: &str| Row::new(&format!("{what}, {flows} flows"));
    let (mut lookup, mut forward, mut reverse) = (
        named("lookup in the flow table"),
        named("established forward"),
        named("established reverse"),
    );
    let ack = |tuple| plan(tuple, flows, flag::ACK, 5, 6);
    let (there, back) = (ack(Tuple::forward()), ack(Tuple::reverse()));
    for round in 0..ROUNDS {
        // Both directions in turn: they are in the same table.
        let looked_up = if round % 2 == 0 { &there } else { &back };
        lookup.times.push(measure(runner, looked_up, Program::Lookup, PACKETS, SENT));
        forward.times.push(measure(runner, &there, Program::PacketPath, PACKETS, SENT));
        reverse.times.push(measure(runner, &back, Program::PacketPath, PACKETS, SENT));
    }
    lookup.print(None);
    forward.print(Some(&lookup));
    reverse.print(Some(&lookup));
}

/// Packets to another.
pub(crate) fn not_ours(runner: &mut Runner, present: u32) {
    let mut row = Row::new(&format!("not ours, {present} flows present"));
    let dst = Field::fixed(Ipv4Addr::new(198, 18, 0, 11).into());
    let foreign = plan(Tuple { dst, ..Tuple::forward() }, 1 << 20, flag::ACK, 5, 6);
    for _ in 0..ROUNDS {
        row.times.push(measure(runner, &foreign, Program::PacketPath, PACKETS, PASSED));
    }
    row.print(None);
}

/// New flows when everything they touch is in the caches: each client resets its handshake
/// before it begins the next, so that the same entries are used again.
pub(crate) fn hot_syn(runner: &mut Runner) {
    const FLOWS: u32 = 1 << 10;
    const TURNS: u32 = 64;
    /// Turns that warm up.
    const COLD: u32 = 16;
    let syn = plan(Tuple::new_forward(), FLOWS, flag::SYN, 5, 0);
    let rst = plan(Tuple::new_forward(), FLOWS, flag::RST, 6, 0);
    let mut row = Row::new("SYN, new flow, hot");
    for _ in 0..ROUNDS {
        let mut total = 0.0;
        for turn in 0..TURNS {
            let time = measure(runner, &syn, Program::PacketPath, FLOWS, SENT);
            runner.raw(&rst, Program::PacketPath, FLOWS);
            if turn >= COLD {
                total += time;
            }
        }
        row.times.push(total / f64::from(TURNS - COLD));
    }
    row.print(None);
}

/// New flows from SYN to established, and bare inserts and removals.
pub(crate) fn handshake(runner: &mut Runner, present: u32) {
    const SEQ: u32 = 5;
    const BACK: u32 = 9;
    let flows: u32 = if present == 0 { 1 << 10 } else { NEW_FLOWS };
    let there = |flags| plan(Tuple::new_forward(), flows, flags, SEQ, BACK + 1);
    let back = plan(Tuple::new_reverse(), flows, flag::SYN | flag::ACK, BACK, SEQ + 1);
    let named = |what: &str| Row::new(&format!("{what}, {present} flows present"));
    let mut steps = [
        (named("insert"), there(flag::SYN), Program::Insert, PASSED),
        (named("remove"), there(flag::SYN), Program::Remove, PASSED),
        (named("SYN, new flow"), there(flag::SYN), Program::PacketPath, SENT),
        (named("SYN-ACK"), back, Program::PacketPath, SENT),
        (named("ACK that promotes"), there(flag::ACK), Program::PacketPath, SENT),
    ];
    for _ in 0..ROUNDS {
        for (row, plan, program, verdict) in &mut steps {
            row.times.push(measure(runner, plan, *program, flows, *verdict));
        }
        forget(runner, flows);
    }
    for (row, ..) in &steps {
        row.print(None);
    }
}
