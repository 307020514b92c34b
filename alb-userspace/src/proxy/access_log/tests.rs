//! Lines as they must be, and what happens to the file around them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::{AccessLog, HttpRecord, KernelRecord, LogReport, Record, TlsRecord};
use crate::model::{self, LogFormat};

fn settings(file: PathBuf) -> model::AccessLog {
    model::AccessLog {
        file,
        format: LogFormat::Json,
        max_bytes: 1 << 20,
        keep: 2,
        tcp_flows: false,
    }
}

fn request(uri: &[u8]) -> Record<'_> {
    Record {
        time: UNIX_EPOCH + Duration::from_millis(1_709_251_199_007),
        load_balancer: "alb-0123456789",
        listener: "listener-1",
        backend: "backend-1",
        client: ([198, 18, 0, 2], 40_000).into(),
        vip: ([198, 18, 0, 10], 443).into(),
        target: Some(([198, 18, 1, 11], 8080).into()),
        duration: Duration::from_micros(1_234_567),
        connect_time: Some(Duration::from_micros(250)),
        target_time: Some(Duration::from_millis(30)),
        bytes_received: 321,
        bytes_sent: 4_567,
        error: "",
        retries: 0,
        http: Some(HttpRecord {
            status: 200,
            target_status: Some(200),
            method: b"GET",
            host: b"shop.test",
            uri,
            protocol: "HTTP/1.1",
            user_agent: b"curl/8.0 (a \"test\")",
            referer: b"https://other.test/?q=\"1\"",
            request_id: b"r-1",
        }),
        tls: Some(TlsRecord {
            protocol: "TLSv1.3",
            cipher: "TLS_AES_128_GCM_SHA256",
            certificate: "cert-1",
        }),
        kernel: None,
    }
}

fn connection() -> Record<'static> {
    let target = Some("[2001:db8::1]:5432".parse().unwrap());
    Record { http: None, tls: None, target, error: "idle_timeout", retries: 1, ..request(b"") }
}

/// One that the packet path forwarded.
fn forwarded() -> Record<'static> {
    let kernel = KernelRecord {
        snat: ([198, 18, 1, 1], 12_345).into(),
        packets_received: 7,
        packets_sent: 5,
    };
    let times = Record { connect_time: None, target_time: None, retries: 0, ..connection() };
    Record { kernel: Some(kernel), error: "client_reset", ..times }
}

/// The file once it holds this many lines.
#[track_caller]
fn lines(path: &Path, count: usize) -> Vec<String> {
    let mut text = String::new();
    wait("lines in the file", || {
        text = fs::read_to_string(path).unwrap_or_default();
        text.lines().count() >= count
    });
    text.lines().map(str::to_owned).collect()
}

#[track_caller]
fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !done() {
        assert!(Instant::now() < deadline, "no {what}");
        std::thread::yield_now();
    }
}

fn written(format: LogFormat, records: &[Record<'_>]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = AccessLog::start(&model::AccessLog { format, ..settings(path.clone()) }).unwrap();
    let worker = log.worker();
    for record in records {
        worker.record(record);
    }
    worker.flush();
    let read = lines(&path, records.len());
    let count = records.len() as u64;
    wait("report", || log.report() == LogReport { written: count, lost: 0, failing: false });
    read
}

#[test]
fn json_lines() {
    let read = written(LogFormat::Json, &[request(b"/a?b=\xff"), connection(), forwarded()]);
    let read: Vec<Value> = read.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        read[0],
        json!({
            "timestamp": "2024-02-29T23:59:59.007Z", "alb_id": "alb-0123456789",
            "client_ip": "198.18.0.2", "client_port": 40_000,
            "lb_vip": "198.18.0.10", "lb_vport": 443,
            "backend_server_ip_port": "198.18.1.11:8080",
            "request_time": 1.234_567, "backend_connect_time": 0.000_25,
            "backend_response_time": 0.03, "status": 200, "backend_server_status": 200,
            "request_length": 321, "bytes_sent": 4567, "scheme": "https",
            "request_method": "GET", "host": "shop.test", "request_uri": "/a?b=\u{fffd}",
            "server_protocol": "HTTP/1.1", "http_user_agent": "curl/8.0 (a \"test\")",
            "ssl_cipher": "TLS_AES_128_GCM_SHA256", "ssl_protocol": "TLSv1.3",
            "certificate_id": "cert-1", "listener_id": "listener-1", "backend_id": "backend-1",
            "request_id": "r-1",
        })
    );
    assert_eq!(
        read[1],
        json!({
            "timestamp": "2024-02-29T23:59:59.007Z", "alb_id": "alb-0123456789",
            "client_ip": "198.18.0.2", "client_port": 40_000,
            "lb_vip": "198.18.0.10", "lb_vport": 443,
            "backend_server_ip_port": "[2001:db8::1]:5432",
            "session_time": 1.234_567, "backend_connect_time": 0.000_25,
            "backend_session_time": 0.03, "bytes_received": 321, "bytes_sent": 4567,
            "protocol": "tcp", "listener_id": "listener-1", "backend_id": "backend-1",
            "retries": 1, "error": "idle_timeout",
        })
    );
    assert_eq!(
        read[2],
        json!({
            "timestamp": "2024-02-29T23:59:59.007Z", "alb_id": "alb-0123456789",
            "client_ip": "198.18.0.2", "client_port": 40_000,
            "lb_vip": "198.18.0.10", "lb_vport": 443,
            "backend_server_ip_port": "[2001:db8::1]:5432",
            "session_time": 1.234_567, "bytes_received": 321, "bytes_sent": 4567,
            "protocol": "tcp", "served_by": "kernel", "snat_ip_port": "198.18.1.1:12345",
            "packets_received": 7, "packets_sent": 5,
            "listener_id": "listener-1", "backend_id": "backend-1", "error": "client_reset",
        })
    );
}

