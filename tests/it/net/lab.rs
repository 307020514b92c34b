//! Two hosts on one link: network namespaces with a veth pair, gone when dropped.

use std::{
    fs::File,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use nix::sched::{CloneFlags, setns};

static LINKS: AtomicU32 = AtomicU32::new(0);

/// The near host is 198.18.1.1, the far one 198.18.1.2; their interfaces are called `near`
/// and `far`.
pub(super) struct Lab {
    near: String,
    far: String,
}

impl Lab {
    pub(super) fn new() -> Self {
        let number = LINKS.fetch_add(1, Ordering::Relaxed);
        let name = |side| format!("alb-it-{}-{number}-{side}", std::process::id());
        let lab = Self { near: name("near"), far: name("far") };
        for name in [&lab.near, &lab.far] {
            run(&["ip", "netns", "add", name]);
        }
        lab.near(&["ip", "link", "add", "near", "type", "veth", "peer", "far", "netns", &lab.far]);
        lab.near(&["ip", "address", "add", "198.18.1.1/24", "dev", "near"]);
        lab.far(&["ip", "address", "add", "198.18.1.2/24", "dev", "far"]);
        lab.near(&["ip", "link", "set", "near", "address", "02:00:00:00:00:01", "up"]);
        lab.far(&["ip", "link", "set", "far", "address", "02:00:00:00:00:02", "up"]);
        lab
    }

    /// Runs a command on the near host; panics unless it succeeds.
    #[track_caller]
    pub(super) fn near(&self, command: &[&str]) -> String {
        within(&self.near, command)
    }

    /// Runs a command on the far host.
    #[track_caller]
    pub(super) fn far(&self, command: &[&str]) -> String {
        within(&self.far, command)
    }

    /// Runs asynchronous code on the near host, on a thread of its own.
    pub(super) fn on_near(&self, code: impl AsyncFnOnce() + Send) {
        thread::scope(|scope| {
            scope.spawn(|| {
                let namespace = File::open(format!("/run/netns/{}", self.near)).unwrap();
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(code());
            });
        });
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in [&self.near, &self.far] {
            // Unwinding goes on when one was never made.
            let deleted = Command::new("ip").args(["netns", "delete", name]).status();
            assert!(deleted.is_ok() || thread::panicking(), "ip netns delete {name}");
        }
    }
}

#[track_caller]
fn within(namespace: &str, command: &[&str]) -> String {
    let net = format!("--net=/run/netns/{namespace}");
    run(&[&["nsenter", &net], command].concat())
}

#[track_caller]
fn run(command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}
