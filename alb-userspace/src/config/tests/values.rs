//! What the words of a file become in the model: defaults, addresses, resolved references.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use super::NODE;
use crate::{
    config::{Loaded, load, parse},
    model::{
        Algorithm, BackendProtocol, CodeRange, HeaderAction, ListenerProtocol, LoadBalancer, Model,
        PathPattern, RouteAction, TargetSource,
    },
};

fn model(text: &str) -> Model {
    loaded(text).model
}

fn loaded(text: &str) -> Loaded {
    parse(text, Path::new("/etc/alb")).unwrap_or_else(|errors| panic!("{errors}"))
}

/// One load balancer in 198.18.0.0/24 with the given keys.
fn balancer(keys: &str) -> LoadBalancer {
    let text = format!(
        "{NODE}subnets: [{{ name: front, addressPrefix: 198.18.0.0/24 }}]\n\
         loadBalancers: [{{ name: shop, subnet: front, {keys} }}]\n"
    );
    LoadBalancer::clone(&model(&text).load_balancers[0])
}

/// The VIPs of every load balancer, in a subnet with the given keys.
fn vips(subnet: &str, rest: &str) -> Vec<String> {
    let text = format!("{NODE}subnets: [{{ name: front, {subnet} }}]\n{rest}\n");
    let balancers = model(&text).load_balancers;
    balancers.iter().flat_map(|balancer| &balancer.vips).map(IpAddr::to_string).collect()
}

#[test]
fn node_defaults() {
    let node = model("node: { interfaces: [eth0] }").node;
    assert!(!node.name.is_empty(), "the host's name");
    assert_eq!(node.region, "local");
    assert_eq!(node.zones, ["local-a"]);
    assert_eq!(node.bpffs, PathBuf::from("/sys/fs/bpf/alb"));
    assert_eq!(node.state_dir, PathBuf::from("/var/lib/alb"));
    assert_eq!(node.socket, PathBuf::from("/var/lib/alb/alb.sock"));
    assert_eq!((node.snat.port_range.first, node.snat.port_range.last), (10_000, 29_999));
    assert_eq!((node.flows, node.workers), (1_048_576, 0));
    assert_eq!((node.access_log, node.api, node.cookie_key), (None, None, None));
}

#[test]
fn the_cookie_key_is_read_and_never_printed() {
    let key = "0123456789abcdef0123456789abcdef";
    let node = model(&format!("node: {{ interfaces: [eth0], cookieKey: {key} }}")).node;
    let read = node.cookie_key.unwrap();
    assert_eq!((&*read.0, &*format!("{read:?}")), (key, "CookieKey(..)"));
}

#[test]
fn relative_paths_start_at_the_file() {
    let node = model(
        "node: { interfaces: [eth0], stateDir: state, socket: s/ctl, accessLog: { file: a.log } }",
    )
    .node;
    assert_eq!(node.state_dir, PathBuf::from("/etc/alb/state"));
    assert_eq!(node.socket, PathBuf::from("/etc/alb/state/s/ctl"));
    assert_eq!(node.access_log.unwrap().file, PathBuf::from("/etc/alb/a.log"));
}

#[test]
fn backend_defaults() {
    let balancer = balancer("backends: [{ name: web, protocol: Tcp, port: 80 }]");
    let backend = &balancer.backends[0];
    assert_eq!(backend.protocol, BackendProtocol::Tcp);
    assert_eq!(backend.algorithm, Algorithm::RoundRobin);
    assert_eq!(backend.source, TargetSource::None);
    assert_eq!(backend.stickiness, None);
    assert_eq!(backend.connection_draining, Duration::from_mins(5));
    let check = backend.health_check.as_ref().unwrap();
    assert_eq!(check.http, None);
    assert_eq!((check.timeout, check.interval), (Duration::from_secs(3), Duration::from_secs(5)));
    assert_eq!((check.healthy_threshold, check.unhealthy_threshold), (3, 3));
    assert_eq!(check.port, None);
}

#[test]
fn closed_checks_keep_their_settings() {
    let balancer = balancer(
        "backends: [{ name: web, protocol: Tcp, port: 80, closeHealthCheck: true, healthCheck: { protocol: Tcp, port: 81 } }]",
    );
    let backend = &balancer.backends[0];
    assert_eq!(backend.health_check, None);
    let kept = backend.closed_health_check.as_ref().unwrap();
    assert_eq!(kept.port.map(u16::from), Some(81));
}