#[test]
fn text_lines() {
    let read = written(LogFormat::Text, &[request(b"/a b"), connection()]);
    assert_eq!(
        read,
        [
            "2024-02-29T23:59:59.007Z alb-0123456789 198.18.0.2 40000 198.18.0.10 443 \
             198.18.1.11:8080 1.234567 0.000250 0.030000 200 200 321 4567 https GET shop.test \
             /a\\x20b HTTP/1.1 curl/8.0\\x20(a\\x20\\x22test\\x22) TLS_AES_128_GCM_SHA256 TLSv1.3 \
             cert-1 - listener-1 backend-1 r-1 0 -",
            "2024-02-29T23:59:59.007Z alb-0123456789 198.18.0.2 40000 198.18.0.10 443 \
             [2001:db8::1]:5432 1.234567 0.000250 0.030000 - - 321 4567 tcp - - - - - - - - - \
             listener-1 backend-1 - 1 idle_timeout",
        ]
    );
    let columns = |line: &String| line.split(' ').count();
    assert_eq!(columns(&read[0]), columns(&read[1]));
}

#[test]
fn common_lines() {
    let unread = Record {
        http: Some(HttpRecord {
            method: b"BAD",
            uri: b"",
            protocol: "",
            user_agent: b"",
            referer: b"",
            status: 400,
            ..request(b"").http.unwrap()
        }),
        client: "[2001:db8::2]:40000".parse().unwrap(),
        ..request(b"")
    };
    let empty = HttpRecord { method: b"", status: 408, ..unread.http.unwrap() };
    let nothing = Record { http: Some(empty), bytes_sent: 0, ..unread };
    let encrypted = Record { tls: request(b"").tls, ..connection() };
    let records = [request(b"/a?b=\xff\"\\"), unread, nothing, connection(), encrypted];
    assert_eq!(
        written(LogFormat::Common, &records),
        [
            "198.18.0.2 - - [29/Feb/2024:23:59:59 +0000] \"GET /a?b=\\xFF\\x22\\x5C HTTP/1.1\" 200 \
             4567 \"https://other.test/?q=\\x221\\x22\" \"curl/8.0 (a \\x22test\\x22)\"",
            "2001:db8::2 - - [29/Feb/2024:23:59:59 +0000] \"BAD\" 400 4567 \"-\" \"-\"",
            "2001:db8::2 - - [29/Feb/2024:23:59:59 +0000] \"-\" 408 0 \"-\" \"-\"",
            "198.18.0.2 - - [29/Feb/2024:23:59:59 +0000] \"TCP 198.18.0.10:443\" 000 4567 \"-\" \"-\"",
            "198.18.0.2 - - [29/Feb/2024:23:59:59 +0000] \"TLS 198.18.0.10:443\" 000 4567 \"-\" \"-\"",
        ]
    );
}

#[test]
fn months_have_names() {
    let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    for month in 1_u64..=12 {
        let time = format!("2026-{month:02}-03T04:05:06.789Z");
        let mut out = Vec::new();
        super::common::line(&request(b"/"), time.as_bytes().try_into().unwrap(), &mut out);
        let name = &months[usize::try_from(month - 1).unwrap() * 3..][..3];
        let line = String::from_utf8(out).unwrap();
        assert!(line.contains(&format!("[03/{name}/2026:04:05:06 +0000]")), "{line}");
    }
}

#[test]
fn nobody_who_was_refused_before_a_target_has_one() {
    let refused = Record {
        target: None,
        connect_time: None,
        target_time: None,
        backend: "",
        error: "no_target",
        tls: None,
        ..request(b"/")
    };
    let read = written(LogFormat::Json, &[refused]);
    let read: Value = serde_json::from_str(&read[0]).unwrap();
    for absent in ["backend_server_ip_port", "backend_connect_time", "backend_id", "ssl_cipher"] {
        assert_eq!(read.get(absent), None, "{absent}");
    }
    assert_eq!((&read["error"], &read["scheme"]), (&json!("no_target"), &json!("http")));
}

