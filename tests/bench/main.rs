//! `cargo xtask bench datapath`: nanoseconds a packet, the wrapper that makes the packets
//! subtracted, beside primitives measured in the same run.
#![expect(clippy::print_stdout, reason = "a bench prints")]

mod fill;
mod report;
mod rows;
mod runner;

use std::{env, fs};

use alb_common::{flow::bytes_per_flow, net::Be32};

use crate::{
    fill::Filled,
    report::Report,
    rows::{NEW_FLOWS, against, established, guarded, handshake, hot_syn, ipv6, not_ours, wide},
    runner::{ROOM, Runner},
};

/// Flows in the table, level by level.
const LEVELS: [u32; 4] = [1, 1 << 10, 1 << 16, ROOM];
/// How often everything is loaded and filled anew: which pages a table gets is luck, and good
/// for a tenth.
const TABLES: usize = 3;
/// Measurements of each row in each set of tables.
const ROUNDS: usize = 5;

fn main() {
    // A level (`65536`, or another power of two), `new`, `ipv6`, `groups`, `wide` or `roomy`: those rows
    // alone. `against FILE`: rows beside those of the object in this file.
    let only: Vec<String> = env::args().skip(1).collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|word| word == name);
    let mut levels = LEVELS.to_vec();
    levels.extend(only.iter().filter_map(|word| word.parse::<u32>().ok()));
    levels.sort_unstable();
    levels.dedup();
    let cpu = alb_tests::cpu::stay_on_one();
    println!(
        "ns a packet, wrapper subtracted: median [min max] of {ROUNDS} rounds in each of {TABLES} \
         sets of tables, on CPU {cpu}.\nA ratio is to what was measured of the same keys in the same \
         round, a lookup in the kernel's hash table or a load of their lines; its median, min and max \
         are of these ratios."
    );
    let mut report = Report::default();
    if let [word, other] = &only[..]
        && word == "against"
    {
        let other = fs::read(other).unwrap_or_else(|error| panic!("{other}: {error}"));
        for _ in 0..TABLES {
            let mut runners = [Runner::new(), Runner::of(&other, ROOM)];
            against(&mut runners, &mut report);
        }
        report.print();
        return;
    }
    let rows = ["new", "ipv6", "groups", "wide", "roomy"];
    for word in &only {
        assert!(
            rows.contains(&word.as_str()) || word.parse().is_ok_and(is_level),
            "{word}: not {}, nor a power of two up to {}",
            rows.join(", "),
            ROOM
        );
    }
    for table in 0..TABLES {
        if wanted("groups") {
            // On tables of its own, since the group stays.
            let mut runner = Runner::new();
            Filled::default().grow(&mut runner, LEVELS[1]);
            guarded(&mut runner, &mut report);
        }
        if wanted("wide") {
            wide(&mut Runner::new(), &mut report);
        }
        if wanted("roomy") {
            let mut runner = Runner::with_room(2 * ROOM);
            Filled::default().grow(&mut runner, ROOM);
            let bytes = runner.bytes_per_flow() * 2;
            let flows = format!("{ROOM} flows of {bytes} bytes");
            established(&mut runner, &mut report, ROOM, &flows);
        }
        let mut runner = Runner::new();
        if table == 0 {
            println!(
                "memory of a flow: {} bytes by layout, {} by the kernel's account",
                bytes_per_flow::<Be32>(),
                runner.bytes_per_flow()
            );
        }
        let mut filled = Filled::default();
        if wanted("new") {
            not_ours(&mut runner, &mut report, 0);
            hot_syn(&mut runner, &mut report);
            handshake(&mut runner, &mut report, 0);
        }
        for level in levels.iter().copied() {
            if wanted(&level.to_string()) || wanted("ipv6") && level <= LEVELS[1] {
                filled.grow(&mut runner, level);
            }
            if wanted(&level.to_string()) {
                established(&mut runner, &mut report, level, &format!("{level} flows"));
            }
            if wanted("ipv6") && level <= LEVELS[1] {
                ipv6(&mut runner, &mut report, level);
            }
        }
        if wanted(&LEVELS[3].to_string()) {
            not_ours(&mut runner, &mut report, LEVELS[3]);
            let present = filled.make_room(&mut runner, NEW_FLOWS);
            handshake(&mut runner, &mut report, present);
        }
    }
    report.print();
}

/// Whether the tables can be filled to this level.
const fn is_level(flows: u32) -> bool {
    flows.is_power_of_two() && flows <= ROOM
}
