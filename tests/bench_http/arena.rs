//! The namespace with the origin and every proxy, each on an address of its own.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use alb_tests::netns::{Namespace, must};
use tempfile::TempDir;

use crate::{
    config::Site,
    peer::{Contender, LOAD_CORE, Proxy},
};

/// Where the origin listens, port 8080.
pub(crate) const ORIGIN: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 1);
/// Size of the origin's large file, bytes; it takes no room on disk.
const HUGE: u64 = 1 << 30;

/// Everything a run needs; gone when dropped.
#[derive(Debug)]
pub(crate) struct Arena {
    pub(crate) proxies: Vec<Proxy>,
    /// The same proxies with an access log, for the row about it.
    pub(crate) logging: Vec<Proxy>,
    origin: Child,
    pub(crate) namespace: Namespace,
    dir: TempDir,
}

impl Arena {
    /// Starts the origin and the proxies: those without an access log, those with one, or both.
    pub(crate) fn new(contenders: &[Contender], (plain, logging): (bool, bool)) -> Self {
        let mut arena = Self::empty();
        for (number, contender) in (0_u8..).zip(contenders).filter(|_| plain) {
            let proxy = arena.start(contender, 10 + number, false);
            arena.proxies.push(proxy);
        }
        for (number, contender) in (0_u8..).zip(contenders).filter(|_| logging) {
            let proxy = arena.start(contender, 110 + number, true);
            arena.logging.push(proxy);
        }
        arena
    }

    /// Starts the origin only.
    pub(crate) fn empty() -> Self {
        let namespace = Namespace::new("bench");
        namespace.ip(&format!("address add {ORIGIN}/32 dev lo"));
        // The load of new connections leaves tens of thousands of closed ones behind.
        namespace.sysctl("ipv4/ip_local_port_range", "1024 65535");
        namespace.sysctl("ipv4/tcp_tw_reuse", "1");
        let dir = tempfile::Builder::new().prefix("alb-bench-").tempdir().expect("a directory");
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("a directory others may enter");
        certificate(dir.path());
        let origin = origin(&namespace, dir.path());
        Self { proxies: vec![], logging: vec![], origin, namespace, dir }
    }

    /// Starts one proxy on `198.18.0.{host}`.
    pub(crate) fn start(&self, contender: &Contender, host: u8, access_log: bool) -> Proxy {
        let address = Ipv4Addr::new(198, 18, 0, host);
        self.namespace.ip(&format!("address add {address}/32 dev lo"));
        let dir = self.dir.path().join(format!("{}-{host}", contender.kind.name()));
        fs::create_dir(&dir).expect("a directory");
        let site = Site { address, dir: &dir, certificates: self.dir.path(), access_log };
        Proxy::start(contender, &self.namespace, &site)
    }

    /// A load generator: pinned beside the origin.
    pub(crate) fn loader(&self, program: &str) -> Command {
        let mut command = self.namespace.command("taskset");
        command.args(["-c", LOAD_CORE, program]);
        command
    }

    /// The certificate of every https listener.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    /// A place for a load generator's log.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.dir.path().join("scratch")
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        drop(self.origin.kill());
        drop(self.origin.wait());
    }
}

/// A self-signed P-256 certificate.
fn certificate(dir: &Path) {
    let words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
                 -subj /CN=bench.test -addext subjectAltName=DNS:bench.test -addext basicConstraints=critical,CA:FALSE -keyout key.pem -out cert.pem";
    must(Command::new("openssl").args(words.split_whitespace()).current_dir(dir));
    let both = [dir.join("cert.pem"), dir.join("key.pem")].map(|path| fs::read(path).expect("PEM"));
    fs::write(dir.join("both.pem"), both.concat()).expect("writing a certificate");
}

/// nginx with a 200-byte answer, a 64 KiB file and a huge one.
fn origin(namespace: &Namespace, dir: &Path) -> Child {
    let small = "x".repeat(200);
    fs::write(dir.join("64k"), vec![b'x'; 64 << 10]).expect("writing a file");
    File::create(dir.join("huge")).and_then(|file| file.set_len(HUGE)).expect("a sparse file");
    let dir_text = dir.display();
    let text = format!(
        "daemon off; master_process off; pid {dir_text}/origin.pid; error_log {dir_text}/origin.log warn;\n\
         worker_rlimit_nofile 20000; events {{ worker_connections 16384; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;\n\
         keepalive_timeout 300s; open_file_cache max=10;\n\
         client_body_temp_path {dir_text}/t1; proxy_temp_path {dir_text}/t2;\n\
         fastcgi_temp_path {dir_text}/t3; uwsgi_temp_path {dir_text}/t4; scgi_temp_path {dir_text}/t5;\n\
         server {{ listen {ORIGIN}:8080 backlog=16384; root {dir_text};\n\
         location = /small {{ return 200 \"{small}\"; }} }} }}\n"
    );
    let config = dir.join("origin.conf");
    fs::write(&config, text).expect("writing a configuration");
    let mut command = namespace.command("taskset");
    command.args(["-c", LOAD_CORE, "nginx", "-e", "stderr", "-c"]).arg(&config);
    command.stdin(Stdio::null()).spawn().expect("starting nginx")
}
