//! What the target and the client learn of each other: added fields, kept fields, dropped fields.

use alb_tests::origin::{Exchange, Origin, Then};

use super::setting::{ORIGIN, Site, client, lab};

/// Hop-by-hop fields of a request, and one that `Connection` names.
const HOPS: &str = "Connection: keep-alive, X-Own\r\nKeep-Alive: timeout=5\r\nX-Own: 1\r\n\
                    Proxy-Connection: close\r\nProxy-Authorization: Basic eDp5\r\n\
                    Proxy: http://evil\r\nTE: gzip, trailers\r\nTrailer: X\r\n";

#[test]
fn requests_arrive_with_the_client_s_address_and_without_hop_by_hop_fields() {
    let lab = lab(1);
    let origin = Origin::answering(&lab.targets[0], ORIGIN, "ok");
    let _daemon = Site::of(&lab).serve(&lab);
    let mut client = client(&lab);
    let request = format!(
        "GET /?a HTTP/1.1\r\nHost: shop.test:8443\r\n{HOPS}X-Forwarded-For: 10.0.0.1\r\n\
         X-Request-Id: abc-123\r\nX-Forwarded-For: 10.0.0.2\r\nX_Forwarded_For: 10.0.0.3\r\n\
         X-Forwarded-Proto: gopher\r\nForwarded: for=10.0.0.9\r\nAccept: */*\r\n\r\n"
    );
    let response = client.ask(request);
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    let expected = "GET /?a HTTP/1.1\r\nHost: shop.test:8443\r\nX-Forwarded-Proto: gopher\r\n\
                    Forwarded: for=10.0.0.9\r\nAccept: */*\r\nConnection: TE\r\nTE: trailers\r\n\
                    X-Forwarded-For: 10.0.0.1, 10.0.0.2, 198.18.0.100\r\n\
                    X-Request-Id: abc-123\r\n\r\n";
    assert_eq!(origin.heard(), [expected]);
}

#[test]
fn each_request_without_an_id_gets_one_of_its_own_and_refusals_show_it() {
    let lab = lab(1);
    let origin = Origin::answering(&lab.targets[0], ORIGIN, "ok");
    let _daemon = Site::of(&lab).serve(&lab);
    let mut client = client(&lab);
    for _ in 0..3 {
        assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    }
    let heard = origin.heard().concat();
    let mut ids: Vec<_> =
        heard.lines().filter_map(|line| line.strip_prefix("X-Request-Id: ")).collect();
    assert_eq!(ids.len(), 3, "{heard}");
    assert!(ids.iter().all(|id| id.len() >= 16), "{ids:?}");
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3);

    let refused = client.ask("GET /.. HTTP/1.1\r\nHost: a\r\n\r\n");
    let [id] = refused.values("x-request-id")[..] else { panic!("{refused:?}") };
    assert!(refused.text().contains(id), "{refused:?}");
    assert_eq!(refused.values("connection"), ["close"]);
    assert_eq!((refused.values("server").len(), refused.values("via").len()), (0, 0));
}

#[test]
fn responses_keep_their_fields_but_for_the_hop_by_hop_ones() {
    let lab = lab(1);
    let answer = |exchange: &mut Exchange<'_>| {
        exchange.send(
            "HTTP/1.1 299 Very Well\r\nserver: Origin/1\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
             Connection: X-Own\r\nX-Own: 1\r\nKeep-Alive: timeout=9\r\n\
             Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nX_y: z\r\nContent-Length: 2\r\n\r\nok",
        )?;
        Ok(Then::Next)
    };
    let _origin = Origin::start(&lab.targets[0], ORIGIN, answer);
    let _daemon = Site::of(&lab).serve(&lab);
    let response = client(&lab).ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let expected = "HTTP/1.1 299 Very Well\r\nserver: Origin/1\r\nSet-Cookie: a=1\r\n\
                    Set-Cookie: b=2\r\nX_y: z\r\nContent-Length: 2\r\n\r\n";
    assert_eq!((response.head.as_str(), response.text().as_str()), (expected, "ok"));
}

