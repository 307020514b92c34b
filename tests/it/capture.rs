//! `alb capture`: packets before and after, with the reason, from the running packet path.

mod ends;

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, ChildStderr, Command, Output, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use alb_common::tcp::flag;
use alb_tests::{
    client::{Conversation, connect, tally},
    daemon::{Instance, Node, binary, is_stopped},
    pcapng::{self, Packet},
    program,
    topology::{Lab, Shape, VIP, six},
    wait,
};
use alb_userspace::datapath::{
    capture::{Frame, Said},
    kernel::step,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::setting::{PORT, Service, servers, servers6, vip, vip6};

/// A running `alb capture`.
struct Capturing {
    child: Child,
    stderr: BufReader<ChildStderr>,
    dir: TempDir,
}

impl Capturing {
    /// Into a file, if asked for; returns when packets are seen.
    fn begin(lab: &Lab, instance: &Instance<'_>, into_file: bool, args: &[&str]) -> Self {
        let mut capturing = Self::start(lab, instance, into_file, args, "");
        capturing.wait_begun();
        capturing
    }

    /// The same, but it stops at these steps.
    fn start(
        lab: &Lab,
        instance: &Instance<'_>,
        into_file: bool,
        args: &[&str],
        steps: &str,
    ) -> Self {
        let dir = TempDir::new().expect("a directory");
        let mut command = lab.balancer.namespace.command(binary());
        command.args(["capture", "--config"]).arg(instance.config()).args(args);
        if into_file {
            command.arg("--write").arg(dir.path().join("file"));
        }
        let mut child = command
            .env(step::STOP_AT, steps)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starting alb capture");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        Self { child, stderr, dir }
    }

    fn wait_begun(&mut self) {
        let mut told = String::new();
        self.stderr.read_line(&mut told).expect("a line");
        if !told.starts_with("capturing on ") {
            self.stderr.read_to_string(&mut told).expect("the rest");
            panic!("{told}");
        }
    }

    fn wait_stopped(&self) {
        wait::until("it to stop", wait::LONG, || is_stopped(self.child.id()).then_some(()));
    }

    fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.child.id().cast_signed());
        kill(id, signal).expect("it runs");
    }

    /// What it printed, and what it said at its end.
    fn ended(&mut self) -> (String, String) {
        let (mut printed, mut told) = (String::new(), String::new());
        let stdout = self.child.stdout.as_mut().expect("a pipe");
        stdout.read_to_string(&mut printed).expect("text");
        self.stderr.read_to_string(&mut told).expect("text");
        assert!(self.child.wait().expect("its end").success(), "{told}");
        (printed, told)
    }

    /// Ends it as Ctrl-C does.
    fn stop(&mut self) -> (String, String) {
        self.signal(Signal::SIGINT);
        self.ended()
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("file")
    }

    /// What the file has.
    fn packets(&self) -> Vec<Packet> {
        pcapng::read(&std::fs::read(self.path()).expect("a file"))
    }
}

impl Drop for Capturing {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn said(packet: &Packet) -> Said {
    let len = u32::try_from(packet.len).expect("a packet");
    let frame = Frame { bytes: packet.bytes.clone(), len };
    frame.said().unwrap_or_else(|| panic!("{packet:?}"))
}

/// The packets that were forwarded with this reason: as they came, as they left.
fn forwarded<'a>(packets: &'a [Packet], reason: &str) -> Vec<(&'a Packet, &'a Packet)> {
    let comment = format!("before: forward ({reason}) by ");
    let came = packets.iter().filter(|packet| packet.comment.starts_with(&comment));
    came.map(|before| {
        let mut same = packets.iter().filter(|packet| packet.id == before.id);
        let (Some(_), Some(after), None) = (same.next(), same.next(), same.next()) else {
            panic!("not two of {before:?}")
        };
        assert_eq!(after.comment, format!("after: {reason}, came by {}", before.interface));
        assert!(before.is_inbound && !after.is_inbound && before.at <= after.at);
        assert_eq!(before.verdict, after.verdict);
        (before, after)
    })
    .collect()
}

