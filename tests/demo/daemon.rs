//! The daemon of the demo: its log on the terminal, its status, its end.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use alb_tests::{netns::Namespace, wait};
use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    interrupt,
    plan::{Plan, Server},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A running daemon; stopped and detached when dropped.
#[derive(Debug)]
pub(crate) struct Daemon<'a> {
    alb: PathBuf,
    config: PathBuf,
    socket: PathBuf,
    /// The state directory, if the demo is the first to use it.
    made: Option<PathBuf>,
    namespace: &'a Namespace,
    child: Option<Child>,
    /// It served once; a start that fails leaves nothing that is ours.
    ready: bool,
}

impl<'a> Daemon<'a> {
    /// Starts it in the balancer's namespace and waits until it serves.
    pub(crate) fn start(
        alb: &Path,
        config: &Path,
        plan: &Plan,
        namespace: &'a Namespace,
    ) -> Result<Self> {
        let mut asked = Command::new(alb);
        asked.args(["status", "-o", "json", "--socket"]).arg(&plan.socket);
        ensure!(
            !asked.output()?.status.success(),
            "a daemon answers on {} already: another demo is running; end it first",
            plan.socket.display()
        );
        let made = plan.state_dir.clone();
        let made = (!made.exists()).then_some(made);
        let mut command = namespace.command(alb);
        command.args(["run", "--config"]).arg(config);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", alb.display()))?;
        echo(child.stdout.take());
        echo(child.stderr.take());
        let mut daemon = Self {
            alb: alb.to_owned(),
            config: config.to_owned(),
            socket: plan.socket.clone(),
            made,
            namespace,
            child: Some(child),
            ready: false,
        };
        daemon.wait_ready()?;
        daemon.ready = true;
        Ok(daemon)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let ready = wait::within(PATIENCE, || match self.ended() {
            Ok(None) => {
                let is_ready =
                    |status: &Value| status["ready"] == true && status["pid"] == self.pid();
                let ready = self.status().is_ok_and(|status| is_ready(&status));
                (ready || interrupt::check().is_err()).then_some(Ok(()))
            }
            Ok(Some(status)) => Some(Err(anyhow::anyhow!("alb run ended with {status}"))),
            Err(error) => Some(Err(error)),
        });
        interrupt::check()?;
        ready.unwrap_or_else(|| bail!("alb run is not ready after {} s", PATIENCE.as_secs()))
    }

    /// Its process id; 0 once it has ended.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    fn ended(&mut self) -> Result<Option<std::process::ExitStatus>> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?),
            None => Ok(None),
        }
    }

    fn status(&self) -> Result<Value> {
        let mut command = Command::new(&self.alb);
        command.args(["status", "-o", "json", "--socket"]).arg(&self.socket);
        let output = command.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Whether one server is in this state for every listener.
    pub(crate) fn is_in_state(&self, server: &Server, state: &str) -> Result<bool> {
        let status = self.status()?;
        let listeners = status["listeners"].as_array().into_iter().flatten();
        let targets = listeners.filter_map(|entry| entry["targets"].as_array()).flatten();
        let address = server.address.to_string();
        let mut own = targets.filter(|target| target["address"] == address.as_str()).peekable();
        Ok(own.peek().is_some() && own.all(|target| target["state"] == state))
    }

    /// Waits until all these servers are in this state.
    pub(crate) fn wait_state(&self, servers: &[Server], state: &str) -> Result<()> {
        let all = || servers.iter().all(|server| self.is_in_state(server, state).unwrap_or(false));
        let reached =
            wait::within(PATIENCE, || (all() || interrupt::check().is_err()).then_some(()));
        interrupt::check()?;
        reached.with_context(|| format!("not every server is {state} after {PATIENCE:?}"))
    }

    /// Ends it and removes what it left in the kernel.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let refused = child.try_wait()?.is_some() && !self.ready;
        if !refused {
            kill(Pid::from_raw(child.id().try_into()?), Signal::SIGTERM)?;
            let ended = wait::within(Duration::from_secs(5), || child.try_wait().ok().flatten());
            if ended.is_none() {
                child.kill()?;
                child.wait()?;
            }
            self.detach()?;
        }
        if let Some(dir) = self.made.take().filter(|dir| dir.exists()) {
            fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        Ok(())
    }

    fn detach(&self) -> Result<()> {
        let mut detach = self.namespace.command(&self.alb);
        let output = detach.arg("detach").arg("--config").arg(&self.config).output()?;
        ensure!(
            output.status.success(),
            "alb detach failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error:#}");
        }
    }
}

/// Shows a stream of the daemon's, line by line.
fn echo(stream: Option<impl Read + Send + 'static>) {
    let Some(stream) = stream else { return };
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            println!("    alb | {line}");
        }
    });
}
