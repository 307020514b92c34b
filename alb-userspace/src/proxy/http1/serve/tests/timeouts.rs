//! Each stage has its time.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use super::lab::*;

/// Longer than a busy machine takes between two steps.
const SHORT: Duration = Duration::from_millis(500);

#[test]
fn slow_clients_get_408_and_idle_ones_a_close() {
    run(async {
        let (_listener, address) = origin().await;
        let lab = Lab::with(&[address], |listener, _| {
            let http = listener.http.as_mut().unwrap();
            http.header_timeout = SHORT;
            http.body_idle_timeout = SHORT;
            listener.idle_timeout = SHORT;
        })
        .await;
        assert_eq!(lab.talk(b"").await, "");
        assert_eq!(statuses(&lab.talk(b"GET / HTTP/1.1\r\nHo").await), ["408"]);
        let request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc";
        assert_eq!(statuses(&lab.talk(request).await), ["408"]);
    });
}

#[test]
fn slow_targets_are_504() {
    run(async {
        let (_listener, address) = origin().await;
        let lab = Lab::with(&[address], |_, backend| backend.response_timeout = SHORT).await;
        let mut client = lab.connect().await;
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(statuses(&client.until("\r\n\r\n").await), ["504"]);
        assert_eq!(lab.slot.get().backend.targets[0].in_flight(), 0);
    });
}

#[test]
fn slow_readers_are_cut_off() {
    run(async {
        let (listener, address) = origin().await;
        let lab = Lab::with(&[address], |listener, _| {
            listener.http.as_mut().unwrap().write_idle_timeout = SHORT;
        })
        .await;
        let mut client = lab.connect().await;
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut target = accept(&listener).await;
        read_until(&mut target, "\r\n\r\n").await;
        target.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await.unwrap();
        // Nobody reads: writing stops when all buffers are full, and fails after the cut.
        let piece = vec![0; 1 << 16];
        let writing = async { while target.write_all(&piece).await.is_ok() {} };
        tokio::time::timeout(LONG, writing).await.expect("the target hears of it");
    });
}

#[test]
fn a_client_that_expects_100_owes_the_body_after_it() {
    run(async {
        let (listener, address) = origin().await;
        let lab = Lab::with(&[address], |listener, _| {
            listener.http.as_mut().unwrap().body_idle_timeout = SHORT;
        })
        .await;
        let mut client = lab.connect().await;
        client
            .send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
            .await;
        let mut target = accept(&listener).await;
        read_until(&mut target, "\r\n\r\n").await;
        target.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        assert_eq!(statuses(&client.rest().await), ["100", "408"]);
    });
}

#[test]
fn a_head_that_trickles_in_has_one_time() {
    run(async {
        let (listener, address) = origin().await;
        let lab = Lab::with(&[address], |_, backend| backend.response_timeout = SHORT).await;
        let mut client = lab.connect().await;
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut target = accept(&listener).await;
        let trickle = async {
            target.write_all(b"HTTP/1.1 200 OK\r\nX: ").await.unwrap();
            let mut often = tokio::time::interval(SHORT / 10);
            while target.write_all(b"a").await.is_ok() {
                often.tick().await;
            }
        };
        let (text, ()) = tokio::join!(client.until("\r\n\r\n"), trickle);
        assert_eq!(statuses(&text), ["504"]);
    });
}

#[test]
fn an_empty_line_is_no_request() {
    run(async {
        let lab = Lab::with(&[], |listener, _| listener.idle_timeout = SHORT).await;
        assert_eq!(lab.talk(b"\r\n").await, "", "it idles: no 408");
        let text = lab.talk(b"\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert_eq!(statuses(&text), ["503"]);
    });
}
