//! Real databases inside a namespace, each on a directory of its own: PostgreSQL and Redis servers,
//! and how their clients are called.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User},
};
use tempfile::TempDir;

use crate::{
    netns::{Namespace, must},
    wait,
};

/// Where PostgreSQL listens.
pub const POSTGRES: u16 = 5432;
/// Where Redis listens.
pub const REDIS: u16 = 6379;

/// Whom servers run as: PostgreSQL refuses to run as root.
const USER: &str = "nobody";
/// The superuser of every PostgreSQL, trusted without a password.
const ROLE: &str = "alb";
/// Versions of PostgreSQL lie beside each other here.
const POSTGRES_DIR: &str = "/usr/lib/postgresql";
/// Making a data directory, and starting.
const START: Duration = Duration::from_mins(2);

/// A server in a namespace; killed, and its directory removed, when dropped.
#[derive(Debug)]
struct Server {
    child: Child,
    dir: TempDir,
}

impl Server {
    /// Makes a directory that the server may write in, readies it, starts what `command` says.
    fn start(
        namespace: &Namespace,
        prepare: impl FnOnce(&Path),
        command: impl FnOnce(&Path) -> Vec<String>,
    ) -> Self {
        let dir = tempfile::Builder::new().prefix("alb-database-").tempdir().expect("a directory");
        let user = User::from_name(USER).expect("reading users").expect("the user nobody");
        chown(dir.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("chown");
        prepare(dir.path());
        let log = fs::File::create(dir.path().join("log")).expect("a log file");
        let words = command(dir.path());
        // PostgreSQL leaves a segment of shared memory behind when it is killed: not the host's.
        let mut server = unprivileged(namespace, &["unshare", "--ipc"], &words[0]);
        server.args(&words[1..]).stdin(Stdio::null());
        server.stdout(log.try_clone().expect("a descriptor")).stderr(log);
        Self { child: server.spawn().expect("starting a database"), dir }
    }

    /// Waits until `ask` is answered.
    fn ready(&mut self, name: &str, ask: impl Fn() -> bool) {
        let ready = wait::within(START, || {
            let ended = self.child.try_wait().expect("a child can be asked");
            (ended.is_some() || ask()).then_some(ended.is_none())
        });
        if ready != Some(true) {
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            panic!("{name} does not start:\n{log}");
        }
    }

    fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A command as `nobody`, inside the namespace. Only root can enter it, so it changes last.
fn unprivileged(namespace: &Namespace, before: &[&str], program: &str) -> Command {
    let setpriv = ["setpriv", "--reuid", USER, "--regid", "nogroup", "--clear-groups"];
    // A change of user forgets that the child is to die with its parent.
    let words = [before, &setpriv, &["--pdeathsig", "KILL", program]].concat();
    let mut command = namespace.command(words[0]);
    command.args(&words[1..]).current_dir("/");
    command
}

/// A PostgreSQL with an empty database.
#[derive(Debug)]
pub struct Postgres<'lab> {
    namespace: &'lab Namespace,
    server: Server,
}

impl<'lab> Postgres<'lab> {
    /// Makes its data and waits until it answers.
    pub fn start(namespace: &'lab Namespace) -> Self {
        let prepare = |dir: &Path| {
            let mut initdb = unprivileged(namespace, &[], &postgres_program("initdb"));
            initdb.arg("--pgdata").arg(dir.join("data"));
            initdb.args(["--username", ROLE, "--auth", "trust", "--no-locale", "--no-sync"]);
            must(&mut initdb);
            let access = dir.join("data/pg_hba.conf");
            fs::write(access, "host all all 0.0.0.0/0 trust\n").expect("writing who may come");
        };
        let command = |dir: &Path| {
            let data = dir.join("data").display().to_string();
            let mut words = vec![postgres_program("postgres"), "-D".to_owned(), data];
            for setting in [
                "listen_addresses=*",
                "unix_socket_directories=",
                "fsync=off",
                "max_connections=50",
                "shared_buffers=16MB",
            ] {
                words.extend(["-c".to_owned(), setting.to_owned()]);
            }
            words
        };
        let server = Server::start(namespace, prepare, command);
        let mut postgres = Self { namespace, server };
        let here = || psql(namespace, local(POSTGRES));
        postgres.server.ready("PostgreSQL", || {
            here().args(["-c", "select 1"]).output().is_ok_and(|output| output.status.success())
        });
        postgres
    }

