//! The rules of the product, one by one; and that a gate says what the list says.

use proptest::prelude::*;

use super::*;

fn rule(text: &str) -> SecurityRule {
    let words: Vec<_> = text.split(' ').collect();
    let [direction, protocol, action, priority, from, to, prefix] = words[..] else {
        panic!("{text}")
    };
    SecurityRule {
        direction: if direction == "in" { Direction::In } else { Direction::Out },
        protocol: match protocol {
            "all" => RuleProtocol::All,
            "tcp" => RuleProtocol::Tcp,
            "udp" => RuleProtocol::Udp,
            _ => RuleProtocol::Icmp,
        },
        action: if action == "allow" { RuleAction::Allow } else { RuleAction::Deny },
        priority: priority.parse().unwrap(),
        ports: (from.parse().unwrap(), to.parse().unwrap()),
        prefix: prefix.parse().unwrap(),
    }
}

fn group(open: bool, rules: Vec<SecurityRule>) -> SecurityGroup {
    let text = String::new;
    let (id, name, vpc, description) = (text(), text(), text(), text());
    SecurityGroup { id, name, vpc, description, rules, open }
}

/// Whether a client or target may pass, asked both ways.
fn passes(rules: &Rules, direction: Direction, peer: &str, port: u16) -> bool {
    let peer = peer.parse().unwrap();
    let decided = rules.decide(direction, RuleProtocol::Tcp, peer, port) == RuleAction::Allow;
    assert_eq!(rules.gate(direction, port).admits(peer), decided, "{peer} {port}");
    decided
}

#[track_caller]
fn check(rules: &[&str], rows: &[(&str, u16, bool)]) {
    let rules = Rules::merge(&[group(false, rules.iter().map(|text| rule(text)).collect())]);
    for (peer, port, expected) in rows {
        assert_eq!(passes(&rules, Direction::In, peer, *port), *expected, "{peer} {port}");
    }
}

#[test]
fn without_a_match_nothing_passes() {
    check(&[], &[("198.18.0.1", 80, false), ("2001:db8::1", 80, false)]);
    check(
        &["in tcp allow 10 80 81 198.18.0.0/15"],
        &[
            ("198.18.0.1", 79, false),
            ("198.18.0.1", 80, true),
            ("198.19.255.255", 81, true),
            ("198.18.0.1", 82, false),
            ("198.20.0.0", 80, false),
            ("198.17.255.255", 80, false),
            ("2001:db8::1", 80, false),
        ],
    );
}

#[test]
fn the_lower_priority_number_decides_and_deny_wins_a_tie() {
    let rows: &[(&[&str], bool)] = &[
        (&["in tcp allow 10 1 9 0.0.0.0/0", "in tcp deny 20 1 9 198.18.0.1/32"], true),
        (&["in tcp allow 20 1 9 198.18.0.1/32", "in tcp deny 10 1 9 0.0.0.0/0"], false),
        (&["in tcp allow 10 1 9 198.18.0.1/32", "in tcp deny 10 1 9 0.0.0.0/0"], false),
        (&["in tcp deny 10 1 9 0.0.0.0/0", "in tcp allow 10 1 9 198.18.0.1/32"], false),
        (&["in all deny 10 0 65535 0.0.0.0/0", "in tcp allow 9 1 9 198.18.0.0/24"], true),
    ];
    for (rules, passes) in rows {
        check(rules, &[("198.18.0.1", 5, *passes)]);
    }
}

#[test]
fn direction_protocol_and_family_are_each_their_own() {
    check(&["out tcp allow 1 1 65535 0.0.0.0/0"], &[("198.18.0.1", 80, false)]);
    check(&["in udp allow 1 1 65535 0.0.0.0/0"], &[("198.18.0.1", 80, false)]);
    check(&["in icmp allow 1 0 65535 0.0.0.0/0"], &[("198.18.0.1", 80, false)]);
    check(
        &["in all allow 1 0 65535 ::/0"],
        &[("198.18.0.1", 80, false), ("2001:db8::1", 80, true)],
    );
    // A socket for both families shows IPv4 so.
    check(&["in tcp allow 1 80 80 198.18.0.1/32"], &[("::ffff:198.18.0.1", 80, true)]);
    let rules = Rules::merge(&[group(false, vec![rule("in icmp allow 1 0 65535 0.0.0.0/0")])]);
    let icmp =
        |peer: &str| rules.decide(Direction::In, RuleProtocol::Icmp, peer.parse().unwrap(), 0);
    assert_eq!((icmp("198.18.0.1"), icmp("::1")), (RuleAction::Allow, RuleAction::Deny));
}

