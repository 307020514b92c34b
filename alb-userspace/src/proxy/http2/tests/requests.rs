//! What goes to the target, and what comes back.

use http::{Request, StatusCode};

use super::{super::stream, lab::*};

#[test]
fn a_request_and_its_answer() {
    run(async {
        let (listener, target) = origin().await;
        let lab = Lab::new(&[target]).await;
        let mut client = lab.client().await;
        let request = Request::get("http://shop.test:8080/a%20b?q=1")
            .header("x-a", "1")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("te", "trailers")
            .header("x-request-id", "mine")
            .header("x-forwarded-for", "203.0.113.9")
            .body(())
            .unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        let mut stream = accept(&listener).await;
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert!(head.starts_with("GET /a%20b?q=1 HTTP/1.1\r\nHost: shop.test:8080\r\n"), "{head}");
        for line in [
            "x-a: 1\r\n",
            "Cookie: a=1; b=2\r\n",
            "TE: trailers\r\n",
            "X-Request-Id: mine\r\n",
            "X-Forwarded-For: 203.0.113.9, 127.0.0.1\r\n",
        ] {
            assert_eq!(head.matches(line).count(), 1, "{line:?} in {head}");
        }
        assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
        let answer = "HTTP/1.1 404 Nope\r\nX-Origin: one\r\nx-origin: two\r\nConnection: x-hop\r\n\
            X-Hop: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 4\r\n\r\nbody";
        send(&mut stream, answer).await;
        let (head, mut body) = within(response).await.unwrap().into_parts();
        assert_eq!(head.status, StatusCode::NOT_FOUND);
        let values: Vec<_> = head.headers.get_all("x-origin").iter().collect();
        assert_eq!(values, ["one", "two"]);
        assert_eq!(head.headers["content-length"], "4");
        for gone in ["connection", "x-hop", "keep-alive", "server", "via"] {
            assert!(!head.headers.contains_key(gone), "{gone}");
        }
        assert_eq!(text(&mut body).await, "body");
        until(|| lab.worker.pool.len() == 1).await;
        let totals = lab.totals();
        assert_eq!((totals.requests["4xx"], totals.in_flight), (1, 0));
        assert!(totals.refusals.is_empty());
    });
}

#[test]
fn bodies_go_with_their_length_or_in_chunks() {
    run(async {
        let (listener, target) = origin().await;
        let lab = Lab::new(&[target]).await;
        let mut client = lab.client().await;
        for (length, framing, wire) in [
            (true, "content-length: 5\r\n", "hello"),
            (false, "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ] {
            let mut request = post("/");
            if length {
                request.headers_mut().insert("content-length", "5".parse().unwrap());
            }
            let (response, mut body) = client.send_request(request, false).unwrap();
            body.send_data("hello".into(), true).unwrap();
            let mut stream = accept(&listener).await;
            let head = read_until(&mut stream, "\r\n\r\n").await;
            assert!(head.contains(framing), "{head}");
            assert_eq!(read_until(&mut stream, wire).await, wire);
            send(&mut stream, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
            let response = within(response).await.unwrap();
            assert_eq!(response.status(), StatusCode::NO_CONTENT);
            assert!(
                response.body().is_end_stream()
                    && !response.headers().contains_key("content-length")
            );
        }
    });
}

#[test]
fn an_empty_post_says_so() {
    run(async {
        let (listener, target) = origin().await;
        let lab = Lab::new(&[target]).await;
        let (_response, _) = lab.client().await.send_request(post("/"), true).unwrap();
        let mut stream = accept(&listener).await;
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert!(head.contains("Content-Length: 0\r\n"), "{head}");
    });
}

#[test]
fn answers_without_a_body_have_none() {
    run(async {
        for (method, answer, status, length) in [
            ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", 200, Some("99")),
            ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", 304, Some("99")),
            ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204, None),
            ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, Some("0")),
        ] {
            let lab = Lab::new(&[answering(answer).await]).await;
            let mut request = get("/");
            *request.method_mut() = method.parse().unwrap();
            let (response, body) = talk(&mut lab.client().await, request).await;
            assert_eq!((response.status().as_u16(), &*body), (status, ""), "{answer}");
            let found =
                response.headers().get("content-length").map(|value| value.to_str().unwrap());
            assert_eq!(found, length, "{answer}");
            // What a target may still send after its answer to HEAD is nobody's answer.
            let kept = usize::from(method != "HEAD");
            until(|| lab.worker.pool.len() == kept).await;
        }
    });
}

