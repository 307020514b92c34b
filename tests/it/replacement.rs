//! The pinned maps give way to others, and the daemon dies at every point of it: open
//! connections go on, and the next start leaves no mix.

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
    os::unix::process::ExitStatusExt as _,
    process::Child,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use alb_tests::{
    client::{Conversation, connect, tally, who},
    daemon::{Daemon, Instance, Node},
    program,
    topology::{Lab, Shape},
    wait,
};
use alb_userspace::datapath::kernel::step::{FIRST_START, KILL_AT, REPLACEMENT, STOP_AT};

use crate::{
    busy::Busy,
    setting::{PORT, Service, servers, vip},
};

const SIZES: [u32; 2] = [65_536, 16_384];

fn node(lab: &Lab, flows: u32) -> Node {
    Node { more: vec![format!("flows: {flows}")], ..Node::xdp(lab.interfaces()) }
}

#[test]
fn another_size_during_50_transfers() {
    let lab = Lab::new(Shape::default());
    let _servers = servers(&lab);
    let service = Service::of(&lab);
    let mut daemon = service.serve_as(&lab, node(&lab, SIZES[0]));
    let mut busy = Busy::begin(&lab);
    let newcomers = Newcomers::default();
    thread::scope(|scope| {
        scope.spawn(|| newcomers.come(&lab));
        let _ends = wait::Ends(&newcomers.leave);
        busy.during(|| {
            for flows in [131_072, SIZES[1]] {
                daemon.terminate();
                daemon.instance.change_node(node(&lab, flows), &service.body());
                daemon.restart();
                assert_whole(&lab, &daemon, flows);
                newcomers.wait_more(20);
            }
        });
    });
    tally(&lab.client.namespace, vip(), 30).expect("served with the new maps");
}

#[test]
fn flows_that_begin_between_copy_and_switch_are_carried() {
    let lab = Lab::new(Shape::default());
    let _servers = servers(&lab);
    let service = Service::of(&lab);
    let mut daemon = service.serve_as(&lab, node(&lab, SIZES[0]));
    let open = || Conversation::open(&lab.client.namespace, vip()).expect("a connection");
    let mut before: Vec<_> = (0..10).map(|_| open()).collect();
    daemon.terminate();
    daemon.instance.change_node(node(&lab, SIZES[1]), &service.body());
    daemon.restart_to_stop((STOP_AT, "flows copied"));

    let ended: Vec<_> = before.drain(..3).collect();
    drop(ended);
    let between: Vec<_> = (0..10).map(|_| open()).collect();
    daemon.go_on();
    assert_whole(&lab, &daemon, SIZES[1]);
    for talk in before.iter_mut().chain(&mut { between }) {
        talk.exchange(b"still there?").unwrap_or_else(|error| panic!("{}: {error}", talk.server));
    }
}

#[test]
fn a_port_that_has_changed_hands_since_the_copy_is_the_later_flow_s() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let target = &lab.targets[0];
    let listener = target.namespace.listen((target.address, PORT).into());
    let client = &lab.client.namespace;
    let open = || {
        let near = connect(client, None, vip())?;
        let (far, _) = listener.accept()?;
        far.set_read_timeout(Some(wait::LONG))?;
        Ok::<_, std::io::Error>((near, far))
    };
    // One port: whoever comes later has it from whoever was there before.
    let one_port = |flows| Node {
        more: vec![format!("flows: {flows}"), "snat: { portRange: 20000-20000 }".to_owned()],
        ..Node::xdp(lab.interfaces())
    };
    let service = Service::of(&lab);
    let mut daemon = service.serve_as(&lab, one_port(SIZES[0]));
    let (mut near, mut far) = open().expect("a connection");
    near.shutdown(Shutdown::Write).expect("an open connection");
    assert_eq!(far.read(&mut [0]).expect("the end"), 0);
    drop(far);
    assert_eq!(near.read(&mut [0]).expect("the end"), 0);

    daemon.terminate();
    daemon.instance.change_node(one_port(SIZES[1]), &service.body());
    daemon.restart_to_stop((STOP_AT, "flows copied,link 2 switched"));
    let (mut near, mut far) = wait::until("the port to be free", wait::LONG, || open().ok());
    near.write_all(b"a").expect("an open connection");
    far.read_exact(&mut [0]).expect("what was said");
    daemon.go_on_to_stop();
    // It meets what was copied, which has the port there.
    far.write_all(b"b").expect("an open connection");
    daemon.go_on();
    near.read_exact(&mut [0]).expect("the answer, when it is repeated");
    near.write_all(b"c").expect("an open connection");
    far.read_exact(&mut [0]).expect("what was said");
}

#[test]
fn killed_at_every_step_of_a_replacement() {
    killed_at_every_step(&Lab::new(Shape::default()), Node::tested());
}

#[test]
fn killed_at_every_step_of_a_replacement_of_filters() {
    killed_at_every_step(&Lab::with_offloads(Shape::default()), "tc-filter");
}

