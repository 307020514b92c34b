//! Records of flows that end.

use std::net::Ipv4Addr;

use alb_common::{
    Reason,
    abi::map,
    flow_log::FlowRecord,
    interface::{HopEntry, hop_flag},
    net::{Address as _, Be16, Be32, Be128},
    reason::Event,
    target::TargetTimes,
    tcp::{FlowFlags as F, flag},
};
use alb_tests::packet_path::{Sizes, now};

use super::{
    FAMILY,
    flow::Flow,
    world::{CLIENT, HEADERS, IDLE, SNAT, VIP, WEB, World, sent, target},
};
use crate::family::{Family, addr6};

const FIN: u8 = flag::FIN | flag::ACK;
const BOTH: u8 = F::FIN_CLIENT | F::FIN_TARGET;
/// Ticks; more than a test takes.
const LONG_AGO: u32 = 1_000_000;

fn logging(sizes: Sizes) -> World {
    let mut world = World::sized(sizes);
    world.set(|settings| settings.flow_log = 1);
    world
}

/// The records of both programs, which must agree but for the time.
#[track_caller]
fn records(world: &mut World) -> Vec<FlowRecord> {
    let timeless = |records: &[FlowRecord]| {
        let timeless = |record: &FlowRecord| FlowRecord { at: 0, age: 0, ..*record };
        records.iter().map(timeless).collect::<Vec<_>>()
    };
    let records = world.prog.flow_records();
    let twin = world.prog.twin_flow_records().expect("both are loaded");
    assert_eq!(timeless(&twin), timeless(&records));
    records
}

fn wide(addr: Ipv4Addr) -> Be128 {
    match FAMILY {
        Family::Ipv4 => Be32::from(addr).mapped(),
        Family::Ipv6 => addr6(addr.into()),
    }
}

/// Of a flow to target 0 that counted so many packets without data.
fn expected(packets_in: u32, packets_out: u32, state: u8) -> FlowRecord {
    FlowRecord {
        bytes_in: u64::from(packets_in) * HEADERS as u64,
        bytes_out: u64::from(packets_out) * HEADERS as u64,
        packets_in,
        packets_out,
        client: wide(CLIENT.0),
        vip: wide(VIP),
        snat: wide(SNAT),
        target: wide(target(0).0),
        client_port: Be16::new(CLIENT.1),
        vip_port: Be16::new(WEB),
        snat_port: Be16::new(CLIENT.1),
        target_port: Be16::new(target(0).1),
        state: state.into(),
        ..FlowRecord::default()
    }
}

#[test]
fn every_end_is_told_with_what_went_through() {
    type Close = fn(&World, &Flow);
    for (name, close, told) in [
        ("closed by the client", (|world, flow| world.close_by_client(flow)) as Close, {
            expected(3, 2, BOTH)
        }),
        ("closed by the target", |world, flow| world.close_by_target(flow), {
            expected(3, 2, BOTH | F::TARGET_FIRST)
        }),
        (
            "reset by the client",
            |world, flow| {
                world.pass_on("RST", flow.later(flag::RST, &[]), Reason::FlowForward);
            },
            expected(3, 1, F::RST_CLIENT),
        ),
        (
            "reset by the target",
            |world, flow| {
                world.pass_on("RST", flow.answer(flag::RST, &[]), Reason::FlowReverse);
                world.pass_on("again", flow.answer(flag::RST, &[]), Reason::FlowReverse);
            },
            expected(2, 2, F::RST_TARGET),
        ),
    ] {
        let mut world = logging(Sizes::default());
        let flow = Flow::default();
        world.open(&flow);
        world.edit(flow.key(), |entry| entry.begin(now().wrapping_sub(LONG_AGO)));
        assert_eq!(records(&mut world), [], "{name}: it is open");
        let before = now();
        close(&world, &flow);
        let after = now();
        let [record] = records(&mut world)[..] else { panic!("{name}: one record") };
        let FlowRecord { at, age, .. } = record;
        let tick =
            u32::try_from(at >> alb_common::expiry::TICK_SHIFT & 0xffff_ffff).expect("a tick");
        assert!(tick.wrapping_sub(before) <= after.wrapping_sub(before), "{name}: {at}");
        assert!((LONG_AGO..2 * LONG_AGO).contains(&age), "{name}: {age}");
        assert_eq!(FlowRecord { at: 0, age: 0, ..record }, told, "{name}");
    }
}

