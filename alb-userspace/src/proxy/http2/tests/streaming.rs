//! Bodies both ways: as they come, no faster than the other side takes them, to whatever end.

use bytes::Bytes;
use http::HeaderMap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::lab::{Lab, accept, get, origin, post, read_until, run, send, text, until, within};

const BIG: usize = 8 << 20;

#[test]
fn events_are_passed_on_as_they_come() {
    run(async {
        let (listener, target) = origin().await;
        let lab = Lab::new(&[target]).await;
        let (response, _) = lab.client().await.send_request(get("/"), true).unwrap();
        let mut stream = accept(&listener).await;
        read_until(&mut stream, "\r\n\r\n").await;
        send(&mut stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        let mut response = within(response).await.unwrap();
        for event in ["one", "three"] {
            send(&mut stream, &format!("{:x};ext=1\r\n{event}\r\n", event.len())).await;
            assert_eq!(within(response.body_mut().data()).await.unwrap().unwrap(), event);
        }
        send(&mut stream, "0\r\nx-sum: 8\r\n\r\n").await;
        assert!(within(response.body_mut().data()).await.is_none());
        let trailers = within(response.body_mut().trailers()).await.unwrap().unwrap();
        assert_eq!(trailers["x-sum"], "8");
        until(|| lab.worker.pool.len() == 1).await;
    });
}

#[test]
fn trailers_go_up_and_forbidden_ones_do_not() {
    run(async {
        for (name, passes) in [
            ("x-sum", true),
            ("content-length", false),
            ("host", false),
            ("proxy-authorization", false),
            ("x-forwarded-for", false),
        ] {
            let (listener, target) = origin().await;
            let lab = Lab::new(&[target]).await;
            let (response, mut body) = lab.client().await.send_request(post("/"), false).unwrap();
            let mut stream = accept(&listener).await;
            read_until(&mut stream, "\r\n\r\n").await;
            body.send_data("hello".into(), false).unwrap();
            read_until(&mut stream, "5\r\nhello\r\n").await;
            let mut trailers = HeaderMap::new();
            trailers.insert(name, "8".parse().unwrap());
            body.send_trailers(trailers).unwrap();
            if passes {
                read_until(&mut stream, "0\r\nx-sum: 8\r\n\r\n").await;
                send(&mut stream, super::lab::OK).await;
            }
            let status = within(response).await.unwrap().status();
            assert_eq!(status, if passes { 200 } else { 400 }, "{name}");
        }
    });
}

#[test]
fn interim_responses_are_passed_on() {
    run(async {
        let (listener, target) = origin().await;
        let lab = Lab::new(&[target]).await;
        let mut request = post("/");
        request.headers_mut().insert("expect", "100-continue".parse().unwrap());
        let (mut response, mut body) = lab.client().await.send_request(request, false).unwrap();
        let mut stream = accept(&listener).await;
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert!(head.contains("expect: 100-continue\r\n"), "{head}");
        send(
            &mut stream,
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        )
        .await;
        for status in [100, 103] {
            let interim = std::future::poll_fn(|cx| response.poll_informational(cx));
            let interim = within(interim).await.unwrap().unwrap();
            assert_eq!(interim.status(), status);
        }
        body.send_data("hello".into(), true).unwrap();
        read_until(&mut stream, "5\r\nhello\r\n0\r\n\r\n").await;
        send(&mut stream, super::lab::OK).await;
        let mut response = within(response).await.unwrap();
        assert_eq!(text(response.body_mut()).await, "ok");
    });
}

#[test]
fn large_bodies_go_both_ways() {
    run(async {
        let (listener, target) = origin().await;
        let lab = Lab::new(&[target]).await;
        let (response, mut body) = lab.client().await.send_request(post("/"), false).unwrap();
        let mut stream = accept(&listener).await;
        read_until(&mut stream, "\r\n\r\n").await;
        // The origin echoes what it gets, chunks and all.
        let echo = tokio::task::spawn_local(async move {
            send(&mut stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            let mut piece = vec![0; 65_536];
            loop {
                let len = stream.read(&mut piece).await.unwrap();
                stream.write_all(&piece[..len]).await.unwrap();
                if piece[..len].ends_with(b"0\r\n\r\n") {
                    return;
                }
            }
        });
        let upload = async {
            let mut left = BIG;
            while left > 0 {
                body.reserve_capacity(left.min(65_536));
                let room = within(std::future::poll_fn(|cx| body.poll_capacity(cx))).await;
                let room = room.unwrap().unwrap().min(left);
                left -= room;
                body.send_data(Bytes::from(vec![b'x'; room]), left == 0).unwrap();
            }
        };
        let download = async {
            let mut response = within(response).await.unwrap();
            text(response.body_mut()).await.len()
        };
        let ((), len) = tokio::join!(upload, download);
        assert_eq!(len, BIG);
        echo.await.unwrap();
        let totals = lab.slot.get().backend.shared.stats.totals();
        assert_eq!(totals.responses["2xx"], 1);
    });
}

#[test]
fn a_client_that_does_not_read_holds_the_target_back() {
    run(async {
        let (listener, target) = origin().await;
        let lab = Lab::new(&[target]).await;
        let (response, _) = lab.client().await.send_request(get("/"), true).unwrap();
        let mut stream = accept(&listener).await;
        read_until(&mut stream, "\r\n\r\n").await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BIG}\r\n\r\n");
        send(&mut stream, &head).await;
        let mut response = within(response).await.unwrap();
        let mut sent = 0;
        let block = vec![b'x'; 65_536];
        // Until nothing was taken for a while: sockets hold some megabytes, we nearly nothing.
        while let Ok(written) = tokio::time::timeout(
            super::lab::SHORT,
            stream.write(&block[..block.len().min(BIG - sent)]),
        )
        .await
        {
            sent += written.unwrap();
            assert!(sent < BIG, "all of it was taken");
        }
        let rest = tokio::task::spawn_local(async move {
            stream.write_all(&vec![b'x'; BIG - sent]).await.unwrap();
        });
        assert_eq!(text(response.body_mut()).await.len(), BIG);
        rest.await.unwrap();
    });
}

#[test]
fn early_answers_end_the_upload() {
    run(async {
        let (listener, target) = origin().await;
        let lab = Lab::new(&[target]).await;
        let (response, mut body) = lab.client().await.send_request(post("/"), false).unwrap();
        body.send_data("some".into(), false).unwrap();
        let mut stream = accept(&listener).await;
        read_until(&mut stream, "some\r\n").await;
        send(&mut stream, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno").await;
        let mut response = within(response).await.unwrap();
        assert_eq!(response.status(), 401);
        assert_eq!(text(response.body_mut()).await, "no");
        // What the client sends before it has read the answer is thrown away.
        body.send_data("more".into(), false).unwrap();
        let reason = within(std::future::poll_fn(|cx| body.poll_reset(cx))).await.unwrap();
        assert_eq!(reason, h2::Reason::NO_ERROR, "the answer stands (RFC 9113 §8.1)");
        assert!(within(stream.read(&mut [0])).await.is_err(), "the target is reset");
    });
}

#[test]
fn a_client_that_gives_up_cancels_the_target() {
    run(async {
        for begun in [false, true] {
            let (listener, target) = origin().await;
            let lab = Lab::new(&[target]).await;
            let mut client = lab.client().await;
            let (response, mut body) = client.send_request(get("/"), true).unwrap();
            let mut stream = accept(&listener).await;
            read_until(&mut stream, "\r\n\r\n").await;
            if begun {
                send(&mut stream, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome").await;
                let mut response = within(response).await.unwrap();
                within(response.body_mut().data()).await.unwrap().unwrap();
                body.send_reset(h2::Reason::CANCEL);
                drop(response);
            } else {
                body.send_reset(h2::Reason::CANCEL);
            }
            let ended = within(stream.read(&mut [0])).await;
            assert!(ended.is_err(), "the target is reset: {ended:?}");
            until(|| lab.refused("client_gone") == 1).await;
            assert_eq!(lab.totals().requests["4xx"], 1);
        }
    });
}

#[test]
fn a_broken_response_is_no_whole_one() {
    run(async {
        for head in ["Content-Length: 9", "Transfer-Encoding: chunked"] {
            let (listener, target) = origin().await;
            let lab = Lab::new(&[target]).await;
            let (response, _) = lab.client().await.send_request(get("/"), true).unwrap();
            let mut stream = accept(&listener).await;
            read_until(&mut stream, "\r\n\r\n").await;
            send(&mut stream, &format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n4\r\nsome")).await;
            drop(stream);
            let error = match within(response).await {
                // The head may not have been sent yet.
                Err(error) => error,
                Ok(mut response) => loop {
                    match within(response.body_mut().data()).await {
                        Some(Ok(_)) => {}
                        Some(Err(error)) => break error,
                        None => panic!("an end that is none"),
                    }
                },
            };
            assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
            assert_eq!(lab.refused("target_closed"), 1, "{head}");
        }
    });
}

#[test]
fn draining_lets_streams_end_and_takes_no_new_ones() {
    run(async {
        let (listener, target) = origin().await;
        let lab = Lab::new(&[target]).await;
        let stream = tokio::net::TcpStream::connect(lab.address).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::task::spawn_local(connection);
        let (response, _) = client.send_request(get("/"), true).unwrap();
        let mut stream = accept(&listener).await;
        read_until(&mut stream, "\r\n\r\n").await;
        lab.slot.drain.begin();
        until(|| client.send_request(get("/"), true).is_err()).await;
        send(&mut stream, super::lab::OK).await;
        let mut response = within(response).await.unwrap();
        assert_eq!(text(response.body_mut()).await, "ok");
        drop(response);
        within(connection).await.unwrap().unwrap();
    });
}
