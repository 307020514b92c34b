//! Every word of a key counts in the first look at its home, which compares two at a time.

use alb_common::{
    abi::map,
    flow::FlowKey,
    flow_table::{Shape, lines_for},
    net::{Be16, Be128},
    service::local,
    tcp::flag,
};
use alb_tests::packet_path::{SEEDS, Sizes};

use super::{flow::Flow, world::World};

/// Where the source address is in a frame; the other address and the ports follow.
const ADDRESSES: usize = 14 + 8;
/// Words of a key: two addresses, and the ports.
const WORDS: usize = 9;

fn word(frame: &[u8], number: usize) -> u32 {
    let bytes = &frame[ADDRESSES + number * 4..][..4];
    u32::from_ne_bytes(bytes.try_into().expect("four bytes"))
}

fn key(frame: &[u8]) -> FlowKey<Be128> {
    let addr = |first: usize| Be128(std::array::from_fn(|n| word(frame, first + n)));
    let [a, b, c, d] = word(frame, 8).to_ne_bytes();
    let (sport, dport) = (Be16(u16::from_ne_bytes([a, b])), Be16(u16::from_ne_bytes([c, d])));
    FlowKey { src: addr(0), dst: addr(4), sport, dport }
}

#[test]
fn a_key_that_differs_in_one_word_is_another() {
    let sizes = Sizes::default();
    let mut world = World::sized(sizes);
    let flow = Flow::default();
    world.open(&flow);
    let shape = Shape::<Be128>::of(lines_for(sizes.flows), SEEDS);
    let home = |frame: &[u8]| shape.places(&key(frame))[0];
    let forwarded = |world: &World| world.prog.counters().get("flow_forward").copied();

    let own = flow.later(flag::ACK, &[]).0.frame6(&[]);
    assert!(world.prog.flows::<Be128>(map::FLOWS6).contains_key(&key(&own)));
    let before = forwarded(&world).unwrap_or_default();
    world.prog.run(&own);
    let after = Some(before + 1);
    assert_eq!(forwarded(&world), after);
    for number in 0..WORDS {
        let changed = |by: u32| {
            let mut frame = own.clone();
            let bytes = (word(&own, number) ^ by).to_ne_bytes();
            frame[ADDRESSES + number * 4..][..4].copy_from_slice(&bytes);
            frame
        };
        let other =
            (1..10_000).map(changed).find(|frame| home(frame) == home(&own)).expect("one of many");
        world.prog.local6(key(&other).dst, local::VIP);
        world.prog.run(&other);
        assert_eq!(forwarded(&world), after, "word {number}: {:?} is {:?}", key(&other), key(&own));
    }
}
