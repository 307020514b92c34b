//! `datapath: proxy`: everything is served in userspace, and nothing is in the kernel.

use std::{collections::BTreeMap, fs, net::SocketAddr, process::Command};

use alb_tests::{
    client::{http_get, tally, who},
    daemon::{Daemon, Instance, Node},
    netns::must,
    program,
    server::{Nginx, Server},
    topology::{Lab, Shape, VIP},
    wait,
};

use crate::setting::{PORT, Service, servers, vip};

/// Where the web servers are.
const WEB: u16 = 8081;

fn web_vip() -> SocketAddr {
    (VIP, 80).into()
}

fn node(interfaces: &[&str]) -> Node {
    Node { datapath: "proxy", more: vec!["workers: 2".to_owned()], ..Node::xdp(interfaces) }
}

/// The service as tcp, and on port 80 an http listener over the same targets.
fn with_web(service: &Service) -> String {
    let web = format!(
        "targetGroups: [{{ name: web, type: ip, targets: [{}] }}, ",
        service
            .targets
            .iter()
            .map(|(address, weight)| format!(
                "{{ ipAddress: {address}, port: {WEB}, weight: {weight} }}"
            ))
            .collect::<Vec<_>>()
            .join(", ")
    );
    let check = "healthCheck: { protocol: Http, checkTimeoutSeconds: 2, intervalSeconds: 5, \
                 healthyThresholdCount: 1, unhealthyThresholdCount: 1 }";
    service
        .body()
        .replace("targetGroups: [", &web)
        .replace(
            "backends: [",
            &format!(
                "backends: [{{ name: web, protocol: Http, port: {WEB}, targetGroup: web, {check} }}, "
            ),
        )
        .replace(
            "listeners: [",
            "listeners: [{ name: web, protocol: Http, port: 80, backend: web }, ",
        )
}

#[test]
fn tcp_and_http_are_served_with_weights_and_failover() {
    let lab = Lab::new(Shape::default());
    let mut small = servers(&lab);
    let mut web: Vec<_> = (1..)
        .zip(&lab.targets)
        .map(|(number, host)| {
            Nginx::start(&host.namespace, WEB, &format!("w{number}")).expect("nginx starts")
        })
        .collect();
    let mut service = Service::of(&lab);
    service.checked = true;
    service.targets[0].1 = 20;
    let instance = Instance::new(&lab.balancer.namespace, node(&["eth0"]), &with_web(&service));
    let daemon = instance.start();
    daemon.wait_targets("tcp", "healthy", 3);
    daemon.wait_targets("web", "healthy", 3);

    for device in lab.interfaces() {
        assert_eq!(program::attached(&lab.balancer.namespace, device), None, "{device}");
    }
    assert!(!daemon.instance.bpffs().exists(), "nothing is pinned");
    assert!(daemon.status()["datapath"].is_null(), "{}", daemon.status());
    let client = &lab.client.namespace;
    let metrics = http_get(&lab.balancer.namespace, ([127, 0, 0, 1], 9180).into(), "/metrics");
    assert!(!metrics.expect("metrics").contains("alb_datapath"));

    let expected = |names: [&str; 3]| -> BTreeMap<String, usize> {
        names.into_iter().map(str::to_owned).zip([20, 10, 10]).collect()
    };
    let answers = tally(client, vip(), 40).expect("every connection served");
    assert_eq!(answers, expected(["t1", "t2", "t3"]));
    let mut answers = BTreeMap::new();
    for _ in 0..40 {
        let body = http_get(client, web_vip(), "/").expect("every request served");
        *answers.entry(body.trim().to_owned()).or_default() += 1;
    }
    assert_eq!(answers, expected(["w1", "w2", "w3"]));

    // A dead target costs no connection: another one is tried, then the checks know.
    drop(small.remove(0));
    drop(web.remove(0));
    let answers = tally(client, vip(), 20).expect("every connection served");
    assert!(!answers.contains_key("t1"), "{answers:?}");
    for _ in 0..20 {
        assert_ne!(http_get(client, web_vip(), "/").expect("every request served").trim(), "w1");
    }
    daemon.wait_targets("tcp", "unhealthy", 1);
    daemon.wait_targets("web", "unhealthy", 1);

    // It comes back by itself.
    small.push(Server::start(&lab.targets[0], PORT, "t1"));
    daemon.wait_targets("tcp", "healthy", 3);
    wait::until("the target that is back", wait::LONG, || {
        (who(client, None, vip()).ok()? == "t1").then_some(())
    });
}

