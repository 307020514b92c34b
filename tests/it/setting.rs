//! What most tests begin with: a lab, a small server on every target, a daemon that serves them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use alb_tests::{
    client::{bulk, connect},
    daemon::{Daemon, Instance, Node},
    netns::Namespace,
    server::Server,
    topology::{Host, Lab, VIP, six},
};

/// Port of the listener and of every target.
pub(crate) const PORT: u16 = 8080;

/// Where clients connect.
pub(crate) fn vip() -> SocketAddr {
    (VIP, PORT).into()
}

/// The same over IPv6.
pub(crate) fn vip6() -> SocketAddr {
    (six(VIP), PORT).into()
}

/// One small server on every target of a lab with IPv6 addresses, named as those of [`servers`].
pub(crate) fn servers6(lab: &Lab) -> Vec<Server> {
    let hosts = (1..).zip(&lab.targets);
    let start = |(number, host): (usize, &Host)| {
        Server::on(host, six(host.address).into(), PORT, &format!("t{number}"))
    };
    hosts.map(start).collect()
}

/// One small server on every target, named `t1` and up.
pub(crate) fn servers(lab: &Lab) -> Vec<Server> {
    let hosts = (1..).zip(&lab.targets);
    hosts.map(|(number, host)| Server::start(host, PORT, &format!("t{number}"))).collect()
}

/// A listener with one backend and one target group.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// `RoundRobin`, `IpHash` or `LeastConn`.
    pub(crate) algorithm: &'static str,
    /// Address and weight of each target.
    pub(crate) targets: Vec<(Ipv4Addr, u8)>,
    /// Probe the targets; without, all count as healthy at once.
    pub(crate) checked: bool,
    /// Seconds that flows of removed targets live on.
    pub(crate) draining: u32,
    /// Seconds after which a silent connection is forgotten.
    pub(crate) idle: u32,
    /// VIP and targets are the IPv6 addresses that go with those above.
    pub(crate) over_ipv6: bool,
}

impl Service {
    /// Every target of the lab with the same weight, round robin, unchecked.
    pub(crate) fn of(lab: &Lab) -> Self {
        Self {
            algorithm: "RoundRobin",
            targets: lab.targets.iter().map(|host| (host.address, 10)).collect(),
            checked: false,
            draining: 300,
            idle: 1_800,
            over_ipv6: false,
        }
    }

    /// The same over IPv6.
    pub(crate) fn of6(lab: &Lab) -> Self {
        Self { over_ipv6: true, ..Self::of(lab) }
    }

    /// The file without its `node` section.
    pub(crate) fn body(&self) -> String {
        let targets = self.targets.iter().map(|(address, weight)| {
            let address: IpAddr =
                if self.over_ipv6 { six(*address).into() } else { (*address).into() };
            format!("{{ ipAddress: \"{address}\", port: {PORT}, weight: {weight} }}")
        });
        let vip = if self.over_ipv6 {
            format!("ipv6Address: \"{}\"", six(VIP))
        } else {
            format!("privateIpAddress: {VIP}")
        };
        let check = if self.checked {
            "healthCheck: { protocol: Tcp, checkTimeoutSeconds: 2, intervalSeconds: 5, \
             healthyThresholdCount: 1, unhealthyThresholdCount: 1 }"
        } else {
            "closeHealthCheck: true"
        };
        format!(
            "subnets: [{{ name: front, addressPrefix: 198.18.0.0/24, \
             ipv6AddressPrefix: \"2001:db8::/64\" }}]\n\
             loadBalancers:\n\
             - name: lab\n  subnet: front\n  {vip}\n  \
             targetGroups: [{{ name: all, type: ip, targets: [{}] }}]\n  \
             backends: [{{ name: all, protocol: Tcp, port: {PORT}, algorithm: {}, \
             targetGroup: all, connectionDrainingSeconds: {}, {check} }}]\n  \
             listeners: [{{ name: tcp, protocol: Tcp, port: {PORT}, backend: all, \
             connectionIdleTimeSeconds: {} }}]\n",
            targets.collect::<Vec<_>>().join(", "),
            self.algorithm,
            self.draining,
            self.idle,
        )
    }

    /// A ready daemon with native XDP that serves this.
    pub(crate) fn serve<'lab>(&self, lab: &'lab Lab) -> Daemon<'lab> {
        self.serve_as(lab, Node::xdp(lab.interfaces()))
    }

    /// A ready daemon, all of its targets healthy or unchecked.
    pub(crate) fn serve_as<'lab>(&self, lab: &'lab Lab, node: Node) -> Daemon<'lab> {
        let daemon = Instance::new(&lab.balancer.namespace, node, &self.body()).start();
        let state = if self.checked { "healthy" } else { "unchecked" };
        daemon.wait_targets("tcp", state, self.targets.len());
        daemon
    }
}

/// The small server of one target, by position, as after a restart.
pub(crate) fn server_again(lab: &Lab, position: usize) -> Server {
    Server::start(&lab.targets[position], PORT, &format!("t{}", position + 1))
}

/// An upload and a download of so many bytes, neither of which loses or changes one.
pub(crate) fn bulk_both_ways(client: &Namespace, bytes: u64) {
    bulk_both_ways_to(client, vip(), bytes);
}

/// The same to this address.
pub(crate) fn bulk_both_ways_to(client: &Namespace, to: SocketAddr, bytes: u64) {
    let stream = connect(client, None, to).expect("a connection");
    let (sent, seen) = bulk::upload(&stream, bytes).expect("the upload ends");
    assert_eq!(sent, seen, "upload");
    let stream = connect(client, None, to).expect("a connection");
    let (expected, seen) = bulk::download(&stream, bytes).expect("the download ends");
    assert_eq!(expected, seen, "download");
}
