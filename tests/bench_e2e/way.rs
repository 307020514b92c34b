//! One way from the client to the server: what runs in the middle.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use alb_tests::{
    client::http_get,
    daemon::{Daemon, Instance, Node},
    netns::{Namespace, must},
    program::attach_redirect,
    wait,
    wire::mac,
};
use clap::ValueEnum;

use crate::path::{MIDDLE, PORT, Path, Program, SERVER};

/// The client has this core to itself, as far as the middle leaves it.
pub(crate) const CLIENT_CORE: &str = "0";
/// Where clients connect, but for plain forwarding.
const VIP: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The kernel forwards; the client names the server itself.
    Plain,
    /// The least that XDP can do: a program sends every packet on to the other device; the client
    /// names the server itself.
    Redirect,
    /// The packet path in native XDP.
    Xdp,
    /// The packet path at TC.
    Tc,
    /// nftables: DNAT and masquerading.
    Nftables,
    Haproxy,
    /// nginx's stream module.
    Nginx,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] = [
        Self::Plain,
        Self::Redirect,
        Self::Xdp,
        Self::Tc,
        Self::Nftables,
        Self::Haproxy,
        Self::Nginx,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain forwarding",
            Self::Redirect => "bare XDP redirect",
            Self::Xdp => "alb, XDP",
            Self::Tc => "alb, TC",
            Self::Nftables => "nftables DNAT",
            Self::Haproxy => "haproxy, tcp",
            Self::Nginx => "nginx, stream",
        }
    }

    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Xdp | Self::Tc)
    }

    /// Others that do what we do.
    pub(crate) fn is_peer(self) -> bool {
        matches!(self, Self::Nftables | Self::Haproxy | Self::Nginx)
    }

    /// Whether it is right for super-packets and checksums that are not in the bytes.
    pub(crate) fn takes_offloads(self) -> bool {
        !matches!(self, Self::Xdp | Self::Redirect)
    }
}

/// A way that works.
#[derive(Debug)]
pub(crate) struct Way<'a> {
    pub(crate) kind: Kind,
    pub(crate) client: &'a Namespace,
    /// What the client connects to.
    pub(crate) to: SocketAddr,
    _runs: Runs<'a>,
}

/// What runs in the middle.
#[expect(dead_code, reason = "held to be dropped with the way")]
#[derive(Debug)]
enum Runs<'a> {
    Kernel,
    Daemon(Box<Daemon<'a>>),
    Program(Program),
}

impl<'a> Way<'a> {
    /// Sets it up and waits for an answer.
    pub(crate) fn new(kind: Kind, path: &'a Path) -> Self {
        let (to, runs) = match kind {
            Kind::Plain => {
                path.middle.sysctl("ipv4/ip_forward", "1");
                (SERVER, Runs::Kernel)
            }
            Kind::Redirect => {
                redirect(path);
                (SERVER, Runs::Kernel)
            }
            Kind::Xdp => (VIP, alb(path, "xdp")),
            Kind::Tc => (VIP, alb(path, "tc")),
            Kind::Nftables => {
                nftables(path);
                (MIDDLE, Runs::Kernel)
            }
            Kind::Haproxy => (MIDDLE, haproxy(path)),
            Kind::Nginx => (MIDDLE, nginx(path)),
        };
        let way = Self { kind, client: &path.client, to: (to, PORT).into(), _runs: runs };
        let ready = wait::within(Duration::from_secs(20), || {
            http_get(way.client, way.to, "/small").ok().map(drop)
        });
        assert!(ready.is_some(), "{} does not work", kind.name());
        way
    }
}

fn alb<'a>(path: &'a Path, datapath: &'static str) -> Runs<'a> {
    // As many ports as the others have, but for some that the checks of health come from.
    let more = vec!["snat: { portRange: 2048-65535 }".to_owned()];
    let node = Node { more, ..Node::on(&["eth0", "eth1"], datapath) };
    let body = format!(
        "subnets: [{{ name: front, addressPrefix: 198.18.0.0/24 }}]\n\
         loadBalancers:\n\
         - name: b\n  subnet: front\n  privateIpAddress: {VIP}\n  \
         targetGroups: [{{ name: g, type: ip, targets: [{{ ipAddress: {SERVER}, port: {PORT} }}] }}]\n  \
         backends: [{{ name: s, protocol: Tcp, port: {PORT}, targetGroup: g, \
         healthCheck: {{ protocol: Tcp }} }}]\n  \
         listeners: [{{ name: l, protocol: Tcp, port: {PORT}, backend: s }}]\n"
    );
    Runs::Daemon(Box::new(Instance::new(&path.middle, node, &body).start()))
}

fn redirect(path: &Path) {
    let (client, server) = (mac(&path.client, "eth0"), mac(&path.far, "eth0"));
    let [to_client, to_server] = ["eth0", "eth1"].map(|device| {
        let index = path.middle.enter(|| nix::net::if_::if_nametoindex(device));
        (index.expect("a device"), mac(&path.middle, device))
    });
    for (device, (to, own), other) in [("eth0", to_server, server), ("eth1", to_client, client)] {
        attach_redirect(&path.middle, device, to, [other, own]);
    }
}

fn nftables(path: &Path) {
    path.middle.sysctl("ipv4/ip_forward", "1");
    let rules = path.write(
        "rules.nft",
        &format!(
            "table ip nat {{\n\
             chain in {{ type nat hook prerouting priority dstnat;\n\
             ip daddr {MIDDLE} tcp dport {PORT} dnat to {SERVER}:{PORT}; }}\n\
             chain out {{ type nat hook postrouting priority srcnat; oifname eth1 masquerade; }}\n}}\n"
        ),
    );
    must(path.middle.command("nft").arg("-f").arg(rules));
    // Closed connections would fill its table within seconds.
    path.middle.sysctl("netfilter/nf_conntrack_tcp_timeout_time_wait", "1");
}

fn haproxy<'a>(path: &Path) -> Runs<'a> {
    let config = path.write(
        "haproxy.cfg",
        &format!(
            "global\n  nbthread 2\n  maxconn 8000\n\
             defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
             listen l\n  bind {MIDDLE}:{PORT}\n  server s {SERVER}:{PORT} check\n"
        ),
    );
    Runs::Program(path.start("haproxy", &["-db", "-f", &config]))
}

fn nginx<'a>(path: &Path) -> Runs<'a> {
    let config = path.write(
        "stream.conf",
        &format!(
            "load_module modules/ngx_stream_module.so;\n\
             daemon off; worker_processes 2; pid {0}/stream.pid; error_log {0}/stream.log warn;\n\
             worker_rlimit_nofile 20000; events {{ worker_connections 8192; }}\n\
             stream {{ upstream u {{ server {SERVER}:{PORT}; }}\n\
             server {{ listen {MIDDLE}:{PORT} reuseport backlog=4096; proxy_pass u; }} }}\n",
            path.dir.path().display()
        ),
    );
    Runs::Program(path.start("nginx", &["-e", "stderr", "-c", &config]))
}
