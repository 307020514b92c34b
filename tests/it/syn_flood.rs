//! A flood of SYNs from addresses that are nobody's: who is there proves it and is served.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use alb_tests::{
    client::{Conversation, who},
    cpu,
    topology::{Lab, Shape, VIP},
    wait,
    wire::{self, Syn, Wire},
};

use crate::setting::{PORT, Service, servers, vip};

/// Frames at most.
const MOST: u32 = 2_000_000;

#[test]
fn real_clients_are_served_meanwhile() {
    // The packet path counts by CPU.
    cpu::stay_on_one();
    let lab = Lab::new(Shape::default());
    let _servers = servers(&lab);
    let daemon = Service::of(&lab).serve(&lab);
    let client = &lab.client.namespace;
    let mut open = Conversation::open(client, vip()).expect("a connection");
    let wire = Wire::open(client, "eth0");
    let balancer = wire::mac(&lab.balancer.namespace, "eth0");
    let frame = |number: u32| {
        let [.., high, low] = number.to_be_bytes();
        let from = (Ipv4Addr::new(198, 19, high, low), 1_024 + (number >> 16) as u16);
        let link = (balancer, wire.mac);
        Syn { link, from, to: (VIP, PORT), sequence: number }.frame(&[])
    };
    let flooding = AtomicBool::new(true);
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            cpu::stay_on_one();
            (0..MOST).take_while(|_| flooding.load(Relaxed)).for_each(|n| wire.send(&frame(n)));
        });
        wait::until("SYNs to be answered with cookies", wait::LONG, || {
            (daemon.reason("syn_challenged") > 0).then_some(())
        });
        wait::until("the client to prove itself", wait::LONG, || {
            who(client, None, vip()).expect("it is served");
            (daemon.reason("syn_proven") > 0).then_some(())
        });
        for _ in 0..20 {
            who(client, None, vip()).expect("it is known");
        }
        open.exchange(b"still there?").expect("what was open stays open");
        assert!(!flood.is_finished(), "the flood was over");
        flooding.store(false, Relaxed);
    });
    // Two windows after the last of too many, nobody has to prove anything.
    let mut port = 1_024;
    wait::until("the flood to be forgotten", wait::LONG, || {
        let count = || (daemon.reason("syn_challenged"), daemon.reason("new_flow"));
        let (held, opened) = count();
        port += 1;
        let from = (Ipv4Addr::new(198, 19, 255, 254), port);
        let link = (balancer, wire.mac);
        wire.send(&Syn { link, from, to: (VIP, PORT), sequence: 1 }.frame(&[]));
        let now = wait::until("the SYN to be counted", wait::LONG, || {
            Some(count()).filter(|now| *now != (held, opened))
        });
        (now == (held, opened + 1)).then_some(())
    });
}
