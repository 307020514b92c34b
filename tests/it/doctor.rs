//! What `alb doctor` sees of a host that was made for it.

use std::path::Path;

use alb_userspace::{
    config,
    doctor::{Finding, Level, examine, gather},
};

use crate::net::pair::Pair;

const FILE: &str = "
node: { interfaces: [near] }
subnets: [{ name: front, addressPrefix: 198.18.1.0/24 }]
loadBalancers:
  - name: shop
    subnet: front
    privateIpAddress: 198.18.1.10
    targetGroups:
      - name: web
        type: ip
        targets: [{ ipAddress: 198.18.1.2 }, { ipAddress: 198.18.1.3 }, { ipAddress: 198.19.0.1 }]
    backends: [{ name: web, protocol: Tcp, port: 80, targetGroup: web, healthCheck: { protocol: Tcp } }]
    listeners: [{ name: web, protocol: Tcp, port: 80, backend: web }]
";

/// What is found about a subject, in order.
fn found<'a>(findings: &'a [Finding], subject: &str) -> Vec<(Level, &'a str)> {
    let about = findings.iter().filter(|finding| finding.subject == subject);
    about.map(|finding| (finding.level, finding.found.as_str())).collect()
}

#[test]
fn a_host_is_seen_as_it_is() {
    let pair = Pair::new();
    pair.near.sysctl("ipv4/ip_local_port_range", "20000 40000");
    pair.near.ethtool("-K near gro on");
    pair.on_near(async || {
        // Not the loopback's: that one harms nobody.
        let _inside = std::net::TcpListener::bind("198.18.1.1:12345").expect("a listener");
        let model = config::parse(FILE, Path::new("/")).expect("a valid file").model;
        let facts = gather(Some(&model)).await.expect("facts");
        let features = &facts.interfaces[0].features;
        assert!(features.contains("rx-gro") && !features.contains("rx-lro"), "{features:?}");
        let findings = examine(&facts);

        let interface = found(&findings, "interface near");
        assert_eq!(interface[0].0, Level::Ok);
        assert!(interface[0].1.starts_with("is up, 198.18.1.1/24"), "{interface:?}");
        assert_eq!(interface[1], (Level::Ok, "driver veth, which has native XDP"));
        let ports = [
            (Level::Warn, "the kernel gives 20000-29999 to its own connections too"),
            (Level::Warn, "something listens on 198.18.1.1:12345"),
        ];
        assert_eq!(found(&findings, "ports"), ports);
        let targets = [
            (Level::Fail, "no route over a link to 198.19.0.1"),
            (Level::Warn, "nobody answers for 198.18.1.3"),
            (Level::Ok, "1 of 3 have a next hop"),
        ];
        assert_eq!(found(&findings, "targets"), targets);
        assert_eq!(pair.near.ip("neighbour show to 198.18.1.0/24"), "", "asking leaves no trace");
    });
}
