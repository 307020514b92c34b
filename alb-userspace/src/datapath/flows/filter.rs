//! Which flows are meant: by their ends and their state. Pure.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    str::FromStr,
};

use ipnet::IpNet;

use super::flow::{Ends, FlowState};

/// What an end may be: any address of a prefix, any port or one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndFilter {
    /// `None` = any address.
    prefix: Option<IpNet>,
    port: Option<NonZeroU16>,
}

impl EndFilter {
    /// The addresses; `None` = any.
    pub(in crate::datapath) fn prefix(self) -> Option<IpNet> {
        self.prefix
    }

    /// The port; `None` = any.
    pub(in crate::datapath) fn port(self) -> Option<NonZeroU16> {
        self.port
    }

    pub(in crate::datapath) fn takes(self, end: SocketAddr) -> bool {
        self.prefix.is_none_or(|prefix| prefix.contains(&end.ip()))
            && self.port.is_none_or(|port| port.get() == end.port())
    }
}

/// A text is no filter for an end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnEnd {
    /// The part before the port.
    #[error(
        "{0:?} is no address or prefix: write 198.18.0.10, 198.18.0.0/24, 198.18.0.10:80, \
         2001:db8::10, 2001:db8::/64, [2001:db8::10]:80 or :80"
    )]
    Prefix(String),
    /// The part after the last colon.
    #[error("{0:?} is no port: write 1 to 65535")]
    Port(String),
}

impl FromStr for EndFilter {
    type Err = NotAnEnd;

    fn from_str(text: &str) -> Result<Self, NotAnEnd> {
        // An IPv6 address has colons of its own: in brackets if a port is to follow.
        let (prefix, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((prefix, rest))) => {
                let port = rest.strip_prefix(':');
                if port.is_none() && !rest.is_empty() {
                    return Err(NotAnEnd::Prefix(text.to_owned()));
                }
                (prefix, port)
            }
            Some(None) => return Err(NotAnEnd::Prefix(text.to_owned())),
            None if text.matches(':').count() > 1 => (text, None),
            None => match text.split_once(':') {
                Some((prefix, port)) => (prefix, Some(port)),
                None => (text, None),
            },
        };
        let port = port
            .map(|port| port.parse().ok().ok_or_else(|| NotAnEnd::Port(port.to_owned())))
            .transpose()?;
        let prefix = if prefix.is_empty() && port.is_some() {
            None
        } else {
            let address = || prefix.parse::<IpAddr>().ok().map(IpNet::from);
            let found = prefix.parse().ok().or_else(address);
            Some(found.ok_or_else(|| NotAnEnd::Prefix(text.to_owned()))?)
        };
        Ok(Self { prefix, port })
    }
}

/// What a flow must be like: one of each list that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowFilter {
    /// For any of the four ends.
    pub any: Vec<EndFilter>,
    /// For the client.
    pub client: Vec<EndFilter>,
    /// For the VIP.
    pub vip: Vec<EndFilter>,
    /// For the balancer's own end towards the target.
    pub snat: Vec<EndFilter>,
    /// For the target.
    pub target: Vec<EndFilter>,
    /// How far it is.
    pub state: Vec<FlowState>,
    /// VIPs with ports of listeners; `None` = of any. An empty set is that of listeners that the
    /// packet path does not serve.
    pub listener: Option<BTreeSet<SocketAddr>>,
}

impl FlowFilter {
    /// Whether a flow is meant.
    pub fn takes(&self, ends: &Ends, state: FlowState) -> bool {
        self.takes_state(state) && self.takes_ends(ends)
    }

    /// Whether flows in this state are.
    pub(super) fn takes_state(&self, state: FlowState) -> bool {
        self.state.is_empty() || self.state.contains(&state)
    }