    /// Asks it on its own host.
    pub fn query(&self, sql: &str) -> String {
        must(psql(self.namespace, local(POSTGRES)).args(["-c", sql])).trim().to_owned()
    }

    /// Fills it with what `pgbench` reads.
    pub fn fill(&self) {
        must(pgbench(self.namespace, local(POSTGRES)).args(["--initialize", "--quiet"]));
    }

    /// `kill -9` of the server; its sessions end by themselves when they see it.
    pub fn kill(&mut self) {
        self.server.kill();
    }
}

/// A Redis without persistence.
#[derive(Debug)]
pub struct Redis<'lab> {
    namespace: &'lab Namespace,
    server: Server,
}

impl<'lab> Redis<'lab> {
    /// Starts it and waits until it answers; key `name` has the name.
    pub fn start(namespace: &'lab Namespace, name: &str) -> Self {
        let command = |dir: &Path| {
            let dir = dir.display();
            let words = format!(
                "redis-server --port {REDIS} --bind 0.0.0.0 --protected-mode no --appendonly no \
                 --dir {dir} --save"
            );
            words.split_whitespace().map(str::to_owned).chain([String::new()]).collect()
        };
        let mut redis = Self { namespace, server: Server::start(namespace, |_| {}, command) };
        redis.server.ready("Redis", || {
            let mut ping = redis_cli(namespace, local(REDIS));
            ping.args(["set", "name", name]).output().is_ok_and(|output| output.status.success())
        });
        redis
    }

    /// Runs a command on its own host.
    pub fn run(&self, words: &[&str]) -> String {
        must(redis_cli(self.namespace, local(REDIS)).args(words)).trim().to_owned()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.server.kill();
    }
}

/// `psql` that prints bare values.
pub fn psql(namespace: &Namespace, to: SocketAddr) -> Command {
    let mut command = client(namespace, "psql", to);
    command.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "postgres"]);
    command
}

/// `pgbench` on the same database.
pub fn pgbench(namespace: &Namespace, to: SocketAddr) -> Command {
    let mut command = client(namespace, "pgbench", to);
    command.env("PGDATABASE", "postgres");
    command
}

/// `redis-cli` that prints bare values.
pub fn redis_cli(namespace: &Namespace, to: SocketAddr) -> Command {
    let mut command = namespace.command("redis-cli");
    command.args(["--raw", "-h", &to.ip().to_string(), "-p", &to.port().to_string()]);
    command
}

/// SIGINT, at which clients end by themselves.
pub fn interrupt(child: &Child) {
    let id = i32::try_from(child.id()).expect("process ids are small");
    kill(Pid::from_raw(id), Signal::SIGINT).expect("a running client");
}

/// Runs a client to its end, whatever that is.
pub fn output(command: &mut Command) -> io::Result<Output> {
    command.stdin(Stdio::null()).output()
}

fn client(namespace: &Namespace, program: &str, to: SocketAddr) -> Command {
    let mut command = namespace.command(postgres_program(program));
    command.env("PGUSER", ROLE).env("PGHOST", to.ip().to_string());
    command.env("PGPORT", to.port().to_string()).env("PGCONNECT_TIMEOUT", "5");
    command
}

fn local(port: u16) -> SocketAddr {
    (std::net::Ipv4Addr::LOCALHOST, port).into()
}

/// A program of the newest PostgreSQL that is installed; Debian keeps servers out of `PATH`.
fn postgres_program(name: &str) -> String {
    let versions = fs::read_dir(POSTGRES_DIR).into_iter().flatten().filter_map(Result::ok);
    let programs = versions.map(|entry| entry.path().join("bin").join(name));
    let newest = programs.filter(|path| path.is_file()).max_by_key(|path: &PathBuf| {
        let version = path.components().nth(4).map(|part| part.as_os_str().to_string_lossy());
        version.and_then(|version| version.parse::<u32>().ok())
    });
    let newest = newest.unwrap_or_else(|| {
        panic!("no {name} below {POSTGRES_DIR}: `cargo xtask test --all` installs PostgreSQL")
    });
    newest.display().to_string()
}