#[test]
fn a_file_that_is_full_moves_on_and_the_oldest_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log =
        AccessLog::start(&model::AccessLog { max_bytes: 2_000, ..settings(path.clone()) }).unwrap();
    let worker = log.worker();
    let uris: Vec<String> = (0..20).map(|number| format!("/{number}")).collect();
    for (count, uri) in (1..).zip(&uris) {
        worker.record(&request(uri.as_bytes()));
        worker.flush();
        wait("line", || log.report().written == count);
    }
    let mut names: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["log", "log.1", "log.2"]);
    // The last lines are there, in order, none twice.
    let kept: String = ["log.2", "log.1", "log"]
        .map(|name| fs::read_to_string(dir.path().join(name)).unwrap())
        .concat();
    let kept: Vec<String> = kept
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["request_uri"].to_string())
        .collect();
    let expected: Vec<String> = uris.iter().map(|uri| format!("\"{uri}\"")).collect();
    assert!(kept.len() > 5, "{kept:?}");
    assert_eq!(kept, expected[expected.len() - kept.len()..]);
    for name in names {
        assert!(fs::metadata(dir.path().join(name)).unwrap().len() <= 2_000);
    }
}

#[test]
fn reopening_follows_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("log"), dir.path().join("moved"));
    let log = AccessLog::start(&settings(path.clone())).unwrap();
    let worker = log.worker();
    worker.record(&request(b"/before"));
    worker.flush();
    lines(&path, 1);
    fs::rename(&path, &moved).unwrap();
    log.reopen();
    wait("new file", || path.exists());
    worker.record(&request(b"/after"));
    worker.flush();
    assert!(lines(&path, 1)[0].contains("/after"));
    assert_eq!(lines(&moved, 1).len(), 1);
}

#[tokio::test]
async fn a_signal_reopens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = AccessLog::start(&settings(path.clone())).unwrap();
    wait("file", || path.exists());
    fs::rename(&path, dir.path().join("moved")).unwrap();
    let reopened = async {
        // Taken by now: it was polled first.
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGUSR1).unwrap();
        while !path.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        ended = log.reopen_on_signal() => panic!("{ended:?}"),
        () = reopened => {}
    }
}

#[test]
fn what_cannot_be_written_is_lost_and_counted_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("later/log");
    let log = AccessLog::start(&settings(path.clone())).unwrap();
    let worker = log.worker();
    for _ in 0..3 {
        worker.record(&request(b"/lost"));
    }
    worker.flush();
    wait("loss", || log.report() == LogReport { written: 0, lost: 3, failing: true });
    fs::create_dir(dir.path().join("later")).unwrap();
    worker.record(&request(b"/kept"));
    worker.flush();
    assert!(lines(&path, 1)[0].contains("/kept"));
    wait("recovery", || log.report() == LogReport { written: 1, lost: 3, failing: false });
}

#[test]
fn a_full_disk_loses_lines_and_stops_nobody() {
    let log = AccessLog::start(&settings("/dev/full".into())).unwrap();
    let worker = log.worker();
    let begun = Instant::now();
    for _ in 0..100 {
        worker.record(&request(b"/"));
    }
    worker.flush();
    assert!(begun.elapsed() < Duration::from_secs(5));
    wait("loss", || log.report().lost == 100);
}

#[test]
fn a_writer_that_is_stuck_never_holds_a_worker_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Nobody reads: opening blocks the writer.
    let log = AccessLog::start(&settings(path.clone())).unwrap();
    let worker = log.worker();
    let record = request(b"/");
    wait("loss", || {
        for _ in 0..1_000 {
            worker.record(&record);
        }
        log.report().lost > 0
    });
    // Let it go on, so that it ends.
    let reader = std::thread::spawn(move || fs::read(&path).unwrap());
    drop((worker, log));
    assert!(!reader.join().unwrap().is_empty());
}

#[test]
fn closing_writes_what_was_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = AccessLog::start(&model::AccessLog { max_bytes: 1 << 30, ..settings(path.clone()) })
        .unwrap();
    let worker = log.worker();
    for _ in 0..2_000 {
        worker.record(&Record { time: SystemTime::now(), ..request(b"/") });
    }
    drop(worker);
    drop(log);
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2_000);
}

#[tokio::test(start_paused = true)]
async fn a_lone_line_is_not_kept_for_long() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = AccessLog::start(&settings(path.clone())).unwrap();
    let worker = log.worker();
    let begun = tokio::time::Instant::now();
    tokio::select! {
        () = worker.flush_regularly() => {}
        () = async {
            worker.record(&request(b"/"));
            while log.report().written == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        } => {}
    }
    assert!(begun.elapsed() >= Duration::from_millis(100));
    assert_eq!(lines(&path, 1).len(), 1);
}
