//! One interface, one fact changed, what is said then.

use super::*;
use crate::{
    doctor::{
        BpfFs, Kernel,
        Level::{self, Fail, Ok, Warn},
        PlannedUse, Ports, Process,
    },
    model::PortRange,
    net::Interface,
};

fn interface() -> InterfaceFacts {
    InterfaceFacts {
        interface: Interface {
            index: 2,
            name: "eth0".into(),
            kind: None,
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            up: true,
            carrier: true,
            is_loopback: false,
            addresses: vec!["198.18.0.1/24".parse().unwrap()],
            xdp: vec![],
        },
        driver: Some("virtio_net".into()),
        features: ["rx-gro".to_owned()].into(),
        rp_filter: Some(2),
        accept_local: Some(0),
    }
}

fn facts(interface: InterfaceFacts) -> Facts {
    let snat = PortRange { first: 10_000, last: 32_767 };
    let interfaces = vec!["eth0".to_owned()];
    Facts {
        planned: PlannedUse { interfaces, datapath: DatapathMode::Auto, snat },
        kernel: Kernel { release: "6.1.0".into(), config: None, btf: true, jit: None },
        process: Process { capabilities: 0, open_files: 1024 },
        bpffs: BpfFs {
            path: "/sys/fs/bpf/alb".into(),
            mounted: true,
            pinned: false,
            private_mounts: None,
        },
        interfaces: vec![interface],
        ports: Ports { ephemeral: None, reserved: vec![], listening: [].into() },
        unplaced: vec![],
        targets: vec![],
        neighbour_limits: [None; 2],
    }
}

#[track_caller]
fn check(facts: &Facts, expected: &[(Level, &str)]) {
    let findings = examine(facts);
    let found: Vec<_> = findings.iter().map(|f| (f.level, f.found.as_str())).collect();
    assert_eq!(found, expected);
    for finding in findings {
        assert_eq!(finding.level == Ok, finding.remedy.is_none(), "{finding:?}");
        assert_eq!(finding.subject, "interface eth0");
    }
}

const UP: (Level, &str) = (Ok, "is up, 198.18.0.1/24");
const NATIVE_XDP: (Level, &str) = (Ok, "driver virtio_net, which has native XDP");

#[test]
fn a_good_one() {
    check(&facts(interface()), &[UP, NATIVE_XDP]);
}

#[test]
fn links() {
    let with = |change: fn(&mut Interface)| {
        let mut one = interface();
        change(&mut one.interface);
        facts(one)
    };
    check(&with(|i| i.up = false), &[(Fail, "is down"), NATIVE_XDP]);
    check(&with(|i| i.carrier = false), &[(Fail, "has no carrier"), NATIVE_XDP]);
    check(&with(|i| i.mac = [0; 6]), &[(Fail, "has no MAC address"), NATIVE_XDP]);
    check(&with(|i| i.addresses.clear()), &[(Warn, "is up, without an address"), NATIVE_XDP]);
    check(&with(|i| i.mtu = 9000), &[UP, NATIVE_XDP, (Warn, "MTU 9000")]);
    let foreign = "XDP program 7, 9 is attached, and none of ours is pinned";
    check(&with(|i| i.xdp = vec![7, 9]), &[UP, NATIVE_XDP, (Fail, foreign)]);
}

#[test]
fn a_name_that_does_not_exist_is_answered_with_those_that_do() {
    let mut facts = facts(interface());
    facts.interfaces[0].interface.name = "ens5".into();
    let findings = examine(&facts);
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].level, Fail);
    let remedy = findings[0].remedy.as_deref();
    assert_eq!(remedy, Some("name one of these in node.interfaces: ens5"));
}

#[test]
fn a_pinned_program_is_taken_for_ours() {
    let mut facts = facts(interface());
    facts.interfaces[0].interface.xdp = vec![7];
    facts.bpffs.pinned = true;
    check(&facts, &[UP, NATIVE_XDP, (Ok, "XDP program 7 is attached and pinned")]);
}

