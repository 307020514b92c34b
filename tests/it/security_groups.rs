//! Security groups over real connections, what the proxy serves included.

use std::{io::ErrorKind, net::SocketAddr};

use alb_tests::{
    client::{Conversation, tally, who},
    topology::{Lab, Shape, VIP},
    wait,
};

use crate::setting::{PORT, Service, servers, vip};

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

#[test]
fn rules_decide_who_connects_and_a_change_ends_nothing() {
    let lab = Lab::new(Shape { targets: 2, ..Shape::default() });
    let _servers = servers(&lab);
    let service = Service::of(&lab);
    let outside = lab.add_client_addresses(1)[0];
    let client = &lab.client.namespace;
    let out = rule("Out", "Allow", 1, "", "0.0.0.0/0");
    let inside = rule("In", "Allow", 10, "fromPort: 8080, toPort: 8081,", "198.18.0.0/24");
    let body = guarded(&service, &(inside.clone() + &out));
    let node = alb_tests::daemon::Node::xdp(lab.interfaces());
    let daemon = alb_tests::daemon::Instance::new(&lab.balancer.namespace, node, &body).start();
    daemon.wait_targets("tcp", "unchecked", 2);
    let proxied: SocketAddr = (VIP, PROXIED).into();
    let refused = |to| {
        // Nothing comes back, so all that can be seen is that it takes too long.
        let error = who(client, Some(outside), to).expect_err("it is denied");
        assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock), "{error}");
    };
    for to in [vip(), proxied] {
        who(client, None, to).expect("the client's own prefix is allowed");
        let before = daemon.reason("security_group");
        refused(to);
        assert!(daemon.reason("security_group") > before);
    }

    let mut open = Conversation::open(client, vip()).expect("it is allowed");
    let deny = rule("In", "Deny", 5, "", "198.18.0.100/32");
    let all = rule("In", "Allow", 10, "", "0.0.0.0/0");
    assert!(daemon.reload(&guarded(&service, &(deny + &all + &out))), "{}", daemon.log());
    for to in [vip(), proxied] {
        who(client, Some(outside), to).expect("it is allowed now");
        who(client, None, to).expect_err("and this one no more");
    }
    open.exchange(b"still there?").expect("what is open stays open");

    // Without a group that restricts, everything is open.
    assert!(daemon.reload(&service.body()), "{}", daemon.log());
    who(client, None, vip()).expect("everything is open");
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
