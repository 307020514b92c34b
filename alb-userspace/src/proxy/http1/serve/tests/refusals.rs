//! Raw requests and their verdicts; what is refused never reaches a target.

use super::lab::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn smuggling_attempts_are_answered_and_never_forwarded() {
    run(async {
        let (listener, address) = origin().await;
        let lab = Lab::new(&[address]).await;
        for (request, status) in [
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "400"),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "400",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
                "400",
            ),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n", "400"),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "400"),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
                "400",
            ),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\n\r\n", "400"),
            ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
            ("GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
            ("GET /a/%2e%2e/b HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
            ("GET / HTTP/1.1\nHost: a\n\n", "400"),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", "400"),
            ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "405"),
            ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
        ] {
            let text = lab.talk(request.as_bytes()).await;
            assert_eq!(statuses(&text), [status], "{request:?}");
            assert!(text.contains("Connection: close\r\n"), "{request:?}: {text}");
        }
        let none = tokio::time::timeout(std::time::Duration::ZERO, listener.accept()).await;
        assert!(none.is_err(), "no target heard of any of it");
    });
}

#[test]
fn a_refused_request_keeps_its_id_unless_it_is_malformed() {
    run(async {
        let lab = Lab::new(&[answering(OK).await]).await;
        for (request, kept) in [
            ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nX-Request-Id: r-1\r\n\r\n", true),
            ("TRACE / HTTP/1.1\r\nHost: a\r\nX-Request-Id: r-1\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: r-1\r\nExpect: more\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nX-Request-Id: r-1\r\n\r\n", false),
        ] {
            let text = lab.talk(request.as_bytes()).await;
            assert_eq!(text.contains("\r\nX-Request-Id: r-1\r\n"), kept, "{text}");
            assert_eq!(text.contains("Request id: r-1\n"), kept, "{text}");
        }
    });
}

#[test]
fn limits_have_their_own_answers() {
    run(async {
        let lab = Lab::with(&[answering(OK).await], |listener, _| {
            let http = listener.http.as_mut().unwrap();
            http.request_line_bytes = 256;
            http.header_bytes = 1024;
            http.headers = 4;
            http.body_bytes = 8;
        })
        .await;
        let long = "a".repeat(2000);
        for (request, status) in [
            (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), "414"),
            (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"), "431"),
            ("GET / HTTP/1.1\r\nHost: a\r\na:\r\nb:\r\nc:\r\nd:\r\n\r\n".into(), "431"),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n".into(), "413"),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n123456789"
                    .into(),
                "413",
            ),
        ] {
            let text = lab.talk(request.as_bytes()).await;
            assert_eq!(statuses(&text), [status], "{request:?}");
        }
    });
}

#[test]
fn a_bad_chunk_after_a_good_head_is_a_400() {
    run(async {
        let (_listener, address) = origin().await;
        let lab = Lab::new(&[address]).await;
        let request =
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n";
        assert_eq!(statuses(&lab.talk(request.as_bytes()).await), ["400"]);
    });
}

#[test]
fn bad_responses_are_502_and_the_connection_goes_on() {
    run(async {
        for response in [
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "HTTP/1.1 200 OK\nContent-Length: 1\n\na",
            "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 101 Switching\r\n\r\n",
            "SSH-2.0-x\r\n",
        ] {
            let lab = Lab::new(&[answering(response).await]).await;
            let mut client = lab.connect().await;
            for _ in 0..2 {
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
                let text = client.until("\r\n\r\n").await;
                assert_eq!(statuses(&text), ["502"], "{response:?}");
                client.until("\n").await;
            }
        }
    });
}

#[test]
fn nobody_to_ask_is_a_503() {
    run(async {
        let lab = Lab::new(&[]).await;
        let text = lab.talk(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert_eq!(statuses(&text), ["503"]);
    });
}
