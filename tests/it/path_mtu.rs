//! Packets that are too large somewhere on their way: whoever sent them is told, through the
//! balancer or by it.

use std::{
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use alb_ebpf::builder::icmp::Icmp;
use alb_tests::{
    client::{bulk, connect},
    daemon::Node,
    netns::Namespace,
    server::Server,
    topology::{CLIENT, Host, Lab, Shape, VIP, give_ipv6, six},
    wait,
    wire::{self, Wire},
};

use crate::setting::{PORT, Service, servers, vip, vip6};

const BYTES: u64 = 3_000_000;
/// MTU of the narrow link.
const NARROW: u32 = 1_300;
/// MTU of a network for large packets.
const JUMBO: u32 = 9_000;

/// A host behind two routers with a narrow link between them: nobody at its ends can see how
/// narrow it is. Owns the routers.
struct Far {
    host: Host,
    routers: [Namespace; 2],
}

impl Far {
    /// Puts it behind `198.18.{net}.254` on a bridge, at `198.18.{behind}.11`.
    fn new(lab: &Lab, bridge: &str, net: u8, behind: u8) -> Self {
        let (near, far, end) =
            (Namespace::new("near"), Namespace::new("far"), Namespace::new("end"));
        let switch = lab.switch();
        switch.ip(&format!("link add r{net} type veth peer name eth0 netns {}", near.name()));
        switch.ip(&format!("link set r{net} master {bridge} up"));
        near.ip(&format!("link add eth1 type veth peer name eth0 netns {}", far.name()));
        far.ip(&format!("link add eth1 type veth peer name eth0 netns {}", end.name()));
        for (router, addresses) in [
            (&near, [format!("198.18.{net}.254/24"), "198.18.9.1/30".to_owned()]),
            (&far, ["198.18.9.2/30".to_owned(), format!("198.18.{behind}.1/24")]),
        ] {
            for (device, address) in ["eth0", "eth1"].iter().zip(addresses) {
                router.ip(&format!("address add {address} dev {device}"));
                router.ip(&format!("link set {device} up"));
                router.sysctl(&format!("ipv4/conf/{device}/rp_filter"), "0");
            }
            router.sysctl("ipv4/ip_forward", "1");
        }
        near.ip(&format!("link set eth1 mtu {NARROW}"));
        far.ip(&format!("link set eth0 mtu {NARROW}"));
        near.ip(&format!("route add 198.18.{behind}.0/24 via 198.18.9.2"));
        far.ip("route add default via 198.18.9.1");
        let address = Ipv4Addr::new(198, 18, behind, 11);
        end.ip(&format!("address add {address}/24 dev eth0"));
        end.ip("link set eth0 up");
        end.ip(&format!("route add default via 198.18.{behind}.1"));
        if !Node::tested().starts_with("tc") {
            end.ethtool("-K eth0 tx off");
        }
        let gateway = format!("198.18.{behind}.0/24 via 198.18.{net}.254");
        lab.balancer.namespace.ip(&format!("route add {gateway}"));
        Self { host: Host { namespace: end, address }, routers: [near, far] }
    }

    /// The same ways over IPv6, for a lab that has its addresses.
    fn add_ipv6(&self, lab: &Lab, net: u8, behind: u8) {
        let [near, far] = &self.routers;
        for (router, outer, inner) in [(near, (net, 254), (9, 1)), (far, (9, 2), (behind, 1))] {
            for (device, (net, last)) in [("eth0", outer), ("eth1", inner)] {
                give_ipv6(router, device, Ipv4Addr::new(198, 18, net, last));
            }
            router.sysctl("ipv6/conf/all/forwarding", "1");
        }
        give_ipv6(&self.host.namespace, "eth0", self.host.address);
        let to = format!("-6 route add 2001:db8:{behind}::/64");
        near.ip(&format!("{to} via 2001:db8:9::2"));
        far.ip("-6 route add default via 2001:db8:9::1");
        self.host.namespace.ip(&format!("-6 route add default via 2001:db8:{behind}::1"));
        let near = six(Ipv4Addr::new(198, 18, net, 254));
        lab.balancer.namespace.ip(&format!("{to} via {near}"));
    }
}

#[test]
fn on_the_targets_side() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let far = Far::new(&lab, "back", 1, 3);
    let _server = Server::start(&far.host, PORT, "far");
    let mut service = Service::of(&lab);
    service.targets = vec![(far.host.address, 10)];
    let daemon = service.serve(&lab);
    let stream = connect(&lab.client.namespace, None, vip()).expect("a connection");
    let (sent, seen) = bulk::upload(&stream, BYTES).expect("the upload ends");
    assert_eq!(sent, seen);
    assert!(daemon.reason("icmp_reverse") > 0, "{}", daemon.status());
    assert!(segment_size(&stream) <= NARROW - 40, "{}", segment_size(&stream));
}

