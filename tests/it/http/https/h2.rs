//! HTTP/2 from outside: what HTTP/1 requests get, theirs get too.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use alb_tests::{
    netns::must,
    origin::{Exchange, Origin, Then},
    topology::{Lab, VIP},
    wait,
};
use serde_json::Value;

use super::{ECDSA, certificate, curl, site};
use crate::http::setting::{ORIGIN, Site, lab};

/// An https listener with everything that requests are asked about.
fn full(lab: &Lab, dir: &std::path::Path) -> Site {
    certificate(dir, "c", &["shop.test", "*.shop.test"], ECDSA, 90);
    let mut site = site(lab, dir, &["c"])
        .backend("sessionStickiness: true, httpCookieExpireSeconds: 100")
        .backend("httpForwardedProtocol: true, httpForwardedPort: true, httpForwardedVip: true")
        .backend("httpForwardedHost: true, httpForwardedClientPort: true");
    let map = "  urlMaps: [{ name: m, rules: [\
                     { host: api.shop.test, path: /v1/*, backend: all, preActions: [{ rewrite: { path: '/v2/*' } }] }, \
                     { host: shop.test, path: /old, action: Redirect, redirectAction: { protocol: Http, port: 8080, host: new.test, path: /new, statusCode: http_302 } }, \
                     { host: shop.test, path: /none, backend: none }] }]\n";
    map.clone_into(&mut site.balancer);
    site.node.push(format!("accessLog: {{ file: {} }}", dir.join("access").display()));
    let none = "{ name: none, protocol: Http, port: 80, closeHealthCheck: true }";
    site.with("backends", none).listener("urlMap: m").listener("limits: { bodyBytes: 100 }")
}

#[test]
fn routes_headers_cookies_and_the_log_are_those_of_http_1() {
    let dir = tempfile::tempdir().expect("a directory");
    let lab = lab(3);
    let origins: Vec<_> = lab
        .targets
        .iter()
        .zip(["a", "b", "c"])
        .map(|(host, name)| Origin::answering(host, ORIGIN, name))
        .collect();
    let _daemon = full(&lab, dir.path()).serve(&lab);
    let namespace = &lab.client.namespace;
    let ask = |arguments: &[&str]| curl(namespace, &[&["--http2"], arguments].concat());
    let heard = || origins.iter().flat_map(Origin::heard).collect::<String>();

    // A path is rewritten, the rest is as it came, and the client is told of.
    let said = ask(&[
        "-H",
        "X-Forwarded-For: 10.0.0.1",
        "-H",
        "X-Request-Id: r-1",
        "-H",
        "X-Forwarded-Proto: x",
        "-w",
        " %{http_version} %{http_code} %{local_port}",
        "https://api.shop.test/v1/a?b=%20",
    ]);
    let words: Vec<_> = said.split(' ').collect();
    let [_, "2", "200", port] = words[..] else { panic!("{said}") };
    let text = heard();
    assert!(text.starts_with("GET /v2/a?b=%20 HTTP/1.1\r\nHost: api.shop.test\r\n"), "{text}");
    for line in [
        "X-Forwarded-For: 10.0.0.1, 198.18.0.100",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Port: 443",
        &format!("X-Forwarded-LBIP: {VIP}"),
        "X-Forwarded-Host: api.shop.test:443",
        &format!("X-Forwarded-Client-Port: {port}"),
        "X-Request-Id: r-1",
    ] {
        assert!(text.contains(&format!("\r\n{line}\r\n")), "no {line:?} in {text}");
    }
    assert_eq!(text.to_lowercase().matches("x-forwarded-proto").count(), 1, "{text}");

    // A redirect and a group without targets.
    let said = ask(&["-i", "https://shop.test/old?q=1"]).to_lowercase();
    assert!(said.starts_with("http/2 302"), "{said}");
    assert!(said.contains("location: http://new.test:8080/new?q=1\r\n"), "{said}");
    let said = ask(&["-i", "-H", "X-Request-Id: r-503", "https://shop.test/none"]);
    assert!(said.starts_with("HTTP/2 503") && said.contains("r-503"), "{said}");

    // Persistence: without the cookie it goes around, with it it does not.
    let around = ask(&["https://shop.test/[1-6]"]);
    assert_eq!(around.chars().collect::<BTreeSet<_>>().len(), 3, "{around}");
    let jar = dir.path().join("jar");
    let jar = jar.to_str().expect("a path");
    let first = ask(&["-i", "-c", jar, "https://shop.test/"]);
    let cookie = first
        .lines()
        .find(|line| line.to_lowercase().starts_with("set-cookie: ALB-".to_lowercase().as_str()));
    let cookie = cookie.unwrap_or_else(|| panic!("no cookie: {first}"));
    for word in ["Max-Age=100", "HttpOnly", "Path=/", "Secure", "SameSite=Lax"] {
        assert!(cookie.contains(word), "{cookie}");
    }
    let name = first.trim_end().chars().last().expect("a body");
    let stays = ask(&["-b", jar, "https://shop.test/[1-8]"]);
    assert!(stays.len() == 8 && stays.chars().all(|one| one == name), "{name}: {stays}");
    let begun = heard().to_lowercase();
    assert!(!begun.contains("cookie: alb-"), "targets do not see it: {begun}");

    // The log, last: it is written when a request is over.
    let log = dir.path().join("access");
    let lines = wait::until("the log", wait::LONG, || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<Value> =
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        (lines.len() == 18).then_some(lines)
    });
    // A redirect is nothing that went wrong.
    let redirect = lines.iter().find(|line| line["status"] == 302).expect("the redirect");
    assert!(redirect.get("error").is_none(), "{redirect}");
    let of = |id: &str| lines.iter().find(|line| line["request_id"] == id).expect(id);
    let line = of("r-1");
    for (key, expected) in [
        ("request_method", "GET"),
        ("request_uri", "/v1/a?b=%20"),
        ("host", "api.shop.test"),
        ("scheme", "https"),
        ("request_id", "r-1"),
        ("ssl_protocol", "TLSv1.3"),
        ("ssl_cipher", "TLS_AES_128_GCM_SHA256"),
        ("server_protocol", "HTTP/2.0"),
    ] {
        assert_eq!(line[key], expected, "{key} of {line}");
    }
    assert_eq!((&line["status"], &line["client_port"].to_string()[..]), (&200.into(), port));
    let refused = of("r-503");
    assert_eq!(
        (&refused["status"], &refused["error"]),
        (&503.into(), &"no_group".into()),
        "{refused}"
    );
}

