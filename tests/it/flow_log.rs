//! `node.accessLog.tcpFlows`: connections that the kernel forwards, in the access log.

use std::{fs, net::SocketAddr, path::Path};

use alb_tests::{
    client::Conversation,
    daemon::{Daemon, Node},
    topology::{Lab, Shape, six},
    wait,
};
use serde_json::Value;

use crate::setting::{PORT, Service, servers, servers6, vip, vip6};

const BYTES: usize = 100_000;

fn node(lab: &Lab, file: &Path, flows: u32) -> Node {
    let log = format!("accessLog: {{ file: {}, tcpFlows: true }}", file.display());
    Node { more: vec![format!("flows: {flows}"), log], ..Node::xdp(lab.interfaces()) }
}

fn serve<'lab>(lab: &'lab Lab, service: &Service, file: &Path) -> Daemon<'lab> {
    service.serve_as(lab, node(lab, file, 65_536))
}

/// The line of a client's connection, once it is there.
#[track_caller]
fn line(file: &Path, client: SocketAddr) -> Value {
    wait::until("the connection's line", wait::LONG, || {
        let text = fs::read_to_string(file).unwrap_or_default();
        let whole = text.lines().take(text.matches('\n').count());
        let mut lines = whole.map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        lines.find(|line| {
            let ip = line["client_ip"].as_str().and_then(|ip| ip.parse().ok());
            ip == Some(client.ip()) && line["client_port"] == client.port()
        })
    })
}

fn open(lab: &Lab, to: SocketAddr) -> Conversation {
    Conversation::open(&lab.client.namespace, to).expect("a connection")
}

fn check(line: &Value, vip: SocketAddr, target: SocketAddr) {
    assert_eq!(line["lb_vip"], vip.ip().to_string(), "{line}");
    assert_eq!(line["lb_vport"], PORT, "{line}");
    assert_eq!(line["backend_server_ip_port"], target.to_string(), "{line}");
    assert_eq!((&line["protocol"], &line["served_by"]), (&"tcp".into(), &"kernel".into()));
    for name in ["alb_id", "listener_id", "backend_id", "timestamp"] {
        assert!(line[name].as_str().is_some_and(|text| !text.is_empty()), "{name} of {line}");
    }
    let snat: SocketAddr = line["snat_ip_port"].as_str().expect("text").parse().expect("an end");
    assert!((10_000..30_000).contains(&snat.port()), "{line}");
    assert!(line["session_time"].as_f64() < Some(3_600.0), "{line}");
}

fn ends_are_told(over_ipv6: bool) {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    lab.add_ipv6();
    let (_servers, service, vip) = if over_ipv6 {
        (servers6(&lab), Service::of6(&lab), vip6())
    } else {
        (servers(&lab), Service::of(&lab), vip())
    };
    let address = lab.targets[0].address;
    let address = if over_ipv6 { six(address).into() } else { address.into() };
    let target = SocketAddr::new(address, PORT);
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("access.jsonl");
    let mut daemon = serve(&lab, &service, &file);

    let mut talk = open(&lab, vip);
    let closed = talk.local();
    talk.exchange(&vec![7; BYTES]).expect("an echo");
    drop(talk);
    let told = line(&file, closed);
    check(&told, vip, target);
    assert!(told["error"].is_null(), "{told}");
    for name in ["bytes_received", "bytes_sent"] {
        let bytes = told[name].as_u64().expect("a number");
        // Headers, and whatever was sent twice.
        assert!((BYTES as u64..4 * BYTES as u64).contains(&bytes), "{name} of {told}");
    }
    for name in ["packets_received", "packets_sent"] {
        assert!(told[name].as_u64() > Some(3), "{name} of {told}");
    }

    let talk = open(&lab, vip);
    let reset = talk.local();
    talk.reset().expect("a RST");
    let told = line(&file, reset);
    check(&told, vip, target);
    assert_eq!(told["error"], "client_reset", "{told}");

    // What ends while nobody reads waits in the kernel, also if the next daemon makes other tables.
    for flows in [65_536, 16_384] {
        let talk = open(&lab, vip);
        daemon.kill();
        let mut later = open(&lab, vip);
        later.exchange(&[7; 1_000]).expect("an echo");
        let silent = [talk.local(), later.local()];
        drop((talk, later));
        daemon.instance.change_node(node(&lab, &file, flows), &service.body());
        daemon.restart();
        for client in silent {
            check(&line(&file, client), vip, target);
        }
    }
    daemon.take_over();
    let talk = open(&lab, vip);
    let client = talk.local();
    drop(talk);
    check(&line(&file, client), vip, target);
    let status = daemon.status();
    assert_eq!(status["proxy"]["accessLog"]["lost"], 0, "{status}");
}

#[test]
fn connections_of_the_kernel_are_in_the_access_log() {
    ends_are_told(false);
}

#[test]
fn connections_of_the_kernel_are_in_the_access_log_over_ipv6() {
    ends_are_told(true);
}

#[test]
fn a_connection_that_is_collected_idle_is_told_of() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("access.jsonl");
    let service = Service { idle: 3, ..Service::of(&lab) };
    let _daemon = serve(&lab, &service, &file);
    let talk = open(&lab, vip());
    let told = line(&file, talk.local());
    assert_eq!(told["error"], "idle", "{told}");
    assert!(told["session_time"].as_f64() >= Some(3.0), "{told}");
}