#[test]
fn many_streams_share_connections_to_targets() {
    run(async {
        let lab = Lab::new(&[answering(OK).await]).await;
        let client = lab.client().await;
        for _ in 0..3 {
            let mut responses = Vec::new();
            let mut client = within(client.clone().ready()).await.unwrap();
            for _ in 0..50 {
                responses.push(client.send_request(get("/"), true).unwrap().0);
            }
            for response in responses {
                let mut response = within(response).await.unwrap();
                assert_eq!(text(response.body_mut()).await, "ok");
            }
        }
        assert_eq!(lab.totals().requests["2xx"], 150);
        until(|| lab.worker.pool.len() <= 50 && !lab.worker.pool.is_empty()).await;
    });
}

#[test]
fn what_cannot_be_served_is_said() {
    run(async {
        let (listener, closed) = origin().await;
        drop(listener);
        for (targets, status, word) in
            [(&[][..], 503, "no_group"), (&[closed][..], 502, "connect_failed")]
        {
            let lab = Lab::new(targets).await;
            let (response, body) = talk(&mut lab.client().await, get("/")).await;
            assert_eq!(response.status(), status);
            let id = response.headers()["x-request-id"].to_str().unwrap();
            assert!(body.starts_with(&status.to_string()) && body.contains(id), "{body}");
            assert_eq!(lab.refused(word), 1);
        }
        let lab = Lab::new(&[answering("nonsense\r\n\r\n").await]).await;
        let (response, _) = talk(&mut lab.client().await, get("/")).await;
        assert_eq!((response.status().as_u16(), lab.refused("bad_response")), (502, 1));
    });
}

#[test]
fn grpc_learns_that_it_is_not_implemented() {
    run(async {
        let lab = Lab::new(&[answering(OK).await]).await;
        let mut client = lab.client().await;
        for (kind, refused) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", false),
        ] {
            let mut request = post("/pkg.Service/Method");
            request.headers_mut().insert("content-type", kind.parse().unwrap());
            request.headers_mut().insert("x-request-id", "r-1".parse().unwrap());
            let (response, body) = talk(&mut client, request).await;
            assert_eq!(response.status(), 200, "{kind}");
            let id = response.headers().get("x-request-id").map(|id| id.to_str().unwrap());
            assert_eq!(id, refused.then_some("r-1"), "{kind}");
            let status = response.headers().get("grpc-status").map(|value| value.to_str().unwrap());
            assert_eq!(status, refused.then_some("12"), "{kind}");
            assert_eq!(body, if refused { "" } else { "ok" });
        }
        assert_eq!(lab.refused("grpc_refused"), 2);
    });
}

#[test]
fn another_target_is_tried_and_stale_connections_are_no_loss() {
    run(async {
        let (listener, closed) = origin().await;
        drop(listener);
        let lab = Lab::new(&[closed, answering(OK).await]).await;
        let mut client = lab.client().await;
        for _ in 0..4 {
            assert_eq!(talk(&mut client, get("/")).await.1, "ok");
        }
        // A target that closes after each response, without saying so.
        let (listener, target) = origin().await;
        let lab = Lab::new(&[target]).await;
        let mut client = lab.client().await;
        for _ in 0..3 {
            let (response, mut body) = client.send_request(post("/"), false).unwrap();
            body.send_data("data".into(), true).unwrap();
            let mut stream = accept(&listener).await;
            read_until(&mut stream, "data\r\n0\r\n\r\n").await;
            send(&mut stream, OK).await;
            let mut response = within(response).await.unwrap();
            assert_eq!(text(response.body_mut()).await, "ok");
        }
    });
}

