//! Url maps from outside: which rule takes a request, and what it makes of it.

use alb_tests::{
    origin::{Exchange, Origin},
    topology::Lab,
};

use super::setting::{ORIGIN, Site, client, lab};

/// Two backends with a target each; each answers with its name and what it was asked for.
fn origins(lab: &Lab) -> Vec<Origin> {
    let named = lab.targets.iter().zip(["first", "second"]);
    let start = |(host, name): (_, &'static str)| {
        Origin::start(host, ORIGIN, move |exchange: &mut Exchange<'_>| {
            let text = format!("{name} {}", exchange.target());
            exchange.answer(200, text)
        })
    };
    named.map(start).collect()
}

fn site(lab: &Lab, rules: &[&str]) -> Site {
    let [first, second] = [0, 1].map(|at: usize| lab.targets[at].address);
    let group = format!(
        "{{ name: second, type: ip, targets: [{{ ipAddress: {second}, port: {ORIGIN} }}] }}"
    );
    let backend = format!(
        "{{ name: second, protocol: Http, port: {ORIGIN}, targetGroup: second, \
         closeHealthCheck: true }}"
    );
    let mut site = Site::of(lab).with("targetGroups", group).with("backends", backend);
    site.targets = vec![first];
    site.balancer = format!("  urlMaps: [{{ name: m, rules: [{}] }}]\n", rules.join(", "));
    site.listener("urlMap: m")
}

#[test]
fn the_most_specific_host_and_path_decide() {
    let lab = lab(2);
    let _origins = origins(&lab);
    let rules = [
        "{ host: shop.test, path: /a, backend: second }",
        "{ host: shop.test, path: /a/*, backend: all }",
        "{ host: shop.test, path: /a/b/*, backend: second }",
        "{ host: \"*.shop.test\", path: /*, backend: second }",
        "{ host: \"*.api.shop.test\", path: /*, backend: all }",
        "{ host: shop.*, path: /*, backend: second }",
        "{ path: /any, backend: second }",
    ];
    let _daemon = site(&lab, &rules).serve(&lab);
    let mut client = client(&lab);
    for (host, path, name) in [
        ("shop.test", "/a", "second"),
        ("SHOP.TEST:80", "/a", "second"),
        ("shop.test", "/a/", "first"),
        ("shop.test", "/a/x?y=/a/b/", "first"),
        ("shop.test", "/a/b/c", "second"),
        ("shop.test", "/A", "first"),
        ("www.shop.test", "/", "second"),
        ("x.api.shop.test", "/", "first"),
        ("shop.example", "/", "second"),
        ("other.test", "/any", "second"),
        ("other.test", "/any/", "first"),
        ("other.test", "/", "first"),
    ] {
        let response = client.ask(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(response.text(), format!("{name} {path}"), "{host} {path}");
    }
}

#[test]
fn redirects_say_where_to_and_reach_no_target() {
    let lab = lab(2);
    let origins = origins(&lab);
    let rules = [
        "{ path: /tls/*, action: Redirect, redirectAction: { protocol: Https, port: 443, statusCode: http_301 } }",
        "{ path: /host, action: Redirect, redirectAction: { host: new.test, path: /there, query: a=b, statusCode: http_308 } }",
        "{ path: /port, action: Redirect, redirectAction: { port: 8443, statusCode: http_307 } }",
        "{ path: /found, action: Redirect, redirectAction: { path: /other, statusCode: http_302 } }",
        "{ path: /dir/*, backend: second }",
    ];
    let _daemon = site(&lab, &rules).serve(&lab);
    let mut client = client(&lab);
    for (path, status, location) in [
        ("/tls/x?q=1", 301, "https://shop.test/tls/x?q=1"),
        ("/host?gone", 308, "http://new.test/there?a=b"),
        ("/port?q", 307, "http://shop.test:8443/port?q"),
        ("/found?q", 302, "http://shop.test/other?q"),
        // The documented redirect to the directory.
        ("/dir?q", 301, "/dir/?q"),
    ] {
        for method in ["GET", "HEAD"] {
            client.send(format!("{method} {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n"));
            let response = client.response(method == "HEAD").expect("a redirect");
            assert_eq!(response.status, status, "{path}");
            assert_eq!(response.values("location"), [location], "{path}");
        }
    }
    assert_eq!(origins.iter().map(Origin::requests).sum::<usize>(), 0);
}

#[test]
fn rules_rewrite_and_change_fields_both_ways() {
    let lab = lab(2);
    let answer = |exchange: &mut Exchange<'_>| {
        exchange.send(
            "HTTP/1.1 200 OK\r\nServer: inner\r\nX-Debug: 1\r\nContent-Length: 2\r\n\r\nok",
        )?;
        Ok(alb_tests::origin::Then::Next)
    };
    let origin = Origin::start(&lab.targets[1], ORIGIN, answer);
    let rules = ["{ path: /api/*, backend: second, \
         preActions: [{ rewrite: { host: inner.test, path: /v2/*, query: \"${query}&by=alb\" } }, \
         { insertHeader: { key: X-Env, value: prod } }, { deleteHeader: { key: X-Secret } }], \
         postActions: [{ insertHeader: { key: X-Served, value: alb } }, { deleteHeader: { key: X-Debug } }] }"];
    let _daemon = site(&lab, &rules).serve(&lab);
    let response = client(&lab).ask(
        "GET /api/users?id=7 HTTP/1.1\r\nHost: shop.test\r\nx-secret: s\r\nX-Env: dev\r\nX-Keep: 1\r\n\r\n",
    );
    assert_eq!((response.values("x-served"), response.values("x-debug").len()), (vec!["alb"], 0));
    assert_eq!(response.values("server"), ["inner"]);
    let heard = origin.heard().concat();
    let begin = "GET /v2/users?id=7&by=alb HTTP/1.1\r\nHost: inner.test\r\nX-Keep: 1\r\n";
    assert!(heard.starts_with(begin), "{heard}");
    assert_eq!(heard.matches("X-Env: ").count(), 1, "{heard}");
    assert!(heard.contains("X-Env: prod\r\n") && !heard.contains("ecret"), "{heard}");
}
