//! PROXY protocol to servers that take it: haproxy's `accept-proxy`, in front of Redis and by itself.
//! Neither PostgreSQL nor Redis 7 takes it.

use std::{
    fs,
    process::{Child, Stdio},
};

use alb_tests::{
    client::{connect, http_get},
    daemon::{Instance, Node},
    database::{REDIS, redis_cli},
    netns::must,
    topology::{Host, Lab},
    wait,
};

use super::setting::{TRUSTED, body, engines, lab, redis, vip};

/// Where haproxy takes connections for Redis.
const FOR_REDIS: u16 = 6390;
/// Where haproxy answers with the client's address.
const ECHO: u16 = 6391;
/// The same by way of a tls listener.
const FOR_REDIS_TLS: u16 = 6392;

/// A haproxy; ended when dropped.
struct Haproxy {
    child: Child,
    _dir: tempfile::TempDir,
}

impl Haproxy {
    fn start(host: &Host) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let config = dir.path().join("haproxy.cfg");
        let text = format!(
            "defaults\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
             listen redis\n  mode tcp\n  bind :{FOR_REDIS} accept-proxy\n  \
             server redis 127.0.0.1:{REDIS}\n\
             frontend echo\n  mode http\n  bind :{ECHO} accept-proxy\n  \
             http-request return status 200 content-type text/plain lf-string \"%[src] %[dst]\"\n"
        );
        fs::write(&config, text).expect("writing a configuration");
        let mut command = host.namespace.command("haproxy");
        command.arg("-db").arg("-f").arg(&config).stdin(Stdio::null());
        Self { child: command.spawn().expect("haproxy"), _dir: dir }
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn with_haproxy(lab: &Lab) -> String {
    let targets = |port: u16| {
        let targets = lab.targets.iter();
        let targets =
            targets.map(|host| format!("{{ ipAddress: {}, port: {port} }}", host.address));
        targets.collect::<Vec<_>>().join(", ")
    };
    let backend = |name: &str, port: u16| {
        format!(
            "  - {{ name: {name}, protocol: Tcp, port: {port}, targetGroup: {name}, \
             proxyProtocol: true, closeHealthCheck: true }}\n"
        )
    };
    let more = format!(
        "  - {{ name: by-haproxy, protocol: Tcp, port: {FOR_REDIS}, backend: by-haproxy }}\n  \
         - {{ name: echo, protocol: Tcp, port: {ECHO}, backend: echo }}\n  \
         - {{ name: by-haproxy-tls, protocol: Tls, port: {FOR_REDIS_TLS}, backend: by-haproxy, \
         certificates: [c] }}\n"
    );
    let groups = format!(
        "targetGroups:\n  - {{ name: by-haproxy, type: ip, targets: [{}] }}\n  \
         - {{ name: echo, type: ip, targets: [{}] }}\n",
        targets(FOR_REDIS),
        targets(ECHO)
    );
    let backends =
        format!("backends:\n{}{}", backend("by-haproxy", FOR_REDIS), backend("echo", ECHO));
    body(lab, &more).replace("targetGroups:\n", &groups).replace("backends:\n", &backends)
}

#[test]
#[ignore = "needs Redis and haproxy: cargo xtask test --all"]
fn haproxy_takes_the_line_and_knows_the_client() {
    for engine in engines() {
        let lab = lab();
        let _servers = redis(&lab);
        let _haproxy: Vec<_> = lab.targets.iter().map(Haproxy::start).collect();
        let node = Node { datapath: engine, ..Node::xdp(lab.interfaces()) };
        let daemon = Instance::new(&lab.balancer.namespace, node, &with_haproxy(&lab)).start();
        let client = &lab.client.namespace;
        for host in &lab.targets {
            let own = (host.address, ECHO).into();
            wait::until("haproxy", wait::LONG, || {
                connect(&lab.balancer.namespace, None, own).ok().map(drop)
            });
        }
        let to = vip(ECHO);
        let answer = http_get(client, to, "/").expect("an answer");
        assert_eq!(answer, format!("{} {}", lab.client.address, to.ip()), "{engine}");

        let mut names: Vec<String> =
            (0..4).map(|_| must(redis_cli(client, vip(FOR_REDIS)).args(["get", "name"]))).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 2, "{engine}: {names:?}\n{}", daemon.log());
        let mut over_tls = redis_cli(client, vip(FOR_REDIS_TLS));
        let name = must(over_tls.args(["--tls", "--cacert", TRUSTED, "get", "name"]));
        assert!(names.contains(&name), "{engine}: {name}");
    }
}
