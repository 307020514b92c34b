//! One flow as it is told: who speaks to whom, how far it is, how much went through. Pure: from
//! the entries of the flow tables.

use std::{fmt, net::SocketAddr, str::FromStr, time::Duration};

use alb_common::{
    expiry::TICK_SHIFT,
    flow::age,
    tcp::{Direction, FlowFlags},
};
use serde::{Serialize, Serializer};

use crate::datapath::wide::{FlowEntry, FlowKey, end as at};

/// The four ends of a flow: the client's connection to the VIP, and the balancer's to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    /// Where the client's packets come from.
    pub client: SocketAddr,
    /// Where they go to.
    pub vip: SocketAddr,
    /// Where the target sees them come from.
    pub snat: SocketAddr,
    /// Who gets them.
    pub target: SocketAddr,
}

impl Ends {
    /// Those of the flow that an entry of either direction is of.
    pub fn of(key: &FlowKey, entry: &FlowEntry) -> Self {
        let came = [at(key.src, key.sport), at(key.dst, key.dport)];
        let goes = [at(entry.src, entry.sport), at(entry.dst, entry.dport)];
        match (entry.flags.direction(), came, goes) {
            (Direction::Forward, [client, vip], [snat, target])
            | (Direction::Reverse, [target, snat], [vip, client]) => {
                Self { client, vip, snat, target }
            }
        }
    }
}

/// How far a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowState {
    /// The handshake is under way.
    HalfOpen,
    /// Open in both directions.
    Established,
    /// One side has sent its FIN.
    Closing,
    /// Both sides have; kept for repeated packets and for the port's sake.
    Closed,
    /// A side has sent a RST; kept for a while.
    Reset,
}

impl FlowState {
    /// Every state, in the order of a connection's life.
    pub const ALL: [Self; 5] =
        [Self::HalfOpen, Self::Established, Self::Closing, Self::Closed, Self::Reset];

    /// Lower-case word, as in JSON and tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::HalfOpen => "half-open",
            Self::Established => "established",
            Self::Closing => "closing",
            Self::Closed => "closed",
            Self::Reset => "reset",
        }
    }

    /// Nothing but repeated packets is to follow.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Closed | Self::Reset)
    }

    /// Of an entry of the established table.
    fn of(flags: FlowFlags) -> Self {
        if flags.has(FlowFlags::RST) {
            Self::Reset
        } else if flags.closed() {
            Self::Closed
        } else if flags.has(FlowFlags::FIN_CLIENT | FlowFlags::FIN_TARGET) {
            Self::Closing
        } else {
            Self::Established
        }
    }
}

impl fmt::Display for FlowState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// No state is called so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no state {0}: there are half-open, established, closing, closed and reset")]
pub struct NoSuchState(String);

impl FromStr for FlowState {
    type Err = NoSuchState;

    fn from_str(word: &str) -> Result<Self, NoSuchState> {
        let found = Self::ALL.into_iter().find(|state| state.label() == word);
        found.ok_or_else(|| NoSuchState(word.to_owned()))
    }
}

/// Which of the two tables an entry is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// `HALF_OPEN`.
    Opening,
    /// `FLOWS`.
    Open,
}

impl Stage {
    /// The state of an entry in this table.
    pub(super) fn state(self, entry: &FlowEntry) -> FlowState {
        match self {
            Self::Opening => FlowState::HalfOpen,
            Self::Open => FlowState::of(entry.flags),
        }
    }

    /// When the flow of a forward entry in this table was established, for [`old`].
    pub(super) fn begun(self, forward: &FlowEntry) -> Option<u32> {
        (self == Self::Open).then(|| forward.begun())
    }

    /// What an entry in this table counts: a half-open or closed one keeps sequence numbers in
    /// the counters' place.
    pub(super) fn count(self, entry: &FlowEntry) -> Option<Count> {
        let counts = self == Self::Open && !entry.flags.closed();
        counts.then_some(Count { packets: entry.packets, bytes: entry.bytes })
    }
}

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets, modulo 2³².
    pub packets: u32,
    /// Bytes of IP.
    pub bytes: u64,
}