#[test]
fn http_checks() {
    let codes = |text: &str| {
        let balancer = balancer(&format!(
            "backends: [{{ name: web, protocol: Http, port: 80, healthCheck: {{ protocol: Http{text} }} }}]"
        ));
        let check = balancer.backends[0].health_check.clone().unwrap().http.unwrap();
        assert_eq!(check.path, "/");
        check.codes.iter().map(|CodeRange { low, high }| (*low, *high)).collect::<Vec<_>>()
    };
    assert_eq!(codes(""), [(200, 299), (300, 399)]);
    assert_eq!(codes(", httpCode: 204"), [(204, 204)]);
    assert_eq!(codes(", httpCode: \"2xx,301\""), [(200, 299), (301, 301)]);
    assert_eq!(codes(", httpCode: 2xx+3xx"), [(200, 299), (300, 399)]);
    assert_eq!(codes(", httpCode: [499, 200-201, 4XX]"), [(200, 201), (400, 499), (499, 499)]);
}

#[test]
fn listener_defaults_follow_the_protocol() {
    let balancer = balancer(
        "backends: [{ name: t, protocol: Tcp, port: 80 }, { name: h, protocol: Http, port: 80 }], \
         listeners: [{ name: t, protocol: Tcp, port: 80, backend: t }, { name: h, protocol: Http, port: 81, backend: h }]",
    );
    let [tcp, http] = balancer.listeners.as_slice() else { panic!("{balancer:?}") };
    assert_eq!((tcp.protocol, tcp.idle_timeout), (ListenerProtocol::Tcp, Duration::from_mins(30)));
    assert_eq!(
        (http.protocol, http.idle_timeout),
        (ListenerProtocol::Http, Duration::from_mins(1))
    );
    assert!(tcp.http.is_none() && http.http.is_some());
    assert!(tcp.enabled && tcp.tls.is_none() && tcp.max_connections.is_none());
    assert_eq!(balancer.backend(&tcp.backend).unwrap().name, "t");
}

#[test]
fn minus_one_is_unlimited() {
    let balancer = balancer(
        "backends: [{ name: t, protocol: Tcp, port: 80 }], listeners: \
         [{ name: a, protocol: Tcp, port: 80, backend: t, limitation: { activeConnections: -1 } }, \
          { name: b, protocol: Tcp, port: 81, backend: t, limitation: { activeConnections: 100 } }]",
    );
    let limits: Vec<_> =
        balancer.listeners.iter().map(|listener| listener.max_connections).collect();
    assert_eq!(limits, [None, Some(100)]);
}

#[test]
fn vips_come_from_the_subnet() {
    let one = "loadBalancers: [{ name: a, subnet: front }]";
    assert_eq!(vips("addressPrefix: 198.18.0.0/24", one), ["198.18.0.1"]);
    let range = "addressPrefix: 198.18.0.0/24, vipRange: 198.18.0.10-198.18.0.12";
    assert_eq!(vips(range, one), ["198.18.0.10"]);
    assert_eq!(vips("addressPrefix: 198.18.0.0/31", one), ["198.18.0.0"]);
    assert_eq!(vips("ipv6AddressPrefix: \"2001:db8::/64\"", one), ["2001:db8::1"]);

    let named_later = "loadBalancers: [{ name: a, subnet: front }, { name: b, subnet: front, privateIpAddress: 198.18.0.10 }]";
    assert_eq!(vips(range, named_later), ["198.18.0.11", "198.18.0.10"]);
    let targets = "instances: [{ instanceId: i, privateIpAddress: 198.18.0.10 }]\n\
                   loadBalancers: [{ name: a, subnet: front, targetGroups: [{ name: g, type: ip, targets: [{ ipAddress: 198.18.0.11 }] }] }]";
    assert_eq!(vips(range, targets), ["198.18.0.12"]);
    let members = "instanceTemplates: [{ name: t, driver: Command, addresses: 198.18.0.0/29, start: [a], stop: [b] }]\n\
                   loadBalancers: [{ name: a, subnet: front }]";
    assert_eq!(vips("addressPrefix: 198.18.0.0/24", members), ["198.18.0.8"]);
    let public = "elasticIps: [{ name: pub, elasticIpAddress: 198.18.9.1 }]\n\
                  loadBalancers: [{ name: a, subnet: front, elasticIp: pub }]";
    assert_eq!(vips(range, public), ["198.18.0.10", "198.18.9.1"]);
}

