//! Bodies and connections: lengths, chunks, trailers, old clients, pipelines, early answers.

use tokio::{io::AsyncWriteExt as _, task::spawn_local};

use super::lab::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_request_is_forwarded_as_it_came() {
    run(async {
        let (listener, address) = origin().await;
        let lab = Lab::new(&[address]).await;
        let mut client = lab.connect().await;
        client.send(b"POST /A%2fb?c=%20 HTTP/1.1\r\nhOST: A:1\r\nX-oDd:  v\r\nContent-Length: 3\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\nxyz").await;
        let mut target = accept(&listener).await;
        let text = read_until(&mut target, "xyz").await;
        assert!(
            text.starts_with("POST /A%2fb?c=%20 HTTP/1.1\r\nhOST: A:1\r\nX-oDd: v\r\n"),
            "{text}"
        );
        assert!(text.contains("Content-Length: 3\r\n") && !text.contains("X-Hop"), "{text}");
        assert!(text.contains("X-Forwarded-For: 127.0.0.1\r\n"), "{text}");
        target.write_all(OK.as_bytes()).await.unwrap();
        assert!(client.until("ok").await.ends_with("\r\n\r\nok"));
    });
}

#[test]
fn pipelined_requests_are_answered_in_order_over_one_connection() {
    run(async {
        let lab = Lab::new(&[answering(OK).await]).await;
        let mut request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(9);
        request.extend_from_slice(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let text = lab.talk(&request).await;
        assert_eq!(statuses(&text), ["200"; 10]);
        assert_eq!(lab.worker.pool.len(), 1, "one connection served them all");
        assert_eq!(lab.slot.get().backend.targets[0].in_flight(), 0);
    });
}

#[test]
fn chunks_and_trailers_pass_both_ways() {
    run(async {
        let (listener, address) = origin().await;
        let lab = Lab::new(&[address]).await;
        let mut client = lab.connect().await;
        client
            .send(
                b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nxyz\r\n",
            )
            .await;
        let mut target = accept(&listener).await;
        let text = read_until(&mut target, "3\r\nxyz\r\n").await;
        assert!(text.contains("Transfer-Encoding: chunked\r\n"), "{text}");
        client.send(b"0\r\nX-Sum: 1\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(read_until(&mut target, "\r\n\r\n").await, "0\r\nX-Sum: 1\r\n\r\n");
        target
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
            .await
            .unwrap();
        let text = client.until("2\r\nab\r\n").await;
        assert!(text.contains("Transfer-Encoding: chunked\r\n"), "each chunk at once: {text}");
        target.write_all(b"0\r\nX-End: 2\r\n\r\n").await.unwrap();
        assert_eq!(client.until("\r\n\r\n").await, "0\r\nX-End: 2\r\n\r\n");
        let text = read_until(&mut target, "\r\n\r\n").await;
        assert!(text.starts_with("GET /next "), "{text}");
    });
}

#[test]
fn a_bad_chunk_that_comes_with_the_head_is_answered() {
    run(async {
        for body in ["zz\r\n", "3\r\nabc\r\nzz\r\n", "3\r\nabcd", "0\r\nHost: b\r\n\r\n"] {
            for retries in [0, 1] {
                // One that answers at once, one that reads and says nothing, one that closes.
                let (silent, silence) = origin().await;
                let (closing, closes) = origin().await;
                spawn_local(async move {
                    loop {
                        drop(closing.accept().await.unwrap());
                    }
                });
                let answers = answering(OK).await;
                let targets =
                    [(answers, "400"), (silence, "400"), (closes, "400"), (down().await, "502")];
                for (target, status) in targets {
                    let lab = Lab::with(&[target], |_, backend| backend.retries = retries).await;
                    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
                    let text = lab.talk(format!("{head}{body}").as_bytes()).await;
                    assert_eq!(statuses(&text), [status], "{body:?}");
                }
                drop(silent);
            }
        }
    });
}

#[test]
fn old_clients_get_no_chunks_and_a_close() {
    run(async {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\n\r\n";
        let lab = Lab::new(&[answering(chunked).await]).await;
        let text = lab.talk(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
        assert!(text.ends_with("\r\n\r\nxyz") && !text.contains("chunked"), "{text}");
        assert!(text.contains("Connection: close\r\n"), "{text}");

        let lab = Lab::new(&[answering(OK).await]).await;
        let mut client = lab.connect().await;
        for _ in 0..2 {
            client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
            assert!(client.until("ok").await.contains("Connection: keep-alive\r\n"));
        }
    });
}

#[test]
fn responses_without_a_body_end_with_their_head() {
    run(async {
        for (request, response) in [
            ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
            ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
            ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        ] {
            let lab = Lab::new(&[answering(response).await]).await;
            let mut client = lab.connect().await;
            for _ in 0..2 {
                client.send(format!("{request} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
                client.until("\r\n\r\n").await;
            }
        }
    });
}

#[test]
fn a_body_until_the_close_is_one_and_a_short_one_is_told() {
    run(async {
        let (listener, address) = origin().await;
        let lab = Lab::new(&[address]).await;
        for (response, complete) in [
            ("HTTP/1.1 200 OK\r\n\r\nxyz", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nxyz", false),
        ] {
            let mut client = lab.connect().await;
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let mut target = accept(&listener).await;
            read_until(&mut target, "\r\n\r\n").await;
            target.write_all(response.as_bytes()).await.unwrap();
            drop(target);
            let text = client.rest().await;
            assert!(text.ends_with("\r\n\r\nxyz"), "{text}");
            assert_eq!(text.contains("Connection: close\r\n"), complete, "{text}");
        }
        assert!(lab.worker.pool.is_empty());
    });
}

#[test]
fn an_early_answer_is_relayed_and_then_closed() {
    run(async {
        let (listener, address) = origin().await;
        let lab = Lab::new(&[address]).await;
        let mut client = lab.connect().await;
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nxyz").await;
        let mut target = accept(&listener).await;
        read_until(&mut target, "xyz").await;
        target.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
        let text = client.rest().await;
        assert_eq!(statuses(&text), ["413"]);
        assert!(text.contains("Connection: close\r\n") && text.ends_with("no"), "{text}");
    });
}

#[test]
fn the_target_decides_about_100_continue() {
    run(async {
        let (listener, address) = origin().await;
        let lab = Lab::new(&[address]).await;
        let mut client = lab.connect().await;
        client
            .send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
            .await;
        let mut target = accept(&listener).await;
        assert!(read_until(&mut target, "\r\n\r\n").await.contains("Expect: 100-continue\r\n"));
        target.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        assert_eq!(client.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        client.send(b"xyz").await;
        read_until(&mut target, "xyz").await;
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        target.write_all(format!("{hints}{OK}").as_bytes()).await.unwrap();
        assert_eq!(statuses(&client.until("ok").await), ["103", "200"]);
    });
}
