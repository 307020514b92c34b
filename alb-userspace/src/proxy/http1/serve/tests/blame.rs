//! Responses that end before their time: each has the one reason that it is, and only targets
//! that are to blame are blamed.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::lab::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
/// Longer than a busy machine takes between two steps.
const SHORT: Duration = Duration::from_millis(600);

/// Why requests failed, what backends are blamed for, and how often the target is.
#[track_caller]
fn assert_blamed(lab: &Lab, reason: &str, error: Option<&str>) {
    let listener = lab.slot.get();
    let (totals, backend) =
        (listener.shared.stats.totals(), listener.backend.shared.stats.totals());
    assert_eq!(some(&totals.refusals), [(reason, 1)]);
    let blamed: Vec<_> = error.into_iter().map(|error| (error, 1)).collect();
    assert_eq!(some(&backend.errors), blamed, "{reason}");
    let failed = listener.backend.targets[0].shared.failed.load(Ordering::Relaxed);
    assert_eq!(failed, u64::from(error.is_some()), "{reason}");
    assert_eq!(totals.in_flight, 0);
}

#[test]
fn a_slow_reader_is_no_client_that_goes() {
    run(async {
        for framing in ["Content-Length: 67108864", "Transfer-Encoding: chunked"] {
            let (listener, address) = origin().await;
            let lab = Lab::with(&[address], |listener, _| {
                listener.http.as_mut().unwrap().write_idle_timeout = SHORT;
            })
            .await;
            let mut client = lab.connect().await;
            client.send(GET).await;
            let mut target = accept(&listener).await;
            read_until(&mut target, "\r\n\r\n").await;
            let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n4000000\r\n");
            target.write_all(head.as_bytes()).await.unwrap();
            let piece = vec![0; 1 << 16];
            let writing = async { while target.write_all(&piece).await.is_ok() {} };
            timeout(LONG, writing).await.expect("the target hears of it");
            assert_blamed(&lab, "slow_reader", None);
        }
    });
}

#[test]
fn a_target_that_stalls_does_not_answer_in_time() {
    run(async {
        for (length, sent) in [(9, 3), (1_000_000, 300_000)] {
            let (listener, address) = origin().await;
            let lab = Lab::with(&[address], |listener, _| listener.idle_timeout = SHORT).await;
            let mut client = lab.connect().await;
            client.send(GET).await;
            let mut target = accept(&listener).await;
            read_until(&mut target, "\r\n\r\n").await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            target.write_all(&[head.as_bytes(), &vec![b'x'; sent]].concat()).await.unwrap();
            let text = client.rest().await;
            assert_eq!(text.len(), head.len() + sent);
            assert_blamed(&lab, "response_timeout", Some("response_timeout"));
            let read = timeout(LONG, target.read_u8()).await.expect("an end");
            assert!(read.is_err(), "the target need not go on");
        }
    });
}

#[test]
fn a_target_that_closes_or_breaks_off_its_chunks_is_to_blame() {
    run(async {
        for (framing, last, reason, error) in [
            ("Content-Length: 9\r\n\r\nabc", "", "target_closed", "truncated"),
            ("Content-Length: 900000\r\n\r\nabc", "", "target_closed", "truncated"),
            (
                "Transfer-Encoding: chunked\r\n\r\n3\r\nabc",
                "\r\nzz\r\n",
                "bad_response",
                "bad_response",
            ),
        ] {
            let (listener, address) = origin().await;
            let lab = Lab::new(&[address]).await;
            let mut client = lab.connect().await;
            client.send(GET).await;
            let mut target = accept(&listener).await;
            read_until(&mut target, "\r\n\r\n").await;
            target.write_all(format!("HTTP/1.1 200 OK\r\n{framing}").as_bytes()).await.unwrap();
            client.until("abc").await;
            target.write_all(last.as_bytes()).await.unwrap();
            drop(target);
            client.rest().await;
            assert_blamed(&lab, reason, Some(error));
        }
    });
}

/// A client that goes wrong with its body while it is being answered.
async fn wrong(length: usize, sent: &[u8], reason: &str) {
    let (listener, address) = origin().await;
    let lab = Lab::with(&[address], |listener, _| {
        let http = listener.http.as_mut().unwrap();
        http.body_bytes = 5;
        listener.idle_timeout = SHORT;
    })
    .await;
    let mut client = lab.connect().await;
    client.send(POST).await;
    let mut target = accept(&listener).await;
    read_until(&mut target, "abc\r\n").await;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nxyz");
    target.write_all(head.as_bytes()).await.unwrap();
    client.until("xyz").await;
    client.send(sent).await;
    let read = timeout(LONG, async { while target.read_u8().await.is_ok() {} }).await;
    read.expect("the target is reset");
    until_settled(&lab).await;
    assert_blamed(&lab, reason, None);
}

async fn until_settled(lab: &Lab) {
    crate::proxy::lab::until(|| lab.slot.get().shared.stats.totals().in_flight == 0).await;
}

#[test]
fn what_the_client_does_wrong_while_it_is_answered_is_not_the_targets_fault() {
    run(async {
        // Copied, and moved by the kernel.
        for length in [9, 1_000_000] {
            wrong(length, b"zz\r\n", "malformed_chunk").await;
            wrong(length, b"3\r\nabc\r\n", "body_too_large").await;
            wrong(length, b"", "slow_body").await;
        }
    });
}