#[test]
fn limits_and_failures_have_their_statuses() {
    let dir = tempfile::tempdir().expect("a directory");
    let lab = lab(1);
    let act = |exchange: &mut Exchange<'_>| {
        if exchange.target() == "/slow" {
            assert!(exchange.is_closed());
            return Ok(Then::Close);
        }
        exchange.read_body()?;
        exchange.answer(200, "ok")
    };
    let origin = Origin::start(&lab.targets[0], ORIGIN, act);
    let impatient =
        || full(&lab, dir.path()).backend("responseTimeoutSeconds: 2, connectTimeoutSeconds: 2");
    let site = impatient().listener("limitation: { qps: 100 }");
    let daemon = site.serve(&lab);
    let namespace = &lab.client.namespace;
    let status = |arguments: &[&str]| {
        let more = ["--http2", "-s", "-o", "/dev/null", "-w", "%{http_version} %{http_code}"];
        curl(namespace, &[&more, arguments].concat())
    };
    assert_eq!(status(&["https://shop.test/slow"]), "2 504");
    origin.wait_open(0);
    let large = format!("-d{}", "x".repeat(101));
    assert_eq!(status(&[&large, "https://shop.test/"]), "2 413");
    let chunked = [&*large, "-H", "Content-Length:", "https://shop.test/"];
    assert_eq!(status(&chunked), "2 413", "without a length");
    assert_eq!(status(&[&large[..102], "https://shop.test/"]), "2 200");

    // More than 100 a second over one connection: 429, and the connection goes on.
    let mut h2load = namespace.command("h2load");
    h2load.args(["-n", "1000", "-c", "1", "-m", "32", &format!("https://{VIP}/")]);
    let said = must(&mut h2load);
    let line = said.lines().find_map(|line| line.strip_prefix("status codes: "));
    let codes = line.expect("a summary").split(", ").map(|code| code.split(' ').next());
    let codes: Vec<u32> =
        codes.map(|count| count.expect("a count").parse().expect(&said)).collect();
    let [passed, 0, refused, 0] = codes[..] else { panic!("{said}") };
    assert!(passed >= 90 && refused > 0 && passed + refused == 1_000, "{said}");
    assert!(said.contains(" 0 errored, 0 timeout"), "{said}");

    // Nobody listens, then nobody answers the SYN.
    drop(origin);
    let body = impatient().body();
    assert!(daemon.reload(&body), "{}", daemon.log());
    assert_eq!(status(&["https://shop.test/"]), "2 502");
    let target = &lab.targets[0].namespace;
    // A full queue drops what comes.
    let full_queue = target.enter(|| {
        let listener = TcpListener::bind(("0.0.0.0", ORIGIN)).expect("a listener");
        socket2::SockRef::from(&listener).listen(0).expect("a short queue");
        let address = SocketAddr::from(([127, 0, 0, 1], ORIGIN));
        let short = Duration::from_millis(300);
        let waiting = [(); 4].map(|()| TcpStream::connect_timeout(&address, short).ok());
        (listener, waiting)
    });
    assert_eq!(status(&["https://shop.test/"]), "2 504");
    drop(full_queue);
}

#[test]
fn h2load_sees_no_failure() {
    let dir = tempfile::tempdir().expect("a directory");
    certificate(dir.path(), "c", &["shop.test"], ECDSA, 90);
    let lab = lab(2);
    let _origins: Vec<_> =
        lab.targets.iter().map(|host| Origin::answering(host, ORIGIN, "ok")).collect();
    let mut site = site(&lab, dir.path(), &["c"]);
    site.node = vec!["workers: 2".to_owned()];
    let _daemon = site.serve(&lab);
    let mut command = lab.client.namespace.command("h2load");
    command.args(["-n", "4000", "-c", "8", "-m", "16", &format!("https://{VIP}/")]);
    let said = must(&mut command);
    assert!(said.contains("4000 succeeded, 0 failed, 0 errored"), "{said}");
}
