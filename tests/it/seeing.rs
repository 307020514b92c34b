//! What is seen of the proxy's traffic: the access log, its rotation and its loss, and /metrics.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use alb_tests::{
    client::who,
    daemon::{Daemon, Instance, Node},
    http::Client,
    netns::must,
    origin::{Exchange, Origin},
    server::{Nginx, Server},
    topology::{Lab, Shape, VIP},
    wait,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::setting::{PORT, Service};

/// Port of the connections beside the requests.
const RAW: u16 = 9_000;
/// One target, an http listener and a tcp one of the proxy.
fn body(lab: &Lab) -> String {
    let target = lab.targets[0].address;
    let group =
        format!("{{ name: raw, type: ip, targets: [{{ ipAddress: {target}, port: {RAW} }}] }}, ");
    let backend = format!(
        "{{ name: raw, protocol: Tcp, port: {RAW}, targetGroup: raw, proxyProtocol: true, \
         closeHealthCheck: true }}, "
    );
    let listener = format!("{{ name: raw, protocol: Tcp, port: {RAW}, backend: raw }}, ");
    Service::of(lab)
        .body()
        .replace("protocol: Tcp", "protocol: Http")
        .replace("targetGroups: [", &format!("targetGroups: [{group}"))
        .replace("backends: [", &format!("backends: [{backend}"))
        .replace("listeners: [", &format!("listeners: [{listener}"))
}

fn lab() -> Lab {
    Lab::new(Shape { targets: 1, ..Shape::default() })
}

/// A daemon that logs to a file with these settings.
fn start<'lab>(lab: &'lab Lab, file: &Path, settings: &str) -> Daemon<'lab> {
    let mut node = Node::xdp(lab.interfaces());
    node.more.push(format!("accessLog: {{ file: {}{settings} }}", file.display()));
    Instance::new(&lab.balancer.namespace, node, &body(lab)).start()
}

/// So many requests over one connection; the distinct statuses.
fn requests(lab: &Lab, count: usize, path: &str) -> BTreeSet<String> {
    let mut curl = lab.client.namespace.command("curl");
    curl.args(["-s", "-m", "20", "-o", "/dev/null", "-A", "seeing", "-w", "%{http_code}\n"]);
    curl.arg(format!("http://{VIP}:{PORT}/{path}[1-{count}]"));
    must(&mut curl).lines().map(str::to_owned).collect()
}

fn all_ok() -> BTreeSet<String> {
    BTreeSet::from(["200".to_owned()])
}

/// The whole lines of a file; none if it is not there.
fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let whole = text.lines().take(text.matches('\n').count());
    whole.map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// Waits until a file has so many.
pub(crate) fn wait_lines(file: &Path, count: usize) -> Vec<Value> {
    wait::until("lines in the log", wait::LONG, || {
        Some(lines(file)).filter(|got| got.len() >= count)
    })
}

pub(crate) fn metrics(lab: &Lab) -> String {
    let mut curl = lab.balancer.namespace.command("curl");
    must(curl.args(["-sf", "-m", "5", "http://127.0.0.1:9180/metrics"]))
}

/// Waits until a series has this value; the metrics as they are then.
pub(crate) fn wait_value(lab: &Lab, name: &str, labels: &[(&str, &str)], wanted: u64) -> String {
    wait::until(&format!("{name} {labels:?} {wanted}"), wait::LONG, || {
        Some(metrics(lab)).filter(|text| value(text, name, labels) == wanted)
    })
}

/// The value of the one series with this name and these labels.
pub(crate) fn value(metrics: &str, name: &str, labels: &[(&str, &str)]) -> u64 {
    let found = values(metrics, name, labels);
    let [value] = found[..] else { panic!("{name} {labels:?}: {found:?}\n{metrics}") };
    value
}

/// Those of all series with this name and these labels.
pub(crate) fn values(metrics: &str, name: &str, labels: &[(&str, &str)]) -> Vec<u64> {
    let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
    let fits = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    };
    let value = |line: &str| line.rsplit_once(' ')?.1.parse().ok();
    let lines = metrics.lines().filter(fits);
    lines.map(|line| value(line).unwrap_or_else(|| panic!("a number: {line}"))).collect()
}

fn signal(daemon: &Daemon<'_>) {
    let id = i32::try_from(daemon.id()).expect("process ids are small");
    kill(Pid::from_raw(id), Signal::SIGUSR1).expect("a running daemon takes signals");
}

