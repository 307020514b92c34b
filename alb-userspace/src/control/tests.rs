//! The whole door: client, socket, server and a stand-in for whoever runs the daemon.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixListener as StdListener},
    path::{Path, PathBuf},
    sync::Barrier,
    thread,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::{
    Command, QUEUE, Readiness, ReloadError, Reloaded,
    client::{Client, ClientError},
    server,
    socket::{BindError, ControlSocket},
};
use crate::{http::Limits, report::fixture};

/// A running control socket whose commands are answered from fixtures.
struct Daemon {
    folder: tempfile::TempDir,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Daemon {
    fn start(reload: Result<Reloaded, ReloadError>) -> Self {
        let folder = tempfile::tempdir().expect("temporary directory");
        let socket = ControlSocket::bind(&folder.path().join("alb.sock")).expect("bind");
        let (commands, mut queue) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            while let Some(command) = queue.recv().await {
                match command {
                    Command::Status { reply } => drop(reply.send(fixture::report())),
                    Command::Ready { reply } => drop(reply.send(Readiness::Ready)),
                    Command::Reload { reply } => drop(reply.send(reload.clone())),
                }
            }
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { drop(stopped.await) };
        let server = tokio::spawn(server::run(socket, commands, Limits::default(), stopped));
        Self { folder, stop, server }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("alb.sock")
    }
}

#[tokio::test]
async fn a_status_arrives_as_it_was_sent() {
    let daemon = Daemon::start(Ok(Reloaded::default()));
    let report = Client::new(&daemon.path()).status().await.expect("status");
    assert_eq!(report, fixture::report());
}

#[tokio::test]
async fn a_reload_tells_what_is_served_now() {
    let reloaded = Reloaded { generation: 8, warnings: vec!["listener web is off".into()] };
    let daemon = Daemon::start(Ok(reloaded.clone()));
    assert_eq!(Client::new(&daemon.path()).reload().await.expect("reload"), reloaded);
}

#[tokio::test]
async fn a_refused_reload_carries_the_errors_and_exit_code_1() {
    let errors = "alb.yaml:3:7: node.flows is 5, expected 1024–16777216\nalb.yaml:9:1: no".into();
    let daemon = Daemon::start(Err(ReloadError::Refused { file: "alb.yaml".into(), errors }));
    let error = Client::new(&daemon.path()).reload().await.expect_err("refused");
    assert_eq!(
        error.to_string(),
        "alb.yaml is refused, nothing changed:\nalb.yaml:3:7: node.flows is 5, expected \
         1024–16777216\nalb.yaml:9:1: no"
    );
    assert_eq!(error.exit_code(), 1);
}

#[tokio::test]
async fn the_socket_is_private_and_goes_with_the_daemon() {
    let daemon = Daemon::start(Ok(Reloaded::default()));
    let path = daemon.path();
    let mode = fs::metadata(&path).expect("socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let Daemon { stop, server, folder: _folder } = daemon;
    stop.send(()).expect("server is running");
    server.await.expect("server ends without a panic");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_second_daemon_is_refused_and_harms_nothing() {
    let daemon = Daemon::start(Ok(Reloaded::default()));
    let error = ControlSocket::bind(&daemon.path()).expect_err("in use");
    assert!(matches!(error, BindError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("another alb is answering on"), "{error}");
    Client::new(&daemon.path()).status().await.expect("first daemon still answers");
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let path = folder.path().join("alb.sock");
    drop(StdListener::bind(&path).expect("bind"));
    assert!(path.exists(), "std leaves the file behind");
    ControlSocket::bind(&path).expect("stale socket is replaced");
}

#[tokio::test]
async fn what_is_no_socket_stays() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let path = folder.path().join("alb.sock");
    fs::write(&path, "precious").expect("write");
    let error = ControlSocket::bind(&path).expect_err("not a socket");
    assert!(matches!(error, BindError::NotASocket { .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).expect("read"), "precious");
}

#[tokio::test]
async fn bad_paths_are_explained() {
    let long = PathBuf::from(format!("/tmp/{}", "x".repeat(120)));
    let error = ControlSocket::bind(&long).expect_err("too long");
    assert!(error.to_string().contains("has 125 bytes"), "{error}");
    let error = ControlSocket::bind(Path::new("/nowhere/alb.sock")).expect_err("no directory");
    assert!(error.to_string().contains("/nowhere"), "{error}");
}

#[tokio::test]
async fn a_successors_socket_is_not_removed() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let path = folder.path().join("alb.sock");
    let first = ControlSocket::bind(&path).expect("bind");
    fs::remove_file(&path).expect("somebody removes it");
    let second = ControlSocket::bind(&path).expect("bind again");
    drop(first);
    assert!(path.exists());
    drop(second);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_successor_that_comes_at_the_same_moment_keeps_its_socket() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let path = folder.path().join("alb.sock");
    let mut last = ControlSocket::bind(&path).expect("bind");
    for _ in 0..2_000 {
        let both = Barrier::new(2);
        let next = thread::scope(|scope| {
            let both = &both;
            scope.spawn(move || {
                both.wait();
                drop(last);
            });
            both.wait();
            ControlSocket::replace(&path).expect("replace")
        });
        assert!(path.exists());
        last = next;
    }
}

#[tokio::test]
async fn nobody_there_is_exit_code_3() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let path = folder.path().join("alb.sock");
    let error = Client::new(&path).status().await.expect_err("nobody there");
    assert_eq!(error.exit_code(), 3);
    let start = format!("cannot reach the daemon at {}: is `alb run` running?", path.display());
    assert!(error.to_string().starts_with(&start), "{error}");
}

#[tokio::test]
async fn a_daemon_that_ends_says_so() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let path = folder.path().join("alb.sock");
    let socket = ControlSocket::bind(&path).expect("bind");
    let (commands, queue) = mpsc::channel(QUEUE);
    drop(queue);
    tokio::spawn(server::run(socket, commands, Limits::default(), std::future::pending()));
    let error = Client::new(&path).status().await.expect_err("no daemon behind it");
    assert!(
        matches!(&error, ClientError::Refused { message, .. }
        if message == "the daemon is shutting down"),
        "{error}"
    );
}

#[tokio::test]
async fn paths_and_methods_are_checked() {
    let daemon = Daemon::start(Ok(Reloaded::default()));
    for (request, start) in [
        ("GET /v1/status", "HTTP/1.0 200"),
        ("GET /v1/health", "HTTP/1.0 200"),
        ("GET /v1/reload", "HTTP/1.0 405"),
        ("POST /v1/status", "HTTP/1.0 405"),
        ("GET /", "HTTP/1.0 404"),
    ] {
        let mut stream = UnixStream::connect(daemon.path()).await.expect("connect");
        let head = format!("{request} HTTP/1.0\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("write");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("read");
        assert!(answer.starts_with(start), "{request} → {answer}");
    }
}
