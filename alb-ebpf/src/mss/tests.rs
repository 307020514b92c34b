//! A clamped SYN is the SYN that would have been built with the smaller size.

extern crate std;

use std::{vec, vec::Vec};

use alb_common::net::Be32;

use super::*;
use crate::{builder::Tcp, packet::Frame, parse};

fn clamped(options: &[u8], mtu: u16) -> Vec<u8> {
    let tcp = Tcp { options: options.to_vec(), ..Tcp::default() };
    let mut bytes = tcp.frame();
    let mut frame = Frame::new(&mut bytes);
    let segment = parse::segment::<_, Be32>(&frame, tcp.l3()).expect("a right segment");
    clamp(&mut frame, segment.l4, segment.tcp_header_len, mtu.saturating_sub(40));
    bytes
}

fn built(options: &[u8]) -> Vec<u8> {
    Tcp { options: options.to_vec(), ..Tcp::default() }.frame()
}

#[test]
fn rows() {
    let nops = |count: usize, rest: &[u8]| {
        let mut options = vec![1; count];
        options.extend(rest);
        options.resize(options.len().next_multiple_of(4), 0);
        options
    };
    // MTU 1,300 leaves 1,260 = 0x04ec.
    for (name, options, expected) in [
        ("none", vec![], vec![]),
        ("larger", vec![2, 4, 5, 0xb4], vec![2, 4, 4, 0xec]),
        ("largest", vec![2, 4, 0xff, 0xff], vec![2, 4, 4, 0xec]),
        ("equal", vec![2, 4, 4, 0xec], vec![2, 4, 4, 0xec]),
        ("smaller", vec![2, 4, 2, 0x18], vec![2, 4, 2, 0x18]),
        ("across words", nops(1, &[2, 4, 5, 0xb4]), nops(1, &[2, 4, 4, 0xec])),
        ("behind another", nops(0, &[3, 3, 7, 2, 4, 5, 0xb4]), nops(0, &[3, 3, 7, 2, 4, 4, 0xec])),
        ("behind eleven NOPs", nops(11, &[2, 4, 5, 0xb4]), nops(11, &[2, 4, 4, 0xec])),
        ("too far behind", nops(12, &[2, 4, 5, 0xb4]), nops(12, &[2, 4, 5, 0xb4])),
        ("behind the end", vec![0, 2, 4, 5, 0xb4, 0, 0, 0], vec![0, 2, 4, 5, 0xb4, 0, 0, 0]),
        ("wrong length", vec![2, 3, 5, 0xb4], vec![2, 3, 5, 0xb4]),
        ("cut", vec![1, 2, 4, 5], vec![1, 2, 4, 5]),
        ("length 0 before it", vec![5, 0, 2, 4, 5, 0xb4, 0, 0], vec![5, 0, 2, 4, 5, 0xb4, 0, 0]),
    ] {
        assert_eq!(clamped(&options, 1_300), built(&expected), "{name}");
    }
    assert_eq!(clamped(&[2, 4, 5, 0xb4], 20), built(&[2, 4, 0, 0]));
}
