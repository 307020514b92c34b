//! What is counted and logged of requests, however they end.

use std::sync::atomic::Ordering;

use http::Request;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::lab::*;
use crate::model::LogFormat;

/// Why requests failed, what backends are blamed for, and how often the target is.
#[track_caller]
fn assert_blamed(lab: &Lab, reason: &str, error: Option<&str>) {
    assert_eq!(some(&lab.totals().refusals), [(reason, 1)]);
    let blamed: Vec<_> = error.into_iter().map(|error| (error, 1)).collect();
    assert_eq!(some(&lab.backend().errors), blamed, "{reason}");
    let failed = lab.slot.get().backend.targets[0].shared.failed.load(Ordering::Relaxed);
    assert_eq!(failed, u64::from(error.is_some()), "{reason}");
}

#[test]
fn requests_are_counted_for_their_backend() {
    run(async {
        const COUNT: u64 = 1_000;
        let lab = Lab::new(&[answering(OK).await]).await;
        let mut client = lab.client().await;
        for _ in 0..COUNT {
            assert_eq!(talk(&mut client, get("/")).await.1, "ok");
        }
        let backend = lab.backend();
        assert_eq!(some(&backend.responses), [("2xx", COUNT)]);
        assert_eq!((backend.connects, backend.reuses, backend.retries), (1, COUNT - 1, 0));
        assert_eq!((backend.connect_time.count(), backend.response_time.count()), (1, COUNT));
        assert_eq!(backend.bytes_in, COUNT * OK.len() as u64);
        // Of each the head as it was sent, of which a part is our own.
        let head = backend.bytes_out / COUNT;
        assert!((60..300).contains(&head), "{head} bytes a request");
        assert_eq!((some(&backend.errors), backend.pool_idle), (vec![], 1));
    });
}

#[test]
fn bytes_are_counted_while_the_connection_is_open() {
    run(async {
        let (listener, target) = origin().await;
        let lab = Lab::new(&[target]).await;
        let mut client = lab.client().await;
        let (response, _) = client.send_request(get("/"), true).unwrap();
        let mut stream = accept(&listener).await;
        read_until(&mut stream, "\r\n\r\n").await;
        // Not even the request is over.
        until(|| lab.totals().bytes_in > 24).await;
        let before = lab.totals().bytes_out;
        send(&mut stream, "HTTP/1.1 200 OK\r\n\r\n").await;
        let mut response = within(response).await.unwrap();
        for count in 1..=3 {
            send(&mut stream, &"x".repeat(1_000)).await;
            let mut got = 0;
            while got < 1_000 {
                got += within(response.body_mut().data()).await.unwrap().unwrap().len();
            }
            until(|| lab.totals().bytes_out >= before + count * 1_000).await;
        }
        drop(stream);
        while let Some(data) = within(response.body_mut().data()).await {
            assert!(data.unwrap().is_empty());
        }
        drop((client, response));
        // The rest is one end of a stream and a goodbye: nothing counts twice.
        until(|| std::rc::Rc::strong_count(&lab.slot) == 2).await;
        assert!(lab.totals().bytes_out < before + 3_300, "{}", lab.totals().bytes_out);
    });
}

#[test]
fn large_bodies_are_counted_for_their_backend() {
    run(async {
        const LEN: usize = 1 << 20;
        let (listener, target) = origin().await;
        let lab = Lab::new(&[target]).await;
        let mut request = post("/");
        request.headers_mut().insert("content-length", LEN.into());
        let (response, mut body) = lab.client().await.send_request(request, false).unwrap();
        body.send_data(vec![b'y'; LEN].into(), true).unwrap();
        let mut stream = accept(&listener).await;
        let head = read_until(&mut stream, "\r\n\r\n").await;
        within(stream.read_exact(&mut vec![0; LEN])).await.unwrap();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n");
        let expected = (answer.len() + LEN) as u64;
        let sending = tokio::task::spawn_local(async move {
            send(&mut stream, &answer).await;
            stream.write_all(&vec![b'x'; LEN]).await.unwrap();
            stream
        });
        let mut response = within(response).await.unwrap();
        assert_eq!(text(response.body_mut()).await.len(), LEN);
        let _stream = sending.await.unwrap();
        let backend = lab.backend();
        assert_eq!(backend.bytes_in, expected);
        assert_eq!(backend.bytes_out, (head.len() + LEN) as u64);
    });
}

#[test]
fn heads_that_are_no_good_are_the_targets_fault() {
    run(async {
        let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(300_000));
        for (answer, reason, error) in [
            ("nonsense\r\n\r\n", "bad_response", "bad_response"),
            (&long[..], "response_too_large", "bad_response"),
            ("HTTP/1.1 200 OK\r\nX: ", "target_closed", "closed"),
        ] {
            let (listener, target) = origin().await;
            let lab = Lab::with(&[target], |_, backend| backend.retries = 0).await;
            let (response, _) = lab.client().await.send_request(get("/"), true).unwrap();
            let mut stream = accept(&listener).await;
            read_until(&mut stream, "\r\n\r\n").await;
            // What is too large is not read to its end.
            let _sent = stream.write_all(answer.as_bytes()).await.is_ok();
            drop(stream);
            assert_eq!(within(response).await.unwrap().status(), 502);
            assert_blamed(&lab, reason, Some(error));
        }
    });
}