#[test]
fn requests_and_connections_are_logged_and_counted() {
    let lab = lab();
    let nginx = Nginx::start(&lab.targets[0].namespace, PORT, "web").expect("nginx");
    let _server = Server::start(&lab.targets[0], RAW, "raw");
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("access.jsonl");
    let mut daemon = start(&lab, &file, "");

    assert_eq!(requests(&lab, 5, "a?n="), all_ok());
    who(&lab.client.namespace, None, (VIP, RAW).into()).expect("an answer");
    drop(nginx);
    assert_eq!(requests(&lab, 1, "gone"), BTreeSet::from(["502".to_owned()]));

    let target = format!("{}:{PORT}", lab.targets[0].address);
    let told = wait_lines(&file, 7);
    assert_eq!(told.len(), 7, "{told:?}");
    let (asked, connections): (Vec<_>, Vec<_>) =
        told.iter().partition(|line| line["scheme"] == "http");
    for line in &asked {
        assert_eq!(line["client_ip"], lab.client.address.to_string(), "{line}");
        assert_eq!((&line["lb_vip"], &line["lb_vport"]), (&VIP.to_string().into(), &PORT.into()));
        assert_eq!(line["backend_server_ip_port"], *target, "{line}");
        assert_eq!(line["http_user_agent"], "seeing", "{line}");
        assert!(line["request_length"].as_u64() > Some(20), "{line}");
        assert!(line["bytes_sent"].as_u64() > Some(20), "{line}");
        assert!(line["request_id"].is_string() && line["request_time"].is_number(), "{line}");
    }
    let statuses: Vec<_> = asked.iter().map(|line| line["status"].as_u64()).collect();
    assert_eq!(statuses, [Some(200), Some(200), Some(200), Some(200), Some(200), Some(502)]);
    assert_eq!(asked[0]["request_uri"], "/a?n=1");
    assert_eq!(asked[5]["error"], "connect_failed");
    let [connection] = connections[..] else { panic!("{connections:?}") };
    assert_eq!((&connection["protocol"], &connection["lb_vport"]), (&"tcp".into(), &RAW.into()));
    assert!(connection["session_time"].is_number() && connection["bytes_sent"].as_u64() > Some(0));

    // A line is counted when it is in the file.
    let text = wait_value(&lab, "alb_access_log_lines_total", &[("outcome", "written")], 7);
    let of = |class| [("listener", "tcp"), ("class", class)];
    assert_eq!(value(&text, "alb_http_requests_total", &of("2xx")), 5);
    assert_eq!(value(&text, "alb_http_requests_total", &of("5xx")), 1);
    let count = "alb_http_request_duration_seconds_count";
    assert_eq!(value(&text, count, &[("listener", "tcp")]), 6);
    assert_eq!(value(&text, "alb_http_requests_in_flight", &[("listener", "tcp")]), 0);
    let failed = [("backend", "all"), ("reason", "connect_failed")];
    assert_eq!(value(&text, "alb_backend_errors_total", &failed), 1);
    assert_eq!(value(&text, "alb_backend_connects_total", &[("backend", "raw")]), 1);
    assert_eq!(daemon.status()["proxy"]["accessLog"]["lost"], 0);

    // What was recorded just before the end is not lost.
    let _server = Nginx::start(&lab.targets[0].namespace, PORT, "web").expect("nginx");
    assert_eq!(requests(&lab, 3, "last"), all_ok());
    assert!(daemon.terminate().success(), "{}", daemon.log());
    assert_eq!(lines(&file).len(), 10);
}

#[test]
fn large_bodies_are_told_and_counted_to_the_byte() {
    const BYTES: usize = 8 << 20;
    let lab = lab();
    let act = |exchange: &mut Exchange<'_>| {
        let taken = exchange.read_body()?.len();
        if exchange.method() == "GET" {
            return exchange.answer(200, vec![b'x'; BYTES]);
        }
        exchange.answer(200, taken.to_string())
    };
    let origin = Origin::start(&lab.targets[0], PORT, act);
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("access.jsonl");
    let _daemon = start(&lab, &file, "");

    let post = |framing: &str| format!("POST /up HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
    let body = "y".repeat(BYTES);
    let (first, second) = body.split_at(BYTES / 3);
    let requests = [
        "GET /down HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        post(&format!("Content-Length: {BYTES}")) + &body,
        post("Transfer-Encoding: chunked")
            + &format!("{:x}\r\n{first}\r\n{:x}\r\n", first.len(), second.len())
            + &format!("{second}\r\n0\r\n\r\n"),
    ];
    let mut client = Client::connect(&lab.client.namespace, (VIP, PORT).into());
    let (mut received, mut sent) = (0, 0);
    for (number, request) in requests.iter().enumerate() {
        let answer = client.ask(request);
        let answered = answer.head.len() + answer.body.len();
        assert_eq!(answer.status, 200);
        match number {
            0 => assert_eq!(answer.body.len(), BYTES),
            _ => assert_eq!(answer.text(), BYTES.to_string()),
        }
        let told = wait_lines(&file, number + 1).swap_remove(number);
        assert_eq!(told["request_length"], request.len(), "{told}");
        assert_eq!(told["bytes_sent"], answered, "{told}");
        received += request.len() as u64;
        sent += answered as u64;
    }
    let bytes = "alb_listener_bytes_total";
    wait_value(&lab, bytes, &[("listener", "tcp"), ("direction", "in")], received);
    wait_value(&lab, bytes, &[("listener", "tcp"), ("direction", "out")], sent);
    assert_eq!(origin.requests(), 3);
}

