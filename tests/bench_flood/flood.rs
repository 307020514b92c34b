//! The flood: SYNs whose senders are not there.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use alb_common::tcp::flag;
use alb_ebpf::builder::Tcp;
use alb_tests::{
    topology::Lab,
    wire::{Wire, mac},
};

use crate::cores;

/// SYNs made beforehand; each is of another address and port.
const FRAMES: u32 = 1 << 18;
/// SYNs between two looks at the clock.
const BATCH: u32 = 64;

/// Frames and the device they leave by.
pub(crate) struct Flood {
    wire: Wire,
    frames: Vec<Vec<u8>>,
}

impl Flood {
    /// From the client's device, in the name of addresses of 198.19.0.0/16.
    pub(crate) fn new(lab: &Lab, to: (Ipv4Addr, u16)) -> Self {
        let wire = Wire::open(&lab.client.namespace, "eth0");
        let gateway = mac(&lab.balancer.namespace, "eth0");
        let frames = (0..FRAMES).map(|number| {
            // Neighbours in time are none in address (an odd number, so that none comes twice).
            let mixed = number.wrapping_mul(40_503) % FRAMES;
            let [.., high, low] = (mixed & 0xffff).to_be_bytes();
            let port = 1_024 + u16::try_from(number % 60_000).expect("below 60,000");
            let syn = Tcp {
                to: gateway,
                from: wire.mac,
                src: (Ipv4Addr::new(198, 19, high, low), port),
                dst: to,
                seq: number,
                flags: flag::SYN,
                ..Tcp::default()
            };
            syn.frame()
        });
        let frames = frames.collect();
        Self { wire, frames }
    }

    /// Sends until told to stop; SYNs a second.
    pub(crate) fn run(&self, rate: u32, stop: &AtomicBool) -> f64 {
        cores::keep(cores::FLOOD);
        let begun = Instant::now();
        let mut sent = 0u32;
        let mut frames = self.frames.iter().cycle();
        while !stop.load(Ordering::Relaxed) {
            for frame in frames.by_ref().take(BATCH as usize) {
                self.wire.send(frame);
            }
            sent += BATCH;
            if let Some(due) = Duration::from_secs(sent.into()).checked_div(rate) {
                while begun.elapsed() < due && !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }
        }
        f64::from(sent) / begun.elapsed().as_secs_f64()
    }
}