#[test]
fn bodies_that_are_no_good_are_the_targets_fault() {
    run(async {
        for (rest, close, reason, error) in [
            ("Content-Length: 9\r\n\r\nabc", true, "target_closed", "truncated"),
            ("Content-Length: 9\r\n\r\nabc", false, "response_timeout", "response_timeout"),
            ("Transfer-Encoding: chunked\r\n\r\nzz\r\n", false, "bad_response", "bad_response"),
        ] {
            let (listener, target) = origin().await;
            let lab = Lab::with(&[target], |listener, _| listener.idle_timeout = SHORT).await;
            let (response, _) = lab.client().await.send_request(get("/"), true).unwrap();
            let mut stream = accept(&listener).await;
            read_until(&mut stream, "\r\n\r\n").await;
            send(&mut stream, &format!("HTTP/1.1 200 OK\r\n{rest}")).await;
            let kept = (!close).then_some(stream);
            if let Ok(mut response) = within(response).await {
                while within(response.body_mut().data()).await.is_some_and(|data| data.is_ok()) {}
            }
            drop(kept);
            until(|| !lab.totals().refusals.is_empty()).await;
            assert_blamed(&lab, reason, Some(error));
        }
    });
}

#[test]
fn what_the_client_does_wrong_while_it_is_answered_is_not_the_targets_fault() {
    run(async {
        for (more, reason) in [(Some("more"), "body_too_large"), (None, "slow_body")] {
            let (listener, target) = origin().await;
            let lab = Lab::with(&[target], |listener, _| {
                listener.idle_timeout = SHORT;
                listener.http.as_mut().unwrap().body_bytes = 5;
            })
            .await;
            let (response, mut body) = lab.client().await.send_request(post("/"), false).unwrap();
            body.send_data("some".into(), false).unwrap();
            let mut stream = accept(&listener).await;
            read_until(&mut stream, "some\r\n").await;
            send(&mut stream, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").await;
            let mut response = within(response).await.unwrap();
            within(response.body_mut().data()).await.unwrap().unwrap();
            if let Some(more) = more {
                body.send_data(more.into(), false).unwrap();
            }
            assert!(within(stream.read(&mut [0])).await.is_err(), "the target is reset");
            until(|| !lab.totals().refusals.is_empty()).await;
            assert_blamed(&lab, reason, None);
        }
    });
}

#[test]
fn a_stale_connection_is_no_fault_and_neither_is_its_408() {
    run(async {
        let late = "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        for last in ["", late] {
            let (listener, target) = origin().await;
            let lab = Lab::with(&[target], |_, backend| backend.retries = 0).await;
            let mut client = lab.client().await;
            let (response, _) = client.send_request(get("/"), true).unwrap();
            let mut stream = accept(&listener).await;
            read_until(&mut stream, "\r\n\r\n").await;
            send(&mut stream, OK).await;
            assert_eq!(within(response).await.unwrap().status(), 200);
            until(|| lab.worker.pool.len() == 1).await;
            // The request crosses the target's close.
            let (response, _) = client.send_request(get("/"), true).unwrap();
            read_until(&mut stream, "\r\n\r\n").await;
            send(&mut stream, last).await;
            drop(stream);
            let mut stream = accept(&listener).await;
            read_until(&mut stream, "\r\n\r\n").await;
            send(&mut stream, OK).await;
            assert_eq!(within(response).await.unwrap().status(), 200, "{last}");
            let backend = lab.backend();
            assert_eq!((backend.retries, some(&backend.errors)), (1, vec![]));
            assert_eq!(some(&backend.responses), [("2xx", 2)]);
        }
    });
}

#[test]
fn a_408_of_a_new_connection_is_an_answer() {
    run(async {
        let late = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
        let lab = Lab::new(&[answering(late).await]).await;
        let (response, _) = talk(&mut lab.client().await, get("/")).await;
        assert_eq!(response.status(), 408);
    });
}

#[test]
fn sizes_are_those_of_whole_messages() {
    run(async {
        let log = Log::start(LogFormat::Json);
        let lab = Lab::logging(&[answering(OK).await], &log.log).await;
        let mut client = lab.client().await;
        let request = Request::get("http://shop.test/a").header("x-a", "1").body(()).unwrap();
        let (response, _) = talk(&mut client, request).await;
        until(|| lab.totals().in_flight == 0).await;
        let text = log.text(&lab.worker).await;
        let line: Value = serde_json::from_str(&text).unwrap();
        let asked = [":methodGET", ":schemehttp", ":authorityshop.test", ":path/a", "x-a1"];
        let asked: usize = asked.iter().map(|field| field.len() + 4).sum();
        assert_eq!(line["request_length"], asked, "{line}");
        let fields: usize = response
            .headers()
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 4)
            .sum();
        let answered = ":status200".len() + 4 + fields + "ok".len();
        assert_eq!(line["bytes_sent"], answered, "{line}");
        assert_eq!(line["http_user_agent"], Value::Null);
    });
}