#[test]
fn on_the_clients_side() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let far = Far::new(&lab, "front", 0, 4);
    let _servers = servers(&lab);
    let daemon = Service::of(&lab).serve(&lab);
    let stream = connect(&far.host.namespace, None, vip()).expect("a connection");
    let (expected, seen) = bulk::download(&stream, BYTES).expect("the download ends");
    assert_eq!(expected, seen);
    assert!(daemon.reason("icmp_forward") > 0, "{}", daemon.status());
}

#[test]
fn on_both_sides_over_ipv6() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    lab.add_ipv6();
    let (target, client) = (Far::new(&lab, "back", 1, 3), Far::new(&lab, "front", 0, 4));
    target.add_ipv6(&lab, 1, 3);
    client.add_ipv6(&lab, 0, 4);
    let address = target.host.address;
    let _server = Server::on(&target.host, six(address).into(), PORT, "far");
    let mut service = Service::of6(&lab);
    service.targets = vec![(address, 10)];
    let daemon = service.serve(&lab);
    let stream = connect(&lab.client.namespace, None, vip6()).expect("a connection");
    let (sent, seen) = bulk::upload(&stream, BYTES).expect("the upload ends");
    assert_eq!(sent, seen);
    assert!(daemon.reason("icmp_reverse") > 0, "{}", daemon.status());
    assert!(segment_size(&stream) <= NARROW - 60, "{}", segment_size(&stream));

    service.targets = vec![(lab.targets[0].address, 10)];
    let _near = Server::on(&lab.targets[0], six(lab.targets[0].address).into(), PORT, "near");
    assert!(daemon.reload(&service.body()), "{}", daemon.log());
    let stream = connect(&client.host.namespace, None, vip6()).expect("a connection");
    let (expected, seen) = bulk::download(&stream, BYTES).expect("the download ends");
    assert_eq!(expected, seen);
    assert!(daemon.reason("icmp_forward") > 0, "{}", daemon.status());
}

#[test]
fn at_the_balancer_s_own_interface() {
    for device in ["eth0", "eth1"] {
        let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
        let _servers = servers(&lab);
        lab.balancer.namespace.ip(&format!("link set {device} mtu {NARROW}"));
        let daemon = Service::of(&lab).serve(&lab);
        let stream = connect(&lab.client.namespace, None, vip()).expect("a connection");
        // Both sides have been told with the handshake.
        assert!(segment_size(&stream) <= NARROW - 40, "{device}: {}", segment_size(&stream));
        let (sent, seen) = bulk::upload(&stream, BYTES).expect("the upload ends");
        assert_eq!(sent, seen);
        let stream = connect(&lab.client.namespace, None, vip()).expect("a connection");
        let (expected, seen) = bulk::download(&stream, BYTES).expect("the download ends");
        assert_eq!(expected, seen);
        assert_eq!(daemon.reason("frag_needed"), 0);
    }
}