    /// Whether flows with these ends are, in some state.
    pub(super) fn takes_ends(&self, ends: &Ends) -> bool {
        let Self { any, client, vip, snat, target, state: _, listener } = self;
        let one = |of: &[EndFilter], end| of.is_empty() || of.iter().any(|of| of.takes(end));
        let all = [ends.client, ends.vip, ends.snat, ends.target];
        (any.is_empty() || all.into_iter().any(|end| one(any, end)))
            && one(client, ends.client)
            && one(vip, ends.vip)
            && one(snat, ends.snat)
            && one(target, ends.target)
            && listener.as_ref().is_none_or(|doors| doors.contains(&ends.vip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> Ends {
        let at = |text: &str| text.parse().unwrap();
        Ends {
            client: at("203.0.113.7:40000"),
            vip: at("198.18.0.10:80"),
            snat: at("198.18.1.2:12345"),
            target: at("198.18.1.21:8080"),
        }
    }

    #[test]
    fn ends_are_taken_by_prefix_and_port() {
        for (text, taken) in [
            ("198.18.0.10", true),
            ("198.18.0.10:80", true),
            (":80", true),
            ("198.18.0.0/24", true),
            ("198.18.0.0/24:80", true),
            ("0.0.0.0/0", true),
            ("198.18.0.11", false),
            ("198.18.1.0/24", false),
            ("198.18.0.10:81", false),
            (":81", false),
        ] {
            let filter: EndFilter = text.parse().unwrap();
            assert_eq!(filter.takes(ends().vip), taken, "{text}");
        }
    }

    #[test]
    fn ipv6_ends_too() {
        let end = "[2001:db8::10]:80".parse().unwrap();
        for (text, taken) in [
            ("2001:db8::10", true),
            ("[2001:db8::10]:80", true),
            ("[2001:db8::]/64", false),
            ("2001:db8::/64", true),
            ("[2001:db8::/64]:80", true),
            ("[2001:db8::/64]:81", false),
            (":80", true),
            ("::/0", true),
            ("0.0.0.0/0", false),
            ("2001:db8::11", false),
        ] {
            let filter = text.parse::<EndFilter>();
            assert_eq!(filter.is_ok_and(|filter| filter.takes(end)), taken, "{text}");
        }
    }

    #[test]
    fn what_is_no_end_is_said() {
        let prefix = |text: &str| NotAnEnd::Prefix(text.to_owned());
        let port = |text: &str| NotAnEnd::Port(text.to_owned());
        for (text, error) in [
            ("", prefix("")),
            ("shop", prefix("shop")),
            ("198.18.0.300", prefix("198.18.0.300")),
            ("198.18.0.0/33", prefix("198.18.0.0/33")),
            (":", port("")),
            (":0", port("0")),
            ("198.18.0.1:65536", port("65536")),
            ("2001:db8::10000", prefix("2001:db8::10000")),
            ("[2001:db8::1", prefix("[2001:db8::1")),
            ("[2001:db8::1]80", prefix("[2001:db8::1]80")),
            ("[2001:db8::1]:x", port("x")),
        ] {
            assert_eq!(text.parse::<EndFilter>(), Err(error), "{text}");
        }
    }

    #[test]
    fn one_of_each_list_must_fit() {
        let end = |text: &str| vec![text.parse::<EndFilter>().unwrap()];
        let door = |text: &str| Some(BTreeSet::from([text.parse().unwrap()]));
        let all = FlowFilter::default;
        let (open, closed) = (vec![FlowState::Established], vec![FlowState::Closed]);
        for (filter, taken) in [
            (all(), true),
            (FlowFilter { any: end(":12345"), ..all() }, true),
            (FlowFilter { any: end(":12346"), ..all() }, false),
            (FlowFilter { any: [end(":1"), end("203.0.113.0/24")].concat(), ..all() }, true),
            (FlowFilter { client: end("203.0.113.0/24"), ..all() }, true),
            (FlowFilter { client: end("198.18.0.0/15"), ..all() }, false),
            (FlowFilter { vip: end(":80"), target: end(":8080"), ..all() }, true),
            (FlowFilter { vip: end(":80"), target: end(":80"), ..all() }, false),
            (FlowFilter { snat: end("198.18.1.2"), ..all() }, true),
            (FlowFilter { snat: end("198.18.1.21"), ..all() }, false),
            (FlowFilter { state: open.clone(), ..all() }, true),
            (FlowFilter { state: closed.clone(), ..all() }, false),
            (FlowFilter { state: [closed, open].concat(), ..all() }, true),
            (FlowFilter { listener: door("198.18.0.10:80"), ..all() }, true),
            (FlowFilter { listener: door("198.18.0.10:443"), ..all() }, false),
            (FlowFilter { listener: Some(BTreeSet::new()), ..all() }, false),
        ] {
            assert_eq!(filter.takes(&ends(), FlowState::Established), taken, "{filter:?}");
        }
    }
}