/// One flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who speaks to whom.
    pub ends: Ends,
    /// How far it is.
    pub state: FlowState,
    /// Since the last packet of either side; a multiple of 16.8 ms.
    pub idle: Duration,
    /// Since it was established, modulo 78 hours; a multiple of 16.8 ms. `None` = it is half-open.
    pub age: Option<Duration>,
    /// From the client; `None` = not known.
    pub incoming: Option<Count>,
    /// To the client; `None` = not known.
    pub outgoing: Option<Count>,
}

impl Flow {
    /// From its forward entry and, if that could be read too, the reverse one; `now` is the
    /// packet path's clock.
    pub(super) fn of(
        stage: Stage,
        key: &FlowKey,
        forward: &FlowEntry,
        reverse: Option<&FlowEntry>,
        now: u32,
    ) -> Self {
        let last = reverse.map_or(forward.last, |reverse| later(forward.last, reverse.last));
        Self {
            ends: Ends::of(key, forward),
            state: stage.state(forward),
            idle: since(last, now),
            age: stage.begun(forward).map(|begun| old(begun, now)),
            incoming: stage.count(forward),
            outgoing: reverse.and_then(|reverse| stage.count(reverse)),
        }
    }
}

/// The later of two ticks; they wrap.
pub(super) fn later(a: u32, b: u32) -> u32 {
    if a.wrapping_sub(b).cast_signed() >= 0 { a } else { b }
}

/// How old a flow is that began then.
pub(super) fn old(begun: u32, now: u32) -> Duration {
    Duration::from_nanos(u64::from(age(begun, now)) << TICK_SHIFT)
}

/// Time from one tick to another. One that is a little ahead, as another CPU may have written it,
/// is now.
pub(super) fn since(then: u32, now: u32) -> Duration {
    let ticks = now.wrapping_sub(then).cast_signed().max(0).cast_unsigned();
    Duration::from_nanos(u64::from(ticks) << TICK_SHIFT)
}