#[test]
fn a_flow_that_goes_on_after_a_forged_rst_has_another_record_for_the_rest() {
    let mut world = logging(Sizes::default());
    let flow = Flow::default();
    world.open(&flow);
    world.pass_on("RST", flow.later(flag::RST, &[]), Reason::FlowForward);
    for _ in 0..4 {
        world.pass_on("data", flow.later(flag::ACK, &[1; 100]), Reason::FlowForward);
    }
    world.pass_on("RST", flow.answer(flag::RST, &[]), Reason::FlowReverse);
    let counts = |record: &FlowRecord| (record.packets_in, record.packets_out);
    let counts: Vec<_> = records(&mut world).iter().map(counts).collect();
    let flows = 3 + 4 + 2;
    assert_eq!(counts.len(), 2, "{counts:?}");
    assert_eq!(counts[0], (3, 1));
    // The packet that takes a RST back is counted with what was before it.
    assert!(counts[1].0 + counts[0].0 + counts[1].1 + counts[0].1 >= flows - 1, "{counts:?}");
}

#[test]
fn nothing_is_written_unless_it_is_wanted() {
    let mut world = World::new();
    let flow = Flow::default();
    world.open(&flow);
    world.close_by_client(&flow);
    assert_eq!(records(&mut world), []);
}

#[test]
fn what_there_is_no_room_for_is_counted() {
    const BYTES: u16 = 4_096;
    // With the eight bytes that the ring adds, and never quite full.
    const ROOM: u16 = BYTES / 128 - 1;
    let sizes = Sizes { flows: 128, half_open: 128, ring: 64, ..Sizes::default() };
    let mut world = logging(Sizes { flow_log: BYTES.into(), ..sizes });
    let close = |world: &World, port: u16, lost: bool| {
        let flow = Flow::to_one(port);
        world.open(&flow);
        world.pass_on("client's FIN", flow.later(FIN, &[]), Reason::FlowForward);
        let (packet, after) = flow.answer(FIN, &[]);
        let told = sent(Reason::FlowReverse, &after);
        let told = if lost { told.with(Event::FlowRecordLost) } else { told };
        world.check("target's FIN", &packet, &told);
    };
    for port in 0..ROOM {
        close(&world, 12_000 + port, false);
    }
    close(&world, 12_000 + ROOM, true);
    assert_eq!(records(&mut world).len(), usize::from(ROOM));
    close(&world, 13_000, false);
    let [record] = records(&mut world)[..] else { panic!("one record") };
    assert_eq!(record.client_port.host(), 13_000);
}

#[test]
fn an_open_flow_that_is_removed_is_told_of() {
    // Its target has drained, and the client begins anew.
    let mut world = logging(Sizes::default());
    let flow = Flow::default();
    world.open(&flow);
    let hop: HopEntry = world.prog.get(map::HOPS, 0);
    world.prog.set(map::HOPS, 0, HopEntry { flags: hop_flag::DRAINS, ..hop });
    let cut = TargetTimes { cut_at: now(), ..TargetTimes::default() };
    world.prog.set(map::TARGET_TIMES, 0, cut);
    world.set(|settings| settings.draining = 1);
    world.run(&flow.syn().0.frame());
    let [record] = world.prog.flow_records()[..] else { panic!("one record") };
    assert_eq!((record.packets_in, record.packets_out), (2, 1));
    let state = F(u8::try_from(record.state).expect("flags"));
    assert!(state.has(F::CUT) && !state.closed(), "{state:?}");

    // It was idle for too long, and another client's takes its port.
    let mut world = logging(Sizes::default());
    let flow = Flow::to_one(12_000);
    world.open(&flow);
    for key in [flow.key(), flow.reverse_key()] {
        world.edit(key, |entry| entry.last = now().wrapping_sub(IDLE + 2));
    }
    let other = Flow { client: (Ipv4Addr::new(198, 18, 0, 101), 12_000), ..flow };
    world.run(&other.syn().0.frame());
    let [record] = world.prog.flow_records()[..] else { panic!("one record") };
    assert_eq!((record.packets_in, record.packets_out, record.client), (2, 1, wide(CLIENT.0)));
    let state = F(u8::try_from(record.state).expect("flags"));
    assert!(!state.has(F::CUT) && !state.closed(), "{state:?}");
}