/// A connection and its answer, and the file made of them.
fn capture_a_connection(
    lab: &Lab,
    instance: &Instance<'_>,
    to: SocketAddr,
) -> (SocketAddr, Vec<Packet>) {
    // Another's, of which nothing may be seen.
    let other = SocketAddr::new(to.ip(), 9);
    let end = SocketAddr::to_string(&to);
    let mut capturing = Capturing::begin(lab, instance, true, &[&end, "--snaplen", "9000"]);
    connect(&lab.client.namespace, None, other).expect_err("nobody listens");
    let mut talk = Conversation::open(&lab.client.namespace, to).expect("a connection");
    talk.exchange(&[7; 3_000]).expect("an echo");
    let client = talk.local();
    talk.reset().expect("a socket");
    // The reset is behind all that belongs to the connection.
    let reset = |packet: &Packet| said(packet).flags.is_some_and(|flags| flags & flag::RST != 0);
    wait::until("the reset to be seen", wait::LONG, || {
        let file = std::fs::read(capturing.path()).expect("a file");
        whole(&file).iter().any(reset).then_some(())
    });
    let (_, told) = capturing.stop();
    let packets = capturing.packets();
    assert!(packets.iter().all(|packet| said(packet).to != other), "{packets:#?}");
    let ids = packets.iter().map(|packet| packet.id).max().expect("packets");
    assert_eq!(told, format!("{ids} packets captured\n"));
    (client, packets)
}

/// The packets of a file that is being written: up to the last whole block.
fn whole(file: &[u8]) -> Vec<Packet> {
    let mut end = 0;
    while let Some(len) = file.get(end + 4..end + 8) {
        let next = end + u32::from_le_bytes(len.try_into().expect("four")) as usize;
        if next > file.len() {
            break;
        }
        end = next;
    }
    pcapng::read(&file[..end])
}

/// A connection over this family, the daemon dead: each of its packets, before and after.
fn is_seen_on_both_sides(lab: &Lab, node: Node, over_ipv6: bool) {
    let _servers = if over_ipv6 { servers6(lab) } else { servers(lab) };
    let service = if over_ipv6 { Service::of6(lab) } else { Service::of(lab) };
    let (to, target) = if over_ipv6 {
        (vip6(), six(lab.targets[0].address).into())
    } else {
        (vip(), lab.targets[0].address.into())
    };
    let target = SocketAddr::new(target, PORT);
    let mut daemon = service.serve_as(lab, node);
    // The programs are the kernel's: nobody needs to serve.
    daemon.kill();
    let ran = running(lab);
    let before = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    let (client, packets) = capture_a_connection(lab, &daemon.instance, to);
    assert_eq!(running(lab), ran, "the program is back on its links");

    let [(came, left)] = forwarded(&packets, "new_flow")[..] else { panic!("{packets:#?}") };
    assert_eq!(came.comment, "before: forward (new_flow) by eth1: SYN that opened a flow");
    assert_eq!((came.interface.as_str(), left.interface.as_str()), ("eth0", "eth1"));
    let (there, on) = (said(came), said(left));
    assert_eq!((there.from, there.to, there.flags), (client, to, Some(flag::SYN)));
    assert_eq!((on.to, on.flags), (target, Some(flag::SYN)));
    assert!((10_000..30_000).contains(&on.from.port()), "{on:?}");
    let snat = on.from;
    assert!((came.bytes.len(), left.bytes.len()) == (came.len, left.len), "whole packets");
    let after = Duration::from_nanos(left.at);
    let took = after.checked_sub(before).expect("it is not older than the test");
    assert!(took < wait::LONG, "{before:?} {after:?}");

    let [(came, left)] = forwarded(&packets, "handshake_reverse")[..] else {
        panic!("{packets:#?}")
    };
    assert_eq!((came.interface.as_str(), left.interface.as_str()), ("eth1", "eth0"));
    let (there, on) = (said(came), said(left));
    assert_eq!((there.from, there.to), (target, snat));
    assert_eq!((on.from, on.to), (to, client));
    assert_eq!(on.flags, Some(flag::SYN | flag::ACK));

    assert_eq!(forwarded(&packets, "promoted").len(), 1);
    for reason in ["flow_forward", "flow_reverse"] {
        let pairs = forwarded(&packets, reason);
        assert!(pairs.iter().any(|(came, _)| came.len > 1_000), "{reason}: {packets:#?}");
    }
}

