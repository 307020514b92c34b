//! Which failures of targets a client never hears of, and what becomes of requests whose client
//! has gone.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::lab::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_stale_connection_is_replaced_without_a_word() {
    run(async {
        let (listener, address) = origin().await;
        let lab = Lab::with(&[address], |_, backend| backend.retries = 0).await;
        let mut client = lab.connect().await;
        client.send(GET).await;
        let mut target = accept(&listener).await;
        read_until(&mut target, "\r\n\r\n").await;
        target.write_all(OK.as_bytes()).await.unwrap();
        client.until("ok").await;
        // The request crosses the target's close: it is read and not answered.
        client.send(GET).await;
        read_until(&mut target, "\r\n\r\n").await;
        drop(target);
        let mut target = accept(&listener).await;
        read_until(&mut target, "\r\n\r\n").await;
        target.write_all(OK.as_bytes()).await.unwrap();
        assert_eq!(statuses(&client.until("ok").await), ["200"]);
        // What is not idempotent is not sent twice.
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").await;
        read_until(&mut target, "\r\n\r\nx").await;
        drop(target);
        assert_eq!(statuses(&client.until("\r\n\r\n").await), ["502"]);
    });
}

#[test]
fn another_target_is_asked_when_the_first_is_down() {
    run(async {
        let (listener, down) = origin().await;
        drop(listener);
        let lab = Lab::new(&[down, answering(OK).await]).await;
        let mut client = lab.connect().await;
        for _ in 0..6 {
            client.send(GET).await;
            assert_eq!(statuses(&client.until("ok").await), ["200"]);
        }
        let lab = Lab::with(&[down], |_, _| {}).await;
        let mut client = lab.connect().await;
        client.send(GET).await;
        assert_eq!(statuses(&client.until("\r\n\r\n").await), ["502"]);
        assert_eq!(lab.slot.get().backend.targets[0].in_flight(), 0);
    });
}

#[test]
fn retries_bound_how_many_targets_are_tried() {
    run(async {
        let targets = [down().await, answering(OK).await];
        let lab = Lab::with(&targets, |_, backend| backend.retries = 0).await;
        let mut answers = Vec::new();
        for _ in 0..4 {
            let mut client = lab.connect().await;
            client.send(GET).await;
            answers.push(client.until("\r\n\r\n").await.contains(" 200 "));
        }
        answers.sort_unstable();
        assert_eq!(answers, [false, false, true, true], "a second target is not tried");
        let backend = lab.slot.get().backend.shared.stats.totals();
        assert_eq!((backend.retries, backend.errors["connect_failed"]), (0, 2));

        let targets = [down().await, down().await, down().await, down().await];
        let lab = Lab::with(&targets, |_, backend| backend.retries = 2).await;
        let mut client = lab.connect().await;
        client.send(GET).await;
        assert_eq!(statuses(&client.until("\r\n\r\n").await), ["502"]);
        let backend = lab.slot.get().backend.shared.stats.totals();
        assert_eq!((backend.retries, backend.errors["connect_failed"]), (2, 3));
    });
}

#[test]
fn a_connect_that_takes_too_long_moves_on() {
    run(async {
        let (stuck, _held) = hanging().await;
        let lab = Lab::with(&[stuck, answering(OK).await], |_, backend| {
            backend.connect_timeout = Duration::from_secs(1);
        })
        .await;
        let mut client = lab.connect().await;
        client.send(GET).await;
        assert_eq!(statuses(&client.until("ok").await), ["200"]);
        let backend = lab.slot.get().backend.shared.stats.totals();
        assert_eq!((backend.retries, backend.errors["connect_timeout"]), (1, 1));
    });
}

#[test]
fn the_least_loaded_target_is_asked() {
    run(async {
        let (listener, busy) = origin().await;
        let lab = Lab::with(&[busy, answering(OK).await], |_, backend| {
            backend.algorithm = crate::model::Algorithm::LeastConn;
        })
        .await;
        let mut waiting = lab.connect().await;
        waiting.send(GET).await;
        let _target = accept(&listener).await;
        // By turns every other one of them would wait too.
        for _ in 0..6 {
            let mut client = lab.connect().await;
            client.send(GET).await;
            assert_eq!(statuses(&client.until("ok").await), ["200"]);
        }
    });
}

#[test]
fn a_post_moves_on_when_nothing_was_sent() {
    run(async {
        let (listener, down) = origin().await;
        drop(listener);
        let (listener, up) = origin().await;
        let lab = Lab::new(&[down, up]).await;
        for _ in 0..2 {
            let mut client = lab.connect().await;
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nxyz").await;
            let mut target = accept(&listener).await;
            read_until(&mut target, "xyz").await;
            target.write_all(b"HTTP/1.1 204 x\r\nConnection: close\r\n\r\n").await.unwrap();
            assert_eq!(statuses(&client.until("\r\n\r\n").await), ["204"]);
        }
    });
}

