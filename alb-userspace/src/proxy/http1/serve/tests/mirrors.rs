//! Copies for mirror backends: what they get, and that nothing they do is noticed.

use std::collections::BTreeMap;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::lab::*;
use crate::{
    model::{PathPattern, Rewrite, RouteAction, Rule},
    proxy::mirror::{AT_ONCE, WAITING},
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Everything goes to the first target, with a copy to the other.
async fn mirrored(web: std::net::SocketAddr, mirror: std::net::SocketAddr) -> Lab {
    let rewrite = Rewrite { host: None, path: Some("/v2/*".into()), query: None };
    let action = RouteAction::Forward {
        backend: "web".into(),
        rewrite: Some(rewrite),
        mirror: Some("other".into()),
        headers: vec![],
    };
    let path = PathPattern::Prefix("/".into());
    let rule = Rule { id: "r".into(), host: None, path, action, post_actions: vec![] };
    Lab::routed(&[web], &[mirror], vec![rule], |_| {}).await
}

fn counts(lab: &Lab) -> BTreeMap<String, u64> {
    let listener = lab.slot.get();
    let other = listener.routes.backends().find(|backend| &*backend.id == "other");
    let mut counts = other.expect("the mirror").shared.stats.totals().mirrored;
    counts.retain(|_, count| *count > 0);
    counts
}

async fn until_counted(lab: &Lab, word: &str, count: u64) {
    let counted = async {
        while counts(lab).get(word) != Some(&count) {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, counted).await.unwrap_or_else(|_| panic!("{:?}", counts(lab)));
    assert_eq!(counts(lab).len(), 1, "{:?}", counts(lab));
}

/// Answers and reads the answer at the client.
async fn answer(target: &mut TcpStream, client: &mut Client) {
    target.write_all(OK.as_bytes()).await.unwrap();
    assert_eq!(statuses(&client.until("\r\n\r\nok").await), ["200"]);
}

#[test]
fn both_get_the_same_bytes() {
    run(async {
        let ((web, to), (mirror, copy)) = (origin().await, origin().await);
        let lab = mirrored(to, copy).await;
        let large = "x".repeat(40_000);
        let mut client = lab.connect().await;
        let (mut target, mut twin, mut sent) = (None, None, 0);
        for (request, end) in [
            ("GET /a?b HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\r\n".to_owned(), "\r\n\r\n"),
            ("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".to_owned(), "abc"),
            (format!("PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\n{large}"), &*large),
            (
                "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n"
                    .to_owned(),
                "3\r\nabc\r\n0\r\nX: y\r\n\r\n",
            ),
        ] {
            client.send(request.as_bytes()).await;
            if target.is_none() {
                (target, twin) = (Some(accept(&web).await), Some(accept(&mirror).await));
            }
            let (target, twin) = (target.as_mut().unwrap(), twin.as_mut().unwrap());
            let first = read_until(target, end).await;
            assert!(first.contains(" /v2/a"), "after rewrites: {first:.80}");
            assert_eq!(read_until(twin, end).await, first);
            // Its answer goes nowhere, though it comes first; its connection is used again.
            let thrown = b"HTTP/1.1 500 No\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\nno";
            twin.write_all(thrown).await.unwrap();
            sent += 1;
            until_counted(&lab, "sent", sent).await;
            answer(target, &mut client).await;
        }
    });
}

#[test]
fn a_mirror_that_is_dead_or_silent_is_not_noticed() {
    run(async {
        let (nobody, dead) = origin().await;
        drop(nobody);
        let lab = mirrored(answering(OK).await, dead).await;
        let mut client = lab.connect().await;
        for _ in 0..3 {
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            assert_eq!(statuses(&client.until("\r\n\r\nok").await), ["200"]);
        }
        until_counted(&lab, "failed", 3).await;

        // It takes everything and never says a word.
        let (mirror, silent) = origin().await;
        let lab = mirrored(answering(OK).await, silent).await;
        let mut client = lab.connect().await;
        for _ in 0..3 {
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            assert_eq!(statuses(&client.until("\r\n\r\nok").await), ["200"]);
        }
        assert!(counts(&lab).is_empty());
        drop(mirror);
    });
}

#[test]
fn a_mirror_that_reads_nothing_loses_its_copy_and_the_body_goes_on() {
    run(async {
        let ((web, to), (mirror, copy)) = (origin().await, origin().await);
        let lab = mirrored(to, copy).await;
        // More than the copy may fall behind, and than sockets hold.
        let length = WAITING + (32 << 20);
        let mut client = lab.connect().await;
        client
            .send(
                format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
                    .as_bytes(),
            )
            .await;
        let mut target = accept(&web).await;
        let twin = accept(&mirror).await;
        read_until(&mut target, "\r\n\r\n").await;
        let block = vec![b'x'; 1 << 16];
        let sending = async {
            for _ in 0..length / block.len() {
                client.send(&block).await;
            }
            client.send(&block[..length % block.len()]).await;
        };
        let reading = async {
            let mut body = vec![0; length];
            timeout(LONG, target.read_exact(&mut body)).await.expect("the whole body").unwrap();
        };
        tokio::join!(sending, reading);
        answer(&mut target, &mut client).await;
        until_counted(&lab, "dropped", 1).await;
        drop(twin);
    });
}

#[test]
fn the_copy_of_a_request_that_breaks_off_breaks_off() {
    run(async {
        let ((web, to), (mirror, copy)) = (origin().await, origin().await);
        let lab = mirrored(to, copy).await;
        let mut client = lab.connect().await;
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nxyz").await;
        let (mut target, mut twin) = (accept(&web).await, accept(&mirror).await);
        for stream in [&mut target, &mut twin] {
            // No letters that a request's id can have.
            read_until(stream, "xyz").await;
        }
        client.reset();
        let mut rest = Vec::new();
        timeout(LONG, twin.read_to_end(&mut rest)).await.expect("an end").unwrap_err();
        assert!(rest.is_empty());
        until_counted(&lab, "dropped", 1).await;
    });
}

#[test]
fn only_so_many_copies_are_in_work() {
    run(async {
        // It takes connections and never says a word.
        let (mirror, silent) = origin().await;
        let lab = mirrored(answering(OK).await, silent).await;
        let mut client = lab.connect().await;
        for _ in 0..AT_ONCE + 20 {
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            assert_eq!(statuses(&client.until("\r\n\r\nok").await), ["200"]);
        }
        until_counted(&lab, "dropped", 20).await;
        drop(mirror);
    });
}
