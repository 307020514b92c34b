//! Whatever changes, tables that go on from what was compiled before are those compiled anew.

use std::{fmt::Write as _, path::Path, time::SystemTime};

use alb_common::net::Mac;
use proptest::prelude::*;

use super::*;
use crate::{
    config,
    datapath::{
        collect::Sweep,
        contents::{Contents, Installed},
        shape::Room,
    },
    model::Model,
    net::NextHopTable,
    state::{Store, TargetStates, Transition},
};

const BALANCERS: usize = 3;
const LISTENERS: usize = 2;
const TARGETS: usize = 3;

/// What happens between two compilations.
#[derive(Clone, Debug)]
enum Step {
    Weight { of: [usize; 3], weight: u8 },
    Health { of: [usize; 3], healthy: bool },
    Target { of: [usize; 3], there: bool },
    Listener { of: [usize; 2], on: bool },
    Proxy { of: [usize; 2], proxied: bool },
    Balancer { of: usize, there: bool },
    Vip { of: usize, last: u8 },
    Restricted { of: usize, restricted: bool },
    Way { host: usize, mac: Option<u8> },
    Source(u8),
    Interface(u32),
    Snat(bool),
    Collected,
    Nothing,
}

fn steps() -> impl Strategy<Value = Step> {
    let target = || [0..BALANCERS, 0..LISTENERS, 0..TARGETS];
    let listener = || [0..BALANCERS, 0..LISTENERS];
    let one = || 0..BALANCERS;
    prop_oneof![
        (target(), 0_u8..3).prop_map(|(of, weight)| Step::Weight { of, weight: weight * 10 }),
        (target(), any::<bool>()).prop_map(|(of, healthy)| Step::Health { of, healthy }),
        (target(), any::<bool>()).prop_map(|(of, there)| Step::Target { of, there }),
        (listener(), any::<bool>()).prop_map(|(of, on)| Step::Listener { of, on }),
        (listener(), any::<bool>()).prop_map(|(of, proxied)| Step::Proxy { of, proxied }),
        (one(), any::<bool>()).prop_map(|(of, there)| Step::Balancer { of, there }),
        (one(), 10_u8..12).prop_map(|(of, last)| Step::Vip { of, last }),
        (one(), any::<bool>()).prop_map(|(of, restricted)| Step::Restricted { of, restricted }),
        (0..TARGETS, prop::option::of(0_u8..2)).prop_map(|(host, mac)| Step::Way { host, mac }),
        (1_u8..3).prop_map(Step::Source),
        (4_u32..6).prop_map(Step::Interface),
        any::<bool>().prop_map(Step::Snat),
        Just(Step::Collected),
        Just(Step::Nothing),
    ]
}

/// Load balancers whose backends all use the same hosts, on ports of their own.
fn model() -> Model {
    let mut text = "node: { interfaces: [eth0] }\n\
        subnets: [{ name: front, addressPrefix: 198.18.0.0/24 }]\n\
        securityGroups: [{ name: tight, rules: [\
        { direction: In, protocol: Tcp, ruleAction: Allow, priority: 1, fromPort: 80, toPort: 81, addressPrefix: 0.0.0.0/0 },\
        { direction: Out, protocol: Tcp, ruleAction: Allow, priority: 1, fromPort: 1, toPort: 65535, addressPrefix: 198.18.1.1/32 }] }]\n\
        loadBalancers:\n"
        .to_owned();
    for balancer in 0..BALANCERS {
        let list = |line: &dyn Fn(usize) -> String| {
            (0..LISTENERS).map(line).collect::<Vec<_>>().join(", ")
        };
        let groups = list(&|listener| {
            let port = 1_000 + 10 * balancer + listener;
            let targets = (1..=TARGETS)
                .map(|host| format!("{{ ipAddress: 198.18.1.{host}, port: {port}, weight: 10 }}"));
            let targets = targets.collect::<Vec<_>>().join(", ");
            format!("{{ name: g{listener}, type: ip, targets: [{targets}] }}")
        });
        let backends = list(&|listener| {
            format!(
                "{{ name: b{listener}, protocol: Tcp, port: 80, targetGroup: g{listener}, \
                 slowStartSeconds: {}, healthCheck: {{ protocol: Tcp }} }}",
                30 * listener
            )
        });
        let listeners = list(&|listener| {
            format!(
                "{{ name: l{listener}, protocol: Tcp, port: {}, backend: b{listener} }}",
                80 + listener
            )
        });
        writeln!(
            text,
            "- {{ name: lb{balancer}, subnet: front, privateIpAddress: 198.18.0.{}, \
             targetGroups: [{groups}], backends: [{backends}], listeners: [{listeners}] }}",
            20 + balancer
        )
        .unwrap();
    }
    config::parse(&text, Path::new("/")).unwrap_or_else(|error| panic!("{error}")).model
}

