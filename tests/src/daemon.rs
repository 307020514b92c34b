//! A daemon in a namespace: its file, its state, its pins and its log, all its own.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{self, Child, Command, ExitStatus, Output, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

use alb_userspace::datapath::kernel::step::TC_FILTER;

use crate::{netns::Namespace, wait};

/// The filesystem pins live on.
pub const BPFFS: &str = "/sys/fs/bpf";
/// How the directories of tests begin.
pub const PIN_PREFIX: &str = "alb-test-";

/// How long connections of the proxy may live on at the end, and some more.
const END: Duration = Duration::from_secs(90);
/// What a word for a datapath ends with if a filter is to be used at TC.
const FILTER: &str = "-filter";

/// What a daemon's file says of its node beside the directories, which are the harness's.
#[derive(Clone, Debug)]
pub struct Node {
    /// Interfaces of the fast path.
    pub interfaces: Vec<String>,
    /// `auto`, `xdp`, `xdp-generic`, `tc`; or `tc-filter`, which is `tc` as before Linux 6.6.
    pub datapath: &'static str,
    /// More lines of the `node` section, such as `snat: {…}`; each ends without a line break.
    pub more: Vec<String>,
}

impl Node {
    /// The datapath that the tests are run over: the one that `ALB_TEST_DATAPATH` names (as
    /// [`Node::datapath`]), else native XDP.
    pub fn tested() -> &'static str {
        static TESTED: LazyLock<String> = LazyLock::new(|| {
            std::env::var("ALB_TEST_DATAPATH").unwrap_or_else(|_| "xdp".to_owned())
        });
        &TESTED
    }

    /// The datapath under test on these interfaces.
    pub fn xdp(interfaces: &[&str]) -> Self {
        Self::on(interfaces, Self::tested())
    }

    /// This datapath on these interfaces.
    pub fn on(interfaces: &[&str], datapath: &'static str) -> Self {
        let interfaces = interfaces.iter().map(|&name| name.to_owned()).collect();
        Self { interfaces, datapath, more: vec!["flows: 65536".to_owned()] }
    }
}

/// Where one instance keeps its things; outlives the process, as on a real host.
#[derive(Debug)]
pub struct Instance<'lab> {
    namespace: &'lab Namespace,
    node: Node,
    dir: TempDir,
    bpffs: PathBuf,
    /// The pins are another instance's to remove.
    is_rival: bool,
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon<'lab> {
    /// Its directories.
    pub instance: Instance<'lab>,
    child: Option<Child>,
}

impl<'lab> Instance<'lab> {
    /// Makes the directories and writes the file; `body` is everything but `node`.
    pub fn new(namespace: &'lab Namespace, node: Node, body: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let bpffs = Path::new(BPFFS).join(format!("{PIN_PREFIX}{}-{number}", process::id()));
        let dir = tempfile::Builder::new().prefix(PIN_PREFIX).tempdir().expect("a directory");
        let instance = Self { namespace, node, dir, bpffs, is_rival: false };
        instance.write(body);
        instance
    }

