//! `alb flows`: the live table as it is listed, filtered, bounded and followed.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddrV4,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use alb_common::{
    abi::map,
    flow::{FlowEntry, FlowKey},
    net::{Be16, Be32},
};
use alb_tests::{
    client::{Conversation, seen},
    daemon::{Instance, binary},
    packet_path::lines,
    topology::{Lab, Shape, VIP},
    wait,
};
use aya::maps::MapData;
use serde_json::Value;

use crate::setting::{PORT, Service, servers, vip};

const LONG: Duration = Duration::from_secs(15);

fn run(args: &[&str]) -> Output {
    Command::new(binary()).arg("flows").args(args).output().expect("running alb flows")
}

/// `alb flows --config {file} -o json {args}`.
fn document(instance: &Instance<'_>, args: &[&str]) -> Value {
    let file = instance.config();
    let file = file.to_str().expect("a plain path");
    let output = run(&[&["--config", file, "-o", "json"], args].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("a document")
}

/// Number of flows that a filter takes.
fn matching(instance: &Instance<'_>, args: &[&str]) -> u64 {
    let document = document(instance, args);
    let listed = document["flows"].as_array().expect("flows").len() as u64;
    let matching = document["matching"].as_u64().expect("a count");
    assert_eq!(document["leftOut"].as_u64(), Some(matching - listed), "{document}");
    matching
}

fn end(flow: &Value, name: &str) -> SocketAddrV4 {
    flow[name].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{flow}"))
}

#[test]
fn open_flows_are_listed_with_both_ends_and_what_went_through() {
    let lab = Lab::new(Shape { targets: 2, ..Shape::default() });
    let servers = servers(&lab);
    let mut daemon = Service::of(&lab).serve(&lab);
    assert_eq!(matching(&daemon.instance, &[]), 0);
    let open = |_| Conversation::open(&lab.client.namespace, vip()).expect("a connection");
    let mut talks: Vec<_> = (0..4).map(open).collect();
    talks[0].exchange(&[7; 10_000]).expect("an echo");

    let check = |instance: &Instance<'_>| {
        let listed = document(instance, &["--state", "established"]);
        let flows = listed["flows"].as_array().expect("flows");
        assert_eq!(flows.len(), 4, "{listed:#}");
        let mut per_target = [0, 0];
        for flow in flows {
            assert_eq!(end(flow, "client").ip(), &lab.client.address);
            assert_eq!(end(flow, "vip"), SocketAddrV4::new(VIP, PORT));
            assert!((10_000..30_000).contains(&end(flow, "snat").port()), "{flow}");
            let target = end(flow, "target");
            assert_eq!(target.port(), PORT);
            let place = lab.targets.iter().position(|host| host.address == *target.ip());
            per_target[place.expect("a target")] += 1;
            for name in ["packetsIn", "packetsOut", "bytesIn", "bytesOut"] {
                assert!(flow[name].as_u64() > Some(1), "{name} of {flow}");
            }
            assert!(flow["idleSeconds"].as_f64() < Some(60.0), "{flow}");
        }
        assert_eq!(per_target, [2, 2]);
        let carried = |flow: &&Value| {
            flow["bytesIn"].as_u64() > Some(10_000) && flow["bytesOut"].as_u64() > Some(10_000)
        };
        assert_eq!(flows.iter().filter(carried).count(), 1, "{listed:#}");
    };
    check(&daemon.instance);
    // The table is the kernel's: nobody needs to serve.
    daemon.kill();
    check(&daemon.instance);

    let address = lab.targets[0].address.to_string();
    let client = format!("{}/32", lab.client.address);
    for (args, expected) in [
        (&["--target", &address][..], 2),
        (&["--client", &client], 4),
        (&[&client], 4),
        (&["--client", &client, "--target", &address], 2),
        (&["--vip", "198.18.0.0/24:8080"], 4),
        (&["--vip", ":8081"], 0),
        (&["--state", "half-open,closed"], 0),
        // From the file.
        (&["--listener", "tcp"], 4),
        (&["--listener", "lab/tcp", &address], 2),
    ] {
        assert_eq!(matching(&daemon.instance, args), expected, "{args:?}");
    }
    daemon.restart();
    assert_eq!(matching(&daemon.instance, &["--listener", "tcp"]), 4);
    drop(servers);
}

#[test]
fn a_target_s_view_of_a_client_finds_the_client() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let daemon = Service::of(&lab).serve(&lab);
    let (peer, local) = seen(&lab.client.namespace, vip()).expect("an answer");
    let listed = wait::until("the flow to be closed", LONG, || {
        let listed = document(&daemon.instance, &["--snat", &peer]);
        (listed["flows"][0]["state"] == "closed").then_some(listed)
    });
    let [flow] = &listed["flows"].as_array().expect("flows")[..] else { panic!("{listed}") };
    assert_eq!(end(flow, "client").to_string(), local.to_string());
    // Its counters are folded, and others stand in their place.
    assert!(flow["bytesIn"].is_null() && flow["packetsOut"].is_null(), "{flow}");
}