#[test]
fn without_interfaces_the_addresses_are_others_to_put_on() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let service = Service::of(&lab);
    let balancer = &lab.balancer.namespace;
    let mut daemon = Instance::new(balancer, node(&[]), &service.body()).start();
    let client = &lab.client.namespace;
    let warning = format!("{VIP}");
    assert!(daemon.log().contains(&warning), "{}", daemon.log());
    // Nobody has the address; once somebody puts it on, it is served.
    who(client, None, vip()).expect_err("no host has the address");
    balancer.ip(&format!("address add {VIP}/32 dev eth0"));
    wait::until("service", wait::LONG, || who(client, None, vip()).ok());
    assert!(daemon.terminate().success());
    assert!(daemon.log().contains("nothing is served any more"), "{}", daemon.log());
}

#[test]
fn a_packet_path_in_place_has_to_go_first() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let service = Service::of(&lab);
    let mut daemon = service.serve(&lab);
    daemon.instance.change_node(node(lab.interfaces()), &service.body());
    assert!(!daemon.reload(&service.body()));
    let status = daemon.status();
    let error = status["config"]["lastError"].as_str().expect("an error");
    assert!(error.contains("node.datapath") && error.contains("restart"), "{error}");
    assert!(daemon.terminate().success());

    let refused = daemon.instance.alb("run");
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("alb detach --bpffs"), "{said}");
    who(&lab.client.namespace, None, vip()).expect("the kernel goes on");

    let mut command = balancer_command(&lab);
    let detached = command.args(["detach", "--bpffs"]).arg(daemon.instance.bpffs()).output();
    assert!(detached.expect("running alb").status.success());
    daemon.restart();
    who(&lab.client.namespace, None, vip()).expect("the proxy serves");
}

fn balancer_command(lab: &Lab) -> std::process::Command {
    lab.balancer.namespace.command(alb_tests::daemon::binary())
}

/// Sets the daemon's soft limit of open files.
fn limit_files(daemon: &Daemon<'_>, soft: &str) {
    let mut prlimit = Command::new("prlimit");
    prlimit.args(["--pid", &daemon.id().to_string(), &format!("--nofile={soft}:")]);
    must(&mut prlimit);
}

#[test]
fn a_balancer_without_files_blames_no_target() {
    let lab = Lab::new(Shape { targets: 2, ..Shape::default() });
    let _servers = servers(&lab);
    let service = Service { checked: true, ..Service::of(&lab) };
    let instance = Instance::new(&lab.balancer.namespace, node(lab.interfaces()), &service.body());
    let daemon = instance.start();
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.id())).expect("limits");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    let [soft, hard] = files.split_whitespace().skip(3).take(2).collect::<Vec<_>>()[..] else {
        panic!("{files}")
    };
    assert_eq!(soft, hard, "the soft limit is raised");

    limit_files(&daemon, "3");
    wait::until("a probe that cannot be sent", wait::LONG, || {
        daemon.log().contains("cannot send health checks").then_some(())
    });
    limit_files(&daemon, soft);
    assert_eq!(daemon.targets_in_state("tcp", "healthy"), 2, "{}", daemon.log());
    assert!(!daemon.log().contains("server is unhealthy"), "{}", daemon.log());
    who(&lab.client.namespace, None, vip()).expect("an answer");
}
