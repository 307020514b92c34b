//! Why a packet was forwarded, passed, reset or dropped.
//!
//! One enum is the verdict of the packet path, the index of its per-CPU counter, the label of
//! the metric and the word in the log.

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Rewritten and sent on.
    Forward,
    /// Left to the host's own network stack, untouched.
    Pass,
    /// Answered with a TCP RST.
    Reset,
    /// Answered with an ICMP message, or with a SYN cookie.
    Reply,
    /// Discarded silently.
    Drop,
}

impl Verdict {
    /// Lower-case name, as in metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Pass => "pass",
            Self::Reset => "reset",
            Self::Reply => "reply",
            Self::Drop => "drop",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $label:literal, $verdict:ident, $help:literal;)+) => {
        /// The one reason a packet, or a flow-table event, is counted under.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Reason {
            $(#[doc = $help] $name,)+
        }

        impl Reason {
            /// Every reason, in counter order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];
            /// How many there are: the length of the counter array.
            pub const COUNT: usize = Self::ALL.len();

            /// Snake-case name: metric label and log word.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }

            /// What happens to a packet counted under it.
            #[inline(always)]
            pub const fn verdict(self) -> Verdict {
                match self { $(Self::$name => Verdict::$verdict,)+ }
            }

            /// One sentence for people.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$name => $help,)+ }
            }
        }
    };
}

reasons! {
    FlowForward = "flow_forward", Forward, "packet of an established flow, client to target";
    FlowReverse = "flow_reverse", Forward, "packet of an established flow, target to client";
    NewFlow = "new_flow", Forward, "SYN that opened a flow";
    HandshakeForward = "handshake_forward", Forward,
        "packet of a half-open flow, client to target, such as a repeated SYN";
    HandshakeReverse = "handshake_reverse", Forward,
        "packet of a half-open flow, target to client, such as the SYN-ACK";
    Promoted = "promoted", Forward, "ACK that completed a handshake";
    FlowTableFull = "flow_table_full", Forward,
        "handshake completed while the flow table was full: the flow stays half-open";

    IcmpForward = "icmp_forward", Forward, "ICMP error about a flow, client to target";
    IcmpReverse = "icmp_reverse", Forward, "ICMP error about a flow, target to client";

    NotIp = "not_ip", Pass, "frame that is neither IPv4 nor IPv6, such as ARP";
    NotOurs = "not_ours", Pass, "destination address is neither a VIP nor a SNAT address";
    OtherStation = "other_station", Pass, "frame to one of our addresses but another station";
    HostTraffic = "host_traffic", Pass, "packet for the host itself";
    Proxied = "proxied", Pass, "packet of a connection that the proxy serves";
    Icmp = "icmp", Pass, "ICMP for the host itself";

    UnknownFlow = "unknown_flow", Reset, "packet of no known flow to a served port";
    NoHealthyTarget = "no_healthy_target", Reset, "SYN to a listener without a healthy target";
    ListenerFull = "listener_full", Reset, "SYN to a listener at its limitation.activeConnections";
    NoListener = "no_listener", Reset, "TCP to a VIP port without a listener";
    FlowCut = "flow_cut", Reset, "packet of a flow whose target has drained, or failed";
    SnatExhausted = "snat_exhausted", Reset, "no free SNAT port towards the chosen target";

    IcmpEcho = "icmp_echo", Reply, "ping to a VIP";
    SynChallenged = "syn_challenged", Reply,
        "SYN answered with a cookie, because too many came to nothing";
    FragNeeded = "frag_needed", Reply,
        "packet of a flow that is larger than the outgoing interface's MTU";

    Truncated = "truncated", Drop, "frame ends within its headers";
    BadIpHeader = "bad_ip_header", Drop, "version or a length in the IP header is wrong";
    BadTcpHeader = "bad_tcp_header", Drop, "TCP data offset is wrong or a port is zero";
    BadTcpFlags = "bad_tcp_flags", Drop, "combination of TCP flags that no stack sends";
    Fragment = "fragment", Drop, "IP fragment";
    ExtensionHeaders = "extension_headers", Drop,
        "IPv6 extension headers that are too long, too many, or route it on";
    BadSource = "bad_source", Drop, "source address that cannot be a client's";
    UnsupportedProtocol = "unsupported_protocol", Drop,
        "protocol other than TCP and ICMP to a VIP";
    TtlExceeded = "ttl_exceeded", Drop, "time to live ended here";
    SecurityGroup = "security_group", Drop, "no security group allows it";
    SynProven = "syn_proven", Drop, "RST that answers a cookie: its client is let in from now on";
    UnexpectedRst = "unexpected_rst", Drop, "RST of no known flow";
    RstLimited = "rst_limited", Drop, "RST not sent: over the rate limit";
    HalfOpenFull = "half_open_full", Drop, "half-open table refused an entry";
    NoNextHop = "no_next_hop", Drop, "link-layer address of the next hop is not known";
    MtuExceeded = "mtu_exceeded", Drop,
        "packet of no flow, or an ICMP error, that is larger than the outgoing interface's MTU";
    BadIcmp = "bad_icmp", Drop, "ICMP error that quotes nothing we can have sent";
    IcmpUnknownFlow = "icmp_unknown_flow", Drop, "ICMP error to a VIP about no known flow";
    IcmpUnsupported = "icmp_unsupported", Drop,
        "ICMP to a VIP that is neither a ping nor an error about a TCP packet";
    IcmpLimited = "icmp_limited", Drop, "ICMP answer not sent: over the rate limit";
    Internal = "internal", Drop, "a map lookup that cannot fail failed: a defect, please report";
}