fn network() -> Network {
    let mac = Mac::new([2, 0, 0, 0, 0, 9]);
    let interface = InterfaceEntry { ifindex: 4, mac, mtu: 1_500, flags: 0 };
    let source = IpAddr::from([198, 18, 1, 100]);
    let hop = NextHop { interface: 4, gateway: None, source, mac: Some([2, 0, 0, 0, 1, 1]) };
    let hops = (1..=TARGETS).map(|host| (address(host - 1), hop)).collect();
    Network {
        interfaces: [(0, interface)].into(),
        hops: Arc::new(NextHopTable { hops, route_generation: 1 }),
        room: Room::new(1_024, false),
        cpus: 2,
        syn_key: [1, 2, 3, 4],
        now: 1_000,
        time: SystemTime::now(),
    }
}

fn address(host: usize) -> IpAddr {
    [198, 18, 1, u8::try_from(host + 1).unwrap()].into()
}

/// Everything that steps change.
struct World {
    /// With every load balancer and target that there can be.
    all: Model,
    /// Which of them are there.
    balancers: [bool; BALANCERS],
    targets: [[[bool; TARGETS]; LISTENERS]; BALANCERS],
    network: Network,
    store: Store,
}

impl World {
    fn new() -> Self {
        let all = model();
        Self {
            store: Store::new(all.clone(), &TargetStates::default()),
            all,
            balancers: [true; BALANCERS],
            targets: [[[true; TARGETS]; LISTENERS]; BALANCERS],
            network: network(),
        }
    }

    fn step(&mut self, step: &Step) {
        let balancers = &mut self.all.load_balancers;
        match *step {
            Step::Weight { of: [balancer, listener, target], weight } => {
                balancers[balancer].target_groups[listener].targets[target].weight = weight;
            }
            Step::Health { of: [balancer, listener, target], healthy } => {
                let backend = &balancers[balancer].backends[listener].id;
                let group = &balancers[balancer].target_groups[listener];
                let target = TargetRef::new(backend, &group.targets[target].id);
                let states = Arc::clone(&self.store.snapshot().targets);
                let known = states.get(&target.backend, &target.target);
                let Some(revision) = known.map(|state| state.revision) else { return };
                let health = if healthy { Health::Healthy } else { Health::Unhealthy };
                self.store.report(vec![Transition { target, revision, health, reason: None }]);
            }
            Step::Target { of: [balancer, listener, target], there } => {
                self.targets[balancer][listener][target] = there;
            }
            Step::Listener { of: [balancer, listener], on } => {
                balancers[balancer].listeners[listener].enabled = on;
            }
            Step::Proxy { of: [balancer, listener], proxied } => {
                balancers[balancer].backends[listener].proxy_protocol = proxied;
            }
            Step::Balancer { of, there } => self.balancers[of] = there,
            // One of them on another's old address, now and then.
            Step::Vip { of, last } => balancers[of].vips = vec![[198, 18, 0, last].into()],
            Step::Restricted { of, restricted } => {
                let group = self.all.security_groups.iter().find(|of| of.open != restricted);
                balancers[of].security_groups = vec![group.unwrap().id.clone()];
            }
            Step::Way { host, mac } => self.reroute(|hops| match mac {
                Some(mac) => {
                    let hop = network().hops.hops[&address(host)];
                    let mac = Some([2, 0, 0, 0, 1, mac]);
                    hops.insert(address(host), NextHop { mac, ..hop });
                }
                None => {
                    hops.remove(&address(host));
                }
            }),
            Step::Source(last) => self.reroute(|hops| {
                for hop in hops.values_mut() {
                    hop.source = [198, 18, 1, 200 + last].into();
                }
            }),
            Step::Interface(ifindex) => {
                self.network.interfaces.values_mut().for_each(|entry| entry.ifindex = ifindex);
            }
            Step::Snat(named) => {
                let addresses = [IpAddr::from([198, 18, 1, 150])];
                self.all.node.snat.addresses = addresses.into_iter().filter(|_| named).collect();
            }
            Step::Collected | Step::Nothing => {}
        }
        self.network.now += 100;
        self.store.apply(self.model());
    }

