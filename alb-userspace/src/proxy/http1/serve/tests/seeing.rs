//! What is counted and logged of requests, however they end.

use std::io::ErrorKind;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::spawn_local,
    time::timeout,
};

use super::lab::*;
use crate::{
    model::LogFormat,
    proxy::stats::{BackendTotals, ListenerTotals},
};

const GET: &[u8] = b"GET /a?b HTTP/1.1\r\nHost: a:80\r\nUser-Agent: x \"y\"\r\n\
                     X-Request-Id: 0123\r\n\r\n";

fn counted(lab: &Lab) -> (ListenerTotals, BackendTotals) {
    let listener = lab.slot.get();
    (listener.shared.stats.totals(), listener.backend.shared.stats.totals())
}

/// Ends it: all its lines.
async fn lines(log: Log, lab: &Lab) -> Vec<Value> {
    let text = log.text(&lab.worker).await;
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn requests_are_counted_where_they_come_from_and_where_they_go() {
    run(async {
        let lab = Lab::new(&[answering(OK).await]).await;
        let mut client = lab.connect().await;
        let mut answered = 0;
        for _ in 0..2 {
            client.send(GET).await;
            answered += client.until("ok").await.len() as u64;
        }
        let (listener, backend) = counted(&lab);
        assert_eq!(some(&listener.requests), [("2xx", 2)]);
        assert_eq!((listener.in_flight, listener.request_time.count()), (0, 2));
        assert_eq!((listener.bytes_in, listener.bytes_out), (2 * GET.len() as u64, answered));
        assert_eq!(some(&listener.refusals), []);
        assert_eq!(some(&backend.responses), [("2xx", 2)]);
        assert_eq!((backend.connects, backend.reuses, backend.retries), (1, 1, 0));
        assert_eq!((backend.connect_time.count(), backend.response_time.count()), (1, 2));
        assert_eq!((backend.pool_idle, backend.bytes_in), (1, 2 * OK.len() as u64));
        assert!(backend.bytes_out > 2 * GET.len() as u64, "with our fields");
    });
}

#[test]
fn large_bodies_are_counted_on_both_sides() {
    run(async {
        const LEN: usize = 1 << 20;
        let (listener, address) = origin().await;
        let lab = Lab::new(&[address]).await;
        let mut client = lab.connect().await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n");
        let answer = [head.as_bytes(), &vec![b'x'; LEN]].concat();
        let len = answer.len() as u64;
        client
            .send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LEN}\r\n\r\n").as_bytes())
            .await;
        let sending = spawn_local(async move {
            client.send(&vec![b'y'; LEN]).await;
            let mut rest = vec![0; usize::try_from(len).unwrap()];
            timeout(LONG, client.0.read_exact(&mut rest)).await.expect("the answer").unwrap();
            client
        });
        let mut target = accept(&listener).await;
        read_until(&mut target, "\r\n\r\n").await;
        let mut body = vec![0; LEN];
        timeout(LONG, target.read_exact(&mut body)).await.expect("the body").unwrap();
        timeout(LONG, target.write_all(&answer)).await.expect("room").unwrap();
        let _client = sending.await.unwrap();
        let (listener, backend) = counted(&lab);
        assert_eq!((backend.bytes_in, listener.bytes_out), (len, len));
        assert!(backend.bytes_out > LEN as u64 && listener.bytes_in > LEN as u64);
    });
}

#[test]
fn a_common_line_has_the_referrer() {
    run(async {
        let log = Log::start(LogFormat::Common);
        let lab = Lab::logging(&[answering(OK).await], Some(&log.log), |_, _| {}).await;
        let mut client = lab.connect().await;
        client.send(b"GET /a HTTP/1.1\r\nHost: a\r\nReferer: http://b/\r\n\r\n").await;
        client.until("ok").await;
        let text = log.text(&lab.worker).await;
        assert!(text.starts_with("127.0.0.1 - - ["), "{text}");
        assert!(text.contains("] \"GET /a HTTP/1.1\" 200 "), "{text}");
        assert!(text.ends_with(" \"http://b/\" \"-\"\n"), "{text}");
    });
}

