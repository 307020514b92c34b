//! A target that cannot be connected to is out of service long before its next check, whoever
//! found it: HTTP/1, HTTP/2 or a plain connection.

use std::path::Path;

use alb_tests::{
    client::who,
    daemon::{Instance, Node},
    netns::must,
    origin::Origin,
    server::Server,
    topology::{Lab, VIP},
    wait,
};
use tempfile::TempDir;

use super::setting::{PORT, lab};

const TLS: u16 = 443;
const RAW: u16 = 9_000;

/// Time between two checks, seconds: the longest there is.
const INTERVAL: u16 = 300;

fn certificate(dir: &Path) {
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    openssl.args(["-nodes", "-days", "90", "-subj", "/CN=shop.test"]);
    openssl.args(["-addext", "subjectAltName=DNS:shop.test"]);
    must(openssl.arg("-keyout").arg(dir.join("k.pem")).arg("-out").arg(dir.join("c.pem")));
}

/// Name, port, protocol of the backend, more of it.
type Way = (&'static str, u16, &'static str, &'static str);

/// A listener for each way in, each with targets on ports of its own, so that each is checked by
/// itself.
fn body(lab: &Lab, dir: &Path) -> String {
    let ways: [Way; 3] = [
        ("web", PORT, "Http", ""),
        ("tls", TLS, "Http", ""),
        ("raw", RAW, "Tcp", ", proxyProtocol: true"),
    ];
    let all = |each: &dyn Fn(&Way) -> String| ways.iter().map(each).collect::<Vec<_>>().join(", ");
    let groups = all(&|(name, port, ..)| {
        let targets = lab.targets.iter().map(|host| host.address);
        let targets: Vec<_> =
            targets.map(|address| format!("{{ ipAddress: {address}, port: {port} }}")).collect();
        format!("{{ name: {name}, type: ip, targets: [{}] }}", targets.join(", "))
    });
    let backends = all(&|(name, port, protocol, more)| {
        format!(
            "{{ name: {name}, protocol: {protocol}, port: {port}, targetGroup: {name}, healthCheck: \
             {{ protocol: Tcp, checkTimeoutSeconds: 2, intervalSeconds: {INTERVAL}, \
             healthyThresholdCount: 1, unhealthyThresholdCount: 1 }}{more} }}"
        )
    });
    format!(
        "subnets: [{{ name: front, addressPrefix: 198.18.0.0/24 }}]\n\
         certificates: [{{ name: shop, certFile: {0}/c.pem, keyFile: {0}/k.pem }}]\n\
         loadBalancers:\n\
         - name: lab\n  subnet: front\n  privateIpAddress: {VIP}\n  \
         targetGroups: [{groups}]\n  backends: [{backends}]\n  listeners:\n  \
         - {{ name: web, protocol: Http, port: {PORT}, backend: web }}\n  \
         - {{ name: tls, protocol: Https, port: {TLS}, backend: tls, certificates: [shop] }}\n  \
         - {{ name: raw, protocol: Tcp, port: {RAW}, backend: raw }}\n",
        dir.display()
    )
}

/// The version of HTTP that a request was served in.
fn asked(lab: &Lab, url: &str) -> String {
    let mut curl = lab.client.namespace.command("curl");
    curl.args(["-s", "-k", "-m", "5", "-o", "/dev/null", "-w", "%{http_version} %{http_code}"]);
    must(curl.args(["--resolve", &format!("shop.test:{TLS}:{VIP}"), url]))
}

#[test]
fn a_target_that_refuses_connections_is_out_before_its_next_check() {
    let lab = lab(2);
    let dir = TempDir::new().expect("a directory");
    certificate(dir.path());
    let start = |host| {
        (
            [PORT, TLS].map(|port| Origin::answering(host, port, "ok")),
            Server::start(host, RAW, "raw"),
        )
    };
    let dying = start(&lab.targets[0]);
    let _living = start(&lab.targets[1]);
    let node = Node::xdp(lab.interfaces());
    let daemon = Instance::new(&lab.balancer.namespace, node, &body(&lab, dir.path())).start();
    for name in ["web", "tls", "raw"] {
        daemon.wait_targets(name, "healthy", 2);
    }
    drop(dying);
    let gone = |name: &str| {
        let line = |line: &str| line.contains("traffic failed") && line.contains(name);
        wait::until(&format!("{name} without its target"), wait::LONG, || {
            (daemon.log().lines().any(line) && daemon.targets_in_state(name, "unhealthy") == 1)
                .then_some(())
        });
    };
    // Turns: one of two meets the dead target, and is served by the other.
    for _ in 0..2 {
        assert_eq!(asked(&lab, &format!("http://{VIP}:{PORT}/")), "1.1 200");
    }
    gone("web");
    for _ in 0..2 {
        assert_eq!(asked(&lab, &format!("https://shop.test:{TLS}/")), "2 200");
    }
    gone("tls");
    for _ in 0..2 {
        who(&lab.client.namespace, None, (VIP, RAW).into()).expect("an answer");
    }
    gone("raw");
    assert_eq!(daemon.log().matches("traffic failed").count(), 3, "{}", daemon.log());
}
