//! What every way is built on: a client, the host in the middle and a server, joined by two veth
//! pairs, set so that XDP can run in the middle.

use std::{
    fs,
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
};

use alb_tests::netns::Namespace;
use tempfile::TempDir;

/// The middle on the client's side; its network is the client's.
pub(crate) const MIDDLE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The server.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 11);
/// Where it listens.
pub(crate) const PORT: u16 = 8080;
/// The server has this core to itself, as far as the middle leaves it.
const SERVER_CORE: &str = "1";

/// How the devices of client and server are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Devices {
    /// GRO on, TX checksums off.
    ForXdp,
    /// As they are made: super-packets, whose checksums are not in the bytes.
    Usual,
}

/// Namespaces and the server.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) client: Namespace,
    pub(crate) middle: Namespace,
    /// Configurations live here.
    pub(crate) dir: TempDir,
    _server: Program,
    /// The server's.
    pub(crate) far: Namespace,
}

impl Path {
    pub(crate) fn new(devices: Devices) -> Self {
        let [client, middle, far] = ["client", "middle", "server"].map(Namespace::new);
        connect(&middle, "eth0", MIDDLE, &client, Ipv4Addr::new(198, 18, 0, 100));
        connect(&middle, "eth1", Ipv4Addr::new(198, 18, 1, 1), &far, SERVER);
        if devices == Devices::ForXdp {
            // A frame that is redirected to the middle's device reaches a peer that polls, and no
            // checksum is left to a device that is none.
            for host in [&client, &far] {
                host.ethtool("-K eth0 gro on tx off");
            }
        }
        client.ip(&format!("route add default via {MIDDLE}"));
        far.ip("route add default via 198.18.1.1");
        for namespace in [&client, &middle] {
            // Tens of thousands of closed connections are left behind.
            namespace.sysctl("ipv4/ip_local_port_range", "1024 65535");
            namespace.sysctl("ipv4/tcp_tw_reuse", "1");
        }
        let dir = tempfile::Builder::new().prefix("alb-bench-").tempdir().expect("a directory");
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("a directory others may enter");
        let server = server(&far, &dir);
        Self { client, middle, dir, _server: server, far }
    }

    /// Starts a program in the middle.
    pub(crate) fn start(&self, program: &str, arguments: &[&str]) -> Program {
        let mut command = self.middle.command(program);
        Program::start(command.args(arguments))
    }

    /// Writes a file and returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, text).expect("writing a configuration");
        path.display().to_string()
    }
}

/// A running program and all it started; ended when dropped.
#[derive(Debug)]
pub(crate) struct Program(Child);

impl Program {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().expect("starting a program"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Ok(id) = i32::try_from(self.0.id()) {
            // It leads a process group of its own.
            let group = nix::unistd::Pid::from_raw(id);
            if nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).is_err() {
                eprintln!("process group {id} has ended already");
            }
        }
        drop(self.0.wait());
    }
}

fn connect(middle: &Namespace, device: &str, near: Ipv4Addr, host: &Namespace, address: Ipv4Addr) {
    middle.ip(&format!("link add {device} type veth peer name eth0 netns {}", host.name()));
    for (namespace, device, address) in [(middle, device, near), (host, "eth0", address)] {
        namespace.sysctl(&format!("ipv6/conf/{device}/disable_ipv6"), "1");
        namespace.ip(&format!("link set {device} up"));
        namespace.ip(&format!("address add {address}/24 dev {device}"));
    }
}

fn server(namespace: &Namespace, dir: &TempDir) -> Program {
    let small = "x".repeat(200);
    fs::write(dir.path().join("large"), vec![b'x'; 1 << 20]).expect("writing a file");
    let dir_text = dir.path().display();
    let text = format!(
        "daemon off; master_process off; pid {dir_text}/pid; error_log {dir_text}/log warn;\n\
         worker_rlimit_nofile 20000; events {{ worker_connections 8192; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;\n\
         open_file_cache max=10; client_body_temp_path {dir_text}/t1; proxy_temp_path {dir_text}/t2;\n\
         fastcgi_temp_path {dir_text}/t3; uwsgi_temp_path {dir_text}/t4; scgi_temp_path {dir_text}/t5;\n\
         server {{ listen {PORT} backlog=16384; root {dir_text};\n\
         location = /small {{ return 200 \"{small}\"; }} }} }}\n"
    );
    let config = dir.path().join("server.conf");
    fs::write(&config, text).expect("writing a configuration");
    let mut command = namespace.command("taskset");
    command.args(["-c", SERVER_CORE, "nginx", "-e", "stderr", "-c"]).arg(&config);
    Program::start(&mut command)
}