#[test]
fn targets_take_the_port_of_the_backend() {
    let balancer = balancer(
        "targetGroups: [{ name: g, type: ip, targets: [{ ipAddress: 198.18.1.1 }, { ipAddress: 198.18.1.2, port: 81, weight: 0 }] }], \
         backends: [{ name: b, protocol: Tcp, port: 80, targetGroup: g }]",
    );
    let backend = &balancer.backends[0];
    let targets: Vec<_> = balancer
        .targets_of(backend)
        .iter()
        .map(|target| (target.address, target.port_for(backend).get(), target.weight))
        .collect();
    assert_eq!(
        targets,
        [
            (Ipv4Addr::new(198, 18, 1, 1).into(), 80, 10),
            (Ipv4Addr::new(198, 18, 1, 2).into(), 81, 0)
        ]
    );
}

#[test]
fn ids_come_from_names_only() {
    let ids = |keys: &str| {
        let balancer = balancer(keys);
        (balancer.id, balancer.backends[0].id.clone())
    };
    let backend = "backends: [{ name: web, protocol: Tcp, port: 80 }]";
    let other = "description: other, backends: [{ name: web, protocol: Http, port: 81 }, { name: x, protocol: Tcp, port: 1 }]";
    assert_eq!(ids(backend), ids(other));
}

#[test]
fn url_maps() {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/full.yaml");
    let model = load(&full).unwrap().model;
    let shop = &model.load_balancers[0];
    let rule = &shop.url_maps[0].rules[0];
    assert_eq!(rule.path, PathPattern::Prefix("/api/".into()));
    let RouteAction::Forward { backend, mirror, headers, rewrite } = &rule.action else {
        panic!("{rule:?}")
    };
    assert_eq!(shop.backend(backend).unwrap().name, "api");
    assert_eq!(shop.backend(mirror.as_ref().unwrap()).unwrap().name, "copy");
    assert_eq!(rewrite.as_ref().unwrap().path.as_deref(), Some("/v2/*"));
    assert_eq!(headers.len(), 3);
    assert!(matches!(&rule.post_actions[..], [HeaderAction::Delete { key }] if key == "Server"));
    assert_eq!(model.load_balancers[1].vips, [IpAddr::from([198, 18, 4, 1])]);
}

#[test]
fn a_listener_without_targets_is_a_warning() {
    let loaded = loaded(&format!(
        "{NODE}subnets: [{{ name: s, addressPrefix: 198.18.0.0/24 }}]\n\
         loadBalancers: [{{ name: a, subnet: s, backends: [{{ name: b, protocol: Tcp, port: 80 }}], \
         listeners: [{{ name: l, protocol: Tcp, port: 80, backend: b }}] }}]"
    ));
    let [warning] = loaded.warnings.as_slice() else { panic!("{:?}", loaded.warnings) };
    assert_eq!(warning.path, "loadBalancers[0].listeners[0].backend");
}

/// What comes of a file with this many load balancers, each with listeners and targets.
fn sized(balancers: usize, listeners: usize, targets: usize) -> String {
    let listeners: Vec<_> = (1..=listeners)
        .map(|port| format!("{{ name: l{port}, protocol: Tcp, port: {port}, backend: b }}"))
        .collect();
    let listeners = listeners.join(", ");
    let targets: Vec<_> = (0..targets)
        .map(|index| format!("{{ ipAddress: 198.19.{}.{} }}", index / 250, index % 250 + 1))
        .collect();
    let targets = targets.join(", ");
    let balancers: Vec<_> = (0..balancers)
        .map(|index| {
            format!(
                "  - {{ name: a{index}, subnet: s, \
                 targetGroups: [{{ name: g, type: ip, targets: [{targets}] }}], \
                 backends: [{{ name: b, protocol: Tcp, port: 80, targetGroup: g }}], \
                 listeners: [{listeners}] }}\n"
            )
        })
        .collect();
    let balancers = balancers.concat();
    let text = format!(
        "{NODE}subnets: [{{ name: s, addressPrefix: 198.18.0.0/16 }}]\nloadBalancers:\n{balancers}"
    );
    parse(&text, Path::new("/")).map_or_else(|errors| errors.to_string(), |_| "fits".to_owned())
}

