//! What security groups let through: the rules of a load balancer's groups in the order they
//! count, and their verdict on one connection. Pure. Whoever enforces them in another form (a
//! kernel table) must come to the same verdicts.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;

use crate::model::{
    Direction, LoadBalancer, Model, RuleAction, RuleProtocol, SecurityGroup, SecurityRule,
};

/// The rules of several groups as one list: the lowest priority number decides, at equal
/// priority deny wins, and no rule matching is a deny. A group that is `open` allows what no
/// rule of another group speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// First match decides.
    ordered: Vec<SecurityRule>,
    /// What becomes of what none matches.
    open: bool,
}

impl Rules {
    /// Of the groups that filter a load balancer.
    pub fn of(model: &Model, balancer: &LoadBalancer) -> Self {
        Self::merge(balancer.security_groups.iter().filter_map(|id| model.security_group(id)))
    }

    /// Of these groups together.
    pub fn merge<'g>(groups: impl IntoIterator<Item = &'g SecurityGroup>) -> Self {
        let mut rules = Self::default();
        for group in groups {
            rules.open |= group.open;
            rules.ordered.extend_from_slice(&group.rules);
        }
        rules.ordered.sort_by_key(|rule| (rule.priority, rule.action == RuleAction::Allow));
        rules
    }

    /// Everything passes: there is nothing to ask.
    pub fn is_open(&self) -> bool {
        self.open && self.ordered.iter().all(|rule| rule.action == RuleAction::Allow)
    }

    /// The verdict on a packet that begins something. `peer` is the client for `In`, the target
    /// for `Out`; `port` is the destination's, 0 where the protocol has none. `protocol` is one,
    /// not `All`.
    pub fn decide(
        &self,
        direction: Direction,
        protocol: RuleProtocol,
        peer: IpAddr,
        port: u16,
    ) -> RuleAction {
        let peer = peer.to_canonical();
        self.about(direction, protocol, port)
            .find(|rule| rule.prefix.contains(&peer))
            .map_or(self.otherwise(), |rule| rule.action)
    }

    /// Made ready for many questions about TCP to one port: the cost of one grows with the
    /// logarithm of the number of rules.
    pub fn gate(&self, direction: Direction, port: u16) -> Gate {
        let rules = || self.about(direction, RuleProtocol::Tcp, port);
        let bounds = |prefix: &IpNet| (number(prefix.network()), number(prefix.broadcast()));
        let of = |v4: bool| {
            let ranges = rules()
                .filter(|rule| matches!(rule.prefix, IpNet::V4(_)) == v4)
                .map(|rule| (bounds(&rule.prefix), rule.action));
            steps(&ranges.collect::<Vec<_>>(), self.otherwise())
        };
        Gate { v4: of(true), v6: of(false) }
    }

    /// The rules in the order they count: the first that matches decides.
    pub fn ordered(&self) -> &[SecurityRule] {
        &self.ordered
    }

    fn about(
        &self,
        direction: Direction,
        protocol: RuleProtocol,
        port: u16,
    ) -> impl Iterator<Item = &SecurityRule> {
        self.ordered.iter().filter(move |rule| {
            rule.direction == direction
                && (rule.protocol == protocol || rule.protocol == RuleProtocol::All)
                && (rule.ports.0..=rule.ports.1).contains(&port)
        })
    }

    /// The verdict on what no rule is about.
    pub fn otherwise(&self) -> RuleAction {
        if self.open { RuleAction::Allow } else { RuleAction::Deny }
    }
}

/// The verdicts on TCP in one direction to one port, by the peer's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    v4: Vec<Step>,
    v6: Vec<Step>,
}

/// From this address on; ascending, the first is 0.
type Step = (u128, RuleAction);

impl Gate {
    /// Whether a peer may pass.
    pub fn admits(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        let steps = if peer.is_ipv4() { &self.v4 } else { &self.v6 };
        let at = number(peer);
        let after = steps.partition_point(|(from, _)| *from <= at);
        let verdict = after.checked_sub(1).and_then(|before| steps.get(before));
        verdict.is_some_and(|(_, action)| *action == RuleAction::Allow)
    }

    /// Whether everybody may pass.
    pub fn is_open(&self) -> bool {
        [&self.v4, &self.v6].iter().all(|steps| matches!(steps[..], [(0, RuleAction::Allow)]))
    }
}

/// Cuts the address space where the verdict changes. Of ranges that overlap the first decides.
fn steps(ranges: &[((u128, u128), RuleAction)], otherwise: RuleAction) -> Vec<Step> {
    // Where a range begins, and where it is over; the latter only if something comes after it.
    let mut edges: Vec<(u128, usize, bool)> = Vec::with_capacity(ranges.len() * 2);
    for (rank, ((first, last), _)) in ranges.iter().enumerate() {
        edges.push((*first, rank, true));
        edges.extend(last.checked_add(1).map(|after| (after, rank, false)));
    }
    edges.sort_unstable();
    let mut covering = BTreeSet::new();
    let mut steps: Vec<Step> = vec![(0, otherwise)];
    for (index, (at, rank, begins)) in edges.iter().enumerate() {
        if *begins {
            covering.insert(*rank);
        } else {
            covering.remove(rank);
        }
        if edges.get(index + 1).is_some_and(|(next, ..)| next == at) {
            continue;
        }
        let verdict = covering.first().map_or(otherwise, |rank| ranges[*rank].1);
        match steps.last_mut() {
            Some((from, last)) if from == at => *last = verdict,
            Some((_, last)) if *last == verdict => {}
            _ => steps.push((*at, verdict)),
        }
    }
    steps.dedup_by_key(|(_, verdict)| *verdict);
    steps
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

#[cfg(test)]
mod tests;
