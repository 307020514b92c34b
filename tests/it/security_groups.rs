//! Security groups over real connections, what the proxy serves included.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
};

use alb_tests::{
    client::{Conversation, tally, who},
    topology::{CLIENT, Lab, Shape, give_ipv6, six},
    wait,
};

use crate::setting::{PORT, Service, servers, servers6, vip, vip6};

/// Port of a listener that the proxy serves.
const PROXIED: u16 = 8081;

/// The service with a second listener and this group.
fn guarded(service: &Service, rules: &str) -> String {
    let body = service.body();
    let body = body.replace(
        "backends: [",
        &format!(
            "backends: [{{ name: pp, protocol: Tcp, port: {PORT}, proxyProtocol: true, \
             targetGroup: all, closeHealthCheck: true }}, "
        ),
    );
    let body = body.replace(
        "listeners: [",
        &format!("listeners: [{{ name: pp, protocol: Tcp, port: {PROXIED}, backend: pp }}, "),
    );
    format!(
        "securityGroups: [{{ name: g, rules: [{rules}] }}]\n{}",
        body.replace("  subnet: front\n", "  subnet: front\n  securityGroups: [g]\n")
    )
}

fn rule(direction: &str, action: &str, priority: u16, ports: &str, prefix: &str) -> String {
    format!(
        "{{ direction: {direction}, protocol: Tcp, ruleAction: {action}, priority: {priority}, \
         {ports} addressPrefix: {prefix} }}, "
    )
}

/// A client's own prefix and address, everybody's, and an address of the client's that is neither.
struct Addresses {
    prefix: &'static str,
    own: String,
    all: &'static str,
    outside: IpAddr,
}

#[test]
fn rules_decide_who_connects_and_a_change_ends_nothing() {
    let lab = Lab::new(Shape { targets: 2, ..Shape::default() });
    let _servers = servers(&lab);
    let addresses = Addresses {
        prefix: "198.18.0.0/24",
        own: format!("{CLIENT}/32"),
        all: "0.0.0.0/0",
        outside: lab.add_client_addresses(1)[0].into(),
    };
    rules_decide(&lab, &Service::of(&lab), vip(), &addresses);
}

#[test]
fn rules_decide_over_ipv6_too() {
    let lab = Lab::new(Shape { targets: 2, ..Shape::default() });
    lab.add_ipv6();
    let _servers = servers6(&lab);
    let outside = lab.add_client_addresses(1)[0];
    lab.balancer.namespace.ip("route replace 2001:db8:2::/64 dev eth0");
    let addresses = Addresses {
        prefix: "\"2001:db8::/64\"",
        own: format!("\"{}/128\"", six(CLIENT)),
        all: "\"::/0\"",
        outside: give_ipv6(&lab.client.namespace, "eth0", outside).into(),
    };
    rules_decide(&lab, &Service::of6(&lab), vip6(), &addresses);
}

fn rules_decide(lab: &Lab, service: &Service, to: SocketAddr, addresses: &Addresses) {
    let Addresses { prefix, own, all, outside } = addresses;
    let client = &lab.client.namespace;
    let out = rule("Out", "Allow", 1, "", all);
    let inside = rule("In", "Allow", 10, "fromPort: 8080, toPort: 8081,", prefix);
    let body = guarded(service, &(inside + &out));
    let node = alb_tests::daemon::Node::xdp(lab.interfaces());
    let daemon = alb_tests::daemon::Instance::new(&lab.balancer.namespace, node, &body).start();
    daemon.wait_targets("tcp", "unchecked", 2);
    let proxied = SocketAddr::new(to.ip(), PROXIED);
    let refused = |to| {
        // Nothing comes back, so all that can be seen is that it takes too long.
        let error = who(client, Some(*outside), to).expect_err("it is denied");
        assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock), "{error}");
    };
    for to in [to, proxied] {
        who(client, None, to).expect("the client's own prefix is allowed");
        let before = daemon.reason("security_group");
        refused(to);
        assert!(daemon.reason("security_group") > before);
    }

    let mut open = Conversation::open(client, to).expect("it is allowed");
    let deny = rule("In", "Deny", 5, "", own);
    let all = rule("In", "Allow", 10, "", all);
    assert!(daemon.reload(&guarded(service, &(deny + &all + &out))), "{}", daemon.log());
    for to in [to, proxied] {
        who(client, Some(*outside), to).expect("it is allowed now");
        who(client, None, to).expect_err("and this one no more");
    }
    open.exchange(b"still there?").expect("what is open stays open");

    // Without a group that restricts, everything is open.
    assert!(daemon.reload(&service.body()), "{}", daemon.log());
    who(client, None, to).expect("everything is open");
}

#[test]
fn outbound_rules_take_targets_out() {
    let lab = Lab::new(Shape { targets: 2, ..Shape::default() });
    let _servers = servers(&lab);
    let service = Service::of(&lab);
    let all = rule("In", "Allow", 10, "", "0.0.0.0/0");
    let one = rule("Out", "Allow", 1, "", &format!("{}/32", lab.targets[0].address));
    let body = guarded(&service, &(all.clone() + &one));
    let node = alb_tests::daemon::Node::xdp(lab.interfaces());
    let mut daemon = alb_tests::daemon::Instance::new(&lab.balancer.namespace, node, &body).start();
    daemon.wait_targets("tcp", "unchecked", 2);
    let client = &lab.client.namespace;
    let serving = || {
        let answers = tally(client, vip(), 10).expect("every connection served");
        answers.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(serving(), ["t1"]);
    let log = daemon.log();
    assert!(log.contains("outbound rules"), "{log}");
    assert!(daemon.status()["listeners"].to_string().contains("outbound rules"));

    // A restart takes the rules over with the tables.
    daemon.kill();
    assert_eq!(serving(), ["t1"]);
    daemon.restart();
    assert_eq!(serving(), ["t1"]);
    let both = rule("Out", "Allow", 1, "", "198.18.1.0/24");
    assert!(daemon.reload(&guarded(&service, &(all + &both))), "{}", daemon.log());
    wait::until("both targets", wait::LONG, || (serving() == ["t1", "t2"]).then_some(()));
}