#[test]
fn a_driver_without_native_xdp_matters_as_much_as_the_file_says() {
    let mut facts = facts(interface());
    facts.interfaces[0].driver = Some("e1000e".into());
    let found = "driver e1000e, not known to have native XDP";
    check(&facts, &[UP, (Warn, found)]);
    facts.planned.datapath = DatapathMode::Xdp;
    check(&facts, &[UP, (Fail, found)]);
}

#[test]
fn at_tc_no_driver_matters_and_programs_live_side_by_side() {
    let mut facts = facts(interface());
    facts.planned.datapath = DatapathMode::Tc;
    facts.interfaces[0].driver = Some("e1000e".into());
    facts.interfaces[0].interface.xdp = vec![7];
    facts.interfaces[0].interface.mtu = 9_000;
    facts.interfaces[0].features.insert("rx-lro".to_owned());
    check(&facts, &[UP, (Ok, "driver e1000e; TC works with each")]);
}

#[test]
fn generic_xdp_comes_with_a_warning() {
    let mut facts = facts(interface());
    facts.planned.datapath = DatapathMode::XdpGeneric;
    check(&facts, &[UP, (Warn, "is to run generic XDP")]);
}

#[test]
fn a_proxy_alone_needs_interfaces_for_its_vips_only() {
    let mut facts = facts(interface());
    facts.planned.datapath = DatapathMode::Proxy;
    check(&facts, &[UP]);
    facts.interfaces[0].interface.up = false;
    check(&facts, &[(Fail, "is down")]);
    facts.planned.interfaces.clear();
    check(&facts, &[]);
    facts.unplaced = vec![[198, 18, 0, 10].into()];
    let findings = examine(&facts);
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].level, findings[0].subject.as_str()), (Warn, "VIP 198.18.0.10"));
}

#[test]
fn offloads_that_hurt() {
    let mut one = interface();
    one.features.extend(["rx-lro".to_owned(), "rx-gro-hw".to_owned()]);
    let lro = (Warn, "large receive offload is on");
    let hardware = (Warn, "receive offload in hardware is on");
    check(&facts(one), &[UP, NATIVE_XDP, lro, hardware]);

    let veth = InterfaceFacts { driver: Some("veth".into()), ..interface() };
    let pair = "is one end of a veth pair; the other end cannot be seen from here";
    check(&facts(veth), &[UP, (Ok, "driver veth, which has native XDP"), (Warn, pair)]);
}

#[test]
fn ends_of_veth_pairs_are_one_finding() {
    let mut facts = facts(InterfaceFacts { driver: Some("veth".into()), ..interface() });
    let mut other = facts.interfaces[0].clone();
    other.interface.name = "eth1".into();
    facts.interfaces.push(other);
    facts.planned.interfaces.push("eth1".into());
    let findings = examine(&facts);
    let pairs: Vec<_> = findings.iter().filter(|f| f.found.contains("veth pair")).collect();
    let subjects: Vec<_> = pairs.iter().map(|f| f.subject.as_str()).collect();
    assert_eq!(subjects, ["interfaces eth0, eth1"]);
}

#[test]
fn a_strict_filter_matters_between_two_interfaces_only() {
    let strict = InterfaceFacts { rp_filter: Some(1), ..interface() };
    let mut facts = facts(strict);
    check(&facts, &[UP, NATIVE_XDP]);
    let mut other = interface();
    other.interface.name = "eth1".into();
    facts.interfaces.push(other);
    facts.planned.interfaces.push("eth1".into());
    let findings = examine(&facts);
    let strict: Vec<_> = findings.iter().filter(|f| f.found.contains("rp_filter")).collect();
    assert_eq!(strict.len(), 1);
    assert_eq!(strict[0].subject, "interface eth0");
}

#[test]
fn without_a_file_only_what_is_up_is_looked_at() {
    let mut facts = facts(interface());
    facts.planned.interfaces.clear();
    let mut other = interface();
    other.interface.name = "eth1".into();
    other.interface.up = false;
    facts.interfaces.push(other);
    check(&facts, &[UP, NATIVE_XDP]);
}
