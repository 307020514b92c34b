//! The table of refusals, and whole answers.

use std::{collections::HashSet, net::SocketAddr, time::Duration};

use super::*;
use crate::{
    model::{HeaderAction, HeaderValue},
    proxy::{
        message::{BodyKind, RequestHead, Scheme},
        peer::Peer,
        refusal::Malformed,
        route::HeaderEdits,
    },
};

fn every() -> Vec<Refusal> {
    let mut all = vec![
        Refusal::NoGroup,
        Refusal::NoTarget,
        Refusal::ConnectFailed,
        Refusal::TargetClosed,
        Refusal::BadResponse,
        Refusal::ResponseTooLarge,
        Refusal::ConnectTimeout,
        Refusal::ResponseTimeout,
        Refusal::TargetDrained,
        Refusal::RateLimited,
        Refusal::TooManyConnections,
        Refusal::VersionRefused,
        Refusal::RequestLineTooLong,
        Refusal::HeadersTooLarge,
        Refusal::BodyTooLarge,
        Refusal::SlowRequest,
        Refusal::SlowBody,
        Refusal::SlowReader,
        Refusal::Misdirected,
        Refusal::MethodRefused,
        Refusal::ExpectationRefused,
        Refusal::GrpcRefused,
        Refusal::ExtendedConnectRefused,
        Refusal::PlainOnTls,
        Refusal::ClientGone,
    ];
    all.extend(Malformed::ALL.map(Refusal::Malformed));
    all
}

fn context() -> Context<'static> {
    Context {
        request_id: b"0123abcd",
        hsts: None,
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        is_head: false,
        version: Version::Http11,
        close: false,
    }
}

fn write(refusal: Refusal, context: &Context<'_>) -> String {
    let mut out = Vec::new();
    refusal.answer().write(context, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_whole_answer() {
    let text = write(Refusal::ConnectFailed, &context());
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert_eq!(
        head,
        "HTTP/1.1 502 Bad Gateway\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\nContent-Type: \
         text/plain; charset=utf-8\r\nContent-Length: 86\r\nCache-Control: \
         no-store\r\nX-Request-Id: 0123abcd"
    );
    assert_eq!(
        body,
        "502 Bad Gateway\nThe server behind this one could not be reached.\nRequest id: 0123abcd\n"
    );
}

#[test]
fn lengths_are_right_and_a_head_has_no_body() {
    for refusal in every() {
        let text = write(refusal, &context());
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{text}");
        let text = write(refusal, &Context { is_head: true, ..context() });
        assert!(text.ends_with("\r\n\r\n") && text.starts_with(head), "{text}");
    }
}

#[test]
fn what_goes_with_it() {
    let plain = context();
    let closing = Context { close: true, ..plain };
    let old = Context { version: Version::Http10, ..plain };
    let secure = Context { hsts: Some(b"max-age=31536000"), ..plain };
    for (refusal, context, has, has_not) in [
        (Refusal::MethodRefused, plain, "\r\nAllow: GET, HEAD", "Connection"),
        (Refusal::RateLimited, plain, "\r\nRetry-After: 1\r\n", "Allow"),
        (Refusal::NoTarget, closing, "\r\nConnection: close\r\n", "keep-alive"),
        (Refusal::NoTarget, old, "\r\nConnection: keep-alive\r\n", "close"),
        (
            Refusal::NoTarget,
            secure,
            "\r\nStrict-Transport-Security: max-age=31536000\r\n",
            "Connection",
        ),
        (Refusal::NoTarget, plain, "HTTP/1.1 503 Service Unavailable", "Strict"),
    ] {
        let text = write(refusal, &context);
        assert!(text.contains(has) && !text.contains(has_not), "{text}");
    }
}

#[test]
fn a_rule_changes_our_own_fields_too() {
    let insert = |key: &str, value: &str| HeaderAction::Insert {
        key: key.into(),
        value: HeaderValue::Custom(value.into()),
    };
    let actions = [
        insert("Content-Type", "text/html"),
        insert("X-Env", "prod"),
        HeaderAction::Delete { key: "x-request-id".into() },
        HeaderAction::Delete { key: "Date".into() },
    ];
    let edits = HeaderEdits::compile(&actions);
    let request = RequestHead {
        method: b"GET",
        scheme: Scheme::Http,
        authority: b"shop.test",
        target: b"/",
        version: Version::Http11,
        fields: &[],
        body: BodyKind::None,
    };
    let at = SocketAddr::from(([198, 18, 0, 1], 80));
    let peer = Peer { client: at, local: at, tls: None };
    let returning = Returning {
        request: &request,
        peer: &peer,
        edits: Some(&edits),
        set_cookie: None,
        hsts: None,
        body: BodyKind::None,
    };
    let answer = Answer {
        status: 301,
        sentence: "Elsewhere.",
        location: Some(b"/b"),
        returning: Some(&returning),
    };
    let mut out = Vec::new();
    answer.write(&context(), &mut out);
    let text = String::from_utf8(out).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let length = format!("Content-Length: {}", body.len());
    assert_eq!(
        head.split("\r\n").collect::<Vec<_>>(),
        [
            "HTTP/1.1 301 Moved Permanently",
            "Location: /b",
            &length,
            "Content-Type: text/html",
            "X-Env: prod",
        ]
    );
}

#[test]
fn every_refusal_has_its_own_word_and_a_status_of_the_table() {
    let mut words = HashSet::new();
    for refusal in every() {
        let word = refusal.word();
        assert!(words.insert(word), "{word} twice");
        assert!(word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{word}");
        assert!(!refusal.is_sent() || !reason(refusal.status()).is_empty(), "{word}");
        assert!(refusal.sentence().ends_with('.'), "{word}");
        assert!(refusal.is_sent() || refusal.closes(), "{word}");
        if refusal.is_target_fault() {
            assert!(!refusal.closes(), "{word}: the client has done nothing");
        }
    }
    assert_eq!(words.len(), 44);
}