#[test]
fn retries_bound_how_many_targets_are_tried() {
    run(async {
        let targets = [down().await, answering(OK).await];
        let lab = Lab::with(&targets, |_, backend| backend.retries = 0).await;
        let mut client = lab.client().await;
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.push(talk(&mut client, get("/")).await.0.status().as_u16());
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 200, 502, 502], "a second target is not tried");
        assert_eq!((lab.backend().retries, lab.backend().errors["connect_failed"]), (0, 2));

        let targets = [down().await, down().await, down().await, down().await];
        let lab = Lab::with(&targets, |_, backend| backend.retries = 2).await;
        let (response, _) = talk(&mut lab.client().await, get("/")).await;
        assert_eq!(response.status(), 502);
        assert_eq!((lab.backend().retries, lab.backend().errors["connect_failed"]), (2, 3));
    });
}

#[test]
fn a_connect_that_takes_too_long_moves_on() {
    run(async {
        let (stuck, _held) = hanging().await;
        let lab = Lab::with(&[stuck, answering(OK).await], |_, backend| {
            backend.connect_timeout = std::time::Duration::from_secs(1);
        })
        .await;
        assert_eq!(talk(&mut lab.client().await, get("/")).await.1, "ok");
        assert_eq!((lab.backend().retries, lab.backend().errors["connect_timeout"]), (1, 1));
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
        let mut client = lab.client().await;
        let (_waiting, _) = client.send_request(get("/"), true).unwrap();
        let _target = accept(&listener).await;
        for _ in 0..6 {
            assert_eq!(talk(&mut client, get("/")).await.1, "ok");
        }
    });
}

#[test]
fn a_body_is_sent_again_with_an_idempotent_request() {
    run(async {
        let (listener, target) = origin().await;
        let lab = Lab::new(&[target, target]).await;
        let mut request = post("/");
        *request.method_mut() = http::Method::PUT;
        let (response, mut body) = lab.client().await.send_request(request, false).unwrap();
        body.send_data("hello".into(), true).unwrap();
        let mut first = accept(&listener).await;
        read_until(&mut first, "5\r\nhello\r\n0\r\n\r\n").await;
        drop(first);
        let mut second = accept(&listener).await;
        // Less would do for the end of a head too: a request id may end with any digit.
        let wire = read_until(&mut second, "\r\n\r\n5\r\nhello\r\n0\r\n\r\n").await;
        assert!(wire.starts_with("PUT / "), "{wire}");
        send(&mut second, OK).await;
        assert_eq!(within(response).await.unwrap().status(), 200);
    });
}

#[test]
fn limits_of_the_listener() {
    run(async {
        let lab = Lab::with(&[answering(OK).await], |listener, _| {
            listener.max_qps = Some(1);
        })
        .await;
        let mut client = lab.client().await;
        assert_eq!(talk(&mut client, get("/")).await.0.status(), 200);
        assert_eq!(talk(&mut client, get("/")).await.0.status(), 429);
        let (_listener, silent) = origin().await;
        let lab = Lab::with(&[silent], |listener, _| {
            listener.http.as_mut().unwrap().body_bytes = 4;
        })
        .await;
        let mut client = lab.client().await;
        let mut known = post("/");
        known.headers_mut().insert("content-length", "5".parse().unwrap());
        for request in [known, post("/")] {
            let (response, mut body) = client.send_request(request, false).unwrap();
            body.send_data("hello".into(), false).unwrap();
            assert_eq!(within(response).await.unwrap().status(), 413);
        }
    });
}

/// It is moved to where it stays, and a client may have more than a hundred of them.
#[test]
fn a_request_takes_little_room() {
    fn room<A, B, C, F: Future>(_: fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }
    let room = room(stream::run);
    assert!(room <= 1280, "{room} bytes");
}