#[test]
fn a_connection_is_seen_on_both_sides_with_its_reasons() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    lab.add_ipv6();
    for over_ipv6 in [false, true] {
        is_seen_on_both_sides(&lab, Node::xdp(lab.interfaces()), over_ipv6);
    }
}

/// Ids of the packet path's programs on the balancer's devices.
fn running(lab: &Lab) -> Vec<Option<u32>> {
    let devices = lab.interfaces().iter();
    devices.map(|device| program::on(&lab.balancer.namespace, device)).collect()
}

#[test]
fn a_connection_is_seen_at_tc_too() {
    let lab = Lab::with_offloads(Shape { targets: 1, ..Shape::default() });
    lab.add_ipv6();
    for way in crate::tc::ways() {
        for over_ipv6 in [false, true] {
            is_seen_on_both_sides(&lab, Node::on(lab.interfaces(), way), over_ipv6);
        }
    }
}

#[test]
fn what_is_not_forwarded_says_why() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let daemon = Service::of(&lab).serve(&lab);
    let other = SocketAddr::from((VIP, 9));
    let client = &lab.client.namespace;
    let args = ["--verdict", "reset,drop", "--count", "1"];
    let mut capturing = Capturing::begin(&lab, &daemon.instance, true, &args);
    // Served, and so not asked for.
    tally(client, vip(), 2).expect("every connection served");
    connect(client, None, other).expect_err("nobody listens");
    let (_, told) = capturing.ended();
    assert_eq!(told, "1 packet captured\n");
    let [came, answer] = &capturing.packets()[..] else { panic!("{:#?}", capturing.packets()) };
    let comment = "before: reset (no_listener) by eth0: TCP to a VIP port without a listener";
    assert_eq!((came.comment.as_str(), came.interface.as_str()), (comment, "eth0"));
    assert_eq!(answer.comment, "after: RST: no_listener, came by eth0");
    assert_eq!((answer.interface.as_str(), answer.id), ("eth0", came.id));
    assert!(came.is_inbound && !answer.is_inbound);
    let (asked, answered) = (said(came), said(answer));
    assert_eq!((asked.to, asked.flags), (other, Some(flag::SYN)));
    assert_eq!((answered.from, answered.to), (other, asked.from));
    assert_eq!(answered.flags, Some(flag::RST | flag::ACK));

    // A datagram to the VIP; what leaves nothing is there once.
    let args = ["--reason", "unsupported_protocol", "--count", "1"];
    for into_file in [true, false] {
        let mut capturing = Capturing::begin(&lab, &daemon.instance, into_file, &args);
        let socket = client.enter(|| std::net::UdpSocket::bind("0.0.0.0:0")).expect("a socket");
        socket.send_to(b"hello", other).expect("room");
        let (printed, _) = capturing.ended();
        let comment = "drop (unsupported_protocol): protocol other than TCP and ICMP to a VIP";
        if into_file {
            let [packet] = &capturing.packets()[..] else { panic!("{:#?}", capturing.packets()) };
            assert_eq!(packet.comment, format!("before: {comment}"));
            assert_eq!(said(packet).to, other);
        } else {
            let from = socket.local_addr().expect("an address").port();
            let from = format!("eth0 {}:{from} → {other} UDP, ", lab.client.address);
            assert!(
                printed.contains(&from) && printed.ends_with(&format!("{comment}\n")),
                "{printed}"
            );
        }
    }
}

