//! A record of the kernel's as one of the access log. Pure but for the clock.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use alb_common::{
    expiry::TICK_SHIFT,
    flow_log::FlowRecord,
    net::{Be16, Be128},
    tcp::FlowFlags,
};

use super::names::{Name, Names};
use crate::{
    datapath::{collect, wide},
    proxy::{
        access_log::{KernelRecord, Record},
        tcp::End,
    },
};

/// One moment by the kernel's coarse clock and by that of the day.
pub(super) struct Clock {
    kernel: u64,
    day: SystemTime,
}

impl Clock {
    pub(super) fn now() -> Self {
        Self { kernel: collect::nanoseconds(), day: SystemTime::now() }
    }

    /// The time of day at a moment of the kernel's clock, which is none to come.
    fn day(&self, at: u64) -> SystemTime {
        let since = Duration::from_nanos(self.kernel.saturating_sub(at));
        self.day.checked_sub(since).unwrap_or(self.day)
    }
}

/// What the access log is told.
pub(super) fn of<'a>(record: &FlowRecord, names: &'a Names, clock: &Clock) -> Record<'a> {
    let end = |addr: Be128, port: Be16| SocketAddr::new(wide::ip(addr), port.host());
    let vip = end(record.vip, record.vip_port);
    let (load_balancer, listener, backend) = match names.at(vip) {
        Some(Name { load_balancer, listener, backend }) => {
            (load_balancer.as_str(), listener.as_str(), backend.as_str())
        }
        None => ("", "", ""),
    };
    Record {
        time: clock.day(record.at),
        load_balancer,
        listener,
        backend,
        client: end(record.client, record.client_port),
        vip,
        target: Some(end(record.target, record.target_port)),
        duration: Duration::from_nanos(u64::from(record.age) << TICK_SHIFT),
        connect_time: None,
        target_time: None,
        bytes_received: record.bytes_in,
        bytes_sent: record.bytes_out,
        error: why(record.state).word(),
        retries: 0,
        http: None,
        tls: None,
        kernel: Some(KernelRecord {
            snat: end(record.snat, record.snat_port),
            packets_received: record.packets_in,
            packets_sent: record.packets_out,
        }),
    }
}

/// Why a connection ended that was in this state by then, in the proxy's words.
fn why(state: u32) -> End {
    let state = FlowFlags(u8::try_from(state & 0xff).unwrap_or_default());
    if state.has(FlowFlags::RST_CLIENT) {
        End::ClientReset
    } else if state.has(FlowFlags::RST_TARGET) {
        End::TargetReset
    } else if state.closed() {
        End::Closed
    } else if state.has(FlowFlags::CUT) {
        End::Drained
    } else {
        End::Idle
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, sync::Arc, time::UNIX_EPOCH};

    use super::*;
    use crate::state::fixture;

    #[test]
    fn every_end_has_the_word_that_the_proxy_has_for_it() {
        use FlowFlags as F;
        let both = F::FIN_CLIENT | F::FIN_TARGET;
        for (state, expected) in [
            (both, End::Closed),
            (both | F::TARGET_FIRST, End::Closed),
            (F::RST_CLIENT, End::ClientReset),
            (F::FIN_CLIENT | F::RST_TARGET, End::TargetReset),
            (F::REVERSE, End::Idle),
            (F::FIN_CLIENT | F::REVERSE, End::Idle),
            (F::CUT | F::REVERSE, End::Drained),
            (F::CUT | F::FIN_TARGET, End::Drained),
        ] {
            assert_eq!(why(state.into()), expected, "{state:#x}");
        }
    }

    #[test]
    fn a_record_is_told_with_the_listener_s_names_and_the_time_of_day() {
        let model = Arc::new(fixture::model(&[("b", None)], &[]));
        let balancer = &model.load_balancers[0];
        let listener = &balancer.listeners[0];
        let mut names = Names::default();
        names.follow(&model);
        let ip = |text: &str| wide::addr(text.parse::<IpAddr>().unwrap());
        let record = FlowRecord {
            at: 5_000_000_000,
            bytes_in: 321,
            bytes_out: 4_567,
            packets_in: 7,
            packets_out: 5,
            client: ip("198.18.0.100"),
            vip: wide::addr(balancer.vips[0]),
            snat: ip("198.18.1.1"),
            target: ip("198.18.1.11"),
            client_port: Be16::new(40_000),
            vip_port: Be16::new(listener.port.get()),
            snat_port: Be16::new(12_345),
            target_port: Be16::new(8080),
            age: 60,
            state: FlowFlags::RST_CLIENT.into(),
            ..FlowRecord::default()
        };
        let day = UNIX_EPOCH + Duration::from_secs(1_000);
        let clock = Clock { kernel: 7_000_000_000, day };
        let told = of(&record, &names, &clock);
        assert_eq!(told.time, UNIX_EPOCH + Duration::from_secs(998));
        assert_eq!(told.duration, Duration::from_nanos(60 << 24));
        assert_eq!(
            (told.load_balancer, told.listener, told.backend),
            (&*balancer.id, &*listener.id, &*listener.backend)
        );
        assert_eq!(told.client.to_string(), "198.18.0.100:40000");
        assert_eq!(told.target.unwrap().to_string(), "198.18.1.11:8080");
        assert_eq!((told.bytes_received, told.bytes_sent), (321, 4_567));
        assert_eq!(told.error, "client_reset");
        let kernel = told.kernel.unwrap();
        assert_eq!(kernel.snat.to_string(), "198.18.1.1:12345");
        assert_eq!((kernel.packets_received, kernel.packets_sent), (7, 5));

        // A connection may outlive its listener.
        names.follow(&Arc::new(fixture::model(&[], &[])));
        assert_eq!(of(&record, &names, &clock).listener, listener.id);
        let elsewhere = FlowRecord { vip_port: Be16::new(9), ..record };
        assert_eq!(of(&elsewhere, &names, &clock).listener, "");
    }
}