fn killed_at_every_step(lab: &Lab, datapath: &'static str) {
    let node = |lab, flows| Node { datapath, ..node(lab, flows) };
    let _servers = servers(lab);
    let service = Service::of(lab);
    let mut daemon = service.serve_as(lab, node(lab, SIZES[0]));
    // The same connections live through all of it.
    let mut busy = Busy::begin(lab);
    let mut opened: Vec<Conversation> = Vec::new();
    for (step, flows) in REPLACEMENT.iter().zip(SIZES.into_iter().rev().cycle()) {
        busy.during(|| {
            daemon.terminate();
            daemon.instance.change_node(node(lab, flows), &service.body());
            killed(daemon.instance.spawn_with(Some((KILL_AT, step))), step);
            for talk in &mut opened {
                talk.exchange(b"without a daemon")
                    .unwrap_or_else(|error| panic!("{step}: {error}"));
            }
            daemon.restart();
        });
        assert_whole(lab, &daemon, flows);
        let client = &lab.client.namespace;
        opened.push(Conversation::open(client, vip()).unwrap_or_else(|e| panic!("{step}: {e}")));
        tally(client, vip(), 15).unwrap_or_else(|error| panic!("{step}: {error}"));
    }
}

#[test]
fn killed_at_every_step_of_a_first_start() {
    let lab = Lab::new(Shape::default());
    let _servers = servers(&lab);
    for step in FIRST_START {
        // The links of the one before go with its bpffs, but not at once.
        let on = |device: &&str| program::on(&lab.balancer.namespace, device);
        wait::until("the interfaces to be free", wait::LONG, || {
            lab.interfaces().iter().all(|device| on(device).is_none()).then_some(())
        });
        let service = Service::of(&lab).body();
        let instance = Instance::new(&lab.balancer.namespace, node(&lab, SIZES[0]), &service);
        killed(instance.spawn_with(Some((KILL_AT, step))), step);
        let mut daemon = instance.start();
        assert_whole(&lab, &daemon, SIZES[0]);
        tally(&lab.client.namespace, vip(), 15).unwrap_or_else(|error| panic!("{step}: {error}"));
        daemon.terminate();
    }
}

#[test]
fn tables_too_small_for_the_open_flows_are_refused_and_change_nothing() {
    let lab = Lab::new(Shape::default());
    let _servers = servers(&lab);
    let service = Service::of(&lab);
    let mut daemon = service.serve_as(&lab, node(&lab, 4_096));
    let client = &lab.client.namespace;
    let mut open: Vec<_> =
        (0..1_100).map(|_| Conversation::open(client, vip()).expect("a connection")).collect();
    daemon.terminate();
    daemon.instance.change_node(node(&lab, 1_024), &service.body());
    let mut child = daemon.instance.spawn();
    let status = wait::until("the refusal", wait::LONG, || child.try_wait().expect("a child"));
    let log = daemon.log();
    assert!(!status.success() && log.contains("1100 flows are open"), "{log}");

    daemon.instance.change_node(node(&lab, 4_096), &service.body());
    daemon.restart();
    for talk in &mut open {
        talk.exchange(b"still there?").expect("an open connection lives");
    }
}

/// One set of maps, of this size, under one program on all interfaces.
fn assert_whole(lab: &Lab, daemon: &Daemon<'_>, flows: u32) {
    let status = daemon.status();
    assert_eq!(status["datapath"]["flows"]["established"]["capacity"], flows, "{status}");
    let balancer = &lab.balancer.namespace;
    let on = |device: &&str| program::on(balancer, device);
    let programs: Vec<_> = lab.interfaces().iter().map(on).collect();
    assert!(programs[0].is_some() && programs.iter().all(|id| *id == programs[0]), "{programs:?}");
    let mut left = walk(daemon.instance.bpffs());
    left.retain(|name| name.contains("-new"));
    assert!(left.is_empty(), "{left:?}");
}

fn walk(dir: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a directory").filter_map(Result::ok);
    entries
        .flat_map(|entry| {
            let path = entry.path();
            let below = if path.is_dir() { walk(&path) } else { Vec::new() };
            std::iter::once(path.display().to_string()).chain(below)
        })
        .collect()
}

/// Waits until the daemon has killed itself.
fn killed(mut child: Child, step: &str) {
    let status = wait::within(wait::LONG, || child.try_wait().expect("a child"));
    let signal = status.and_then(|status| status.signal());
    if status.is_none() {
        child.kill().expect("a running child");
        child.wait().expect("a killed child");
    }
    assert_eq!(signal, Some(9), "{step}: not reached ({status:?}); a release build has no steps");
}

/// Clients that connect, ask and leave, one after the other.
#[derive(Default)]
struct Newcomers {
    leave: AtomicBool,
    served: AtomicUsize,
}

impl Newcomers {
    fn come(&self, lab: &Lab) {
        while !self.leave.load(Ordering::Relaxed) {
            who(&lab.client.namespace, None, vip()).expect("a newcomer is served");
            self.served.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn wait_more(&self, count: usize) {
        let wanted = self.served.load(Ordering::Relaxed) + count;
        wait::until("newcomers", wait::LONG, || {
            (self.served.load(Ordering::Relaxed) >= wanted).then_some(())
        });
    }
}