/// A running `alb flows --follow -o json`, ended when dropped.
struct Follow {
    child: Child,
    lines: Receiver<String>,
}

impl Follow {
    /// Returns when the first look is done.
    fn start(instance: &Instance<'_>, args: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command.args(["flows", "--follow", "-o", "json", "--config"]).arg(instance.config());
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("starting alb flows");
        let mut told = String::new();
        let stderr = child.stderr.take().expect("a pipe");
        BufReader::new(stderr).read_line(&mut told).expect("a line");
        assert!(told.ends_with("from now on:\n"), "{told}");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (send, lines) = channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).all(|l| send.send(l).is_ok()));
        Self { child, lines }
    }

    fn next(&self) -> Value {
        let line = self.lines.recv_timeout(LONG).expect("a change");
        serde_json::from_str(&line).expect(&line)
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn flows_that_begin_and_end_are_told() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let daemon = Service::of(&lab).serve(&lab);
    let client = &lab.client.namespace;
    let _before = Conversation::open(client, vip()).expect("a connection");
    let follow = Follow::start(&daemon.instance, &[]);
    let mut talk = Conversation::open(client, vip()).expect("a connection");
    let began = follow.next();
    assert_eq!(began["change"], "new", "{began}");
    assert_eq!(end(&began, "vip"), SocketAddrV4::new(VIP, PORT));
    talk.exchange(&[1; 5_000]).expect("an echo");
    talk.reset().expect("a socket");
    let ended = follow.next();
    assert_eq!((&ended["change"], &ended["client"]), (&"ended".into(), &began["client"]));
    assert_eq!(ended["state"], "reset", "{ended}");
    // The one that was there before was not told of.
    drop(follow);
    assert_eq!(matching(&daemon.instance, &["--state", "established"]), 1);
}

#[test]
fn the_list_is_bounded_and_says_what_it_leaves_out() {
    const MADE: u16 = 3_000;
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let mut daemon = Service::of(&lab).serve(&lab);
    // Else its sweeps would remove what is made here.
    daemon.kill();
    let path = daemon.instance.maps().join(map::FLOWS);
    let data = MapData::from_pin(path).expect("a map");
    let flows = lines(map::FLOWS, &data);
    let client = Be32::from(std::net::Ipv4Addr::new(198, 18, 0, 200));
    for port in 0..MADE {
        let key = FlowKey {
            src: client,
            dst: Be32::from(VIP),
            sport: Be16::new(1_000 + port),
            dport: Be16::new(PORT),
        };
        let entry = FlowEntry { tag: key.tag(), bytes: 1, packets: 1, ..FlowEntry::default() };
        assert!(flows.insert(&key, &entry).expect("room"), "{key:?}");
    }
    let of_client = ["--client", "198.18.0.200"];
    let left_out = |args: &[&str]| {
        let document = document(&daemon.instance, &[&of_client, args].concat());
        let listed = document["flows"].as_array().expect("flows").len() as u64;
        (listed, document["matching"].as_u64(), document["leftOut"].as_u64())
    };
    let all = u64::from(MADE);
    assert_eq!(left_out(&[]), (1_000, Some(all), Some(all - 1_000)));
    assert_eq!(left_out(&["--limit", "7"]), (7, Some(all), Some(all - 7)));
    assert_eq!(left_out(&["--limit", "0"]), (all, Some(all), Some(0)));
}

#[test]
fn who_cannot_be_answered_is_told_why() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let daemon = Service::of(&lab).serve(&lab);
    let bpffs = daemon.instance.bpffs().to_str().expect("a plain path");
    let nowhere = format!("{bpffs}-not");
    for (args, code, expected) in [
        (&["--bpffs", &nowhere][..], 1, "no flow table is pinned under"),
        (&["--bpffs", bpffs, "--client", "nobody"], 2, "no address or prefix"),
        (&["--bpffs", bpffs, "--state", "open"], 2, "established"),
        (&["--bpffs", bpffs, "--interval", "2"], 2, "--follow"),
        (
            &["--bpffs", bpffs, "--listener", "tcp", "--socket", "/nonexistent/alb.sock"],
            3,
            "is `alb run` running?",
        ),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains(expected), "{args:?}: {told}");
    }
    let file = daemon.instance.config();
    let output = run(&["--listener", "wbe", "--config", file.to_str().expect("a plain path")]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("no listener wbe: there are lab/tcp"), "{told}");
}