    fn reroute(&mut self, change: impl FnOnce(&mut BTreeMap<IpAddr, NextHop>)) {
        let mut table = NextHopTable::clone(&self.network.hops);
        change(&mut table.hops);
        self.network.hops = Arc::new(table);
    }

    fn model(&self) -> Model {
        let mut model = self.all.clone();
        for (balancer, there) in model.load_balancers.iter_mut().zip(&self.targets) {
            if there.iter().flatten().all(|there| *there) {
                continue;
            }
            for (group, there) in balancer.target_groups.iter_mut().zip(there) {
                let mut there = there.iter();
                group.targets.retain(|_| there.next() == Some(&true));
            }
        }
        let mut there = self.balancers.iter();
        model.load_balancers.retain(|_| there.next() == Some(&true));
        model
    }
}

/// What there is to be seen of a compiler.
fn seen(compiler: &Compiler, model: &Model) -> String {
    let draining: Vec<_> = compiler.draining().collect();
    format!(
        "{draining:?} {:?} {:?} {:?} {:?}",
        compiler.in_use(),
        compiler.refused(),
        compiler.cuts(),
        compiler.addresses(model)
    )
}

proptest! {
    #[test]
    fn what_goes_on_is_what_begins_anew(steps in prop::collection::vec(steps(), 1..30)) {
        let mut world = World::new();
        let mut compiler = Compiler::adopt(&Installed::default());
        compiler.compile(&world.store.snapshot(), &world.network).unwrap();
        for step in steps {
            world.step(&step);
            if matches!(step, Step::Collected) {
                compiler.free(compiler.epoch(), &Sweep::default());
            }
            let snapshot = world.store.snapshot();
            let mut anew = Compiler { host: None, ..compiler.clone() };
            let expected: Contents = anew.compile(&snapshot, &world.network).unwrap();
            let contents = compiler.compile(&snapshot, &world.network).unwrap();
            prop_assert_eq!(&contents, &expected);
            let all = &snapshot.model;
            prop_assert_eq!(seen(&compiler, all), seen(&anew, all));
        }
    }
}

#[test]
fn one_change_leaves_the_other_parts_alone() {
    let mut world = World::new();
    let mut compiler = Compiler::adopt(&Installed::default());
    let before = compiler.compile(&world.store.snapshot(), &world.network).unwrap();
    world.step(&Step::Health { of: [1, 0, 0], healthy: true });
    let after = compiler.compile(&world.store.snapshot(), &world.network).unwrap();
    let same = before.listeners.iter().filter(|(key, selection)| {
        let slots = &after.listeners[key].slots;
        Arc::ptr_eq(&selection.slots, slots)
    });
    // Those of one load balancer are made again.
    assert_eq!(same.count(), (BALANCERS - 1) * LISTENERS);
}