#[test]
fn packets_are_chosen_by_their_ends_and_bounded_in_number_and_size() {
    let lab = Lab::new(Shape { targets: 2, ..Shape::default() });
    let _servers = servers(&lab);
    let daemon = Service::of(&lab).serve(&lab);
    let client = &lab.client.namespace;
    let target = lab.targets[1].address.to_string();
    let args = ["--target", &target, "--interface", "eth0", "--reason", "new_flow"];
    let mut capturing = Capturing::begin(&lab, &daemon.instance, false, &args);
    tally(client, vip(), 10).expect("every connection served");
    let (printed, told) = capturing.stop();
    assert_eq!((printed.lines().count(), told.as_str()), (5, "5 packets captured\n"), "{printed}");
    assert!(
        printed.lines().all(|line| line.contains(&format!("→ {target}:{PORT} SYN, "))),
        "{printed}"
    );

    let from = lab.client.address.to_string();
    let args = ["--client", &from, "--count", "7", "--snaplen", "64"];
    let mut capturing = Capturing::begin(&lab, &daemon.instance, true, &args);
    tally(client, vip(), 10).expect("every connection served");
    assert_eq!(capturing.ended().1, "7 packets captured\n");
    let packets = capturing.packets();
    assert_eq!(packets.len(), 14, "{packets:#?}");
    assert!(packets.iter().all(|packet| packet.bytes.len() <= 64));
    assert!(packets.iter().any(|packet| packet.len > 64));

    let args = ["--seconds", "1", "--snat", ":9"];
    assert_eq!(
        Capturing::begin(&lab, &daemon.instance, true, &args).ended().1,
        "0 packets captured\n"
    );
}

fn run(lab: &Lab, args: &[&str], user: u32) -> Output {
    let mut command = if user == 0 {
        lab.balancer.namespace.command(binary())
    } else {
        // Who may not open anything may not enter a namespace.
        let mut command = Command::new(binary());
        command.uid(user).gid(user);
        command
    };
    command.arg("capture").args(args).output().expect("running alb capture")
}

#[test]
fn who_cannot_be_served_is_told_why() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let daemon = Service::of(&lab).serve(&lab);
    let bpffs = daemon.instance.bpffs().to_str().expect("a plain path");
    let nowhere = format!("{bpffs}-not");
    for (args, user, code, expected) in [
        (&["--bpffs", &nowhere][..], 0, 1, "no packet path is pinned under"),
        (&["--bpffs", bpffs], 65_534, 1, "root"),
        (&["--bpffs", bpffs, "--reason", "no_reason"], 0, 2, "no_reason"),
        (&["--bpffs", bpffs, "--verdict", "lost"], 0, 2, "forward, pass"),
        (&["--bpffs", bpffs, "--count", "0"], 0, 2, "--count"),
        (&["--bpffs", bpffs, "--snaplen", "9217"], 0, 2, "9216"),
        (&["--bpffs", bpffs, "--client", "nobody"], 0, 2, "no address or prefix"),
        (&["--bpffs", bpffs, "--interface", "eth77"], 0, 1, "eth77: there is none"),
        (
            &["--bpffs", bpffs, "--write", "/nonexistent/file"],
            0,
            1,
            "cannot write /nonexistent/file",
        ),
    ] {
        let output = run(&lab, args, user);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {told}");
        assert!(told.contains(expected), "{args:?}: {told}");
    }
    let first = Capturing::begin(&lab, &daemon.instance, true, &[]);
    let output = run(&lab, &["--bpffs", bpffs], 0);
    let told = String::from_utf8_lossy(&output.stderr);
    let holder = format!("another alb capture (process {})", first.child.id());
    assert!(told.contains(&holder) && output.status.code() == Some(1), "{told}");
}