#[test]
fn groups_are_one_list_and_an_open_one_allows_the_rest() {
    let deny = group(false, vec![rule("in tcp deny 5 22 22 0.0.0.0/0")]);
    let allow = group(false, vec![rule("in tcp allow 4 22 22 198.18.0.9/32")]);
    let open = group(true, Vec::new());
    let together = Rules::merge([&deny, &open, &allow]);
    for (peer, port, expected) in
        [("198.18.0.1", 22, false), ("198.18.0.9", 22, true), ("198.18.0.1", 80, true)]
    {
        assert_eq!(passes(&together, Direction::In, peer, port), expected, "{peer} {port}");
    }
    assert!(passes(&together, Direction::Out, "2001:db8::1", 22));
    assert!(!together.is_open() && together.gate(Direction::In, 80).is_open());
    let (open, nothing) = (Rules::merge([&open]), Rules::merge([]));
    assert!(open.is_open() && open.gate(Direction::Out, 1).is_open());
    assert!(!nothing.is_open() && !nothing.gate(Direction::In, 1).is_open());
}

#[test]
fn the_ends_of_the_address_space() {
    let all = "in tcp allow 9 1 9";
    check(
        &[&format!("{all} 255.255.255.255/32"), &format!("{all} 0.0.0.0/32")],
        &[
            ("0.0.0.0", 1, true),
            ("0.0.0.1", 1, false),
            ("255.255.255.255", 1, true),
            ("255.255.255.254", 1, false),
        ],
    );
    let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    check(&[&format!("{all} {last}/128")], &[(last, 1, true), ("::", 1, false)]);
}

/// Few addresses and ports, so that rules meet.
fn rules() -> impl Strategy<Value = Vec<SecurityRule>> {
    let one = (any::<bool>(), 0_u8..4, any::<bool>(), 1_u16..5, 0_u16..4, 0_u16..3, any::<bool>());
    let prefix = (any::<u8>(), 24_u8..=32, 120_u8..=128);
    let rule = (one, prefix).prop_map(|((way, proto, allow, priority, from, more, v4), to)| {
        let (last, short, long) = to;
        let net = if v4 {
            format!("198.18.0.{last}/{short}")
        } else {
            format!("2001:db8::{last:x}/{long}")
        };
        SecurityRule {
            direction: if way { Direction::In } else { Direction::Out },
            protocol: [RuleProtocol::All, RuleProtocol::Tcp, RuleProtocol::Udp, RuleProtocol::Icmp]
                [usize::from(proto)],
            action: if allow { RuleAction::Allow } else { RuleAction::Deny },
            priority,
            ports: (from, from + more),
            prefix: net.parse().unwrap(),
        }
    });
    proptest::collection::vec(rule, 0..24)
}

proptest! {
    #[test]
    fn a_gate_says_what_the_list_says(rules in rules(), open: bool, port in 0_u16..6) {
        let rules = Rules::merge(&[group(open, rules)]);
        for direction in [Direction::In, Direction::Out] {
            let gate = rules.gate(direction, port);
            for last in 0..=255_u8 {
                for peer in [IpAddr::from([198, 18, 0, last]), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()])] {
                    let decided = rules.decide(direction, RuleProtocol::Tcp, peer, port);
                    prop_assert_eq!(gate.admits(peer), decided == RuleAction::Allow, "{}", peer);
                }
            }
            for far in ["0.0.0.0", "255.255.255.255", "::", "ffff::"] {
                let peer = far.parse().unwrap();
                let decided = rules.decide(direction, RuleProtocol::Tcp, peer, port);
                prop_assert_eq!(gate.admits(peer), decided == RuleAction::Allow, "{}", peer);
            }
        }
    }
}