#[test]
fn at_the_balancer_s_own_interface_when_it_becomes_narrow() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let daemon = Service::of(&lab).serve(&lab);
    let client = &lab.client.namespace;
    let up = connect(client, None, vip()).expect("a connection");
    let down = connect(client, None, vip()).expect("a connection");
    assert!(segment_size(&up) > NARROW);
    // One at a time: a virtual device takes no frame that is larger than its own MTU.
    let balancer = &lab.balancer.namespace;
    balancer.ip(&format!("link set eth1 mtu {NARROW}"));
    let (sent, seen) = bulk::upload(&up, BYTES).expect("the upload ends");
    assert_eq!(sent, seen);
    assert!(segment_size(&up) <= NARROW - 40, "{}", segment_size(&up));
    let told = daemon.reason("frag_needed");
    assert!(told > 0, "{}", daemon.status());
    balancer.ip("link set eth1 mtu 1500");
    balancer.ip(&format!("link set eth0 mtu {NARROW}"));
    let (expected, seen) = bulk::download(&down, BYTES).expect("the download ends");
    assert_eq!(expected, seen);
    assert!(daemon.reason("frag_needed") > told, "{}", daemon.status());
}

/// Lets a network carry large packets: everything between the balancer's device and a host.
fn widen(lab: &Lab, [bridge, port, host_port]: [&str; 3], device: &str, host: &Host) {
    for link in [bridge, port, host_port] {
        lab.switch().ip(&format!("link set {link} mtu {JUMBO}"));
    }
    lab.balancer.namespace.ip(&format!("link set {device} mtu {JUMBO}"));
    host.namespace.ip(&format!("link set eth0 mtu {JUMBO}"));
}

#[test]
fn jumbo_frames_on_the_targets_side_and_on_both() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let daemon = Service::of(&lab).serve(&lab);
    let transfer = |bytes| {
        let stream = connect(&lab.client.namespace, None, vip()).expect("a connection");
        let (sent, seen) = bulk::upload(&stream, bytes).expect("the upload ends");
        assert_eq!(sent, seen);
        let size = segment_size(&stream);
        let stream = connect(&lab.client.namespace, None, vip()).expect("a connection");
        let (expected, seen) = bulk::download(&stream, bytes).expect("the download ends");
        assert_eq!(expected, seen);
        size
    };
    widen(&lab, ["back", "bal1", "target1"], "eth1", &lab.targets[0]);
    let size = transfer(BYTES);
    assert!(size < 1_500, "{size}");
    widen(&lab, ["front", "bal0", "client"], "eth0", &lab.client);
    // The daemon notices some time after.
    let size = wait::until("large segments", wait::LONG, || {
        let size = transfer(1_000_000);
        (size > 8_000).then_some(size)
    });
    let before = ["flow_forward", "flow_reverse"].map(|reason| daemon.reason(reason));
    assert_eq!(transfer(10 * BYTES), size);
    let after = ["flow_forward", "flow_reverse"].map(|reason| daemon.reason(reason));
    // With packets of the usual size there would be six times as many, acknowledgments aside.
    let most = 2 * 10 * BYTES / 4_000;
    assert!(after.iter().zip(before).all(|(after, before)| after - before < most), "{after:?}");
    assert_eq!(daemon.reason("frag_needed"), 0);
}

#[test]
fn a_ping_to_the_vip_is_answered() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let daemon = Service::of(&lab).serve(&lab);
    let client = Wire::open(&lab.client.namespace, "eth0");
    let balancer = wire::mac(&lab.balancer.namespace, "eth0");
    let ping = Icmp { to: balancer, from: client.mac, ..Icmp::ping(CLIENT, VIP) };
    client.send(&ping.frame());
    let answer = Icmp {
        to: client.mac,
        from: balancer,
        src: VIP,
        dst: CLIENT,
        ttl: 64,
        kind: (0, 0),
        ..ping
    };
    let frame = answer.frame();
    client.receive_until(Duration::from_secs(5), |arrived| arrived == frame);
    assert_eq!(daemon.reason("icmp_echo"), 1);
}

fn segment_size(stream: &TcpStream) -> u32 {
    bulk::segment_size(stream).expect("an open socket")
}
