//! One proxy: how it is started, with which address, and its version.

use std::{
    fs::File,
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use alb_tests::{netns::Namespace, wait};
use clap::ValueEnum;

use crate::config::{self, Site};

/// The proxies that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Alb,
    Nginx,
    Haproxy,
    /// The version pip brings, which is newer than Debian's.
    Haproxy28,
    Envoy,
    Traefik,
    Caddy,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] = [
        Self::Alb,
        Self::Nginx,
        Self::Haproxy,
        Self::Haproxy28,
        Self::Envoy,
        Self::Traefik,
        Self::Caddy,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Alb => "alb",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Haproxy28 => "haproxy-2.8",
            Self::Envoy => "envoy",
            Self::Traefik => "traefik",
            Self::Caddy => "caddy",
        }
    }

    /// Caddy forwards TCP only with a module that its package does not have.
    pub(crate) fn forwards_tcp(self) -> bool {
        self != Self::Caddy
    }

    fn program(self, alb: &Path, peers: &Path) -> PathBuf {
        match self {
            Self::Alb => alb.to_owned(),
            Self::Nginx => "nginx".into(),
            Self::Haproxy => "haproxy".into(),
            Self::Haproxy28 => peers.join("haproxy"),
            Self::Envoy => peers.join("envoy"),
            Self::Traefik => peers.join("traefik"),
            Self::Caddy => peers.join("caddy"),
        }
    }

    fn arguments(self, config: &Path) -> Vec<String> {
        let config = config.display().to_string();
        let words: &[&str] = match self {
            Self::Alb => &["run", "--config", &config],
            Self::Nginx => &["-e", "stderr", "-c", &config],
            Self::Haproxy | Self::Haproxy28 => &["-db", "-f", &config],
            Self::Envoy => {
                &["-c", &config, "--concurrency", "1", "--use-dynamic-base-id", "-l", "error"]
            }
            Self::Traefik => {
                let option = format!("--configFile={config}");
                return vec![option];
            }
            Self::Caddy => &["run", "--adapter", "caddyfile", "--config", &config],
        };
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn version_flag(self) -> &'static str {
        match self {
            Self::Nginx | Self::Haproxy | Self::Haproxy28 => "-v",
            Self::Traefik | Self::Caddy => "version",
            Self::Alb | Self::Envoy => "--version",
        }
    }
}

/// A program that is compared.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    pub(crate) kind: Kind,
    /// What the tables call it.
    pub(crate) name: String,
    program: PathBuf,
}

impl Contender {
    /// The program of each kind, and of this project the other builds too.
    pub(crate) fn all(kinds: &[Kind], alb: &Path, others: &[PathBuf], peers: &Path) -> Vec<Self> {
        let named = kinds.iter().map(|&kind| {
            let program = kind.program(alb, peers);
            Self { kind, name: kind.name().to_owned(), program }
        });
        let others = (2..).zip(others).map(|(number, program)| {
            let name = format!("{} ({number})", Kind::Alb.name());
            // It is started in a directory of its own.
            let program = program.canonicalize();
            let program = program.unwrap_or_else(|error| panic!("--alb: no such program: {error}"));
            Self { kind: Kind::Alb, name, program }
        });
        let mut all: Vec<Self> = named.collect();
        let place = all.iter().position(|one| one.kind == Kind::Alb).map_or(0, |at| at + 1);
        all.splice(place..place, others);
        all
    }

    /// The first line it says of its version, and which build it is if there are several.
    pub(crate) fn version(&self) -> String {
        let output = Command::new(&self.program).arg(self.kind.version_flag()).output();
        let Ok(output) = output else { return "?".to_owned() };
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("?");
        if self.kind == Kind::Alb {
            return format!("{line}, {}", self.program.display());
        }
        line.to_owned()
    }
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) contender: Contender,
    /// Where it listens: 80 http, 443 https, 5432 tcp.
    pub(crate) address: Ipv4Addr,
    child: Child,
}

/// The core of the proxy under test.
pub(crate) const PROXY_CORE: &str = "0";
/// The core of everything else.
pub(crate) const LOAD_CORE: &str = "1";

impl Proxy {
    /// Starts it on its core and waits until it listens; panics with its log if it does not.
    pub(crate) fn start(contender: &Contender, namespace: &Namespace, site: &Site<'_>) -> Self {
        let Contender { kind, program, .. } = contender;
        let config = config::write(*kind, site);
        let log_path = site.dir.join("log");
        let log = File::create(&log_path).expect("a log file");
        let mut command = namespace.command("taskset");
        command.args(["-c", PROXY_CORE]).arg(program).args(kind.arguments(&config));
        command.current_dir(site.dir).env("HOME", site.dir).env("GOMAXPROCS", "1");
        command.stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a descriptor")).stderr(log);
        let child = command.spawn().expect("starting a proxy; is taskset installed?");
        let proxy = Self { contender: contender.clone(), address: site.address, child };
        for port in [80, 443] {
            let up = wait::within(Duration::from_secs(20), || {
                let connect = || TcpStream::connect((site.address, port));
                namespace.enter(connect).ok().map(drop)
            });
            assert!(
                up.is_some(),
                "{} does not listen on {port}: {}",
                kind.name(),
                std::fs::read_to_string(&log_path).unwrap_or_default()
            );
        }
        proxy
    }

    /// Its process group.
    pub(crate) fn group(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        use nix::sys::signal::{Signal, killpg};

        /// The proxies' connections are closed by now.
        const PATIENCE: Duration = Duration::from_secs(10);
        // The group: wrappers installed by pip start the program as a child.
        let group = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        if self.contender.kind == Kind::Alb {
            // A build that records a profile writes it when it ends by itself.
            _ = killpg(group, Signal::SIGTERM);
            _ = wait::within(PATIENCE, || self.child.try_wait().ok().flatten());
        }
        _ = killpg(group, Signal::SIGKILL);
        drop(self.child.wait());
    }
}
