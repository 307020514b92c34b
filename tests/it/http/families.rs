//! IPv6 at the proxy: VIPs and targets of either family, also mixed, and what says so.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use alb_tests::{
    daemon::{Instance, Node},
    http::Client,
    netns::must,
    origin::Origin,
    topology::{CLIENT, Lab, VIP},
    wait,
};

use super::setting::{ORIGIN, lab};

const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Ports of the listeners.
const SIX: u16 = 80;
const FOUR: u16 = 81;
const TOLD_SIX: u16 = 82;
const TOLD_FOUR: u16 = 83;
const HASHED: u16 = 84;

/// A load balancer with a VIP of each family, over targets of each.
fn body(lab: &Lab, six: &[Ipv6Addr]) -> String {
    let group = |name: &str, addresses: Vec<IpAddr>| {
        let target = |address: &IpAddr| format!("{{ ipAddress: \"{address}\", port: {ORIGIN} }}");
        let targets: Vec<_> = addresses.iter().map(target).collect();
        format!("{{ name: {name}, type: ip, targets: [{}] }}", targets.join(", "))
    };
    let four = lab.targets.iter().map(|host| host.address.into()).collect();
    let groups =
        [group("six", six.iter().map(|at| IpAddr::V6(*at)).collect()), group("four", four)];
    let check = "healthCheck: { protocol: Http, checkTimeoutSeconds: 2, intervalSeconds: 5, \
                 healthyThresholdCount: 1, unhealthyThresholdCount: 1 }";
    let http = "httpForwardedVip: true, httpForwardedPort: true, httpForwardedClientPort: true";
    let backend = |name: &str, protocol: &str, group: &str, more: &str| {
        format!(
            "{{ name: {name}, protocol: {protocol}, port: {ORIGIN}, targetGroup: {group}, \
             {check}, {more} }}"
        )
    };
    let backends = [
        backend("six", "Http", "six", http),
        backend("four", "Http", "four", http),
        backend("told-six", "Tcp", "six", "proxyProtocol: true"),
        backend("told-four", "Tcp", "four", "proxyProtocol: true"),
        backend("hashed", "Http", "six", "algorithm: IpHash"),
    ];
    let listener = |name: &str, protocol: &str, port: u16| {
        format!("{{ name: {name}, protocol: {protocol}, port: {port}, backend: {name} }}")
    };
    let listeners = [
        listener("six", "Http", SIX),
        listener("four", "Http", FOUR),
        listener("told-six", "Tcp", TOLD_SIX),
        listener("told-four", "Tcp", TOLD_FOUR),
        listener("hashed", "Http", HASHED),
    ];
    format!(
        "subnets: [{{ name: front, addressPrefix: 198.18.0.0/24, \
         ipv6AddressPrefix: \"2001:db8::/64\" }}]\n\
         loadBalancers:\n- name: lab\n  subnet: front\n  privateIpAddress: {VIP}\n  \
         ipv6Address: \"{VIP6}\"\n  targetGroups: [{}]\n  backends: [{}]\n  listeners: [{}]\n",
        groups.join(", "),
        backends.join(", "),
        listeners.join(", "),
    )
}

#[test]
fn every_vip_leads_to_every_target() {
    let lab = lab(2);
    let given = lab.add_ipv6();
    let [client, _, six @ ..] = &given[..] else { panic!("a client and more") };
    let origins: Vec<_> =
        lab.targets.iter().map(|host| Origin::answering(host, ORIGIN, "ok")).collect();
    let daemon =
        Instance::new(&lab.balancer.namespace, Node::xdp(lab.interfaces()), &body(&lab, six))
            .start();
    for listener in ["six", "four", "told-six", "told-four"] {
        // Two on each of the VIPs.
        daemon.wait_targets(listener, "healthy", 4);
    }
    let put_on = lab.balancer.namespace.ip("-6 address show dev eth0");
    let line = put_on.lines().find(|line| line.contains(&format!("{VIP6}/128")));
    let line = line.unwrap_or_else(|| panic!("{put_on}"));
    assert!(line.contains("nodad") && line.contains("deprecated"), "{line}");

    for (vip, from) in
        [(IpAddr::V4(VIP), IpAddr::V4(CLIENT)), (IpAddr::V6(VIP6), IpAddr::V6(*client))]
    {
        for port in [SIX, FOUR, TOLD_SIX, TOLD_FOUR] {
            origins.iter().for_each(Origin::forget);
            let mut talk = Client::connect(&lab.client.namespace, SocketAddr::new(vip, port));
            let own = talk.address();
            assert_eq!(own.ip(), from);
            let told = matches!(port, TOLD_SIX | TOLD_FOUR);
            let response = talk.ask(GET);
            assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{vip} {port}");
            let heard = origins.iter().flat_map(Origin::heard).collect::<String>();
            let expected = if told {
                let family = if vip.is_ipv6() { "TCP6" } else { "TCP4" };
                format!("PROXY {family} {from} {vip} {} {port}\r\nGET / ", own.port())
            } else {
                format!(
                    "X-Forwarded-For: {from}\r\nX-Forwarded-Port: {port}\r\n\
                     X-Forwarded-LBIP: {vip}\r\nX-Forwarded-Client-Port: {}\r\n",
                    own.port()
                )
            };
            assert!(heard.contains(&expected), "{expected}\nnot in\n{heard}");
        }
    }
    clients_stay_with_a_target(&lab);
}

/// Each address goes to one target, and not all to the same.
fn clients_stay_with_a_target(lab: &Lab) {
    let addresses: Vec<_> = (1..=16).map(|last| format!("2001:db8::1:{last:x}")).collect();
    for address in &addresses {
        lab.client.namespace.ip(&format!("address add {address}/64 dev eth0 nodad"));
    }
    let mut used = BTreeSet::new();
    for address in &addresses {
        let mut curl = lab.client.namespace.command("curl");
        let url = format!("http://[{VIP6}]:{HASHED}/[1-4]");
        curl.args(["-sf", "-m", "20", "--interface", address, "-H", "Connection: close"]);
        curl.args(["-o", "/dev/null", &url]);
        let before = of_each(lab);
        must(&mut curl);
        let grown = wait::until("four more requests", wait::LONG, || {
            let pairs = of_each(lab).into_iter().zip(&before);
            let grown: Vec<_> = pairs.map(|(now, before)| now - before).collect();
            (grown.iter().sum::<u64>() >= 4).then_some(grown)
        });
        assert!(grown == [4, 0] || grown == [0, 4], "{address}: {grown:?}");
        used.insert(grown);
    }
    assert_eq!(used.len(), 2, "both have clients");
}

/// Requests given to each target of the hashed backend.
fn of_each(lab: &Lab) -> Vec<u64> {
    let text = crate::seeing::metrics(lab);
    let of = |target: &str| {
        let labels = [("backend", "hashed"), ("address", target)];
        crate::seeing::value(&text, "alb_target_requests_total", &labels)
    };
    ["2001:db8::b", "2001:db8::c"].map(of).to_vec()
}
