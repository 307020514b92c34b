//! The `alb` binary against a daemon's control socket and API listener, from a file to the answer.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant, SystemTime},
};

use alb_userspace::{
    api, config,
    control::{self, Readiness, Reloaded, server, socket::ControlSocket},
    http::Limits,
    proxy::stats::HistogramTotals,
    report::{self, About, ConfigReport, Counters, Sample, Sampler},
    state::{Store, TargetStates},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

/// Serves the quickstart file's model until the test's runtime ends, without a packet path.
struct Daemon {
    folder: tempfile::TempDir,
    api: SocketAddr,
}

impl Daemon {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("temporary directory");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for (from, to) in [
            ("examples/quickstart.yaml", "quickstart.yaml"),
            ("tests/fixtures/tls/ecdsa.pem", "quickstart.pem"),
            ("tests/fixtures/tls/ecdsa.key", "quickstart.key"),
        ] {
            std::fs::copy(root.join(from), folder.path().join(to)).expect("a copy");
        }
        let file = folder.path().join("quickstart.yaml");
        let loaded = config::load(&file).expect("the example is valid");
        let store = Store::new(loaded.model, &TargetStates::default());

        let (commands, mut queue) = mpsc::channel(control::QUEUE);
        let socket = ControlSocket::bind(&folder.path().join("alb.sock")).expect("bind");
        let listener = api::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("bind");
        let address = listener.local_addr().expect("bound address");
        let forever = std::future::pending;
        tokio::spawn(server::run(socket, commands.clone(), Limits::default(), forever()));
        tokio::spawn(api::run(listener, commands, Limits::default(), forever()));

        tokio::spawn(async move {
            let mut sampler = Sampler::default();
            let about = About {
                started: SystemTime::now(),
                not_ready_because: None,
                conflicts: vec![],
                applying: HistogramTotals::default(),
                config: ConfigReport::default(),
                datapath: None,
            };
            while let Some(command) = queue.recv().await {
                let sample = Sample { at: Instant::now(), counters: Counters::default() };
                let rates = sampler.push(&sample);
                let (snapshot, now) = (store.snapshot(), SystemTime::now());
                let report = report::build(&snapshot, &sample.counters, &rates, &about, now);
                match command {
                    control::Command::Status { reply } => drop(reply.send(report)),
                    control::Command::Ready { reply } => drop(reply.send(Readiness::Ready)),
                    control::Command::Reload { reply } => {
                        drop(reply.send(Ok(Reloaded::default())));
                    }
                }
            }
        });
        Self { folder, api: address }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("alb.sock")
    }
}

/// Runs the binary beside the runtime that it talks to.
async fn alb(args: &[&str], socket: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_alb"));
    command.args(args).env("ALB_SOCKET", socket);
    let run = tokio::task::spawn_blocking(move || command.output());
    let limited = tokio::time::timeout(Duration::from_mins(1), run).await;
    limited.expect("deadline").expect("no panic").expect("the binary starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_shows_what_the_file_says() {
    let daemon = Daemon::start().await;
    let output = alb(&["status"], &daemon.socket()).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    for expected in [
        "quickstart/tcp  tcp 198.18.0.10:8080 → tcp, RoundRobin\n",
        "  198.18.1.11:8080  initial",
        "  198.18.1.13:8080  initial",
    ] {
        assert!(table.contains(expected), "{expected} in\n{table}");
    }

    let output = alb(&["status", "-o", "json"], &daemon.socket()).await;
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["listeners"][0]["targets"][0]["weight"], 30, "{json:#}");
    assert_eq!(json["ready"], true, "{json:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_show_what_the_file_says() {
    let daemon = Daemon::start().await;
    let mut stream = TcpStream::connect(daemon.api).await.expect("connect");
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.expect("write");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    let weight = "alb_target_weight{load_balancer=\"quickstart\",backend=\"web\",\
                  address=\"198.18.1.12\",port=\"8080\"} 20\n";
    assert!(answer.contains(weight), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exit_codes_tell_who_is_at_fault() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let nobody = folder.path().join("alb.sock");
    for (args, code, expected) in [
        (&["status"][..], 3, "is `alb run` running?"),
        (&["status", "--nonsense"], 2, "--nonsense"),
        (&["nonsense"], 2, "nonsense"),
        (&["completions", "bash"], 0, ""),
    ] {
        let output = alb(args, &nobody).await;
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert!(text(&output.stderr).contains(expected), "{args:?}: {}", text(&output.stderr));
    }
}