/// Things that happen to the flow tables, counted after the reasons in the same array. They
/// are not verdicts: a packet that causes one has a reason of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Event {
    /// A half-open flow gave way to a newer one.
    HalfOpenEvicted,
    /// A closed flow was collected by the packet path.
    ClosedReclaimed,
    /// A finished or expired flow's SNAT port was taken over by a new flow.
    PortReclaimed,
    /// Of the SNAT ports that a new flow tried none was left but those that targets hold in TIME-WAIT,
    /// so it took one of them: it may take its client a second SYN to open.
    PortTakenEarly,
    /// A client's link-layer address changed and was followed.
    ClientMoved,
    /// A handshake completed while the flow table was full.
    TableFull,
    /// A flow ended, and there was no room for its record.
    FlowRecordLost,
}

impl Event {
    /// Every event, in counter order.
    pub const ALL: &'static [Self] = &[
        Self::HalfOpenEvicted,
        Self::ClosedReclaimed,
        Self::PortReclaimed,
        Self::PortTakenEarly,
        Self::ClientMoved,
        Self::TableFull,
        Self::FlowRecordLost,
    ];

    /// Snake-case name: metric label and log word.
    pub const fn label(self) -> &'static str {
        match self {
            Self::HalfOpenEvicted => "half_open_evicted",
            Self::ClosedReclaimed => "closed_reclaimed",
            Self::PortReclaimed => "port_reclaimed",
            Self::PortTakenEarly => "port_taken_early",
            Self::ClientMoved => "client_moved",
            Self::TableFull => "table_full",
            Self::FlowRecordLost => "flow_record_lost",
        }
    }

    /// Half a sentence for people.
    pub const fn help(self) -> &'static str {
        match self {
            Self::HalfOpenEvicted => "an older half-open flow gives way",
            Self::ClosedReclaimed => "a closed flow is collected",
            Self::PortReclaimed => "the SNAT port of a finished flow is taken over",
            Self::PortTakenEarly => {
                "no SNAT port is found but those that targets hold in TIME-WAIT: one is taken"
            }
            Self::ClientMoved => "the client's link-layer address is another than before",
            Self::TableFull => "the flow table is full",
            Self::FlowRecordLost => "there is no room for the record of a flow that ends",
        }
    }
}

/// Length of the counter array: reasons, then events.
pub const COUNTERS: usize = Reason::COUNT + Event::ALL.len();

#[cfg(test)]
mod tests {
    extern crate std;
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn index_is_position_and_labels_are_unique() {
        for (position, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, position);
        }
        for (position, event) in Event::ALL.iter().enumerate() {
            assert_eq!(*event as usize, position);
        }
        let labels: BTreeSet<_> = Reason::ALL
            .iter()
            .map(|reason| reason.label())
            .chain(Event::ALL.iter().map(|event| event.label()))
            .collect();
        assert_eq!(labels.len(), COUNTERS);
    }
}