    /// An instance with this one's pin directory, and all else its own.
    pub fn rival<'other>(
        &self,
        namespace: &'other Namespace,
        node: Node,
        body: &str,
    ) -> Instance<'other> {
        let mut rival = Instance::new(namespace, node, body);
        rival.bpffs.clone_from(&self.bpffs);
        rival.is_rival = true;
        rival.write(body);
        rival
    }

    /// Replaces what the file says of the node, and the file.
    pub fn change_node(&mut self, node: Node, body: &str) {
        self.node = node;
        self.write(body);
    }

    /// Replaces the file.
    pub fn write(&self, body: &str) {
        let Node { interfaces, datapath, more } = &self.node;
        let datapath = datapath.strip_suffix(FILTER).unwrap_or(datapath);
        let mut text = format!(
            "node:\n  interfaces: [{}]\n  datapath: {datapath}\n  bpffs: {}\n  stateDir: {}\n  \
             api: {{ listen: 127.0.0.1:9180 }}\n",
            interfaces.join(", "),
            self.bpffs.display(),
            self.dir.path().join("state").display(),
        );
        for line in more {
            writeln!(text, "  {line}").expect("writing to a string");
        }
        text.push_str(body);
        fs::write(self.config(), text).expect("writing the configuration");
    }

    /// The file.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("alb.yaml")
    }

    /// Where its maps and links are pinned.
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// Where its maps are pinned.
    ///
    /// # Panics
    ///
    /// If nothing is pinned.
    pub fn maps(&self) -> PathBuf {
        let version = fs::read_dir(&self.bpffs).expect("pins").flatten().next();
        version.expect("a version").path().join("maps")
    }

    /// Its control socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("state/alb.sock")
    }

    /// Everything its daemons have written to standard output and error.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Runs `alb {words} --config {file}` to its end.
    pub fn alb(&self, subcommand: &str) -> Output {
        let mut command = self.namespace.command(binary());
        command.arg(subcommand).arg("--config").arg(self.config());
        command.output().expect("running alb")
    }

    /// Starts the daemon without waiting for it.
    pub fn spawn(&self) -> Child {
        self.spawn_with(None)
    }

    /// As [`Instance::spawn`], with a variable in its environment.
    pub fn spawn_with(&self, variable: Option<(&str, &str)>) -> Child {
        let path = self.dir.path().join("log");
        let mut log = File::options().create(true).append(true).open(path).expect("a log file");
        writeln!(log, "--- start").expect("writing the log");
        let mut command = self.namespace.command(binary());
        command.args(["run", "--config"]).arg(self.config());
        command.envs(variable);
        if self.node.datapath.ends_with(FILTER) {
            command.env(TC_FILTER, "1");
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a descriptor")).stderr(log);
        command.spawn().expect("starting alb")
    }

    /// `alb run --takeover` with its file.
    pub fn take_over_command(&self) -> Command {
        let mut command = self.namespace.command(binary());
        command.args(["run", "--takeover", "--config"]).arg(self.config());
        command
    }

    /// Starts the daemon and waits until it is ready; panics with its log if it does not get there.
    pub fn start(self) -> Daemon<'lab> {
        let mut daemon = Daemon { child: Some(self.spawn()), instance: self };
        daemon.wait_ready();
        daemon
    }
}

impl Drop for Instance<'_> {
    /// Leaves nothing attached or pinned even if `alb detach` cannot do it.
    fn drop(&mut self) {
        if self.is_rival || !self.bpffs.exists() {
            return;
        }
        let mut detach = self.namespace.command(binary());
        detach.arg("detach").arg("--config").arg(self.config());
        if !detach.output().is_ok_and(|output| output.status.success()) {
            eprintln!("alb detach failed; removing {}", self.bpffs.display());
        }
        if self.bpffs.exists() {
            drop(fs::remove_dir_all(&self.bpffs));
        }
    }
}