#[test]
fn failures_are_counted_by_their_reason_and_told_to_the_checks() {
    run(async {
        let (listener, down) = origin().await;
        drop(listener);
        let lab = Lab::new(&[down, answering("nonsense\r\n\r\n").await]).await;
        for _ in 0..2 {
            let mut client = lab.connect().await;
            client.send(GET).await;
            assert_eq!(statuses(&client.until("\r\n\r\n").await), ["502"]);
        }
        let (listener, backend) = counted(&lab);
        assert_eq!(some(&listener.requests), [("5xx", 2)]);
        assert_eq!(some(&listener.refusals), [("bad_response", 2)]);
        assert_eq!(some(&backend.errors), [("bad_response", 2), ("connect_failed", 2)]);
        assert_eq!((backend.retries, backend.no_target), (2, 0));
        // Nobody takes reports here: they are counted.
        assert_eq!(lab.worker.passive.dropped(), 2);

        let lab = Lab::new(&[]).await;
        assert_eq!(statuses(&lab.talk(b"BAD\r\n\r\n").await), ["400"]);
        let mut client = lab.connect().await;
        client.send(GET).await;
        assert_eq!(statuses(&client.until("\r\n\r\n").await), ["503"]);
        let (listener, backend) = counted(&lab);
        assert_eq!(some(&listener.requests), [("4xx", 1), ("5xx", 1)]);
        assert_eq!(listener.refusals.get("no_group"), Some(&1));
        assert_eq!(backend.no_target, 1);
    });
}

#[test]
fn a_line_tells_all_of_a_request() {
    run(async {
        let log = Log::start(LogFormat::Json);
        let target = answering(OK).await;
        let lab = Lab::logging(&[target], Some(&log.log), |_, _| {}).await;
        let mut client = lab.connect().await;
        let mut answered = 0;
        for _ in 0..2 {
            client.send(GET).await;
            answered = client.until("ok").await.len();
        }
        let from = client.0.local_addr().unwrap();
        let lines = lines(log, &lab).await;
        assert_eq!(lines.len(), 2, "{lines:?}");
        for (at, line) in lines.iter().enumerate() {
            for (key, value) in [
                ("client_ip", json!("127.0.0.1")),
                ("client_port", json!(from.port())),
                ("lb_vport", json!(lab.address.port())),
                ("backend_server_ip_port", json!(target.to_string())),
                ("status", json!(200)),
                ("backend_server_status", json!(200)),
                ("request_length", json!(GET.len())),
                ("bytes_sent", json!(answered)),
                ("scheme", json!("http")),
                ("request_method", json!("GET")),
                ("host", json!("a:80")),
                ("request_uri", json!("/a?b")),
                ("server_protocol", json!("HTTP/1.1")),
                ("http_user_agent", json!("x \"y\"")),
                ("listener_id", json!("http")),
                ("backend_id", json!("web")),
                ("request_id", json!("0123")),
            ] {
                assert_eq!(line[key], value, "{key} of {line}");
            }
            assert!(line.get("error").is_none() && line.get("retries").is_none(), "{line}");
            assert!(line["request_time"].as_f64() >= line["backend_response_time"].as_f64());
            // The second went over the connection of the first.
            assert_eq!(line.get("backend_connect_time").is_some(), at == 0, "{line}");
        }
    });
}

#[test]
fn a_client_that_goes_is_a_499_and_nonsense_a_400() {
    run(async {
        let log = Log::start(LogFormat::Json);
        let (listener, address) = origin().await;
        let lab = Lab::logging(&[address], Some(&log.log), |_, _| {}).await;
        let mut client = lab.connect().await;
        client.send(GET).await;
        let mut target = accept(&listener).await;
        read_until(&mut target, "\r\n\r\n").await;
        client.reset();
        // The loop hears of it: it resets the target.
        let read = timeout(LONG, target.read_u8()).await.expect("an end");
        assert_eq!(read.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
        assert_eq!(statuses(&lab.talk(b"GET / HTTP/1.1\r\n\r\n").await), ["400"]);
        let mut client = lab.connect().await;
        client.send(b"GET /half HTTP/1.1\r\nHo").await;
        client.finish().await;
        assert_eq!(client.rest().await, "");
        let (counts, _) = counted(&lab);
        assert_eq!(some(&counts.requests), [("4xx", 3)]);
        assert_eq!(counts.in_flight, 0);
        let lines = lines(log, &lab).await;
        let told = |line: &Value| {
            (line["status"].as_u64(), line["error"].as_str().unwrap_or_default().to_owned())
        };
        assert_eq!(told(&lines[0]), (Some(499), "client_gone".to_owned()), "{lines:?}");
        assert_eq!(lines[0]["request_uri"], "/a?b");
        assert_eq!(lines[1]["status"], 400, "{lines:?}");
        assert!(lines[1]["request_id"].is_string(), "{lines:?}");
        assert_eq!(told(&lines[2]), (Some(499), "client_gone".to_owned()), "{lines:?}");
        assert_eq!(
            (&lines[2]["request_uri"], &lines[2]["request_length"]),
            (&json!("/half"), &json!(22))
        );
        assert_eq!(lines.len(), 3);
    });
}
