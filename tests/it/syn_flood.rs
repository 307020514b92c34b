//! A flood of SYNs from addresses that are nobody's: who is there proves it and is served.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use alb_tests::{
    client::{Conversation, who},
    cpu,
    topology::{Lab, Shape, VIP, six},
    wait::{self, Ends},
    wire::{self, Syn, Wire},
};

use crate::setting::{PORT, Service, servers, servers6, vip, vip6};

/// Frames at most.
const MOST: u32 = 2_000_000;

/// Stations: to, from.
type Link = ([u8; 6], [u8; 6]);

#[test]
fn real_clients_are_served_meanwhile() {
    let lab = Lab::new(Shape::default());
    let _servers = servers(&lab);
    served_meanwhile(&lab, &Service::of(&lab), vip(), |link, number, port| {
        let [.., high, low] = number.to_be_bytes();
        let from = (Ipv4Addr::new(198, 19, high, low), port);
        Syn { link, from, to: (VIP, PORT), sequence: number }.frame(&[])
    });
}

#[test]
fn real_clients_are_served_meanwhile_over_ipv6() {
    let lab = Lab::new(Shape::default());
    lab.add_ipv6();
    let _servers = servers6(&lab);
    served_meanwhile(&lab, &Service::of6(&lab), vip6(), |link, number, port| {
        let [.., high, low] = number.to_be_bytes();
        // Each of a /64 of its own: these are what proves itself.
        let net = u16::from_be_bytes([high, low]);
        let from = (Ipv6Addr::new(0x2001, 0xdb8, 0xffff, net, 0, 0, 0, 1), port);
        Syn { link, from, to: (six(VIP), PORT), sequence: number }.frame()
    });
}

/// A flood of SYNs, made of stations, a number and a source port, beside a client that is there.
fn served_meanwhile(
    lab: &Lab,
    service: &Service,
    to: SocketAddr,
    syn: impl Fn(Link, u32, u16) -> Vec<u8> + Sync,
) {
    // The packet path counts by CPU.
    cpu::stay_on_one();
    let daemon = service.serve(lab);
    let client = &lab.client.namespace;
    let mut open = Conversation::open(client, to).expect("a connection");
    let wire = Wire::open(client, "eth0");
    let balancer = wire::mac(&lab.balancer.namespace, "eth0");
    let link = (balancer, wire.mac);
    let frame = |number: u32| syn(link, number, 1_024 + (number >> 16) as u16);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _ends = Ends(&over);
        let flood = scope.spawn(|| {
            cpu::stay_on_one();
            (0..MOST).take_while(|_| !over.load(Relaxed)).for_each(|n| wire.send(&frame(n)));
        });
        wait::until("SYNs to be answered with cookies", wait::LONG, || {
            (daemon.reason("syn_challenged") > 0).then_some(())
        });
        wait::until("the client to prove itself", wait::LONG, || {
            who(client, None, to).expect("it is served");
            (daemon.reason("syn_proven") > 0).then_some(())
        });
        for _ in 0..20 {
            who(client, None, to).expect("it is known");
        }
        open.exchange(b"still there?").expect("what was open stays open");
        assert!(!flood.is_finished(), "the flood was over");
    });
    // Two windows after the last of too many, nobody has to prove anything.
    let mut port = 1_024;
    wait::until("the flood to be forgotten", wait::LONG, || {
        let count = || (daemon.reason("syn_challenged"), daemon.reason("new_flow"));
        let (held, opened) = count();
        port += 1;
        wire.send(&syn(link, 0xfffe, port));
        let now = wait::until("the SYN to be counted", wait::LONG, || {
            Some(count()).filter(|now| *now != (held, opened))
        });
        (now == (held, opened + 1)).then_some(())
    });
}
