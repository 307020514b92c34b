//! `cargo xtask bench datapath`: nanoseconds a packet, the wrapper that makes the packets
//! subtracted, beside primitives measured in the same run.
#![expect(clippy::print_stdout, reason = "a bench prints")]

mod fill;
mod rows;
mod runner;

use alb_common::flow::BYTES_PER_FLOW;

use crate::{
    fill::Filled,
    rows::{NEW_FLOWS, established, handshake, hot_syn, not_ours},
    runner::Runner,
};

/// Flows in the table, level by level.
const LEVELS: [u32; 4] = [1, 1 << 10, 1 << 16, 1 << 20];

fn main() {
    let mut runner = Runner::new();
    let mut filled = Filled::default();
    println!("ns a packet, wrapper subtracted: median [min max] of {} rounds", runner::ROUNDS);
    println!(
        "memory of a flow: {BYTES_PER_FLOW} bytes by layout, {} by the kernel's account\n",
        runner.bytes_per_flow()
    );
    not_ours(&mut runner, 0);
    hot_syn(&mut runner);
    handshake(&mut runner, 0);
    for level in LEVELS {
        filled.grow(&mut runner, level);
        established(&mut runner, level);
    }
    not_ours(&mut runner, LEVELS[3]);
    let present = filled.make_room(&mut runner, NEW_FLOWS);
    handshake(&mut runner, present);
}
