//! What these tests begin with: both databases on every target, and a listener for each way in.

use std::net::SocketAddr;

use alb_tests::{
    daemon::{Daemon, Instance, Node},
    database::{POSTGRES, Postgres, REDIS, Redis},
    topology::{Lab, Shape, VIP},
};

/// Tls listener in front of PostgreSQL, which speaks TLS by itself only after a request in the clear.
pub(super) const POSTGRES_TLS: u16 = 5433;
/// Tls listener in front of Redis.
pub(super) const REDIS_TLS: u16 = 6380;

/// Whom clients of the tls listeners trust.
pub(super) const TRUSTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tls/ca.pem");
const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tls/ecdsa.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tls/ecdsa.key");

/// Who serves tcp listeners.
pub(super) fn engines() -> [&'static str; 2] {
    [Node::tested(), "proxy"]
}

/// Two targets.
pub(super) fn lab() -> Lab {
    Lab::new(Shape { targets: 2, ..Shape::default() })
}

/// One PostgreSQL on each.
pub(super) fn postgres(lab: &Lab) -> Vec<Postgres<'_>> {
    lab.targets.iter().map(|host| Postgres::start(&host.namespace)).collect()
}

/// One Redis on each; the key `name` has the target's address.
pub(super) fn redis(lab: &Lab) -> Vec<Redis<'_>> {
    let hosts = lab.targets.iter();
    hosts.map(|host| Redis::start(&host.namespace, &host.address.to_string())).collect()
}

/// A port of the balancer.
pub(super) fn vip(port: u16) -> SocketAddr {
    (VIP, port).into()
}

/// The file without its `node` section; `more` is another listener, or nothing.
pub(super) fn body(lab: &Lab, more: &str) -> String {
    let targets = |port: u16| {
        let targets = lab.targets.iter();
        let targets =
            targets.map(|host| format!("{{ ipAddress: {}, port: {port} }}", host.address));
        targets.collect::<Vec<_>>().join(", ")
    };
    let check = "healthCheck: { protocol: Tcp, checkTimeoutSeconds: 2, intervalSeconds: 5, \
                 unhealthyThresholdCount: 1, healthyThresholdCount: 1 }";
    format!(
        "subnets: [{{ name: front, addressPrefix: 198.18.0.0/24 }}]\n\
         certificates: [{{ name: c, certFile: {CERTIFICATE}, keyFile: {KEY} }}]\n\
         loadBalancers:\n\
         - name: lab\n  subnet: front\n  privateIpAddress: {VIP}\n  \
         targetGroups:\n  \
         - {{ name: pg, type: ip, targets: [{}] }}\n  \
         - {{ name: redis, type: ip, targets: [{}] }}\n  \
         backends:\n  \
         - {{ name: pg, protocol: Tcp, port: {POSTGRES}, targetGroup: pg, {check} }}\n  \
         - {{ name: redis, protocol: Tcp, port: {REDIS}, targetGroup: redis, \
         closeHealthCheck: true }}\n  \
         listeners:\n  \
         - {{ name: pg, protocol: Tcp, port: {POSTGRES}, backend: pg }}\n  \
         - {{ name: redis, protocol: Tcp, port: {REDIS}, backend: redis }}\n  \
         - {{ name: pg-tls, protocol: Tls, port: {POSTGRES_TLS}, backend: pg, certificates: [c] }}\n  \
         - {{ name: redis-tls, protocol: Tls, port: {REDIS_TLS}, backend: redis, \
         certificates: [c] }}\n{more}",
        targets(POSTGRES),
        targets(REDIS),
    )
}

/// A ready daemon that serves this.
pub(super) fn serve<'lab>(lab: &'lab Lab, engine: &'static str) -> Daemon<'lab> {
    let node = Node { datapath: engine, ..Node::xdp(lab.interfaces()) };
    Instance::new(&lab.balancer.namespace, node, &body(lab, "")).start()
}
