//! Security groups where the proxy serves everything: who is let in, and which targets it may
//! connect to.

use alb_tests::{
    daemon::{Instance, Node},
    http::Client,
    origin::Origin,
    topology::{CLIENT, Lab},
};

use super::setting::{ORIGIN, Site, client, lab, vip};
use crate::seeing::wait_value;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// The file with these rules for the load balancer.
fn body(lab: &Lab, rules: &[&str]) -> String {
    let mut site = Site::of(lab);
    site.file = format!("securityGroups: [{{ name: g, rules: [{}] }}]\n", rules.join(", "));
    site.balancer.push_str("  securityGroups: [g]\n");
    site.body()
}

fn rule(direction: &str, action: &str, priority: u16, prefix: &str) -> String {
    format!(
        "{{ direction: {direction}, protocol: Tcp, ruleAction: {action}, priority: {priority}, \
         addressPrefix: {prefix} }}"
    )
}

#[test]
fn rules_hold_at_accept_and_towards_targets() {
    let lab = lab(2);
    let origins: Vec<_> =
        lab.targets.iter().map(|host| Origin::answering(host, ORIGIN, "ok")).collect();
    let [one, other] = [0, 1].map(|at: usize| format!("{}/32", lab.targets[at].address));
    let everything = "0.0.0.0/0";
    let (all_in, all_out) =
        (rule("In", "Allow", 100, everything), rule("Out", "Allow", 100, everything));
    let node = Node { datapath: "proxy", ..Node::xdp(lab.interfaces()) };
    let open = body(&lab, &[&all_in, &all_out]);
    let daemon = Instance::new(&lab.balancer.namespace, node, &open).start();
    let mut kept = client(&lab);
    assert_eq!(kept.ask(GET).status, 200);

    // The client's address is denied before all others are let in.
    let client_only = rule("In", "Deny", 10, &format!("{CLIENT}/32"));
    assert!(daemon.reload(&body(&lab, &[&all_in, &client_only, &all_out])), "{}", daemon.log());
    for _ in 0..3 {
        client(&lab).closed();
    }
    let denied = "alb_listener_denied_connections_total";
    wait_value(&lab, denied, &[("listener", "web")], 3);
    // Rules are asked when a connection begins.
    assert_eq!(kept.ask(GET).status, 200);

    // No rule for it is a deny, and at equal priority deny wins.
    let tie = rule("In", "Deny", 100, &format!("{CLIENT}/32"));
    for rules in [vec![&all_out], vec![&all_in, &tie, &all_out]] {
        let rules: Vec<_> = rules.into_iter().map(String::as_str).collect();
        assert!(daemon.reload(&body(&lab, &rules)), "{}", daemon.log());
        client(&lab).closed();
    }

    // One target is out of reach: the other serves everything.
    let not_one = rule("Out", "Deny", 10, &one);
    assert!(daemon.reload(&body(&lab, &[&all_in, &all_out, &not_one])), "{}", daemon.log());
    let before = origins[0].requests();
    let mut talk = Client::connect(&lab.client.namespace, vip());
    for _ in 0..10 {
        assert_eq!(talk.ask(GET).status, 200);
    }
    assert_eq!(origins[0].requests(), before);
    let neither = rule("Out", "Deny", 11, &other);
    let rules = [&*all_in, &all_out, &not_one, &neither];
    assert!(daemon.reload(&body(&lab, &rules)), "{}", daemon.log());
    assert_eq!(talk.ask(GET).status, 503);
}