impl Daemon<'_> {
    /// Starts it again after its end, with the same directories.
    pub fn restart(&mut self) {
        self.restart_with(None);
    }

    /// As [`Daemon::restart`], with a variable in its environment.
    pub fn restart_with(&mut self, variable: Option<(&str, &str)>) {
        assert!(self.child.is_none(), "it runs still");
        self.child = Some(self.instance.spawn_with(variable));
        self.wait_ready();
    }

    /// Starts it again after its end, with a variable in its environment at which it stops.
    /// Returns when it has; [`Daemon::go_on`] must follow.
    pub fn restart_to_stop(&mut self, variable: (&str, &str)) {
        let child = self.child.insert(self.instance.spawn_with(Some(variable)));
        let id = child.id();
        self.wait_stopped(id);
    }

    fn wait_stopped(&self, id: u32) {
        let stopped = wait::within(wait::LONG, || is_stopped(id).then_some(()));
        assert!(stopped.is_some(), "it does not stop:\n{}", self.log());
    }

    /// Has a stopped daemon go on until it stops again.
    pub fn go_on_to_stop(&self) {
        let child = self.child.as_ref().expect("a stopped daemon");
        kill(pid(child), Signal::SIGCONT).expect("a stopped daemon takes signals");
        self.wait_stopped(child.id());
    }

    /// Has a stopped daemon go on, and waits until it is ready.
    pub fn go_on(&mut self) {
        let child = self.child.as_ref().expect("a stopped daemon");
        kill(pid(child), Signal::SIGCONT).expect("a stopped daemon takes signals");
        self.wait_ready();
    }

    /// Has another daemon take over, and waits until that is ready and this one has ended.
    pub fn take_over(&mut self) {
        let next = self.successor(None);
        let new = u64::from(next.id());
        let mut old = self.child.replace(next).expect("a running daemon");
        let taken_over = wait::within(wait::LONG, || {
            let status = self.try_status().ok()?;
            (status["pid"] == new && status["ready"] == true).then_some(())
        });
        assert!(taken_over.is_some(), "nobody takes over:\n{}", self.log());
        let ended = wait::within(END, || old.try_wait().expect("a child can be asked"));
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}\n{}", self.log());
    }

    /// Kills this one while the one that takes over has come to a step, and waits until that is
    /// ready.
    pub fn die_in_takeover(&mut self, step: &str) {
        let next = self.successor_that_stops(step);
        self.kill();
        self.child = Some(next);
        self.go_on();
    }

    /// Has another daemon begin to take over, come to a step and stop there. Whoever gets it has
    /// to kill it.
    pub fn successor_that_stops(&self, step: &str) -> Child {
        let next = self.successor(Some(("ALB_STOP_AT", step)));
        self.wait_stopped(next.id());
        next
    }

    fn successor(&self, variable: Option<(&str, &str)>) -> Child {
        let path = self.instance.dir.path().join("log");
        let log = File::options().append(true).open(path).expect("a log file");
        let mut command = self.instance.take_over_command();
        command.envs(variable);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a descriptor")).stderr(log);
        command.spawn().expect("starting alb")
    }

    /// Process id of the running daemon.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("a running daemon").id()
    }

    /// Its memory, bytes (`RssAnon`, `proc_pid_status(5)`). Pages of the program itself are not
    /// among it: they come when code is run for the first time, and go when the host needs room.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()));
        let status = status.expect("a running daemon has a status");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        kib.and_then(|text| text.parse::<u64>().ok()).expect("a size in KiB") * 1024
    }

    /// `kill -9`; returns when the process is gone.
    pub fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// SIGTERM, without waiting for the end.
    pub fn ask_to_end(&self) {
        let child = self.child.as_ref().expect("a running daemon");
        kill(pid(child), Signal::SIGTERM).expect("a running daemon takes signals");
    }

    /// SIGTERM; returns how it ended.
    pub fn terminate(&mut self) -> ExitStatus {
        self.end(Signal::SIGTERM)
    }

    /// Replaces the file, sends SIGHUP and waits until the daemon has read it; whether it was
    /// applied.
    pub fn reload(&self, body: &str) -> bool {
        let outcome = |status: &Value| {
            let config = &status["config"];
            (config["applied"].as_u64(), config["refused"].as_u64())
        };
        let before = outcome(&self.status());
        self.instance.write(body);
        let child = self.child.as_ref().expect("a running daemon");
        kill(pid(child), Signal::SIGHUP).expect("a running daemon takes signals");
        let after = wait::until("the reload", wait::LONG, || {
            Some(outcome(&self.status())).filter(|now| *now != before)
        });
        after.1 == before.1
    }

    /// `alb status -o json`.
    pub fn status(&self) -> Value {
        self.try_status().unwrap_or_else(|error| panic!("alb status: {error}\n{}", self.log()))
    }

    /// How many of a listener's targets are in this state.
    pub fn targets_in_state(&self, listener: &str, state: &str) -> usize {
        let status = self.status();
        let listeners = status["listeners"].as_array().into_iter().flatten();
        let of_name = listeners.filter(|entry| entry["name"] == listener);
        let targets = of_name.filter_map(|entry| entry["targets"].as_array()).flatten();
        targets.filter(|target| target["state"] == state).count()
    }

    /// Waits until so many of a listener's targets are in this state.
    pub fn wait_targets(&self, listener: &str, state: &str, count: usize) {
        wait::until(&format!("{count} {state} targets"), wait::LONG, || {
            (self.targets_in_state(listener, state) == count).then_some(())
        });
    }

    /// Connections that a listener's targets have open by the packet path's count, by target address.
    pub fn active(&self, listener: &str) -> Vec<u64> {
        let status = self.status();
        let listeners = status["listeners"].as_array().into_iter().flatten();
        let of_name = listeners.filter(|entry| entry["name"] == listener);
        let targets = of_name.filter_map(|entry| entry["targets"].as_array()).flatten();
        let mut active: Vec<_> = targets
            .map(|target| (target["address"].to_string(), target["activeFlows"].as_u64()))
            .collect();
        active.sort();
        active.into_iter().map(|(_, active)| active.expect("a count")).collect()
    }

    /// The counter of one reason.
    pub fn reason(&self, name: &str) -> u64 {
        let status = self.status();
        let mut reasons = status["reasons"].as_array().into_iter().flatten();
        let reason = reasons.find(|entry| entry["reason"] == name);
        reason.and_then(|entry| entry["packets"].as_u64()).unwrap_or_else(|| {
            panic!("no reason {name} in {}", status["reasons"]);
        })
    }

    /// Everything it has written.
    pub fn log(&self) -> String {
        self.instance.log()
    }

    fn try_status(&self) -> Result<Value, String> {
        let mut command = Command::new(binary());
        command.args(["status", "-o", "json", "--socket"]).arg(self.instance.socket());
        let output = command.output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
    }

    fn wait_ready(&mut self) {
        let ready = wait::within(wait::LONG, || {
            let child = self.child.as_mut().expect("a started daemon");
            if let Some(status) = child.try_wait().expect("a child can be asked") {
                panic!("alb run ended with {status}:\n{}", self.instance.log());
            }
            let ready = self.try_status().is_ok_and(|status| status["ready"] == true);
            ready.then_some(())
        });
        assert!(ready.is_some(), "alb run does not get ready:\n{}", self.log());
    }

    fn end(&mut self, signal: Signal) -> ExitStatus {
        let child = self.child.as_ref().expect("a running daemon");
        kill(pid(child), signal).expect("a running daemon takes signals");
        self.ended()
    }

    /// Waits for its end; returns how it ended.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a running daemon");
        let ended = wait::within(END, || child.try_wait().expect("a child can be asked"));
        ended.unwrap_or_else(|| {
            drop(child.kill());
            panic!("alb run did not end:\n{}", self.log())
        })
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
        if std::thread::panicking() {
            eprintln!("--- the daemon's log\n{}", self.log());
        }
    }
}

/// The daemon under test: `ALB_BIN`, else the one built beside this test.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("ALB_BIN") {
        return path.into();
    }
    let this = std::env::current_exe().expect("the path of this program");
    let candidates = this.ancestors().map(|dir| dir.join("alb"));
    let found = candidates.into_iter().find(|path| path.is_file());
    found.expect("alb is not built: run `cargo build -p alb-userspace`, or set ALB_BIN")
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("process ids are small"))
}

/// Whether a process was stopped by a signal.
pub fn is_stopped(id: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The state follows the name, which ends with a bracket (`proc_pid_stat(5)`).
    text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}
