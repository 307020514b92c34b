//! Which checks a model asks for: pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    time::Duration,
};

use crate::{
    model::{HealthCheck, HttpCheck, Model},
    state::TargetRef,
};

/// One probe, repeated. Backends that ask the same of the same address share it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Check {
    /// What is connected to: the check port if the backend names one, else the traffic port.
    pub address: SocketAddr,
    /// `None` = a TCP connect is the whole check.
    pub http: Option<HttpCheck>,
    /// A probe that takes longer has failed.
    pub timeout: Duration,
    /// From one probe to the next.
    pub interval: Duration,
    /// Consecutive successes that make an unhealthy target healthy.
    pub rise: u8,
    /// Consecutive failures that make a healthy target unhealthy.
    pub fall: u8,
}

impl Check {
    fn new(settings: &HealthCheck, address: SocketAddr) -> Self {
        let HealthCheck {
            http,
            timeout,
            interval,
            healthy_threshold,
            unhealthy_threshold,
            port: _,
        } = settings;
        Self {
            address,
            http: http.clone(),
            timeout: *timeout,
            interval: *interval,
            rise: *healthy_threshold,
            fall: *unhealthy_threshold,
        }
    }

    /// Where in its interval this check has its place, 0 ≤ phase < 1: always the same for the
    /// same check, spread evenly over many.
    pub fn phase(&self) -> f64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        let top = u32::try_from(hasher.finish() >> 32).unwrap_or(u32::MAX);
        f64::from(top) / (f64::from(u32::MAX) + 1.0)
    }
}

/// Every check, with the targets whose state it decides. Backends with checks closed ask for
/// none, nor do those that no listener and no rule uses.
pub fn plan(model: &Model) -> BTreeMap<Check, BTreeSet<TargetRef>> {
    let mut checks = BTreeMap::<_, BTreeSet<_>>::new();
    for balancer in &model.load_balancers {
        for backend in &balancer.backends {
            let Some(settings) = &backend.health_check else { continue };
            if !balancer.is_bound(backend) {
                continue;
            }
            for target in balancer.targets_of(backend) {
                let port = settings.port.unwrap_or_else(|| target.port_for(backend));
                let check = Check::new(settings, (target.address, port.get()).into());
                checks.entry(check).or_default().insert(TargetRef::new(&backend.id, &target.id));
            }
        }
    }
    checks
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::{Check, plan};
    use crate::{
        model::{HealthCheck, PathPattern, RouteAction, Rule, UrlMap},
        state::fixture::{model, target, tcp_check},
    };

    fn on_port(port: u16) -> HealthCheck {
        HealthCheck { port: NonZeroU16::new(port), ..tcp_check() }
    }

    /// Rows `address: target …` of the plan for these backends over two targets.
    #[track_caller]
    fn check(backends: &[(&str, Option<HealthCheck>)], expected: &[&str]) {
        let targets = [
            target("t1", ([198, 18, 1, 1], 80).into()),
            target("t2", ([198, 18, 1, 2], 80).into()),
        ];
        let rows: Vec<String> = plan(&model(backends, &targets))
            .into_iter()
            .map(|(check, informs)| {
                let informs: Vec<_> =
                    informs.iter().map(|to| format!("{}/{}", to.backend, to.target)).collect();
                format!("{}: {}", check.address, informs.join(" "))
            })
            .collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn each_target_is_checked_on_its_traffic_port() {
        check(&[("b", Some(on_port(0)))], &["198.18.1.1:80: b/t1", "198.18.1.2:80: b/t2"]);
    }

    #[test]
    fn equal_checks_of_several_backends_are_made_once() {
        let shared = ["198.18.1.1:80: a/t1 b/t1", "198.18.1.2:80: a/t2 b/t2"];
        check(&[("a", Some(on_port(0))), ("b", Some(on_port(0)))], &shared);
        check(&[("a", Some(on_port(0))), ("b", Some(on_port(80)))], &shared);
    }

    #[test]
    fn different_settings_are_different_checks() {
        let slow = HealthCheck { healthy_threshold: 1, ..tcp_check() };
        check(
            &[("a", Some(on_port(9))), ("b", Some(slow))],
            &[
                "198.18.1.1:9: a/t1",
                "198.18.1.1:80: b/t1",
                "198.18.1.2:9: a/t2",
                "198.18.1.2:80: b/t2",
            ],
        );
    }

    #[test]
    fn closed_checks_ask_for_nothing() {
        check(&[("a", None)], &[]);
    }

    #[test]
    fn phases_of_a_thousand_targets_fill_the_interval_evenly() {
        let mut tenths = [0_u32; 10];
        for n in 0..1000_u16 {
            let [high, low] = n.to_be_bytes();
            let phase = Check::new(&tcp_check(), ([198, 18, high, low], 80).into()).phase();
            let tenth = (0..10_u32).rev().find(|tenth| phase >= f64::from(*tenth) / 10.0);
            tenths[tenth.unwrap() as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (60..=140).contains(count)), "{tenths:?}");
    }

    #[test]
    fn what_no_listener_and_no_rule_uses_is_not_checked() {
        let targets = [target("t1", ([198, 18, 1, 1], 80).into())];
        let ids = ["idle", "ruled", "copied", "used"];
        let mut model = model(&ids.map(|id| (id, Some(tcp_check()))), &targets);
        let balancer = &mut model.load_balancers[0];
        balancer.listeners.retain(|listener| listener.backend == "used");
        balancer.url_maps.push(UrlMap {
            id: "m".into(),
            name: "m".into(),
            description: String::new(),
            rules: vec![Rule {
                id: "r".into(),
                host: None,
                path: PathPattern::Prefix("/".into()),
                action: RouteAction::Forward {
                    backend: "ruled".into(),
                    rewrite: None,
                    mirror: Some("copied".into()),
                    headers: vec![],
                },
                post_actions: vec![],
            }],
        });
        let informed: Vec<_> = plan(&model).into_values().flatten().map(|to| to.backend).collect();
        assert_eq!(informed, ["copied".into(), "ruled".into(), "used".into()]);
    }
}
