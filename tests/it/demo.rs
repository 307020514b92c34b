//! The demo of `cargo xtask run`, interrupted: what it made is gone.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use alb_tests::{
    daemon::{BPFFS, PIN_PREFIX, binary},
    wait,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The example, which `cargo test` builds beside this program.
fn demo() -> PathBuf {
    let this = std::env::current_exe().expect("the path of this program");
    let mut candidates = this.ancestors().map(|dir| dir.join("examples/demo"));
    let found = candidates.find(|path| path.is_file());
    found.expect("the demo is not built: run `cargo build -p alb-tests --example demo`")
}

/// A running demo, ended in its own way even if the test fails.
struct Running(Child);

impl Running {
    fn interrupt(&self, signal: Signal) -> nix::Result<()> {
        kill(Pid::from_raw(self.0.id().try_into().expect("process ids are small")), signal)
    }

    /// Namespaces that exist and were made by it.
    fn namespaces(&self) -> Vec<String> {
        let own = format!("alb-{}-", self.0.id());
        let entries = fs::read_dir("/run/netns").expect("namespaces");
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| name.starts_with(&own)).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) && self.interrupt(Signal::SIGTERM).is_ok() {
            drop(self.0.wait());
        }
    }
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = dir.path().join("state");
    let pins = Path::new(BPFFS).join(format!("{PIN_PREFIX}{}-demo", std::process::id()));
    // Directories of its own: a user's demo may be up beside the tests.
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart.yaml");
    let example = fs::read_to_string(example).expect("the example");
    let file = dir.path().join("demo.yaml");
    let text = example
        .replace("/sys/fs/bpf/alb-quickstart", &pins.display().to_string())
        .replace("/run/alb-quickstart", &state.display().to_string());
    fs::write(&file, text).expect("a file");

    let mut command = Command::new(demo());
    command.arg(binary()).arg(&file).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut running = Running(command.spawn().expect("starting the demo"));
    let mut lines = BufReader::new(running.0.stdout.take().expect("its output")).lines();
    let mut said = String::new();
    let mut read_to = |what: &str| {
        for line in lines.by_ref().map_while(Result::ok) {
            said.push_str(&line);
            said.push('\n');
            if line.contains(what) {
                return;
            }
        }
        panic!("it never said {what:?}:\n{said}");
    };
    read_to("TCP, in the kernel");
    assert!(pins.exists() && state.exists() && !running.namespaces().is_empty());

    running.interrupt(Signal::SIGINT).expect("it runs");
    read_to("interrupted; everything is removed");
    let status = wait::until("its end", wait::LONG, || running.0.try_wait().expect("a child"));
    assert!(status.success(), "{status}");
    assert_eq!(running.namespaces(), [""; 0]);
    assert!(!pins.exists(), "{} is left", pins.display());
    assert!(!state.exists(), "{} is left", state.display());
}