#[test]
fn what_the_packet_path_cannot_hold_is_refused() {
    let most = "the packet path holds";
    assert_eq!(sized(1, 16_384, 1), "fits");
    assert_eq!(
        sized(1, 16_385, 1),
        format!("alb.yaml:4:3: loadBalancers: 16385 listeners, counted once per VIP, {most} 16384")
    );
    let many = |backends| with_slots(backends, "RoundRobin", &[10; 2_048]);
    assert_eq!(many(64), "fits");
    assert_eq!(
        many(65),
        format!(
            "alb.yaml:4:3: loadBalancers: 133120 targets, counted once per backend of Tcp \
             listeners, {most} 131072"
        )
    );
}

/// What comes of a file with this many backends of this algorithm over one group of targets.
fn with_slots(backends: usize, algorithm: &str, targets: &[u8]) -> String {
    let targets: Vec<_> = (1..)
        .zip(targets)
        .map(|(port, weight)| {
            format!("{{ ipAddress: 198.19.0.1, port: {port}, weight: {weight} }}")
        })
        .collect();
    let targets = targets.join(", ");
    let backend = |n| {
        format!(
            "{{ name: b{n}, protocol: Tcp, port: 80, algorithm: {algorithm}, targetGroup: g }}, "
        )
    };
    // Two listeners share a table.
    let listener = |n| {
        let backend = (n - 1) % backends + 1;
        format!("{{ name: l{n}, protocol: Tcp, port: {n}, backend: b{backend} }}, ")
    };
    let backs: String = (1..=backends).map(backend).collect();
    let fronts: String = (1..=2 * backends).map(listener).collect();
    let text = format!(
        "{NODE}subnets: [{{ name: s, addressPrefix: 198.18.0.0/16 }}]\nloadBalancers:\n  \
         - {{ name: a, subnet: s, targetGroups: [{{ name: g, type: ip, targets: [{targets}] }}], \
         backends: [{backs}], listeners: [{fronts}] }}\n"
    );
    parse(&text, Path::new("/")).map_or_else(|errors| errors.to_string(), |_| "fits".to_owned())
}

#[test]
fn selection_tables_that_the_packet_path_cannot_hold_are_refused() {
    let refused = |slots: usize| {
        format!(
            "alb.yaml:4:3: loadBalancers: {slots} slots in the selection tables of the backends of \
             Tcp listeners (fewer targets, or weights with a common divisor, need less), the packet \
             path holds 1048576"
        )
    };
    let uneven = [[100, 99]; 10].concat();
    assert_eq!(with_slots(526, "RoundRobin", &uneven), "fits");
    assert_eq!(with_slots(527, "RoundRobin", &uneven), refused(527 * 1_990));
    assert_eq!(with_slots(527, "RoundRobin", &[100; 20]), "fits", "a common divisor");
    assert_eq!(with_slots(512, "IpHash", &[10; 20]), "fits");
    assert_eq!(with_slots(515, "IpHash", &[10; 20]), refused(515 * 2_039));
    assert_eq!(with_slots(515, "IpHash", &[0; 20]), "fits", "nobody to choose");
    assert_eq!(with_slots(1, "LeastConn", &[10; 1_000]), "fits");
    assert_eq!(
        with_slots(1, "LeastConn", &[10; 1_001]),
        "alb.yaml:4:3: loadBalancers: 1001 targets of backend b1 with LeastConn, the packet path holds \
         1000"
    );
}

#[test]
fn files_that_cannot_be_read_are_errors_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("alb.yaml");
    let error = |path: &Path| load(path).unwrap_err().to_string();
    assert!(error(&path).contains("cannot be read: No such file"), "{}", error(&path));
    std::fs::write(&path, b"node: \xff\n").unwrap();
    assert!(error(&path).contains("not a text file"), "{}", error(&path));
    std::fs::write(&path, vec![b' '; (32 << 20) + 1]).unwrap();
    assert!(error(&path).contains("larger than 32 MiB"), "{}", error(&path));
    assert!(error(dir.path()).contains("cannot be read"), "{}", error(dir.path()));
}