#[test]
fn a_client_that_goes_takes_its_request_along() {
    run(async {
        let (listener, address) = origin().await;
        let lab = Lab::new(&[address]).await;
        let mut client = lab.connect().await;
        client.send(GET).await;
        let mut target = accept(&listener).await;
        read_until(&mut target, "\r\n\r\n").await;
        assert_eq!(lab.slot.get().backend.targets[0].in_flight(), 1);
        client.reset();
        let read = timeout(LONG, target.read_u8()).await.expect("an end");
        assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(lab.slot.get().backend.targets[0].in_flight(), 0);

        // One that closes may be waiting for its answer, but not for long.
        let mut client = lab.connect().await;
        client.send(GET).await;
        let mut target = accept(&listener).await;
        read_until(&mut target, "\r\n\r\n").await;
        drop(client);
        timeout(LONG, target.read_u8()).await.expect("an end").unwrap_err();
        assert_eq!(lab.slot.get().backend.targets[0].in_flight(), 0);

        // The same in the middle of a response that has paused.
        let mut client = lab.connect().await;
        client.send(GET).await;
        let mut target = accept(&listener).await;
        read_until(&mut target, "\r\n\r\n").await;
        target.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nxyz").await.unwrap();
        client.until("xyz").await;
        client.reset();
        timeout(LONG, target.read_u8()).await.expect("an end").unwrap_err();
    });
}

#[test]
fn a_connection_that_meets_the_end_at_once_still_has_its_first_request() {
    run(async {
        let target = answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let lab = Lab::new(&[target]).await;
        let mut before = lab.connect().await;
        lab.slot.drain.begin();
        let mut after = lab.connect().await;
        let mut silent = lab.connect().await;
        for client in [&mut before, &mut after] {
            // The end has been seen by then; a request that is refused is answered all the same.
            tokio::task::yield_now().await;
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let answer = client.rest().await;
            assert!(answer.ends_with("ok") && answer.contains("close"), "{answer}");
        }
        assert_eq!(silent.rest().await, "");
    });
}

#[test]
fn a_draining_listener_answers_and_closes() {
    run(async {
        let (listener, address) = origin().await;
        let lab = Lab::new(&[address]).await;
        let mut idle = lab.connect().await;
        let mut client = lab.connect().await;
        client.send(GET).await;
        let mut target = accept(&listener).await;
        read_until(&mut target, "\r\n\r\n").await;
        lab.slot.drain.begin();
        assert_eq!(timeout(LONG, idle.rest()).await.unwrap(), "", "nothing came for a second");
        target.write_all(OK.as_bytes()).await.unwrap();
        let text = client.rest().await;
        assert!(text.contains("Connection: close\r\n") && text.ends_with("ok"), "{text}");
    });
}

#[test]
fn a_request_that_meets_the_end_is_answered() {
    run(async {
        let address = answering(OK).await;
        let lab = Lab::new(&[address]).await;
        let mut client = lab.connect().await;
        for _ in 0..2 {
            client.send(GET).await;
            client.until("ok").await;
        }
        lab.slot.drain.begin();
        // The connection hears of the end before the request is sent.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        client.send(GET).await;
        let text = client.rest().await;
        assert!(text.contains("Connection: close\r\n") && text.ends_with("ok"), "{text}");
    });
}

#[test]
fn a_408_on_a_connection_that_was_idle_is_not_the_answer() {
    run(async {
        let (listener, address) = origin().await;
        let lab = Lab::with(&[address], |_, backend| backend.retries = 0).await;
        let mut client = lab.connect().await;
        client.send(GET).await;
        let mut target = accept(&listener).await;
        read_until(&mut target, "\r\n\r\n").await;
        target.write_all(OK.as_bytes()).await.unwrap();
        client.until("ok").await;
        client.send(GET).await;
        read_until(&mut target, "\r\n\r\n").await;
        let late =
            b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        target.write_all(late).await.unwrap();
        drop(target);
        let mut target = accept(&listener).await;
        read_until(&mut target, "\r\n\r\n").await;
        target.write_all(OK.as_bytes()).await.unwrap();
        assert_eq!(statuses(&client.until("ok").await), ["200"]);
    });
}

#[test]
fn what_comes_after_the_answer_to_head_is_nobodys_answer() {
    run(async {
        let (listener, address) = origin().await;
        let lab = Lab::new(&[address]).await;
        let mut client = lab.connect().await;
        client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut target = accept(&listener).await;
        read_until(&mut target, "\r\n\r\n").await;
        target.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await.unwrap();
        client.until("\r\n\r\n").await;
        client.send(GET).await;
        // The first connection is not asked again, whatever it may still say.
        let mut target = accept(&listener).await;
        read_until(&mut target, "\r\n\r\n").await;
        target.write_all(OK.as_bytes()).await.unwrap();
        assert_eq!(statuses(&client.until("ok").await), ["200"]);
    });
}

#[test]
fn an_answer_to_half_a_head_ends_both_connections() {
    run(async {
        for (answer, status) in
            [(OK, "200"), ("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "502")]
        {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(1).unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let listener = socket.listen(1).unwrap();
            let address = listener.local_addr().unwrap();
            let lab = Lab::new(&[address]).await;
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.set_send_buffer_size(1).unwrap();
            let narrow = socket.connect(address).await.unwrap();
            let keep = (&Arc::default(), LONG);
            lab.worker.pool.put(address, narrow.into(), tokio::time::Instant::now(), keep);
            let mut target = accept(&listener).await;

            let mut client = lab.connect().await;
            let long = "a".repeat(60_000);
            let request = format!(
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\nX: {long}\r\n\r\n"
            );
            client.send(request.as_bytes()).await;
            read_until(&mut target, "GET / ").await;
            target.write_all(answer.as_bytes()).await.unwrap();
            let text = client.rest().await;
            assert_eq!(statuses(&text), [status]);
            assert!(text.contains("Connection: close\r\n"), "{text}");
            let mut got = Vec::new();
            let end = timeout(LONG, target.read_to_end(&mut got)).await.expect("an end");
            assert!(end.is_err() && got.len() < long.len(), "cut, and reset: {}", got.len());
            assert!(lab.worker.pool.is_empty());
        }
    });
}
