//! HSTS on whatever is answered, in HTTP/1.1 as in HTTP/2.

use alb_tests::{
    http::Client,
    origin::{Exchange, Origin, Then},
    topology::VIP,
};

use super::{ECDSA, certificate, curl, site};
use crate::http::setting::{ORIGIN, lab};

#[test]
fn hsts_goes_with_every_answer_until_it_is_switched_off() {
    let dir = tempfile::tempdir().expect("a directory");
    certificate(dir.path(), "c", &["shop.test"], ECDSA, 90);
    let lab = lab(1);
    // What a target says of it does not count.
    let act = |exchange: &mut Exchange<'_>| {
        exchange.send(
            "HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=1\r\nContent-Length: 2\r\n\r\nok",
        )?;
        Ok(Then::Next)
    };
    let _origin = Origin::start(&lab.targets[0], ORIGIN, act);
    let mut site = site(&lab, dir.path(), &["c"]);
    site.balancer = "  urlMaps: [{ name: m, rules: [\
                     { path: /old, action: Redirect, redirectAction: { path: /new, statusCode: http_308 } }, \
                     { path: /dir/*, backend: all }, { path: /none, backend: none }] }]\n"
        .to_owned();
    let none = "{ name: none, protocol: Http, port: 80, closeHealthCheck: true }";
    let site = site.with("backends", none).listener("urlMap: m");
    let with = |hsts| site.clone().listener(hsts);
    let daemon = with("hstsEnable: true, hstsMaxAge: 1000").serve(&lab);
    let namespace = &lab.client.namespace;
    let ask = |version, path: &str| {
        let url = format!("https://shop.test{path}");
        curl(namespace, &[version, "--path-as-is", "-i", &url]).to_lowercase()
    };
    let rows = [("/", "200"), ("/old", "308"), ("/dir", "301"), ("/none", "503"), ("/../x", "400")];
    for version in ["--http1.1", "--http2"] {
        for (path, status) in rows {
            let said = ask(version, path);
            assert_eq!(said.split(' ').nth(1), Some(status), "{version} {path}: {said}");
            let own = said.matches("strict-transport-security: max-age=1000\r\n").count();
            let all = said.matches("strict-transport-security").count();
            assert_eq!((own, all), (1, 1), "{version} {path}: {said}");
        }
    }
    let traced = ["-i", "--http2", "-X", "TRACE", "https://shop.test/"];
    let said = curl(namespace, &traced).to_lowercase();
    assert!(said.contains(" 405") && said.contains("max-age=1000"), "{said}");

    // Not where anybody could have put it there (RFC 6797 §7.2).
    let mut plain = Client::connect(namespace, (VIP, 443).into());
    let answer = plain.ask("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    assert_eq!(answer.status, 400);
    assert_eq!(answer.values("strict-transport-security").len(), 0, "{}", answer.head);

    assert!(daemon.reload(&with("hstsEnable: false").body()), "{}", daemon.log());
    for (path, status) in rows {
        let said = ask("--http2", path);
        assert_eq!(said.split(' ').nth(1), Some(status), "{path}: {said}");
        let theirs = usize::from(status == "200");
        assert_eq!(said.matches("strict-transport-security").count(), theirs, "{path}: {said}");
    }
}