#[test]
fn a_request_that_cannot_be_served_is_told_as_it_came() {
    let lab = lab();
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("access.jsonl");
    let daemon = start(&lab, &file, "");
    assert!(daemon.log().contains("forwarding 2 listeners"), "{}", daemon.log());

    let mut curl = lab.client.namespace.command("curl");
    curl.args(["-s", "-m", "5", "-o", "/dev/null", "-X", "TRACE", "-w", "%{http_code}"]);
    assert_eq!(must(curl.arg(format!("http://{VIP}:{PORT}/a?b=\"c"))), "405");
    let told = wait_lines(&file, 1);
    assert_eq!(
        [&told[0]["error"], &told[0]["request_method"], &told[0]["request_uri"]],
        ["method_refused", "TRACE", "/a?b=\"c"]
    );
    assert!(told[0]["request_length"].as_u64() > Some(20), "{told:?}");
}

#[test]
fn the_file_is_rotated_by_signal_and_by_size() {
    let lab = lab();
    let _nginx = Nginx::start(&lab.targets[0].namespace, PORT, "web").expect("nginx");
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("access.jsonl");
    let mut daemon = start(&lab, &file, ", maxBytes: 65536, keep: 2");

    assert_eq!(requests(&lab, 2, "before"), all_ok());
    wait_lines(&file, 2);
    let moved = dir.path().join("moved");
    fs::rename(&file, &moved).expect("renaming");
    signal(&daemon);
    wait::until("a new file", wait::LONG, || file.exists().then_some(()));
    assert_eq!(requests(&lab, 2, "after"), all_ok());
    let new = wait_lines(&file, 2);
    assert!(new.iter().all(|line| line["request_uri"].as_str().unwrap().starts_with("/after")));
    assert_eq!(lines(&moved).len(), 2);

    assert_eq!(requests(&lab, 600, &"x".repeat(200)), all_ok());
    let numbered = |number| PathBuf::from(format!("{}.{number}", file.display()));
    wait::until("rotation by size", wait::LONG, || numbered(2).exists().then_some(()));
    assert!(daemon.terminate().success(), "{}", daemon.log());
    assert!(!numbered(3).exists());
    for file in [numbered(2), numbered(1), file] {
        let size = fs::metadata(&file).expect("a file").len();
        assert!(size <= 65_536, "{}: {size}", file.display());
        assert!(!lines(&file).is_empty(), "{}", file.display());
    }
}

#[test]
fn the_signal_does_nothing_without_a_log() {
    let lab = lab();
    let _nginx = Nginx::start(&lab.targets[0].namespace, PORT, "web").expect("nginx");
    let node = Node::xdp(lab.interfaces());
    let mut daemon = Instance::new(&lab.balancer.namespace, node, &body(&lab)).start();
    signal(&daemon);
    assert_eq!(requests(&lab, 3, ""), all_ok());
    assert_eq!(daemon.status()["ready"], true);
    assert!(daemon.terminate().success(), "{}", daemon.log());
}

/// A file system of a few pages; unmounted when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        let mut mount = Command::new("mount");
        must(mount.args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(dir.path()));
        Self(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("cannot unmount {}", self.0.path().display());
        }
    }
}

#[test]
fn a_full_disk_loses_lines_and_no_request() {
    let lab = lab();
    let _nginx = Nginx::start(&lab.targets[0].namespace, PORT, "web").expect("nginx");
    let disk = SmallDisk::new();
    let file = disk.0.path().join("access.jsonl");
    let filler = disk.0.path().join("filler");
    fs::write(&filler, vec![0; 48 << 10]).expect("filling the disk");
    let daemon = start(&lab, &file, "");
    let log = || daemon.status()["proxy"]["accessLog"].clone();

    assert_eq!(requests(&lab, 500, &"x".repeat(200)), all_ok());
    wait::until("loss", wait::LONG, || (log()["lost"].as_u64() > Some(0)).then_some(()));
    assert_eq!(requests(&lab, 20, "full"), all_ok());
    fs::remove_file(&filler).expect("making room");
    assert_eq!(requests(&lab, 5, "room"), all_ok());
    wait::until("recovery", wait::LONG, || (log()["failing"] == false).then_some(()));
    let wait_room = || lines(&file).iter().filter(|line| line["request_uri"] == "/room5").count();
    wait::until("the last line", wait::LONG, || (wait_room() == 1).then_some(()));
    // A line is counted after it was written.
    let written = wait::until("each line counted", wait::LONG, || {
        let log = log();
        let [written, lost] = ["written", "lost"].map(|key| log[key].as_u64().expect("a count"));
        assert!(written + lost <= 525, "{log}");
        (written + lost == 525).then_some(written)
    });
    assert_eq!(written, lines(&file).len() as u64, "whole lines, each counted");
}