impl Serialize for Flow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Plain {
            client: SocketAddr,
            vip: SocketAddr,
            snat: SocketAddr,
            target: SocketAddr,
            state: &'static str,
            age_seconds: Option<f64>,
            idle_seconds: f64,
            packets_in: Option<u32>,
            bytes_in: Option<u64>,
            packets_out: Option<u32>,
            bytes_out: Option<u64>,
        }
        let Self { ends, state, idle, age, incoming, outgoing } = *self;
        let Ends { client, vip, snat, target } = ends;
        // To the millisecond, so that no digits are written that are not known.
        let seconds = |time: Duration| (time.as_secs_f64() * 1_000.0).round() / 1_000.0;
        Plain {
            client,
            vip,
            snat,
            target,
            state: state.label(),
            age_seconds: age.map(seconds),
            idle_seconds: seconds(idle),
            packets_in: incoming.map(|count| count.packets),
            bytes_in: incoming.map(|count| count.bytes),
            packets_out: outgoing.map(|count| count.packets),
            bytes_out: outgoing.map(|count| count.bytes),
        }
        .serialize(serializer)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::datapath::wide::between;

    fn ends() -> Ends {
        let at = |host: u8, port| SocketAddr::from(([198, 18, 0, host], port));
        Ends { client: at(100, 40_000), vip: at(10, 80), snat: at(2, 12_345), target: at(21, 8080) }
    }

    /// Keys and entries of a flow with these ends, in these states: forward, then reverse.
    pub(in super::super) fn entries(
        ends: &Ends,
        flags: u8,
        last: u32,
    ) -> [(FlowKey, FlowEntry); 2] {
        let Ends { client, vip, snat, target } = *ends;
        let entry = |to: FlowKey, flags, packets| FlowEntry {
            src: to.src,
            dst: to.dst,
            sport: to.sport,
            dport: to.dport,
            flags: FlowFlags(flags),
            last,
            packets,
            bytes: 100 * u64::from(packets),
            ..FlowEntry::default()
        };
        [
            (between(client, vip), entry(between(snat, target), flags, 7)),
            (between(target, snat), entry(between(vip, client), flags | FlowFlags::REVERSE, 5)),
        ]
    }

    #[test]
    fn both_directions_tell_the_same_ends() {
        let at = |text: &str| text.parse().unwrap();
        let ipv6 = Ends {
            client: at("[2001:db8::64]:40000"),
            vip: at("[2001:db8::a]:80"),
            snat: at("[2001:db8:1::2]:12345"),
            target: at("[2001:db8:1::15]:8080"),
        };
        for ends in [ends(), ipv6] {
            for (key, entry) in entries(&ends, 0, 0) {
                assert_eq!(Ends::of(&key, &entry), ends);
            }
        }
    }

    #[test]
    fn states_and_counters_follow_the_flags() {
        use FlowFlags as F;
        let both = F::FIN_CLIENT | F::FIN_TARGET;
        for (stage, flags, state, counts) in [
            (Stage::Opening, 0, FlowState::HalfOpen, false),
            (Stage::Opening, F::SYN_ACK, FlowState::HalfOpen, false),
            (Stage::Opening, F::DONE, FlowState::HalfOpen, false),
            (Stage::Open, 0, FlowState::Established, true),
            (Stage::Open, F::CUT, FlowState::Established, true),
            (Stage::Open, F::FIN_CLIENT, FlowState::Closing, true),
            (Stage::Open, F::FIN_TARGET | F::TARGET_FIRST, FlowState::Closing, true),
            (Stage::Open, both, FlowState::Closed, false),
            (Stage::Open, both | F::DONE, FlowState::Closed, false),
            (Stage::Open, F::RST_TARGET, FlowState::Reset, false),
            (Stage::Open, both | F::RST_CLIENT, FlowState::Reset, false),
        ] {
            let [(key, forward), (_, reverse)] = entries(&ends(), flags, 0);
            let flow = Flow::of(stage, &key, &forward, Some(&reverse), 0);
            assert_eq!(flow.state, state, "{stage:?} {flags:#x}");
            let count = |packets| Count { packets, bytes: 100 * u64::from(packets) };
            let expected = counts.then(|| (count(7), count(5)));
            assert_eq!(flow.incoming.zip(flow.outgoing), expected, "{stage:?} {flags:#x}");
        }
    }

    #[test]
    fn a_flow_is_idle_since_the_later_of_both_last_packets() {
        const TICK: Duration = Duration::from_nanos(1 << TICK_SHIFT);
        for (forward, reverse, now, ticks) in [
            (10, 7, 15, 5),
            (7, 10, 15, 5),
            (u32::MAX, 2, 4, 2), // wrapped
            (16, 3, 15, 0),      // ahead
        ] {
            let [(key, mut entry), (_, mut other)] = entries(&ends(), 0, 0);
            (entry.last, other.last) = (forward, reverse);
            let flow = Flow::of(Stage::Open, &key, &entry, Some(&other), now);
            assert_eq!(flow.idle, TICK * ticks, "{forward} {reverse} {now}");
        }
        let [(key, mut entry), _] = entries(&ends(), 0, 0);
        entry.last = 10;
        let flow = Flow::of(Stage::Open, &key, &entry, None, 15);
        assert_eq!((flow.idle, flow.outgoing), (TICK * 5, None));
    }

    #[test]
    fn a_flow_is_as_old_as_its_handshake() {
        let [(key, mut forward), _] = entries(&ends(), 0, 90);
        forward.begin(40);
        let age = |stage| Flow::of(stage, &key, &forward, None, 100).age;
        assert_eq!(age(Stage::Open), Some(Duration::from_nanos(60 << TICK_SHIFT)));
        assert_eq!(age(Stage::Opening), None);
    }

    #[test]
    fn json_has_null_for_what_is_not_known() {
        let [(key, forward), _] = entries(&ends(), 0, 0);
        let flow = Flow::of(Stage::Open, &key, &forward, None, 100);
        let expected = serde_json::json!({
            "client": "198.18.0.100:40000", "vip": "198.18.0.10:80",
            "snat": "198.18.0.2:12345", "target": "198.18.0.21:8080",
            "state": "established", "ageSeconds": 1.678, "idleSeconds": 1.678,
            "packetsIn": 7, "bytesIn": 700, "packetsOut": null, "bytesOut": null,
        });
        assert_eq!(serde_json::to_value(flow).unwrap(), expected);
    }

    #[test]
    fn states_are_read_as_they_are_written() {
        for state in FlowState::ALL {
            assert_eq!(state.to_string().parse(), Ok(state));
        }
        assert_eq!("open".parse::<FlowState>(), Err(NoSuchState("open".to_owned())));
    }
}