#[test]
fn what_framing_a_status_or_a_method_forbids_does_not_reach_the_client() {
    let lab = lab(1);
    let answer = |exchange: &mut Exchange<'_>| {
        match exchange.target() {
            "/204" => exchange.send("HTTP/1.1 204 No\r\n\r\n")?,
            "/304" => exchange.send("HTTP/1.1 304 Same\r\nContent-Length: 77\r\n\r\n")?,
            _ => exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n")?,
        }
        Ok(Then::Next)
    };
    let origin = Origin::start(&lab.targets[0], ORIGIN, answer);
    let _daemon = Site::of(&lab).serve(&lab);
    let mut client = client(&lab);
    for (method, path, status) in
        [("GET", "/204", 204), ("GET", "/304", 304), ("HEAD", "/", 200), ("GET", "/204", 204)]
    {
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.response(method == "HEAD").expect("a response");
        assert_eq!(response.status, status);
        let length = if status == 204 { vec![] } else { vec!["77"] };
        assert_eq!(response.values("content-length"), length, "{response:?}");
    }
    // Only what follows an answer to HEAD might be a body that should not be there.
    assert_eq!(origin.accepted(), 2, "one connection served all up to HEAD, another the rest");
}

#[test]
fn http_1_0_clients_are_served_with_and_without_host() {
    let lab = lab(1);
    let answer = |exchange: &mut Exchange<'_>| {
        exchange.send(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        )?;
        Ok(Then::Next)
    };
    let origin = Origin::start(&lab.targets[0], ORIGIN, answer);
    let _daemon = Site::of(&lab).serve(&lab);
    let response = client(&lab).ask("GET / HTTP/1.0\r\n\r\n");
    // Chunks are 1.1: the end of the connection ends the body.
    assert_eq!((response.status, response.text().as_str()), (200, "abcde"));
    assert!(response.values("transfer-encoding").is_empty(), "{response:?}");
    let heard = origin.heard().concat();
    assert!(heard.starts_with("GET / HTTP/1.1\r\nHost: 198.18.0.10:80\r\n"), "{heard}");
}

#[test]
fn each_switch_sets_its_field_in_place_of_the_client_s() {
    let lab = lab(1);
    let origin = Origin::answering(&lab.targets[0], ORIGIN, "ok");
    let mut site = Site::of(&lab);
    for switch in ["Protocol", "Port", "Host", "Vip", "ClientPort"] {
        site = site.backend(&format!("httpForwarded{switch}: true"));
    }
    let _daemon = site.serve(&lab);
    let mut client = client(&lab);
    let names = ["Proto", "Port", "Host", "LBIP", "Client-Port", "For"];
    let forged = format!("X-Forwarded-{}: evil\r\n", names.join(": evil\r\nX-Forwarded-"));
    let own = client.address();
    for (host, requested) in [("shop.test:8080", "shop.test:8080"), ("shop.test", "shop.test:80")] {
        origin.forget();
        assert_eq!(
            client.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n{forged}\r\n")).status,
            200
        );
        let heard = origin.heard().concat();
        for line in [
            format!("Host: {host}"),
            format!("X-Forwarded-For: evil, {}", own.ip()),
            "X-Forwarded-Proto: http".to_owned(),
            "X-Forwarded-Port: 80".to_owned(),
            format!("X-Forwarded-Host: {requested}"),
            "X-Forwarded-LBIP: 198.18.0.10".to_owned(),
            format!("X-Forwarded-Client-Port: {}", own.port()),
        ] {
            assert_eq!(heard.matches(&format!("\r\n{line}\r\n")).count(), 1, "{line}: {heard}");
        }
        assert_eq!(heard.matches("evil").count(), 1, "{heard}");
    }
}
